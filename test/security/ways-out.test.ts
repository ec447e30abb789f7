// Attacks of a client that wants out: past a tunnel's limits, past the filters, past the clients' walls. Each goes through a
// running house on real sockets.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { connectTo } from "../support/raw-client.ts";

const OPEN = `network: { allow: [127.0.0.0/8, "::1/128"] }\n`;

describe("a tunnel rule opens a tunnel and nothing else", () => {
  let origin: RawOrigin;
  let house: TestHouse;
  beforeAll(async () => {
    origin = await startRawOrigin(origins.text("reached"));
    house = await startTestHouse({
      policy: `${OPEN}defaults: { action: deny }
rules:
  - id: pinned
    allow: ["127.0.0.1:${origin.port}"]
    tunnel: { reason: pins its certificate, bytes-out: 1KiB }
`,
    });
  });
  afterAll(async () => {
    await house.close();
    await origin.close();
  });

  test.each(["http", "https"])("a request for %s:// in absolute-form is not what the rule allows", async (scheme) => {
    const client = await connectTo(house.port);
    const before = origin.conversations.length;
    client.send(
      `POST ${scheme}://127.0.0.1:${origin.port}/out HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\nContent-Length: 4096\r\n\r\n${"x".repeat(4096)}`,
    );
    expect((await client.response()).status).toBe(403);
    expect(origin.conversations.length).toBe(before);
    client.destroy();
  });
});

describe("what nobody can look at does not pass a filter", () => {
  let origin: RawOrigin;
  let house: TestHouse;
  beforeAll(async () => {
    origin = await startRawOrigin(
      origins.answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: exfil\r\n\r\n"),
    );
    const rule = (id: string, path: string, more: string): string =>
      `  - { id: ${id}, allow: ["http://127.0.0.1:${origin.port}${path}"], ${more} }\n`;
    house = await startTestHouse({
      policy: `${OPEN}defaults: { action: deny }
rules:
${rule("out", "/out", "content: [{ block: { text: crown-jewels } }]")}${rule("reporting", "/reporting", "content: [{ report: { text: crown-jewels } }]")}`,
    });
  });
  afterAll(async () => {
    await house.close();
    await origin.close();
  });

  const upgrade = (path: string): string =>
    `GET http://127.0.0.1:${origin.port}${path} HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\nConnection: Upgrade\r\nUpgrade: exfil\r\n\r\n`;

  test("an upgrade to a protocol of its own does not lead around a filter that blocks", async () => {
    const client = await connectTo(house.port);
    client.send(`${upgrade("/out")}crown-jewels`);
    expect((await client.response()).status).toBe(403);
    expect(origin.text()).not.toContain("crown-jewels");
    const [record] = await house.recordsWhere((r) => r.rule === "out");
    expect(record).toMatchObject({ kind: "exchange", decision: "deny", reason: "content-blocked" });
    client.destroy();
  });

  test("where the filter only reports, it passes, and the record says that nobody looked", async () => {
    const client = await connectTo(house.port);
    client.send(`${upgrade("/reporting")}crown-jewels`);
    expect((await client.response()).status).toBe(101);
    await origin.until((text) => text.includes("crown-jewels"));
    client.destroy();
    const [record] = await house.recordsWhere((r) => r.rule === "reporting" && r.kind === "exchange");
    expect(record?.notes.join(" ")).toContain("content-unscanned:request");
  });
});
