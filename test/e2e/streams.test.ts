// Streams stream: an event, a message of a WebSocket and one of gRPC are with the other side within 100 ms of their arrival, on
// every way, in every version, and where content rules look at them. Each is sent only when the one before it is there.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { constants, createGzip, gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sessionThrough } from "../edge/proxy/h2/support.ts";
import { selfSigned, TestCa } from "../support/certificates.ts";
import { proxySession } from "../support/h2-proxy.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { PATIENCE } from "../support/patience.ts";
import { connectTo, type RawConnection, tlsThrough, tunnelThrough } from "../support/raw-client.ts";
import { PATHS, startWsOrigin, type WsOrigin, wsClient } from "../support/web-socket.ts";

const COUNT = 5;
/** Milliseconds; the machine may have other work: one of them may be late, not most. */
const SOON = 100;
const KINDS = ["events", "gzip", "grpc"] as const;
const RULES = ["free", "blocked", "replaced", "secrets"] as const;
const CONTENT = {
  free: "",
  blocked: ", content: [{ block: { text: malicious_pattern } }]",
  replaced: ", content: [{ redact: { text: hush, with: '-' } }]",
  secrets: ", content: [{ block: { secrets: true, on: both } }]",
};

const dir = mkdtempSync(join(tmpdir(), "sallyport-streams-"));
const ca = new TestCa();
const servers: (http.Server | http2.Http2SecureServer)[] = [];
const ports = { plain: 0, secure: 0, modern: 0 };
/** What writes a piece of the response, by the path of its request. */
const writers = new Map<string, (text: string) => void>();
const houses: Record<"near" | "first" | "door", TestHouse> = {} as never;
let webSockets: Record<"plain" | "secure", WsOrigin>;

type Answered = http.ServerResponse | http2.Http2ServerResponse;

function serve({ url = "" }: http.IncomingMessage | http2.Http2ServerRequest, either: Answered): void {
  const response = either as http.ServerResponse; // the other has the same methods, and its types know too few of them
  const write = (bytes: string | Buffer): unknown => response.write(bytes);
  const kind = url.split("/")[2];
  response.setHeader("content-type", kind === "grpc" ? "application/grpc+proto" : "text/event-stream");
  if (kind === "gzip") response.setHeader("content-encoding", "gzip");
  response.flushHeaders();
  const gzip = createGzip().on("data", write);
  writers.set(url, (text) => {
    if (kind === "events") write(text);
    else if (kind === "grpc") write(message(text));
    else gzip.write(text, () => gzip.flush(constants.Z_SYNC_FLUSH));
  });
}

function message(text: string): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(text.length, 1);
  return Buffer.concat([prefix, Buffer.from(text)]);
}

const policyFor = (server: string, via: string): string => {
  const at = [ports.plain, webSockets.plain.port].map((port) => `http://localhost:${port}`);
  at.push(...[ports.secure, ports.modern, webSockets.secure.port].map((port) => `https://localhost:${port}`));
  return `${server}defaults: { action: deny }
network: { allow: [127.0.0.0/8, "::1/128"] }
secrets: { key: { env: TEST_SECRET } }
rules:
${RULES.map((rule) => `  - { id: ${rule}, allow: [${at.map((a) => `"${a}/${rule}/**"`)}]${CONTENT[rule]}${via} }`).join("\n")}
`;
};

beforeAll(async () => {
  const leaf = ca.leaf("localhost");
  const listen = async (server: http.Server | http2.Http2SecureServer): Promise<number> => {
    servers.push(server);
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return (server.address() as AddressInfo).port;
  };
  ports.plain = await listen(http.createServer(serve));
  ports.secure = await listen(https.createServer(leaf, serve));
  ports.modern = await listen(http2.createSecureServer({ ...leaf, allowHTTP1: false }, serve));
  webSockets = { plain: await startWsOrigin(), secure: await startWsOrigin(undefined, { secure: leaf }) };
  const proxy = selfSigned("proxy.test");
  writeFileSync(join(dir, "cert.pem"), proxy.cert);
  writeFileSync(join(dir, "key.pem"), proxy.key);
  const env = { TEST_SECRET: "s3cr3t-value-of-the-operator" };
  const start = (policy: string, roots: string) => startTestHouse({ policy, roots, env });
  const near = await start(policyFor("", ""), ca.cert);
  const tls = `server: { tls: { cert: ${dir}/cert.pem, key: ${dir}/key.pem, http2: true } }\n`;
  houses.near = near;
  houses.door = await start(policyFor(tls, ""), ca.cert);
  houses.first = await start(policyFor("", `, via: "http://127.0.0.1:${near.port}"`), ca.cert + near.ca);
});

afterAll(async () => {
  for (const house of [houses.first, houses.door, houses.near]) await house?.close();
  await Promise.all([webSockets.plain.close(), webSockets.secure.close()]);
  for (const server of servers) server.close();
  rmSync(dir, { recursive: true });
});

/** A response on its way. */
interface Open {
  /** True: its head is here. */
  head(): boolean;
  /** The content so far, with framing and coding undone. */
  content(): string;
  close(): void;
}

const decoded = (bytes: Buffer, coding: string | undefined): string =>
  (coding === "gzip" && bytes.length > 0
    ? gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH })
    : bytes
  ).toString();

