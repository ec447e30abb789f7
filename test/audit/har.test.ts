// What a HAR says of recorded bodies. That a whole export validates is tested with the command.
import { expect, test } from "vitest";
import { harEntry } from "../../src/audit/har.ts";
import type { RecordedBody } from "../../src/audit/record.ts";
import { aRecord } from "../edge/audit/support.ts";

const body = (bytes: Buffer, whole = true): RecordedBody => ({ base64: bytes.toString("base64"), whole });
const text = Buffer.from("grüße");
const binary = Buffer.from([0, 1, 0xff, 0xfe]);

test.each([
  ["text", body(text), { text: "grüße" }],
  ["the beginning of a text", body(text, false), { text: "grüße", comment: expect.stringMatching(/beginning/) }],
  ["binary", body(binary), { text: "", comment: expect.stringMatching(/_sallyport/) }],
  [
    "text cut inside a character",
    body(text.subarray(0, 3), false),
    { text: "", comment: expect.stringMatching(/cut/) },
  ],
])("a posted body: %s", (_name, requestBody, postData) => {
  const requestFields = ["Content-Type", "text/x"];
  expect(harEntry(aRecord({ method: "POST", requestFields, requestBody }))).toMatchObject({
    request: { postData: { mimeType: "text/x", ...postData } },
    _sallyport: { requestBody },
  });
});

test.each([true, false])("a response: whole %s", (whole) => {
  const entry = harEntry(aRecord({ responseBody: body(binary, whole) })) as { response: { content: object } };
  expect(entry.response.content).toMatchObject({ text: binary.toString("base64"), encoding: "base64" });
  expect("comment" in entry.response.content).toBe(!whole);
});
