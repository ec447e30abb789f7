// What comes in many small reads costs no more than what comes in a few large ones, and whole frames wait for nothing.
import { randomBytes } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { Pieces } from "../../../src/edge/websocket/pieces.ts";
import { cpuTime } from "../../support/cpu.ts";
import { BINARY, CLOSE, closeCode, closePayload, masked, PING, TEXT } from "../../support/web-socket.ts";
import { type Rig, type RigOptions, startRig } from "./rig.ts";

const rigs: Rig[] = [];
async function rig(options: RigOptions): Promise<Rig> {
  const started = await startRig(options);
  rigs.push(started);
  return started;
}
afterEach(async () => {
  for (const started of rigs.splice(0)) await started.close();
});

test("a large frame byte by byte stalls nobody", async () => {
  const { client, origin } = await rig({ cut: 1 });
  const data = randomBytes(200_000);
  let worst = 0;
  let last = performance.now();
  const ticks = setInterval(() => {
    worst = Math.max(worst, performance.now() - last);
    last = performance.now();
  }, 5);
  client.socket.write(masked(BINARY, data));
  const [first] = await origin.until((frames) => frames.length === 1);
  clearInterval(ticks);
  expect(first?.payload.equals(data)).toBe(true);
  expect(worst).toBeLessThan(1_000);
});

test("messages of every length near a piece arrive whole when nothing is behind them", async () => {
  for (const cut of [1, 7, 4_096, 5_000]) {
    const { client, origin, record } = await rig({ cut });
    let count = 0;
    for (const length of [0, 1, 125, 126, 4_081, 4_082, 4_088, 4_096, 4_097, 8_192, 12_288, 70_000]) {
      const data = randomBytes(length);
      client.socket.write(Buffer.concat([masked(BINARY, data.subarray(0, length >> 1), { fin: false }), masked(PING)]));
      client.socket.write(masked(0, data.subarray(length >> 1)));
      count += 2;
      const frames = await origin.until((f) => f.length === count);
      expect(frames.at(-1)?.payload.equals(data), `${length} bytes`).toBe(true);
    }
    client.socket.end(masked(CLOSE, closePayload(1000)));
    await origin.until((frames) => closeCode(frames) === 1000);
    origin.socket.end();
    expect((await record()).sent.complete).toBe(true);
  }
});

test("an end inside a frame is seen, with bytes of it behind its header", async () => {
  const { client, record } = await rig({ cut: 1 });
  client.socket.end(masked(TEXT, "01234", { length: 10 }));
  expect(await record()).toMatchObject({ reason: "client-gone", sent: { messages: 0, complete: false } });
});

test("pieces are what was put in, and small ones are joined", () => {
  const pieces = new Pieces(10);
  expect(pieces.has(1)).toBe(false);
  expect(pieces.next(1)).toBeNull();
  pieces.add(Buffer.from("abc"));
  expect(pieces.next(4)).toBeNull();
  pieces.add(Buffer.from("d"));
  expect(pieces.next(4)?.toString()).toBe("abcd");
  pieces.add(Buffer.from("0123456789abcdef"));
  expect(pieces.next(100)?.toString()).toBe("0123456789");
  expect(pieces.has(100)).toBe(false);
  pieces.add(Buffer.from("ghijklm"));
  expect(pieces.next(100)?.toString()).toBe("abcdefghij");
  expect(pieces.next(1)?.toString()).toBe("klm");
  pieces.add(Buffer.from("x"));
  pieces.clear();
  expect(pieces.has(1)).toBe(false);
});

test("joining takes as long as there are bytes", () => {
  const one = Buffer.from("x");
  const pieces = new Pieces(65_536);
  const time = cpuTime(() => {
    for (let i = 0; i < 500_000; i++) pieces.add(one);
  });
  expect(time).toBeLessThan(1_000);
});
