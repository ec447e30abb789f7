import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { TimerWheel } from "../../../src/edge/proxy/timers.ts";

test("a deadline fires once its time has come, later when it was moved later, sooner when it was moved sooner", async () => {
  const wheel = new TimerWheel((error) => {
    throw error;
  });
  const fired: string[] = [];
  const start = (name: string, ms: number) => {
    const deadline = wheel.start(
      {
        expire: () => {
          fired.push(name);
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
  await wait(650);
  expect(fired).toEqual(["soon"]);
  await wait(700);
  expect(fired).toEqual(["soon", "sooner"]);
  await wait(900);
  expect(fired).toEqual(["soon", "sooner", "later"]);
  wheel.close();
});

test("what an owner throws costs that owner its deadline, and nobody else", async () => {
  const errors: unknown[] = [];
  const wheel = new TimerWheel((error) => errors.push(error));
  let fired = 0;
  wheel.start(
    {
      expire: () => {
        throw new Error("bug");
      },
    },
    100,
  );
  const good = wheel.start(
    {
      expire: () => {
        fired++;
        good.stop();
      },
    },
    100,
  );
  await wait(900);
  expect(errors).toHaveLength(1);
  expect(fired).toBe(1);
  wheel.close();
});
