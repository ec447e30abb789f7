import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect, type SecureContext, TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Ca, openCa } from "../../../src/edge/tls/ca.ts";
import { LeafCache } from "../../../src/edge/tls/leaf-cache.ts";
import { DAY } from "./issue.ts";

const base = mkdtempSync(join(tmpdir(), "leaf-test-"));
let clock = Date.now();
let ca: Ca;
beforeAll(async () => {
  ca = await openCa({ dir: join(base, "ca"), now: () => clock });
});
afterAll(() => rmSync(base, { recursive: true, force: true }));
afterEach(() => {
  clock = Date.now();
});

function cacheOf(limit = 1000): { cache: LeafCache; minted: string[] } {
  const minted: string[] = [];
  const cache = new LeafCache({ ca, now: () => clock, limit, minted: (host) => minted.push(host) });
  return { cache, minted };
}

describe("the leaf cache", () => {
  test("mints once for 200 parallel first requests (C3), and answers at once afterwards", async () => {
    const { cache, minted } = cacheOf();
    const contexts = await Promise.all(Array.from({ length: 200 }, () => cache.contextFor("a.example")));
    expect(minted).toEqual(["a.example"]);
    expect(new Set(contexts).size).toBe(1);
    expect(cache.contextFor("a.example")).toBe(contexts[0]);
  });

  test("keeps at most as many as it is told, those used last", async () => {
    const { cache, minted } = cacheOf(3);
    for (const host of ["a", "b", "c", "a", "d", "a", "b"]) await cache.contextFor(host);
    expect(cache.size).toBe(3);
    expect(minted).toEqual(["a", "b", "c", "d", "b"]);
  });

  test.each([
    ["an hour later: the same", 3_600_000, 1],
    ["five days later: the same", 5 * DAY, 1],
    ["a day before the end (C2): a new one", 6.1 * DAY, 2],
    ["after the end (C2): a new one", 30 * DAY, 2],
    ["half an hour back: the same", -1_800_000, 1],
    ["the clock jumped back before the leaf began (C2): a new one", -3 * 3_600_000, 2],
  ])("%s", async (_title, jump, mints) => {
    const { cache, minted } = cacheOf();
    const before = await cache.contextFor("a.example");
    clock += jump;
    expect((await cache.contextFor("a.example")) === before).toBe(mints === 1);
    expect(minted).toHaveLength(mints);
  });

  test("forgets everything when the CA is replaced, a minting under way included", async () => {
    const { cache } = cacheOf();
    const old = await cache.contextFor("a.example");
    const late = cache.contextFor("late.example");
    const other = await openCa({ dir: join(base, "other"), now: () => clock });
    cache.replaceCa(other);
    await late;
    expect(cache.size).toBe(0);
    expect(await cache.contextFor("a.example")).not.toBe(old);
  });

  test("does not keep a failure", async () => {
    const { cache } = cacheOf();
    await expect(cache.contextFor("*.example")).rejects.toThrow();
    await expect(cache.contextFor("*.example")).rejects.toThrow();
    expect(cache.size).toBe(0);
  });
});

/** A server that ends TLS as the proxy does inside CONNECT, with one context. */
async function intercepting(context: SecureContext, alpn = ["http/1.1"]): Promise<Server & { port: number }> {
  const server = createServer((socket: Socket) => {
    const tls = new TLSSocket(socket, { isServer: true, secureContext: context, ALPNProtocols: alpn });
    tls.on("error", () => {});
    tls.on("secure", () => tls.write("hello"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(server, { port: (server.address() as AddressInfo).port });
}

interface Shaken {
  readonly reused: boolean;
  readonly session: Buffer;
  readonly protocol: string | null;
  readonly cipher: string;
  readonly alpn: string | false | null;
}

function shake(port: number, options: ConnectionOptions): Promise<Shaken> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, ca: ca.certificatePem, ...options });
    let session = Buffer.alloc(0);
    socket.on("session", (ticket) => {
      session = ticket;
    });
    socket.on("error", reject);
    socket.on("data", () => {
      const shaken = {
        reused: socket.isSessionReused(),
        protocol: socket.getProtocol(),
        cipher: socket.getCipher().name,
      };
      setImmediate(() => {
        resolve({ ...shaken, session, alpn: socket.alpnProtocol });
        socket.destroy();
      });
    });
  });
}

