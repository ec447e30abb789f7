// WebSockets through the whole house, on every path: messages, compression, pings, closings, and one record for each.
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, startRawOrigin } from "../support/origin.ts";
import {
  BINARY,
  CLOSE,
  closeCode,
  closePayload,
  echo,
  frame,
  framesAt,
  handshakeText,
  masked,
  openPath,
  PATHS,
  type PathName,
  PING,
  PONG,
  rawWebSocket,
  secureOn,
  startWsOrigin,
  switching,
  TEXT,
  targetOn,
  wsClient,
} from "../support/web-socket.ts";

const sha256 = (...parts: (string | Buffer)[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
const ca = new TestCa();
let house: TestHouse;

const upgradeOf = async (target: string): Promise<AuditRecord> => {
  const [record] = await house.recordsWhere((r) => r.kind === "upgrade" && r.path === target);
  return record as AuditRecord;
};
const rawTls = (path: PathName) => (path === "intercepted wss" ? { tls: ca.leaf("localhost") } : {});
let serial = 0;
const newTarget = (): string => `/w${++serial}`;

beforeAll(async () => {
  house = await startTestHouse({ roots: ca.cert });
});
afterAll(async () => {
  await house.close();
});

describe.each(PATHS)("%s", (path) => {
  test("messages pass both ways, compressed, and are recorded", async () => {
    const origin = await startWsOrigin(echo, secureOn(path, ca));
    const target = newTarget();
    const client = await wsClient(path, house, origin.port, target);
    expect(client.socket.extensions).toContain("permessage-deflate");
    const text = "text äöü ".repeat(500);
    const binary = randomBytes(70_000);
    client.socket.send(text);
    client.socket.send(binary);
    client.socket.send("");
    const got = await client.until(3);
    expect(got.map((m) => [m.binary, m.data.length])).toEqual([
      [false, Buffer.byteLength(text)],
      [true, 70_000],
      [false, 0],
    ]);
    expect(got[1]?.data.equals(binary)).toBe(true);
    client.socket.close(3001, "bye");
    expect(await client.closed).toEqual({ code: 3001, reason: "bye" });
    const body = { bytes: Buffer.byteLength(text) + 70_000, sha256: sha256(text, binary), complete: true, messages: 3 };
    const record = await upgradeOf(target);
    expect(record).toMatchObject({
      kind: "upgrade",
      decision: "allow",
      reason: null,
      status: 101,
      host: "localhost",
      port: origin.port,
      scheme: path === "intercepted wss" ? "https" : "http",
      clientProtocol: "websocket",
      uninspected: false,
      sent: body,
      received: body,
      notes: ["close:client:3001", "close:origin:3001"],
    });
    const [exchange] = await house.recordsWhere((r) => r.kind === "exchange" && r.path === target);
    expect(record.parent).toBe(exchange?.id);
    expect(exchange).toMatchObject({ status: 101, decision: "allow" });
    await origin.close();
  });

  test("frames towards the origin are masked anew, those towards the client are not", async () => {
    const origin = await startRawOrigin((c) => void c.socket.write(switching(c)), rawTls(path));
    const client = await rawWebSocket(path, house, origin.port);
    const one = masked(TEXT, "same");
    client.send(one, one);
    await origin.until(() => framesAt(origin, 0).length === 2);
    const [first, second] = framesAt(origin, 0);
    expect([first?.payload.toString(), second?.payload.toString()]).toEqual(["same", "same"]);
    expect(first?.key).not.toBeNull();
    expect(first?.key?.equals(one.subarray(2, 6))).toBe(false);
    expect(first?.key?.equals(second?.key as Buffer)).toBe(false);
    origin.conversations[0]?.socket.write(frame(TEXT, "back"));
    const [back] = await client.until(1);
    expect(back).toMatchObject({ key: null, fin: true, opcode: TEXT, payload: Buffer.from("back") });
    client.connection.destroy();
    await origin.close();
  });

  test("fragments with control frames between them become one message; pings and pongs pass at once", async () => {
    const origin = await startRawOrigin((c) => void c.socket.write(switching(c)), rawTls(path));
    const client = await rawWebSocket(path, house, origin.port);
    client.send(masked(TEXT, "a", { fin: false }), masked(PING, "p1"), masked(0, "b", { fin: false }));
    await origin.until(() => framesAt(origin, 0).length === 1);
    expect(framesAt(origin, 0)[0]).toMatchObject({ opcode: PING, payload: Buffer.from("p1") });
    origin.conversations[0]?.socket.write(frame(PONG, "p1"));
    expect((await client.until(1))[0]).toMatchObject({ opcode: PONG, payload: Buffer.from("p1") });
    client.send(masked(0, "c"));
    await origin.until(() => framesAt(origin, 0).length === 2);
    expect(framesAt(origin, 0)[1]).toMatchObject({ opcode: TEXT, fin: true, payload: Buffer.from("abc") });
    client.connection.destroy();
    await origin.close();
  });

  test("messages that arrive with the handshake and with the close are not lost", async () => {
    const script = (c: Parameters<typeof switching>[0]) => {
      const last = Buffer.concat([frame(TEXT, "first"), frame(TEXT, "last"), frame(CLOSE, closePayload(1000, "done"))]);
      c.socket.write(Buffer.concat([Buffer.from(switching(c), "latin1"), last]));
    };
    const origin = await startRawOrigin(script, rawTls(path));
    const target = newTarget();
    const connection = await openPath(path, house, origin.port);
    const early = masked(BINARY, "early");
    connection.send(
      Buffer.concat([Buffer.from(handshakeText(targetOn(path, origin.port, target), origin.port)), early]),
    );
    await connection.until((text) => text.includes("done"));
    await origin.until(() => framesAt(origin, 0).length === 1);
    expect(framesAt(origin, 0)[0]).toMatchObject({ opcode: BINARY, payload: Buffer.from("early") });
    connection.send(masked(CLOSE, closePayload(1000)));
    await connection.closed();
    const text = connection.text;
    expect(text.indexOf("first")).toBeGreaterThan(0);
    expect(text.indexOf("last")).toBeGreaterThan(text.indexOf("first"));
    expect(await upgradeOf(target)).toMatchObject({
      reason: null,
      sent: { messages: 1, sha256: sha256("early"), complete: true },
      received: { messages: 2, sha256: sha256("firstlast"), complete: true },
      notes: ["close:origin:1000", "close:client:1000"],
    });
    await origin.close();
  });

  test.each([
    [1000, "normal"],
    [1001, ""],
    [1011, "ünexpected"],
    [4999, "own"],
    [1005, ""],
  ])("close code %i passes, from either side", async (code, reason) => {
    for (const from of ["client", "origin"] as const) {
      const origin = await startWsOrigin(() => {}, secureOn(path, ca));
      const client = await wsClient(path, house, origin.port);
      await expect.poll(() => origin.sockets.length).toBe(1);
      const there = origin.sockets[0] as (typeof origin.sockets)[number];
      const [sender, receiver] = from === "client" ? [client.socket, there] : [there, client.socket];
      const seen = once(receiver, "close");
      if (code === 1005) sender.close();
      else sender.close(code, reason);
      const [gotCode, gotReason] = await seen;
      expect([gotCode, String(gotReason)]).toEqual([code, reason]);
      await origin.close();
    }
  });

  test("100 KB that come together with the handshake are not lost", async () => {
    const piece = "y".repeat(50_000);
    const origin = await startRawOrigin(
      (c) =>
        void c.socket.write(
          Buffer.concat([Buffer.from(switching(c), "latin1"), frame(TEXT, piece), frame(TEXT, piece)]),
        ),
      rawTls(path),
    );
    const client = await rawWebSocket(path, house, origin.port);
    await client.until(2);
    expect(client.frames.map((f) => f.payload.toString() === piece)).toEqual([true, true]);
    client.connection.destroy();
    await origin.close();
  });

  test.each(["client", "origin"] as const)("an abrupt end of the %s is never a tidy close", async (who) => {
    const origin = await startRawOrigin((c) => void c.socket.write(switching(c)), rawTls(path));
    const target = newTarget();
    const client = await rawWebSocket(path, house, origin.port, target);
    client.send(masked(TEXT, "whole"), masked(TEXT, "half", { fin: false }));
    await origin.until(() => framesAt(origin, 0).length === 1);
    const there = origin.conversations[0] as (typeof origin.conversations)[number];
    there.socket.write(frame(TEXT, "answer"));
    await client.until(1);
    if (who === "client") {
      client.connection.destroy();
      await expect.poll(() => there.closed || there.ended).toBe(true);
      expect(framesAt(origin, 0).map((f) => f.opcode)).toEqual([TEXT]);
    } else {
      there.socket.end(frame(TEXT, "and one more"));
      await client.connection.closed();
      expect(client.frames.map((f) => f.opcode)).toEqual([TEXT, TEXT]);
    }
    const record = await upgradeOf(target);
    expect(record).toMatchObject({
      decision: "allow",
      reason: who === "client" ? "client-gone" : "origin-incomplete",
      sent: { messages: 1, complete: false },
      received: { messages: who === "client" ? 1 : 2, complete: false },
    });
    await origin.close();
  });

  test("a reset of the origin breaks the client, and the ws package calls it 1006", async () => {
    const origin = await startWsOrigin(
      (socket) => {
        socket.on("message", () => socket.terminate());
      },
      secureOn(path, ca),
    );
    const client = await wsClient(path, house, origin.port);
    client.socket.send("x");
    expect((await client.closed).code).toBe(1006);
    await origin.close();
  });

  test("a 101 that does not answer the key is refused", async () => {
    const wrong =
      "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
    const origin = await startRawOrigin(origins.answer(wrong), rawTls(path));
    const target = newTarget();
    const connection = await openPath(path, house, origin.port);
    connection.send(handshakeText(targetOn(path, origin.port, target), origin.port));
    expect((await connection.response()).status).toBe(502);
    await house.recordsWhere((r) => r.path === target && r.reason === "origin-protocol");
    connection.destroy();
    await origin.close();
  });

  test("only permessage-deflate is offered, and an answer that was not offered is refused", async () => {
    let answer = "";
    const origin = await startRawOrigin((c) => void c.socket.write(switching(c, answer)), rawTls(path));
    const target = newTarget();
    const offered = 'Sec-WebSocket-Extensions: x-secret, permessage-deflate; client_max_window_bits, foo; a="b"\r\n';
    const client = await rawWebSocket(path, house, origin.port, target, offered);
    expect(origin.text()).toMatch(/Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n/);
    expect(origin.text()).not.toContain("x-secret");
    client.connection.destroy();
    const [record] = await house.recordsWhere((r) => r.kind === "exchange" && r.path === target);
    expect(record?.notes).toContain("websocket-extensions-removed");
    answer = "Sec-WebSocket-Extensions: x-secret\r\n";
    await expect(rawWebSocket(path, house, origin.port, "/", offered)).rejects.toThrow("502");
    await origin.close();
  });

  test("a handshake that the origin declines is an ordinary response", async () => {
    const origin = await startRawOrigin(origins.text("no"), rawTls(path));
    const connection = await openPath(path, house, origin.port);
    connection.send(handshakeText(targetOn(path, origin.port, "/no"), origin.port));
    expect(await connection.response()).toMatchObject({ status: 200, content: "no" });
    connection.destroy();
    await origin.close();
  });
});

test("what is not a WebSocket stays blind", async () => {
  const origin = await startRawOrigin(({ socket }) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo-it\r\nConnection: Upgrade\r\n\r\nhello");
  });
  const target = newTarget();
  const connection = await openPath("plain ws", house, origin.port);
  connection.send(
    `GET ${targetOn("plain ws", origin.port, target)} HTTP/1.1\r\nHost: localhost:${origin.port}\r\nUpgrade: echo-it\r\nConnection: Upgrade\r\n\r\n`,
  );
  await connection.until((text) => text.endsWith("hello"));
  connection.send("\x81bytes");
  await origin.until((text) => text.endsWith("\x81bytes"));
  connection.socket.end();
  await wait(20);
  origin.conversations[0]?.socket.end();
  expect(await upgradeOf(target)).toMatchObject({
    uninspected: true,
    clientProtocol: "echo-it",
    sent: { bytes: 6 },
    received: { bytes: 5 },
  });
  await origin.close();
});

test("the close code of a refusal names the record", async () => {
  const origin = await startRawOrigin((c) => void c.socket.write(switching(c)));
  const target = newTarget();
  const client = await rawWebSocket("plain ws", house, origin.port, target);
  client.send(frame(TEXT, "not masked"));
  const frames = await client.until(1);
  expect(closeCode(frames)).toBe(1002);
  const record = await upgradeOf(target);
  expect(frames[0]?.payload.toString()).toContain(`malformed-request; id=${record.id}`);
  await origin.close();
});
