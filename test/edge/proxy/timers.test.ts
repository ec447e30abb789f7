import { once } from "node:events";
import net from "node:net";
import { expect, test } from "vitest";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";

/** The wheel's coarseness, milliseconds. */
const TICK = 250;

test("a deadline fires once its time has come, later when it was moved later, sooner when it was moved sooner", async () => {
  const wheel = new TimerWheel((error) => {
    throw error;
  });
  const began = performance.now();
  const fired: { name: string; after: number }[] = [];
  const start = (name: string, ms: number) => {
    const deadline = wheel.start(
      {
        expire: () => {
          fired.push({ name, after: performance.now() - began });
          deadline.stop();
        },
      },
      ms,
    );
    return deadline;
  };
  start("soon", 300);
  const later = start("later", 300);
  later.at = wheel.now + 1_500;
  const sooner = start("sooner", 30_000);
  sooner.at = wheel.now + 800;
  start("stopped", 300).stop();
  await expect.poll(() => fired.map(({ name }) => name)).toEqual(["soon", "sooner", "later"]);
  for (const [i, due] of [300, 800, 1_500].entries()) expect(fired[i]?.after).toBeGreaterThan(due - TICK);
  expect(performance.now() - began).toBeLessThan(30_000);
  wheel.close();
});

test("what an owner throws costs that owner its deadline, and nobody else", async () => {
  const errors: unknown[] = [];
  const wheel = new TimerWheel((error) => errors.push(error));
  const turns: string[] = [];
  const throwing = () => {
    turns.push("throws");
    throw new Error("bug");
  };
  wheel.start({ expire: throwing }, 100);
  wheel.start({ expire: () => turns.push("is asked again") }, 100);
  await expect.poll(() => turns.length).toBeGreaterThan(3);
  expect(errors).toHaveLength(1);
  expect(turns.filter((turn) => turn === "throws")).toHaveLength(1);
  wheel.close();
});

test("after a stall, what has arrived is read before anybody is late", async () => {
  const server = net.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const near = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  const [far] = (await once(server, "connection")) as [net.Socket];
  const wheel = new TimerWheel((error) => {
    throw error;
  });
  const events: string[] = [];
  const over = new Promise<void>((resolve) => {
    const deadline = wheel.start(
      {
        expire: () => {
          events.push("late");
          resolve();
        },
      },
      500,
    );
    near.on("data", () => {
      events.push("read");
      deadline.at = wheel.now + 500;
      resolve();
    });
  });
  far.write("in time");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
  await over;
  await new Promise((done) => setImmediate(done));
  expect(events).toEqual(["read"]);
  wheel.close();
  near.destroy();
  far.destroy();
  server.close();
});

test("a stall longer than a round of the wheel: everything that is due fires, and nothing that is not", async () => {
  const wheel = new TimerWheel((error) => {
    throw error;
  });
  const fired: number[] = [];
  const entry = (ms: number) => {
    const deadline = wheel.start(
      {
        expire: () => {
          fired.push(ms);
          deadline.stop();
        },
      },
      ms,
    );
  };
  for (const ms of [1_000, 63_000, 64_000, 65_000, 100_000, 200_000]) entry(ms);
  wheel.now += 150_000; // as if this process had been stopped for so long
  entry(10_000);
  await expect.poll(() => fired).toEqual([1_000, 63_000, 64_000, 65_000, 100_000]);
  wheel.close();
});
