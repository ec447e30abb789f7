// What a reload does to `server:`: what runs is kept, what waits is named, and nothing is half applied.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startHouse } from "../../src/roles/house.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { connectTo } from "../support/raw-client.ts";

let house: TestHouse;
beforeAll(async () => {
  house = await startTestHouse({ policy: "defaults: { action: deny }\n" });
});
afterAll(() => house.close());

async function ready(): Promise<{ ready: boolean; problems: { name: string; detail: string }[] }> {
  return (await (await fetch(`http://127.0.0.1:${house.adminPort}/readyz`)).json()) as Awaited<
    ReturnType<typeof ready>
  >;
}

async function answer(): Promise<{ status: number; content: string }> {
  const client = await connectTo(house.port);
  const response = await client.send("GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n").response();
  client.destroy();
  return response;
}

test("authentication and hints take effect at once; the rest waits, and /readyz names it", async () => {
  expect(await answer()).toMatchObject({ status: 403 });
  const before = readFileSync(house.policyFile, "utf8");
  const server = "server: { authentication: required, strict-host: true, opaque: tunnel, idle-timeout: 5s }\n";
  writeFileSync(house.policyFile, before + server);
  await house.house.reload();
  // Strict would be 400, before anybody is asked who they are.
  expect(await answer()).toMatchObject({ status: 407 });
  const report = await ready();
  expect(report.ready).toBe(true);
  expect(report.problems).toMatchObject([
    {
      name: "restart-needed",
      detail: "read at the next start: server.opaque, server.strict-host, server.idle-timeout",
    },
  ]);
  writeFileSync(house.policyFile, before);
  await house.house.reload();
  expect((await ready()).problems).toEqual([]);
  expect(await answer()).toMatchObject({ status: 403 });
});

test("a CA folder that is named anew waits as well: the CA in use stays", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-server-"));
  const file = join(dir, "p.yaml");
  const policy = (ca: string): string => `version: 1\nserver: { ca: ${join(dir, ca)} }\n`;
  writeFileSync(file, policy("first"));
  const flags = { listen: "127.0.0.1:0", admin: "127.0.0.1:0", data: join(dir, "data"), logLevel: "error" };
  const own = await startHouse({ configFiles: [file], flags, env: process.env });
  writeFileSync(file, policy("second"));
  await own.reload();
  expect(own.facts.caFile).toBe(join(dir, "first", "ca.pem"));
  expect(existsSync(join(dir, "second"))).toBe(false);
  await own.drain();
  rmSync(dir, { recursive: true });
});
