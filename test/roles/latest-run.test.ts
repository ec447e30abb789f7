// Reloads: whoever asks gets what was there when it asked.
import { writeFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { LatestRun } from "../../src/roles/latest-run.ts";
import { startTestHouse } from "../support/house.ts";
import { connectTo } from "../support/raw-client.ts";

test("who asks during a run gets the next one, which begins after it was asked for, and many share it", async () => {
  let value = 0;
  const seen: number[] = [];
  let together = 0;
  const runs = new LatestRun(async () => {
    expect(++together).toBe(1);
    const read = value;
    await wait(20);
    together--;
    seen.push(read);
    if (read === 1) throw new Error("one");
  });
  const first = runs.run();
  value = 1;
  const second = runs.run();
  const third = runs.run();
  await first;
  await expect(second).rejects.toThrow("one");
  await expect(third).rejects.toThrow("one");
  value = 2;
  await runs.run();
  expect(seen).toEqual([0, 1, 2]);
});

test("a file that is saved while a reload runs is in force when the next reload has ended, and the watcher sees it too", async () => {
  const policy = (rule: string, slow = true): string => `version: 1
network: { allow: [127.0.0.0/8] }
secrets: { slow: { command: [sh, -c, "sleep ${slow ? 1.5 : 0}; echo abcdefghij"] } }
defaults: { action: allow }
rules: [{ id: r, ${rule}: ["http://127.0.0.1:9/**"] }]
`;
  const house = await startTestHouse({ policy: policy("allow", false).replace("version: 1\n", "") });
  const status = async (): Promise<number> => {
    const client = await connectTo(house.port);
    client.send("GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n");
    const response = await client.response();
    client.destroy();
    return response.status;
  };
  try {
    expect(await status()).toBe(502);
    writeFileSync(house.policyFile, policy("allow"));
    const first = house.house.reload();
    await wait(500);
    writeFileSync(house.policyFile, policy("deny"));
    await house.house.reload();
    await first;
    expect(await status()).toBe(403);
    writeFileSync(house.policyFile, policy("allow"));
    await wait(2_600); // the watcher has begun a reload, which waits for the command
    writeFileSync(house.policyFile, policy("deny"));
    await wait(1_000);
    for (let i = 0; i < 100 && (await status()) !== 502; i++) await wait(50);
    for (let i = 0; i < 200 && (await status()) !== 403; i++) await wait(50);
    expect(await status()).toBe(403);
  } finally {
    await house.close();
  }
});
