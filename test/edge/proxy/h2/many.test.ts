// Many streams and large contents with clients that people use: node:http2, and curl. Memory follows what the slow reader
// takes (T1), not what origins would give.
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { startHttpOrigin } from "../../../support/origin.ts";
import { type H2Origin, startH2Origin } from "./origins.ts";
import { answerOf, ask, sessionThrough } from "./support.ts";

const run = promisify(execFile);
const MB = 1024 * 1024;
const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
let house: TestHouse;
beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
});
afterAll(() => house.close());

/** Gives 8 MB on each stream, as fast as they are taken. */
async function generous(given: { bytes: number }): Promise<H2Origin> {
  return startH2Origin((stream) => {
    let left = 8 * MB;
    // Otherwise node:http2 may send RST_STREAM(NO_ERROR) in place of END_STREAM, which is no end.
    stream.resume();
    stream.respond({ ":status": 200 });
    const more = (): void => {
      while (left > 0 && !stream.destroyed) {
        left -= 65_536;
        given.bytes += 65_536;
        if (!stream.write(Buffer.alloc(65_536))) return void stream.once("drain", more);
      }
      if (!stream.destroyed) stream.end();
    };
    more();
  }, leaf);
}

test("100 streams of 8 MB that nobody reads are bounded, and read to the end afterwards where wanted", async () => {
  const given = { bytes: 0 };
  const origin = await generous(given);
  const session = await sessionThrough(house.port, `127.0.0.1:${origin.port}`, house.ca);
  const before = process.memoryUsage().rss;
  const streams = Array.from({ length: 100 }, (_, i) => session.request({ ":path": `/slow/${i}` }));
  for (const stream of streams) stream.on("error", () => {});
  for (let last = -1; last !== given.bytes; await new Promise((done) => setTimeout(done, 400))) last = given.bytes;
  // What windows and buffers of three parties hold, out of 800 MB.
  expect(given.bytes).toBeLessThan(100 * MB);
  expect(process.memoryUsage().rss - before).toBeLessThan(250 * MB);
  const read = streams.slice(0, 3).map((stream) => answerOf(stream));
  for (const stream of streams.slice(3)) stream.close(8);
  for (const answer of await Promise.all(read)) expect([answer.whole, answer.content.length]).toEqual([true, 8 * MB]);
  session.close();
  const records = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port, 100, 15_000);
  expect(records.filter((r) => r.reason === "client-gone")).toHaveLength(97);
  await origin.close();
});

test("100 streams of one session at once, each answered whole", async () => {
  const origin = await startHttpOrigin(undefined, leaf);
  const session = await sessionThrough(house.port, `127.0.0.1:${origin.port}`, house.ca);
  const bodies = Array.from({ length: 100 }, () => randomBytes(40_000));
  const answers = await Promise.all(bodies.map((b, i) => ask(session, { ":method": "POST", ":path": `/${i}` }, b)));
  answers.forEach((answer, i) => {
    expect(answer.content.equals(bodies[i] as Buffer)).toBe(true);
  });
  session.close();
  await origin.close();
});

test.each(["2", "1.1"] as const)("curl --http2, 10 MB each way, an origin of HTTP/%s", async (version) => {
  const origin =
    version === "2"
      ? await startH2Origin((stream) => {
          stream.respond({ ":status": 200 });
          stream.pipe(stream);
        }, leaf)
      : await startHttpOrigin(undefined, leaf);
  const [up, down, ca] = ["up", "down", "ca.pem"].map((name) => join(house.dir, name)) as [string, string, string];
  const body = randomBytes(10 * MB);
  writeFileSync(up, body);
  writeFileSync(ca, house.ca);
  const proxy = `http://127.0.0.1:${house.port}`;
  const options = [
    ["-sS", "--http2"],
    ["--noproxy", ""],
    ["-x", proxy],
    ["--cacert", ca],
    ["--data-binary", `@${up}`],
    ["-o", down],
    ["-m", "30"],
    ["-w", "%{http_version} %{http_code}"],
  ];
  const { stdout } = await run("curl", [...options.flat(), `https://127.0.0.1:${origin.port}/`]);
  expect(stdout).toBe("2 200");
  expect(readFileSync(down).equals(body)).toBe(true);
  const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.port === origin.port);
  const sha256 = createHash("sha256").update(body).digest("hex");
  expect(record).toMatchObject({ clientProtocol: "2", originProtocol: version });
  expect(record?.sent).toMatchObject({ bytes: 10 * MB, sha256, complete: true });
  expect(record?.received).toMatchObject({ bytes: 10 * MB, sha256, complete: true });
  await origin.close();
});
