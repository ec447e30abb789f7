// The log as a process writes it: lines on a descriptor, levels, and a reader that does not read.
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type LoggerOptions, type OwnedLog, openLog } from "../../../src/edge/log/logger.ts";
import { KnownSecrets } from "../../../src/shared/known-secrets.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-log-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs `use` with a log into a file and gives what was written. */
async function written(options: Partial<LoggerOptions>, use: (log: OwnedLog) => void): Promise<string> {
  const file = join(folder, "log");
  const fd = openSync(file, "w");
  const log = openLog({ level: "info", pretty: false, ...options, fd });
  use(log);
  await log.flush();
  closeSync(fd);
  return readFileSync(file, "utf8");
}

describe("JSON", () => {
  test("one object a line, with time, level, message and the event", async () => {
    const text = await written({}, (log) => {
      log.info({ host: "a.example" }, "hello");
      log.error({ error: new Error("broken") }, "oh");
    });
    const [first, second] = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(first).toMatchObject({ level: 30, host: "a.example", msg: "hello" });
    expect(Date.parse(first.time)).toBeGreaterThan(0);
    expect(second).toMatchObject({ level: 50, error: { message: "broken" } });
  });

  test("the level decides, and can be changed", async () => {
    const text = await written({ level: "warn" }, (log) => {
      log.info({}, "not this");
      log.setLevel("debug");
      log.debug({}, "this");
    });
    expect(text).not.toContain("not this");
    expect(text).toContain('"this"');
  });

  test("secrets stay out of event and message, also those that were added later", async () => {
    const secrets = new KnownSecrets(["hunter2hunter2"]);
    const text = await written({ secrets }, (log) => {
      log.info({ a: "hunter2hunter2", password: "other" }, "it is hunter2hunter2");
      secrets.add(["swordfish"]);
      log.info({ b: "swordfish" }, "swordfish");
    });
    expect(text).not.toMatch(/hunter2|other|swordfish/);
  });
});

test("pretty lines are for people and cannot be forged by what they show", async () => {
  const text = await written({ pretty: true }, (log) => log.warn({ host: "a\u001b[2J" }, "careful\nINFO forged"));
  expect(text).toContain("WARN");
  expect(text).toContain("\\u000aINFO forged");
  expect(text).not.toContain("\u001b[2J");
});

test("a reader that does not read does not hold up the process, and stdout stays clean", async () => {
  const url = new URL("../../../src/edge/log/logger.ts", import.meta.url).href;
  const program = `const { openLog } = await import(${JSON.stringify(url)});
    const log = openLog({ level: "info", pretty: false });
    for (let i = 0; i < 20000; i++) log.info({ text: "x".repeat(1000) }, "line");
    process.stdout.write("done");
    setTimeout(() => process.exit(0), 100);`;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.stderr.on("error", () => {}).pause();
  child.stdout.on("error", () => {});
  const out = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error("blocked by its log"));
    }, 25_000);
    child.stdout.on("data", (chunk) => {
      clearTimeout(timer);
      resolve(String(chunk));
    });
  });
  child.kill("SIGKILL");
  expect(out).toBe("done");
});
