// However the bytes are cut, on either side, the same bytes, digests and decisions come out; any number of requests may stand
// in one read; and memory stays bounded when one side is slow.
import { createHash } from "node:crypto";
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RawConnection } from "../support/raw-client.ts";
import { HOST, type Scene, startScene } from "./scene.ts";

const sha256 = (text: string): string => createHash("sha256").update(text, "latin1").digest("hex");
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(({ plain, secure }) => ({
    policy: `defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: denied, deny: ["${HOST}:${plain}/denied/**", "${HOST}:${secure}/denied/**"] }
  - { id: scanned, allow: ["${HOST}:${plain}/scanned/**"], content: [{ block: { text: forbidden-words } }] }
`,
  }));
});
afterAll(() => scene.close());

/** Writes the bytes cut at these places, each piece in a turn of its own. */
async function inPieces(write: (piece: Buffer) => void, bytes: Buffer, cuts: readonly number[]): Promise<void> {
  const places = [...new Set(cuts.map((cut) => cut % bytes.length))].sort((a, b) => a - b);
  let from = 0;
  for (const to of [...places, bytes.length]) {
    if (to > from) write(bytes.subarray(from, to));
    from = to;
    await wait(1);
  }
}
const everyByte = (bytes: Buffer): number[] => Array.from({ length: bytes.length }, (_, i) => i);
const cuts = fc.array(fc.nat(2_000), { maxLength: 25 });
type Kind = "plain" | "intercepted";
const open = (kind: Kind, address: string): Promise<RawConnection> =>
  kind === "plain" ? scene.open(address) : scene.secured(`${HOST}:${scene.secure.port}`, address);
const targetOf = (kind: Kind, path: string): string =>
  kind === "plain" ? `http://${HOST}:${scene.plain.port}${path}` : path;
const hostOf = (kind: Kind): string => `${HOST}:${kind === "plain" ? scene.plain.port : scene.secure.port}`;

// No CRLF in it: the origin of these tests takes an empty line for the end of a head.
const CONTENT = "the content, with \n0\n\n inside and GET / HTTP/1.1 too";
const CHUNKED = `10;x=y\r\n${CONTENT.slice(0, 16)}\r\n${(CONTENT.length - 16).toString(16)}\r\n${CONTENT.slice(16)}\r\n0\r\nX-Sum: 1\r\n\r\n`;
let counter = 0;