describe("contexts of the cache, by real handshakes", () => {
  test.each(["TLSv1.2", "TLSv1.3"] as const)(
    "%s: a ticket resumes at its host, and nowhere else (C9)",
    async (version) => {
      const { cache } = cacheOf();
      const a = await intercepting(await cache.contextFor("a.example"));
      const b = await intercepting(await cache.contextFor("b.example"));
      const only = { minVersion: version, maxVersion: version };
      const first = await shake(a.port, { servername: "a.example", ...only });
      expect(first.reused).toBe(false);
      expect(first.session.length).toBeGreaterThan(0);
      expect((await shake(a.port, { servername: "a.example", session: first.session, ...only })).reused).toBe(true);
      // The same ticket at another host's context: not opened, a full handshake with b's own certificate.
      expect((await shake(b.port, { servername: "b.example", session: first.session, ...only })).reused).toBe(false);
      a.close();
      b.close();
    },
  );

  test.each([
    ["TLS 1.3", { minVersion: "TLSv1.3" }, /^TLS_/],
    ["TLS 1.2 with forward secrecy and AEAD", { maxVersion: "TLSv1.2" }, /^ECDHE-ECDSA-.*(GCM|POLY1305)/],
  ] as const)("%s is spoken", async (_title, options, cipher) => {
    const server = await intercepting(await cacheOf().cache.contextFor("a.example"));
    expect((await shake(server.port, { servername: "a.example", ...options })).cipher).toMatch(cipher);
    server.close();
  });

  test.each([
    ["TLS 1.1", { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" }],
    ["CBC", { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA" }],
    ["no forward secrecy", { maxVersion: "TLSv1.2", ciphers: "AES128-GCM-SHA256" }],
  ] as const)("%s is not", async (_title, options) => {
    const server = await intercepting(await cacheOf().cache.contextFor("a.example"));
    await expect(shake(server.port, { servername: "a.example", ...options })).rejects.toThrow();
    server.close();
  });

  test.each([
    ["none", undefined, false],
    ["http/1.1", ["http/1.1"], "http/1.1"],
    ["h2 and http/1.1", ["h2", "http/1.1"], "http/1.1"],
  ] as const)("a client that offers %s by ALPN gets %s (C10)", async (_title, offered, got) => {
    const server = await intercepting(await cacheOf().cache.contextFor("a.example"));
    const options = offered === undefined ? {} : { ALPNProtocols: [...offered] };
    expect((await shake(server.port, { servername: "a.example", ...options })).alpn).toBe(got);
    server.close();
  });

  test("a client that offers only what we do not speak is refused (C10)", async () => {
    const server = await intercepting(await cacheOf().cache.contextFor("a.example"));
    const failing = shake(server.port, { servername: "a.example", ALPNProtocols: ["spdy/9"] });
    await expect(failing).rejects.toMatchObject({ code: expect.stringMatching(/NO_APPLICATION_PROTOCOL/) });
    server.close();
  });

  test("no second handshake on a connection (B13)", async () => {
    const server = await intercepting(await cacheOf().cache.contextFor("a.example"));
    const options = { host: "127.0.0.1", port: server.port, ca: ca.certificatePem, servername: "a.example" };
    const refused = await new Promise<Error | null>((resolve, reject) => {
      const socket = connect({ ...options, maxVersion: "TLSv1.2" }, () => {
        socket.once("error", resolve);
        socket.renegotiate({ rejectUnauthorized: true }, resolve);
      });
      socket.once("close", () => reject(new Error("closed")));
    });
    expect(refused?.message).toContain("no renegotiation");
    server.close();
  });

  test("early data is not taken (C9): the tickets allow none", async () => {
    const server = await intercepting(await cacheOf().cache.contextFor("a.example"));
    const ticket = join(base, "ticket.pem");
    const to = ["-connect", `127.0.0.1:${server.port}`, "-servername", "a.example"];
    const client = promisify(execFile)("openssl", ["s_client", ...to, "-tls1_3", "-sess_out", ticket]);
    // The tickets come right after the handshake; s_client keeps them, and prints them in the end.
    await expect.poll(() => existsSync(ticket)).toBe(true);
    client.child.stdin?.end("Q\n");
    const out = (await client).stdout;
    expect(out).toContain("Max Early Data: 0");
    server.close();
  });
});
