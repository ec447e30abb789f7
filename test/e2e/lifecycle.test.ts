// A house that changes and ends: a reload under load decides nothing wrongly, a bad file changes nothing, and SIGTERM lets
// what is under way finish. And origins whose certificates are not in order.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { selfSigned, TestCa } from "../support/certificates.ts";
import { PROGRAM } from "../support/cli.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { connectTo } from "../support/raw-client.ts";
import { type Scene, startScene } from "./scene.ts";

const NETWORK = "network: { allow: [127.0.0.0/8] }\n";

describe("reload (O6)", () => {
  let scene: Scene;
  const policy = (open: boolean): string => `version: 1
tls: { roots: [roots.pem] }
${NETWORK}rules:
  - { id: always, allow: ["o.test:${scene.plain.port}/always/**"] }
  - { id: never, deny: ["o.test:${scene.plain.port}/never/**"] }
  - { id: sometimes, ${open ? "allow" : "deny"}: ["o.test:${scene.plain.port}/sometimes/**"] }
`;
  beforeAll(async () => {
    scene = await startScene({ policy: NETWORK });
    writeFileSync(scene.house.policyFile, policy(true));
    await scene.house.house.reload();
  });
  afterAll(() => scene.close());

  test("under load nothing is decided wrongly, and every answer is what its record says", async () => {
    let over = false;
    const wrong: string[] = [];
    let answered = 0;
    const load = async (): Promise<void> => {
      const client = await scene.open();
      const ask = async (path: string): Promise<number> => {
        client.send(
          `GET http://o.test:${scene.plain.port}${path} HTTP/1.1\r\nHost: o.test:${scene.plain.port}\r\n\r\n`,
        );
        answered++;
        return (await client.response()).status;
      };
      while (!over) {
        if ((await ask("/always/x")) !== 200) wrong.push("always");
        if ((await ask("/never/x")) !== 403) wrong.push("never");
        if (![200, 403].includes(await ask("/sometimes/x"))) wrong.push("sometimes");
      }
      client.destroy();
    };
    const loads = Promise.all(Array.from({ length: 12 }, load));
    for (let i = 0; i < 10; i++) {
      writeFileSync(scene.house.policyFile, policy(i % 2 === 0));
      await scene.house.house.reload();
      await wait(60);
    }
    over = true;
    await loads;
    expect(wrong).toEqual([]);
    const records = (await scene.settled()).filter((r) => r.kind === "exchange");
    expect(records).toHaveLength(answered);
    for (const record of records) {
      const status = record.decision === "allow" ? 200 : 403;
      expect(record.status).toBe(status);
      if (record.path === "/never/x") expect(record.decision).toBe("deny");
      if (record.path === "/always/x") expect(record.decision).toBe("allow");
    }
  });

  test("a broken file changes nothing", async () => {
    writeFileSync(scene.house.policyFile, "version: 1\nrules: [ { id: x, alow: [] } ]\n");
    await expect(scene.house.house.reload()).rejects.toThrow();
    const client = await scene.open();
    client.send(`GET http://o.test:${scene.plain.port}/always/y HTTP/1.1\r\nHost: o.test:${scene.plain.port}\r\n\r\n`);
    expect((await client.response()).status).toBe(200);
    client.destroy();
  });

  test("a deny takes hold of a connection that is already open", async () => {
    writeFileSync(scene.house.policyFile, policy(true));
    await scene.house.house.reload();
    const client = await scene.open();
    const ask = async (): Promise<number> =>
      (
        await client
          .send(
            `GET http://o.test:${scene.plain.port}/sometimes/z HTTP/1.1\r\nHost: o.test:${scene.plain.port}\r\n\r\n`,
          )
          .response()
      ).status;
    expect(await ask()).toBe(200);
    writeFileSync(scene.house.policyFile, policy(false));
    await scene.house.house.reload();
    expect(await ask()).toBe(403);
    client.destroy();
  });
});

