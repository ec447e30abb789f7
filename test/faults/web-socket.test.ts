// The faults of the matrix on WebSockets: the handshake that is refused or stalls, connections that break inside a frame or a
// message, ends that leave without a close frame or read nothing. The records say so, neither end can take what broke for a
// tidy close, everybody else is served, and nothing is left open.
import { createHash } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../support/certificates.ts";
import { PATIENCE } from "../support/patience.ts";
import { afterPause } from "../support/pause.ts";
import { CLOSE, frame, masked, type ReadFrame, readFrames, TEXT } from "../support/web-socket.ts";
import {
  type Client,
  connections,
  type FaultyOrigin,
  HTTP_WAYS,
  type Meeting,
  type Rig,
  type Script,
  startOrigin,
  startRig,
  type Way,
} from "./rig.ts";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const switched = (meeting: Meeting): string => {
  const key = /^sec-websocket-key: *(\S+)/im.exec(meeting.text.slice(meeting.text.lastIndexOf("GET ")))?.[1] ?? "";
  const accept = createHash("sha1").update(`${key}${GUID}`).digest("base64");
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`;
};
const half = (opcode: number): Buffer => frame(opcode, "01234", { length: 10 });
const fragment = (): Buffer => frame(TEXT, "01234", { fin: false });

/** Switches, says this, lets it arrive, and does something. */
const then =
  (bytes: () => Buffer, act: (meeting: Meeting) => unknown): Script =>
  (meeting) => {
    meeting.socket.write(switched(meeting));
    meeting.socket.write(bytes());
    afterPause(100, () => act(meeting));
  };
const reset = ({ raw }: Meeting): unknown => raw.resetAndDestroy();
const end = ({ socket }: Meeting): unknown => socket.end();
const only: Script = (meeting) => meeting.socket.write(switched(meeting));

const HANDSHAKES: readonly { name: string; script: Script; status: number; reason: string | null }[] = [
  {
    name: "declined",
    script: ({ socket }) => socket.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"),
    status: 403,
    reason: null,
  },
  { name: "stalls", script: () => {}, status: 504, reason: "origin-timeout" },
  { name: "ends in its place", script: end, status: 502, reason: "origin-incomplete" },
  { name: "resets in its place", script: reset, status: 502, reason: "origin-incomplete" },
  {
    name: "stalls inside the 101",
    script: (m) => m.socket.write(switched(m).slice(0, 60)),
    status: 504,
    reason: "origin-timeout",
  },
  {
    name: "resets inside the 101",
    script: (m) => {
      m.socket.write(switched(m).slice(0, 60));
      afterPause(60, () => reset(m));
    },
    status: 502,
    reason: "origin-incomplete",
  },
];

const BREAKS: readonly { name: string; script: Script; messages: number }[] = [
  { name: "resets after five bytes of a frame of ten", script: then(() => half(TEXT), reset), messages: 0 },
  { name: "ends after five bytes of a frame of ten", script: then(() => half(TEXT), end), messages: 0 },
  { name: "ends between two fragments", script: then(fragment, end), messages: 0 },
  { name: "resets between two fragments", script: then(fragment, reset), messages: 0 },
  { name: "ends after a message, without a close frame", script: then(() => frame(TEXT, "one"), end), messages: 1 },
  { name: "resets after a message", script: then(() => frame(TEXT, "one"), reset), messages: 1 },
];

const CLIENTS: readonly { name: string; act: (client: Client) => void }[] = [
  { name: "leaves inside a frame", act: (c) => c.send(masked(TEXT, "01234", { length: 10 })).socket.end() },
  { name: "leaves between two fragments", act: (c) => c.send(masked(TEXT, "01234", { fin: false })).socket.end() },
  { name: "leaves", act: (c) => void c.socket.end() },
  {
    name: "resets inside a frame",
    act: (c) => {
      c.send(masked(TEXT, "01234", { length: 10 }));
      afterPause(100, () => c.reset());
    },
  },
];

let rig: Rig;
let plain: FaultyOrigin;
let secure: FaultyOrigin;
let before = 0;
let over = false;
const failed: string[] = [];
let served = 0;
let watching: Promise<void>;
const scripts = new Map<string, Script>();

beforeAll(async () => {
  const originCa = new TestCa();
  const script = (path: string): Script => scripts.get(path) ?? only;
  plain = await startOrigin(script, null);
  secure = await startOrigin(script, originCa.leaf("o.test"));
  rig = await startRig({
    originCa,
    policy: `server: { header-timeout: 3s, idle-timeout: 5s, connect-timeout: 2s }
defaults: { action: allow, limits: { idle: 2s, total: 8s } }
network: { allow: [127.0.0.0/8] }
`,
  });
  before = connections();
  scripts.set(
    "/well",
    then(
      () => Buffer.concat([frame(TEXT, "hi"), frame(CLOSE)]),
      () => {},
    ),
  );
  watching = (async () => {
    while (!over) {
      const { client } = await handshake("plain", "/well", "127.9.9.9");
      const frames = await settled(client);
      if (frames.map((f) => f.opcode).join() !== `${TEXT},${CLOSE}`) failed.push(client.text);
      client.send(masked(CLOSE));
      served++;
      await wait(50);
      client.destroy();
    }
  })();
});
afterAll(async () => {
  await rig.close();
  await Promise.all([plain.close(), secure.close()]);
});

/** The client, and where the bytes behind the answer's head begin. */
async function handshake(way: Way, path: string, address: string): Promise<{ client: Client; status: number }> {
  const { port } = way === "intercepted" ? secure : plain;
  const client = await rig.enter(way, "o.test", port, address);
  const target = way === "plain" ? `http://o.test:${port}${path}` : path;
  client.send(
    `GET ${target} HTTP/1.1\r\nHost: o.test:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
  );
  const text = await client.until((t) => t.includes("\r\n\r\n"));
  return { client, status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]) };
}

const framesOf = (bytes: Buffer): ReadFrame[] => readFrames(bytes.subarray(bytes.indexOf("\r\n\r\n") + 4));

/** Frames until the connection ended, or a close frame came. */
async function settled(client: Client): Promise<ReadFrame[]> {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await wait(5)) {
    const frames = framesOf(client.bytes);
    if (client.ending !== "open" || frames.some((f) => f.opcode === CLOSE)) return frames;
  }
  throw new Error("still open");
}

/** The records of an address but those of CONNECT. */
const recordsOf = (address: string, count: number) =>
  rig.house.recordsWhere((r) => r.address === address && r.kind !== "connect", count);
const meetingsOf = (path: string): Meeting[] =>
  [...plain.meetings, ...secure.meetings].filter((m) => m.text.includes(` ${path} `));
const newPath = (title: string): string => `/${encodeURIComponent(title)}`;

describe.concurrent.each(HTTP_WAYS)("%s", (way) => {
  test.each(HANDSHAKES)("the handshake: $name", async ({ name, script, status, reason }) => {
    const path = newPath(`${way} ${name}`);
    const address = rig.newAddress();
    scripts.set(path, script);
    const { client, status: got } = await handshake(way, path, address);
    expect(got).toBe(status);
    client.destroy();
    const [record] = await recordsOf(address, 1);
    expect(record).toMatchObject({ kind: "exchange", decision: "allow", status, reason });
    expect(meetingsOf(path)).toHaveLength(1);
  });

  test.each(BREAKS)("the origin $name", async ({ name, script, messages }) => {
    const path = newPath(`${way} ${name}`);
    const address = rig.newAddress();
    scripts.set(path, script);
    const { client, status } = await handshake(way, path, address);
    expect(status).toBe(101);
    const frames = await settled(client);
    expect(frames.map((f) => f.opcode)).toEqual(Array.from({ length: messages }, () => TEXT));
    expect(client.ending, "the connection ended, without a close frame").not.toBe("open");
    const records = await recordsOf(address, 2);
    expect(records.find((r) => r.kind === "upgrade")).toMatchObject({
      decision: "allow",
      status: 101,
      reason: "origin-incomplete",
      received: { messages, complete: false },
    });
    client.destroy();
    for (const end = Date.now() + PATIENCE; !meetingsOf(path)[0]?.closed && Date.now() < end; ) await wait(20);
    expect(meetingsOf(path).map((m) => m.closed)).toEqual([true]);
  });

  test.each(CLIENTS)("the client $name", async ({ name, act }) => {
    const path = newPath(`${way} ${name}`);
    const address = rig.newAddress();
    const { client } = await handshake(way, path, address);
    act(client);
    const records = await recordsOf(address, 2);
    expect(records.find((r) => r.kind === "upgrade")).toMatchObject({
      decision: "allow",
      reason: "client-gone",
      sent: { messages: 0, complete: false },
    });
    for (const end = Date.now() + PATIENCE; !meetingsOf(path)[0]?.closed && Date.now() < end; ) await wait(20);
    const [meeting] = meetingsOf(path) as [Meeting];
    expect(meeting.closed).toBe(true);
    expect(framesOf(Buffer.from(meeting.text, "latin1"))).toEqual([]);
    client.destroy();
  });

  test("the client reads nothing", async () => {
    const path = newPath(`${way} deaf`);
    const address = rig.newAddress();
    const piece = frame(TEXT, "x".repeat(60_000));
    let given = 0;
    scripts.set(path, (meeting) => {
      meeting.socket.write(switched(meeting));
      const more = (): void => {
        while (!meeting.socket.destroyed && meeting.socket.write(piece)) given += piece.length;
      };
      meeting.socket.on("drain", more);
      more();
    });
    const { client } = await handshake(way, path, address);
    client.raw.pause();
    client.socket.pause();
    const records = await rig.house.recordsWhere((r) => r.address === address && r.kind === "upgrade");
    expect(records[0]).toMatchObject({ reason: "tunnel-limit", received: { complete: false } });
    // The origin was held up: buffers of the system and of ours filled, and then nothing.
    expect(given).toBeLessThan(64_000_000);
    for (const end = Date.now() + PATIENCE; !meetingsOf(path)[0]?.closed && Date.now() < end; ) await wait(20);
    expect(meetingsOf(path)[0]?.closed).toBe(true);
    client.destroy();
  });
});

test("everybody else was served all the while, and nothing is left open", async () => {
  over = true;
  await watching;
  expect(failed).toEqual([]);
  expect(served).toBeGreaterThan(5);
  await rig.house.house.reload(); // idle origin connections go
  for (const end = Date.now() + PATIENCE; connections() > before && Date.now() < end; ) await wait(100);
  expect(connections()).toBeLessThanOrEqual(before);
  const gauges = await (await fetch(`http://127.0.0.1:${rig.house.adminPort}/metrics`)).text();
  expect(gauges).toMatch(/^sallyport_connections\{side="client"\} 0$/m);
});
