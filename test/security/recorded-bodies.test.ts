// A house that records bodies and knows a secret, and compressed bodies that hold it, in both directions.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { type HttpOrigin, startHttpOrigin } from "../support/origin.ts";
import { connectTo } from "../support/raw-client.ts";

const SECRET = "correct-horse-battery-77";
let origin: HttpOrigin;
let house: TestHouse;
beforeAll(async () => {
  // Answers with what it was sent, in the same coding.
  origin = await startHttpOrigin((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      response.setHeader("content-encoding", request.headers["content-encoding"] ?? "identity");
      response.end(request.url === "/other" ? gzipSync("nothing") : Buffer.concat(parts));
    });
  });
  house = await startTestHouse({
    env: { TOKEN: SECRET },
    policy: `network: { allow: [127.0.0.0/8] }
secrets: { token: { env: TOKEN } }
rules: [ { id: all, allow: ["http://127.0.0.1:${origin.port}"], record: { bodies: 4KiB } } ]
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

async function send(path: string, coded: Buffer) {
  const client = await connectTo(house.port);
  const head = `POST http://127.0.0.1:${origin.port}${path} HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n`;
  client.send(`${head}Content-Encoding: gzip\r\nContent-Length: ${coded.length}\r\n\r\n`);
  client.send(coded);
  expect((await client.response()).status).toBe(200);
  client.destroy();
  const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.path === path);
  return record;
}
const NOTHING = { base64: "", whole: false };
const REQUEST = "recorded-body-withheld:request";
const RESPONSE = "recorded-body-withheld:response";

describe("bodies in gzip", () => {
  test("with a secret: neither is written, and the record says so; the digests stay", async () => {
    const coded = gzipSync(`{"token":"${SECRET}"}`);
    const record = await send("/both", coded);
    expect(record).toMatchObject({ requestBody: NOTHING, responseBody: NOTHING, notes: [REQUEST, RESPONSE] });
    expect([record?.sent.bytes, record?.received.bytes]).toEqual([coded.length, coded.length]);
    const data = join(house.dir, "data");
    const files = readdirSync(data).map((name) => join(data, name));
    const written = files.filter((file) => statSync(file).isFile()).map((file) => readFileSync(file));
    expect(written.length).toBeGreaterThan(1);
    for (const form of [coded, Buffer.from(coded.toString("base64")), Buffer.from(SECRET)])
      expect(written.some((bytes) => bytes.includes(form))).toBe(false);
  });
  test("with a secret in the request alone", async () => {
    const record = await send("/other", gzipSync(SECRET));
    expect(record).toMatchObject({ requestBody: NOTHING, responseBody: { whole: true }, notes: [REQUEST] });
  });
  test("without one: written as they came", async () => {
    const coded = gzipSync("nothing to see");
    const kept = { base64: coded.toString("base64"), whole: true };
    expect(await send("/clean", coded)).toMatchObject({ requestBody: kept, responseBody: kept, notes: [] });
  });
});
