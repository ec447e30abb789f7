// What one version of HTTP tells the other beside the message: Via names the version in which a message came in (RFC 9110
// section 7.6.3), and cookies are one field on one side and crumbs on the other (RFC 9113 section 8.2.3).
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../../../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../../../support/house.ts";
import { type HttpOrigin, origins, startHttpOrigin, startRawOrigin } from "../../../support/origin.ts";
import { tlsThrough } from "../../../support/raw-client.ts";
import { answering, type H2Origin, startH2Origin } from "./origins.ts";
import { ask, sessionThrough } from "./support.ts";

const testCa = new TestCa();
const leaf = testCa.leaf("127.0.0.1");
let house: TestHouse;
let h1: HttpOrigin;
let h2: H2Origin;

beforeAll(async () => {
  house = await startTestHouse({ roots: testCa.cert });
  h1 = await startHttpOrigin((_request, response) => response.end("ok"), leaf);
  h2 = await startH2Origin(answering({}, "ok"), leaf);
});
afterAll(async () => {
  await house.close();
  await h1.close();
  await h2.close();
});

const at = (version: "1.1" | "2"): string => `127.0.0.1:${version === "2" ? h2.port : h1.port}`;
const got = (version: "1.1" | "2"): Record<string, unknown> =>
  (version === "2" ? h2.seen.at(-1)?.headers : h1.requests.at(-1)?.headers) ?? {};

describe.each(["1.1", "2"] as const)("an origin of HTTP/%s", (version) => {
  test("a client of HTTP/2", async () => {
    const session = await sessionThrough(house.port, at(version), house.ca);
    const answer = await ask(session, { ":path": "/", via: "1.0 before", cookie: ["a=1", "b=2", "c=3"] });
    session.close();
    expect(got(version).via).toMatch(/^1\.0 before, 2 sallyport-[0-9a-f]+$/);
    expect(got(version).cookie).toBe("a=1; b=2; c=3");
    expect(answer.headers.via).toMatch(version === "2" ? /^2 sallyport-[0-9a-f]+$/ : /^1\.1 sallyport-[0-9a-f]+$/);
  });

  test.each(["1.1", "1.0"] as const)("a client of HTTP/%s", async (mine) => {
    const client = await tlsThrough(house.port, at(version), { ca: house.ca });
    client.send(
      `GET / HTTP/${mine}\r\nHost: ${at(version)}\r\nCookie: a=1; b=2\r\nVia: 1.1 before\r\nConnection: close\r\n\r\n`,
    );
    await client.closed();
    expect(String(got(version).via)).toMatch(
      new RegExp(`^1\\.1 before, ${mine.replace(".", "\\.")} sallyport-[0-9a-f]+$`),
    );
    expect(got(version).cookie).toBe("a=1; b=2");
    expect(client.text).toMatch(version === "2" ? /\r\nVia: 2 sallyport-/i : /\r\nVia: 1\.1 sallyport-/i);
  });

  test("a loop is seen in either version's words", async () => {
    const session = await sessionThrough(house.port, at(version), house.ca);
    await ask(session, { ":path": "/" });
    const own = String(got(version).via).split(" ").at(-1) as string;
    for (const spelling of [`2 ${own}`, `1.1 ${own}`, `1.1 other, 2 ${own} (comment)`])
      expect((await ask(session, { ":path": "/loop", via: spelling })).headers["x-sallyport-decision"]).toContain(
        "reason=loop",
      );
    session.close();
  });
});

test("an origin of HTTP/1.0 is named so", async () => {
  const origin = await startRawOrigin(origins.answerAndEnd("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), {
    tls: leaf,
  });
  const session = await sessionThrough(house.port, `127.0.0.1:${origin.port}`, house.ca);
  const answer = await ask(session, { ":path": "/" });
  expect(answer.headers.via).toMatch(/^1\.0 sallyport-/);
  session.close();
  await origin.close();
});
