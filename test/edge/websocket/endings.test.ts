// The ends of a WebSocket that take time: answers that never come, readers that are slow, connections that are gone.
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { CLOSE, closeCode, closePayload, frame, masked, type ReadFrame, TEXT } from "../../support/web-socket.ts";
import { type Rig, type RigOptions, startRig } from "./rig.ts";

const rigs: Rig[] = [];
async function rig(options: RigOptions = {}, reading?: { client: boolean; origin: boolean }): Promise<Rig> {
  const started = await startRig(options, reading);
  rigs.push(started);
  return started;
}
afterEach(async () => {
  for (const started of rigs.splice(0)) await started.close();
});

const isClosed = (frames: ReadFrame[]): boolean => closeCode(frames) !== null;

describe("a side that never answers a close frame and goes on talking", () => {
  const talking = async (times: RigOptions["times"], leaves: boolean): Promise<Rig> => {
    const started = await rig({ times: times ?? {} });
    const { client, origin } = started;
    const ticks = setInterval(() => origin.socket.write(frame(TEXT, "tick")), 100);
    client.socket.write(masked(CLOSE, closePayload(1000)));
    await origin.until(isClosed);
    if (leaves) client.socket.destroy();
    await expect.poll(() => started.sink.records.length, { timeout: 20_000 }).toBe(1);
    clearInterval(ticks);
    return started;
  };

  test("is left at once when the other is gone", async () => {
    const { record, open } = await talking({ answer: 3_600_000, longestAnswer: 3_600_000 }, true);
    expect(await record()).toMatchObject({
      reason: null,
      notes: ["close:client:1000", "close-unanswered:origin"],
      sent: { complete: true },
      received: { complete: false },
    });
    await expect.poll(() => open.size, { timeout: 10_000 }).toBe(0);
  });

  test("is left after a while when the other waits", async () => {
    const { client, record } = await talking({ answer: 3_600_000, longestAnswer: 1_500 }, false);
    await client.gone();
    expect(await record()).toMatchObject({ notes: ["close:client:1000", "close-unanswered:origin"] });
  });
});

test("what a side sent before it was gone is still dealt with first", async () => {
  const { client, origin, record } = await rig({ times: { answer: 500 } });
  client.socket.write(Buffer.concat([masked(TEXT, "last"), masked(CLOSE, closePayload(1000))]));
  client.socket.destroySoon();
  await wait(50);
  origin.socket.write(frame(TEXT, "too late"));
  expect((await origin.until(isClosed)).map((f) => f.opcode)).toEqual([TEXT, CLOSE]);
  await origin.gone();
  expect(await record()).toMatchObject({ reason: null, sent: { messages: 1, complete: true } });
});