describe("SIGTERM", () => {
  test("a response that takes two seconds is finished, an open tunnel is ended, and the process exits 0", async () => {
    const dir = mkdtempSync(join(tmpdir(), "sallyport-drain-"));
    const slow = await startRawOrigin(async ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
      await wait(2_000);
      socket.write("done");
    });
    const quiet = await startRawOrigin(() => {}, { greet: true });
    writeFileSync(
      join(dir, "policy.yaml"),
      `version: 1
server: { drain-timeout: 25s }
${NETWORK}rules:
  - { id: slow, allow: ["127.0.0.1:${slow.port}"] }
  - { id: quiet, allow: ["127.0.0.1:${quiet.port}"], tunnel: { reason: test, without-sni: allow } }
`,
    );
    const child = spawn(
      process.execPath,
      [
        ...PROGRAM,
        "start",
        "-c",
        join(dir, "policy.yaml"),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
        join(dir, "data"),
        "--ca",
        join(dir, "ca"),
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    let out = "";
    child.stdout.on("data", (b: Buffer) => {
      out += b;
    });
    child.stderr.on("data", (b: Buffer) => {
      out += b;
    });
    const port = await portIn(() => out);
    const client = await connectTo(port);
    client.send(`GET http://127.0.0.1:${slow.port}/slow HTTP/1.1\r\nHost: 127.0.0.1:${slow.port}\r\n\r\n`);
    await client.until((text) => text.includes("half"));
    const tunnel = await connectTo(port);
    tunnel.send(`CONNECT 127.0.0.1:${quiet.port} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await tunnel.until((text) => text.includes("200"));
    const idle = await connectTo(port);
    await wait(100);
    const began = Date.now();
    child.kill("SIGTERM");
    expect((await client.response()).content).toBe("halfdone");
    const [code] = (await once(child, "exit")) as [number | null];
    expect(code, out).toBe(0);
    expect(Date.now() - began, "milliseconds: it did not wait for the tunnel").toBeLessThan(20_000);
    expect(await idle.closed()).not.toBe("open");
    expect(await tunnel.closed()).not.toBe("open");
    const reader = new AuditReader(join(dir, "data"));
    const records = [...reader.oldest({})].map((stored) => stored.record);
    reader.close();
    expect(records.find((r) => r.path === "/slow")).toMatchObject({
      status: 200,
      received: { bytes: 8, complete: true },
    });
    expect(records.find((r) => r.uninspected)).toMatchObject({
      kind: "connect",
      rule: "quiet",
      reason: "shutting-down",
    });
    await slow.close();
    await quiet.close();
    rmSync(dir, { recursive: true, force: true });
  });
});

async function portIn(out: () => string): Promise<number> {
  for (let i = 0; i < 400; i++) {
    const port = /proxy\s+http:\/\/127\.0\.0\.1:(\d+)/.exec(out())?.[1];
    if (port !== undefined) return Number(port);
    await wait(50);
  }
  throw new Error(`it did not start: ${out()}`);
}

describe("origins whose TLS is not in order (C7)", () => {
  let scene: Scene;
  const started: RawOrigin[] = [];
  beforeAll(async () => {
    scene = await startScene({
      dns: (name, type) => (name === "six.test" ? { addresses: type === "AAAA" ? ["::1"] : ["127.0.0.1"] } : undefined),
    });
  });
  afterAll(async () => {
    await scene.close();
    await Promise.all(started.map((origin) => origin.close()));
  });

  test.each([
    ["expired", () => scene.originCa.expired("bad.test"), "origin-certificate"],
    ["not yet valid", () => scene.originCa.notYetValid("bad.test"), "origin-certificate"],
    ["self-signed", () => selfSigned("bad.test"), "origin-certificate"],
    ["another host's", () => scene.originCa.leaf("good.test"), "origin-certificate"],
    ["of an unknown CA", () => new TestCa("Stranger").leaf("bad.test"), "origin-certificate"],
    ["named in the subject only", () => scene.originCa.commonNameOnly("bad.test"), "origin-certificate"],
    [
      "TLS 1.1",
      () => ({
        ...scene.originCa.leaf("bad.test"),
        minVersion: "TLSv1.1" as const,
        maxVersion: "TLSv1.1" as const,
        ciphers: "DEFAULT@SECLEVEL=0",
      }),
      "origin-tls",
    ],
  ])("%s: 502, and no byte of the request is sent", async (_name, certificate, reason) => {
    const origin = await startRawOrigin(origins.text("never"), { tls: certificate() });
    started.push(origin);
    const address = scene.newAddress();
    const client = await scene.secured(`bad.test:${origin.port}`, address, { servername: "bad.test" });
    client.send(`GET /tls HTTP/1.1\r\nHost: bad.test:${origin.port}\r\n\r\n`);
    const response = await client.response();
    expect(response.status).toBe(502);
    expect(response.fields["x-sallyport-decision"]).toContain(`reason=${reason}`);
    expect(origin.text()).toBe("");
    client.destroy();
    const [record] = await scene.house.recordsWhere((r) => r.address === address && r.kind === "exchange");
    expect(record).toMatchObject({ decision: "allow", reason, status: 502 });
  });

  test("a client that refuses our certificate is recorded, with what would help (C8)", async () => {
    const authority = `o.test:${scene.secure.port}`;
    const client = spawn(
      "openssl",
      [
        "s_client",
        "-proxy",
        `127.0.0.1:${scene.house.port}`,
        "-connect",
        authority,
        "-servername",
        "o.test",
        "-CAfile",
        join(scene.house.dir, "roots.pem"),
        "-verify_return_error",
      ],
      { stdio: ["ignore", "ignore", "ignore"] },
    );
    const [code] = (await once(client, "exit")) as [number];
    expect(code).not.toBe(0);
    const [record] = await scene.house.recordsWhere((r) => r.reason === "client-tls-rejected");
    expect(record).toMatchObject({ kind: "connection", decision: "deny", host: "o.test", status: null });
    expect(record?.error).toMatch(/tunnel/);
  });

  test.each([
    ["http/1.1", ["http/1.1"], "http/1.1"],
    ["none", undefined, false],
  ])("ALPN %s (C10)", async (_name, alpn, chosen) => {
    const client = await scene.secured(
      `o.test:${scene.secure.port}`,
      undefined,
      alpn === undefined ? {} : { ALPNProtocols: alpn },
    );
    expect((client.socket as import("node:tls").TLSSocket).alpnProtocol).toBe(chosen);
    client.send(`GET /alpn HTTP/1.1\r\nHost: o.test:${scene.secure.port}\r\n\r\n`);
    expect((await client.response()).status).toBe(200);
    client.destroy();
  });

  test("no credential stands in any file of the house (O5)", async () => {
    const client = await scene.open();
    client.send(
      `GET http://o.test:${scene.plain.port}/o5?token=pw-in-query HTTP/1.1\r\nHost: o.test\r\nAuthorization: Bearer pw-in-auth\r\nCookie: pw-in-cookie\r\n\r\n`,
    );
    expect((await client.response()).status).toBe(200);
    client.destroy();
    await scene.house.recordsWhere((r) => r.path?.startsWith("/o5") ?? false);
    for (const file of ["audit.db", "audit.db-wal"]) {
      const bytes = readFileSync(join(scene.house.dir, "data", file));
      for (const secret of ["pw-in-query", "pw-in-auth", "pw-in-cookie"])
        expect(bytes.includes(secret), file).toBe(false);
    }
  });

  test("an IPv6 address where nobody listens does not keep a name from being reached (O11)", async () => {
    const client = await scene.open();
    const began = performance.now();
    client.send(`GET http://six.test:${scene.plain.port}/six HTTP/1.1\r\nHost: six.test:${scene.plain.port}\r\n\r\n`);
    expect((await client.response()).status).toBe(200);
    expect(performance.now() - began).toBeLessThan(8_000);
    client.destroy();
    const [record] = await scene.house.recordsWhere((r) => r.path === "/six");
    expect(record?.origin?.address).toBe("127.0.0.1");
  });
});