function overRaw(connection: RawConnection, line: string, port: number): Open {
  const start = connection.bytes.length; // behind the answer to CONNECT
  connection.send(`GET ${line} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`);
  const head = (): string => connection.text.slice(start).split("\r\n\r\n", 2)[0] as string;
  return {
    head: () => head().startsWith("HTTP/1.1 200 ") && connection.text.slice(start).includes("\r\n\r\n"),
    content: () => {
      const coding = /\r\ncontent-encoding: *(\w+)/i.exec(head())?.[1];
      return decoded(withoutChunks(connection.bytes.subarray(start + head().length + 4)), coding);
    },
    close: () => connection.destroy(),
  };
}

function withoutChunks(bytes: Buffer): Buffer {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf("\r\n", at);
    const size = Number.parseInt(bytes.toString("latin1", at, end), 16);
    if (!(size > 0)) break;
    chunks.push(bytes.subarray(end + 2, Math.min(end + 2 + size, bytes.length)));
    at = end + 2 + size + 2;
  }
  return Buffer.concat(chunks);
}

function overStream(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders): Open {
  const stream = session.request(headers).on("error", () => {});
  const pieces: Buffer[] = [];
  let status = 0;
  let coding: string | undefined;
  stream.on("response", (got) => {
    status = Number(got[":status"]);
    coding = got["content-encoding"];
  });
  stream.on("data", (b: Buffer) => pieces.push(b));
  return {
    head: () => status === 200,
    content: () => decoded(Buffer.concat(pieces), coding),
    close: () => session.destroy(),
  };
}

const at = (port: number): string => `localhost:${port}`;
const first = async (from: "near" | "first", port: number, path: string): Promise<Open> => {
  const house = houses[from];
  return overRaw(await tlsThrough(house.port, at(port), { ca: house.ca }), path, port);
};
const second = async (from: "near" | "first", port: number, path: string): Promise<Open> => {
  const house = houses[from];
  return overStream(await sessionThrough(house.port, at(port), house.ca), { ":path": path });
};

const WAYS: [string, (path: string) => Promise<Open>][] = [
  ["plain", async (p) => overRaw(await connectTo(houses.near.port), `http://${at(ports.plain)}${p}`, ports.plain)],
  [
    "in clear text inside CONNECT",
    async (p) => overRaw(await tunnelThrough(houses.near.port, at(ports.plain)), p, ports.plain),
  ],
  ["HTTP/1.1 to HTTP/1.1", (p) => first("near", ports.secure, p)],
  ["HTTP/1.1 to HTTP/2", (p) => first("near", ports.modern, p)],
  ["HTTP/2 to HTTP/1.1", (p) => second("near", ports.secure, p)],
  ["HTTP/2 to HTTP/2", (p) => second("near", ports.modern, p)],
  ["through a next proxy, HTTP/1.1", (p) => first("first", ports.secure, p)],
  ["through a next proxy, HTTP/2", (p) => second("first", ports.modern, p)],
  [
    "HTTP/2 on the proxy port",
    async (p) =>
      overStream(await proxySession(houses.door.port), {
        ":scheme": "https",
        ":authority": at(ports.modern),
        ":path": p,
      }),
  ],
];

async function until(holds: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + PATIENCE; !holds(); await wait(1))
    if (Date.now() > end) throw new Error(`it never came: ${what}`);
}

let events = 0;

/**
 * Sends one after the other; the median of the milliseconds from sending to arrival. On a machine with other work that may be late
 * once: of three such medians the least counts.
 */
async function paced(send: (text: string) => void, arrived: (text: string) => boolean): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < 3 && least >= SOON; tries++) least = Math.min(least, await pacedOnce(send, arrived));
  return least;
}

async function pacedOnce(send: (text: string) => void, arrived: (text: string) => boolean): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < COUNT; i++) {
    const text = i % 3 === 2 ? `: ${++events}\n\n` : `data: event ${++events}\n\n`;
    const sent = performance.now();
    send(text);
    await until(() => arrived(text), text);
    times.push(performance.now() - sent);
  }
  return times.sort((a, b) => a - b)[COUNT >> 1] as number;
}

let serial = 0;

describe.each(WAYS)("%s", (_way, open) => {
  test.each(RULES.flatMap((rule) => KINDS.map((kind) => [rule, kind] as const)))("%s, %s", async (rule, kind) => {
    const path = `/${rule}/${kind}/${++serial}`;
    const response = await open(path);
    await until(() => writers.has(path), "the request");
    // The head does not wait for the first event; where gRPC's messages are looked at, it waits for the first of them.
    if (kind !== "grpc") await until(response.head, "the head");
    const write = writers.get(path) as (text: string) => void;
    expect(await paced(write, (text) => response.content().includes(text))).toBeLessThan(SOON);
    response.close();
  });
});

describe.each(PATHS)("%s", (path) => {
  test.each(RULES.flatMap((rule) => (["near", "first"] as const).map((from) => [rule, from] as const)))(
    "%s, %s",
    async (rule, from) => {
      const origin = webSockets[path === "intercepted wss" ? "secure" : "plain"];
      const client = await wsClient(path, houses[from], origin.port, `/${rule}/${++serial}`);
      const echoed = (text: string): boolean => client.messages.some(({ data }) => data.toString() === text);
      expect(await paced((text) => client.socket.send(text), echoed)).toBeLessThan(SOON);
      client.socket.terminate();
    },
  );
});
