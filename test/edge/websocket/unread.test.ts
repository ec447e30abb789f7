// What waits for those who do not read is bounded for all connections of a house together.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import zlib from "node:zlib";
import { afterEach, expect, test } from "vitest";
import { Assembly } from "../../../src/edge/websocket/assembly.ts";
import { BINARY, CLOSE, closeCode, closePayload, frame, masked, TEXT } from "../../support/web-socket.ts";
import { type Rig, type RigOptions, startRig } from "./rig.ts";

const MIB = 1024 * 1024;
const TERMS = {
  serverNoContextTakeover: false,
  clientNoContextTakeover: false,
  serverWindowBits: 15,
  // So small that nothing is compressed again: what goes on is as large as it is.
  clientWindowBits: 8,
};
const BOMB = masked(
  BINARY,
  zlib.deflateRawSync(Buffer.alloc(15 * MIB), { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4),
  { rsv: 4 },
);

const rigs: Rig[] = [];
async function rig(options: RigOptions, reading?: { client: boolean; origin: boolean }): Promise<Rig> {
  const started = await startRig(options, reading);
  rigs.push(started);
  return started;
}
afterEach(async () => {
  for (const started of rigs.splice(0)) await started.close();
});

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const arrayBuffers = (): number => {
  collect();
  return process.memoryUsage().arrayBuffers;
};

test("of many connections, the one that holds most is given up", async () => {
  const before = arrayBuffers();
  const assembly = new Assembly(64 * MIB);
  const modest = await rig({ assembly, deflate: TERMS });
  const many: Rig[] = [];
  for (let i = 0; i < 30; i++) many.push(await rig({ assembly, deflate: TERMS }, { client: true, origin: false }));
  for (const { client } of many) client.socket.write(BOMB);
  const given = (): Rig[] => many.filter(({ sink }) => sink.records.length > 0);
  await expect.poll(() => given().length).toBeGreaterThanOrEqual(26);
  await expect.poll(() => arrayBuffers() - before).toBeLessThan(128 * MIB);
  for (const { client, record } of given()) {
    expect(closeCode(await client.until((frames) => closeCode(frames) !== null))).toBe(1013);
    expect(await record()).toMatchObject({ reason: "busy", received: { complete: false } });
  }
  modest.client.socket.write(masked(TEXT, "hi"));
  expect((await modest.origin.until((frames) => frames.length === 1))[0]?.payload.toString()).toBe("hi");
  // What was held is free again.
  for (const started of many) started.origin.socket.resetAndDestroy();
  await expect.poll(() => given().length).toBe(30);
  const next = await rig({ assembly, deflate: TERMS }, { client: true, origin: false });
  next.client.socket.write(BOMB);
  await expect.poll(() => arrayBuffers() - before).toBeLessThan(64 * MIB);
  next.origin.read();
  await expect.poll(() => next.origin.length).toBeGreaterThan(15 * MIB);
});

test("also of those that have ended in order, and still have to be read", async () => {
  const assembly = new Assembly(16 * MIB);
  const said = Buffer.concat([frame(BINARY, Buffer.alloc(15 * MIB)), frame(CLOSE, closePayload(1000))]);
  const ended = await rig({ assembly }, { client: false, origin: true });
  ended.client.socket.write(masked(CLOSE, closePayload(1000)));
  await ended.origin.until((frames) => closeCode(frames) !== null);
  ended.origin.socket.write(said);
  await ended.origin.gone();
  expect(ended.sink.records).toEqual([]);
  const other = await rig({ assembly });
  other.client.socket.write(masked(BINARY, Buffer.alloc(14 * MIB), { fin: false }));
  expect(await ended.record()).toMatchObject({
    reason: "busy",
    sent: { complete: true },
    received: { complete: false },
  });
  expect(other.sink.records).toEqual([]);
});