describe.each(["plain", "intercepted"] as const)("any cut (%s)", (kind) => {
  async function upload(places: (bytes: Buffer) => readonly number[], verdict: "ok" | "denied"): Promise<void> {
    const path = `${verdict === "denied" ? "/denied" : ""}/cut-${++counter}`;
    const address = scene.newAddress();
    const client = await open(kind, address);
    scene.scripts.set(path, async (conversation) => {
      while (!conversation.bytes.includes("X-Sum: 1\r\n\r\n") && !conversation.closed) await wait(2);
      conversation.socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    const bytes = Buffer.from(
      `POST ${targetOf(kind, path)} HTTP/1.1\r\nHost: ${hostOf(kind)}\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n${CHUNKED}`,
      "latin1",
    );
    await inPieces((piece) => client.send(piece), bytes, places(bytes));
    const response = await client.response();
    expect(response.status).toBe(verdict === "ok" ? 200 : 403);
    client.destroy();
    const origin = kind === "plain" ? scene.plain : scene.secure;
    if (verdict === "denied") expect(scene.got(path)).toBe("");
    else {
      await origin.until((text) => text.slice(text.indexOf(path)).includes("X-Sum: 1\r\n\r\n"));
      const got = scene.got(path).split("\r\n\r\n");
      expect(got[0]).toMatch(
        new RegExp(
          `^POST ${path} HTTP/1\\.1\\r\\nHost: [^\\r]+\\r\\nTransfer-Encoding: chunked\\r\\nX-A: b\\r\\nVia: [^\\r]+$`,
        ),
      );
    }
    sums.set(path, verdict);
  }
  const sums = new Map<string, "ok" | "denied">();

  test("requests, one byte at a time", async () => {
    await upload(everyByte, "ok");
  });
  test("requests, at random", async () => {
    await fc.assert(
      fc.asyncProperty(cuts, fc.constantFrom("ok" as const, "denied" as const), (c, v) => upload(() => c, v)),
      { numRuns: 15 },
    );
    const records = await scene.settled();
    for (const [path, verdict] of sums) {
      const record = records.filter((r) => r.path === path);
      expect(record).toHaveLength(1);
      expect(record[0]?.decision).toBe(verdict === "ok" ? "allow" : "deny");
      if (verdict === "ok")
        expect(record[0]?.sent).toMatchObject({ bytes: CONTENT.length, sha256: sha256(CONTENT), complete: true });
    }
  });

  async function download(places: (bytes: Buffer) => readonly number[], chunked: boolean): Promise<void> {
    const path = `/down-${++counter}`;
    const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${CONTENT.length}`;
    const bytes = Buffer.from(
      `HTTP/1.1 103 Early\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\n${framing}\r\n\r\n${chunked ? CHUNKED : CONTENT}`,
      "latin1",
    );
    scene.scripts.set(path, ({ socket }) => inPieces((piece) => socket.write(piece), bytes, places(bytes)));
    const address = scene.newAddress();
    const client = await open(kind, address);
    for (let i = 0; i < 2; i++) {
      client.send(`GET ${targetOf(kind, path)} HTTP/1.1\r\nHost: ${hostOf(kind)}\r\n\r\n`);
      expect((await client.response()).status).toBe(103);
      const response = await client.response();
      expect([response.status, response.content]).toEqual([200, CONTENT]);
    }
    client.destroy();
    downloads.add(path);
  }
  const downloads = new Set<string>();
  test("responses, one byte at a time", async () => {
    await download(everyByte, true);
    await download(everyByte, false);
  });
  test("responses, at random", async () => {
    await fc.assert(
      fc.asyncProperty(cuts, fc.boolean(), (c, chunked) => download(() => c, chunked)),
      { numRuns: 12 },
    );
    const records = await scene.settled();
    for (const path of downloads) {
      const mine = records.filter((r) => r.path === path);
      expect(mine).toHaveLength(2);
      for (const record of mine)
        expect(record.received).toMatchObject({ bytes: CONTENT.length, sha256: sha256(CONTENT), complete: true });
    }
  });

  test("any number of requests in one write, answered in order, one record each", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("get", "post", "chunks", "denied"), { minLength: 1, maxLength: 60 }),
        async (list) => {
          const address = scene.newAddress();
          const client = await open(kind, address);
          const one = (what: string, i: number): string => {
            const head = `${what === "get" || what === "denied" ? "GET" : "POST"} ${targetOf(kind, `${what === "denied" ? "/denied" : ""}/pipe-${i}`)} HTTP/1.1\r\nHost: ${hostOf(kind)}\r\n`;
            if (what === "post") return `${head}Content-Length: 4\r\n\r\nbody`;
            if (what === "chunks") return `${head}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n`;
            return `${head}\r\n`;
          };
          client.send(list.map(one).join(""));
          for (const what of list) expect((await client.response()).status).toBe(what === "denied" ? 403 : 200);
          client.destroy();
          const records = await scene.house.recordsWhere(
            (r) => r.address === address && r.kind === "exchange",
            list.length,
          );
          expect(records.map((r) => r.path)).toEqual(
            list.map((what, i) => `${what === "denied" ? "/denied" : ""}/pipe-${i}`),
          );
        },
      ),
      { numRuns: 6 },
    );
  });
});

test("a filter's verdict is the same for any cut", async () => {
  await fc.assert(
    fc.asyncProperty(cuts, fc.boolean(), async (places, bad) => {
      const content = `${"a".repeat(200)}${bad ? "forbidden-words" : "fine words here"}${"b".repeat(200)}`;
      const path = `/scanned/${++counter}`;
      const client = await scene.open();
      const bytes = Buffer.from(
        `POST ${targetOf("plain", path)} HTTP/1.1\r\nHost: ${hostOf("plain")}\r\nContent-Length: ${content.length}\r\n\r\n${content}`,
      );
      await inPieces((piece) => client.send(piece), bytes, places);
      expect((await client.response()).status).toBe(bad ? 403 : 200);
      if (bad) expect(scene.got(path)).toBe("");
      client.destroy();
    }),
    { numRuns: 15 },
  );
});

describe("memory", () => {
  const TOTAL = 64 * 1024 * 1024;
  const piece = Buffer.alloc(65_536, 97);

  test("64 MiB for a reader that stops: the origin is not read on, and memory stays where it was", async () => {
    let written = 0;
    const server = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", async () => {
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${TOTAL}\r\n\r\n`);
        while (written < TOTAL && !socket.destroyed) {
          written += piece.length;
          if (!socket.write(piece)) await new Promise((done) => socket.once("drain", done).once("close", done));
        }
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as net.AddressInfo;
    const socket = net.connect({ port: scene.house.port, host: "127.0.0.1" });
    const before = process.memoryUsage().rss;
    socket.write(`GET http://${HOST}:${port}/slow-reader HTTP/1.1\r\nHost: ${HOST}:${port}\r\n\r\n`);
    socket.pause();
    await wait(1_500);
    const stalledAt = written;
    expect(stalledAt).toBeLessThan(TOTAL / 2); // the kernel's buffers and two slabs, no more
    expect(process.memoryUsage().rss - before).toBeLessThan(48 * 1024 * 1024);
    const hash = createHash("sha256");
    let read = 0;
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      read += chunk.length;
      hash.update(chunk);
      if (read >= TOTAL) break;
    }
    const [record] = await scene.house.recordsWhere((r) => r.path === "/slow-reader");
    expect(record?.received).toMatchObject({ bytes: TOTAL, complete: true });
    expect(process.memoryUsage().rss - before).toBeLessThan(96 * 1024 * 1024);
    server.close();
  });

  test("200 uploads at once, to an origin that takes its time", async () => {
    const size = 256 * 1024;
    const content = Buffer.alloc(size, 98);
    const server = net.createServer((socket) => {
      let got = 0;
      socket.on("error", () => {});
      socket.on("data", (b: Buffer) => {
        got += b.length;
        socket.pause();
        setTimeout(() => socket.resume(), 5);
        if (got > size) socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as net.AddressInfo;
    const before = process.memoryUsage().rss;
    let peak = before;
    const sampler = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss);
    }, 50);
    const one = async (): Promise<number> => {
      const client = await scene.open();
      client
        .send(`POST http://${HOST}:${port}/many HTTP/1.1\r\nHost: ${HOST}:${port}\r\nContent-Length: ${size}\r\n\r\n`)
        .send(content);
      const { status } = await client.response(20_000);
      client.destroy();
      return status;
    };
    const statuses = await Promise.all(Array.from({ length: 200 }, one));
    clearInterval(sampler);
    expect(statuses.every((status) => status === 200)).toBe(true);
    expect(peak - before).toBeLessThan(256 * 1024 * 1024);
    const records = await scene.house.recordsWhere((r) => r.path === "/many", 200);
    const digest = sha256("b".repeat(size));
    for (const record of records) expect(record.sent).toEqual({ bytes: size, sha256: digest, complete: true });
    server.close();
  });
});
