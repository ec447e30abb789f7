// gRPC through interception (pitfalls T8): framed messages, trailers, trailers-only, deadlines, all kinds of streams, and a
// refusal that gRPC clients understand.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type H2Origin, startH2Origin } from "./origins.ts";
import { answerOf, ask, sessionThrough } from "./support.ts";

const testCa = new TestCa();
let house: TestHouse;
let origin: H2Origin;
const here = (): string => `127.0.0.1:${origin.port}`;
const GRPC = { ":method": "POST", "content-type": "application/grpc+proto", te: "trailers" };

/** A message with its prefix; `compressed`: the flag, which nobody on the way may read. */
function message(text: string, compressed = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = compressed;
  prefix.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([prefix, Buffer.from(text)]);
}

beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
  origin = await startH2Origin((stream, seen) => {
    const path = String(seen.headers[":path"]);
    if (path.endsWith("/Missing")) {
      stream.resume();
      return stream.respond(
        { ":status": 200, "content-type": "application/grpc", "grpc-status": "12" },
        { endStream: true },
      );
    }
    if (path.endsWith("/Hang")) return void stream.resume();
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "grpc-message": "fine" }));
    stream.on("data", (b: Buffer) => stream.write(b));
    stream.on("end", () => stream.end());
  }, testCa.leaf("127.0.0.1"));
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

test("a unary call: message, flag and trailers intact, the outcome recorded", async () => {
  const session = await sessionThrough(house.port, here(), house.ca);
  const sent = message("hello", 1);
  const answer = await ask(session, { ...GRPC, ":path": "/echo.Service/Unary", "grpc-timeout": "1500m" }, sent);
  expect(answer.content.equals(sent)).toBe(true);
  expect(answer.trailers).toMatchObject({ "grpc-status": "0", "grpc-message": "fine" });
  expect(origin.seen.at(-1)?.headers).toMatchObject({ te: "trailers", "grpc-timeout": "1500m" });
  session.close();
  const [record] = await house.recordsWhere((r) => r.path === "/echo.Service/Unary");
  expect(record?.notes).toContain("grpc-status:0");
});

test("trailers-only", async () => {
  const session = await sessionThrough(house.port, here(), house.ca);
  const answer = await ask(session, { ...GRPC, ":path": "/echo.Service/Missing" }, message("x"));
  expect([answer.status, answer.headers["grpc-status"], answer.whole]).toEqual([200, "12", true]);
  session.close();
  const [record] = await house.recordsWhere((r) => r.path === "/echo.Service/Missing");
  expect(record?.notes).toContain("grpc-status:12");
});

test("streams in both directions: each message arrives before the next is sent", async () => {
  const session = await sessionThrough(house.port, here(), house.ca);
  const stream = session.request({ ...GRPC, ":path": "/echo.Service/Bidi" }, { endStream: false });
  const answer = answerOf(stream);
  for (let i = 0; i < 10; i++) {
    const got = new Promise<Buffer>((resolve) => stream.once("data", resolve));
    stream.write(message(`message ${i}`));
    expect((await got).equals(message(`message ${i}`))).toBe(true);
  }
  stream.end();
  expect((await answer).trailers).toMatchObject({ "grpc-status": "0" });
  session.close();
});

test("a client whose deadline passes cancels at the origin too", async () => {
  const session = await sessionThrough(house.port, here(), house.ca);
  const stream = session.request({ ...GRPC, ":path": "/echo.Service/Hang", "grpc-timeout": "50m" });
  const answer = answerOf(stream);
  setTimeout(() => stream.close(8), 50);
  await answer;
  for (let i = 0; i < 400 && origin.seen.at(-1)?.code !== 8; i++) await new Promise((done) => setTimeout(done, 5));
  expect(origin.seen.at(-1)?.code).toBe(8);
  session.close();
});

describe("a refusal", () => {
  test("is PERMISSION_DENIED in gRPC's own words, and the record keeps the decision", async () => {
    const denied = await startTestHouse({
      policy:
        "defaults: { action: deny }\nnetwork: { allow: [127.0.0.0/8] }\nrules: [{ id: some, allow: ['https://127.0.0.1:9/open/**'] }]\n",
    });
    const session = await sessionThrough(denied.port, "127.0.0.1:9", denied.ca);
    const answer = await ask(session, { ...GRPC, ":path": "/secret.Service/Get" }, message("x"));
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({ "content-type": "application/grpc", "grpc-status": "7" });
    expect(answer.headers["grpc-message"]).toContain("no rule allows POST");
    expect(answer.headers["x-sallyport-decision"]).toContain("reason=not-allowed");
    expect([answer.content.length, answer.whole]).toEqual([0, true]);
    // Anything else on the same connection is refused as HTTP.
    expect((await ask(session, { ":path": "/secret.Service/Get" })).status).toBe(403);
    session.close();
    const [record] = await denied.recordsWhere((r) => r.method === "POST");
    expect(record).toMatchObject({ decision: "deny", reason: "not-allowed" });
    expect(record?.notes).toContain("grpc-status:7");
    await denied.close();
  });
});
