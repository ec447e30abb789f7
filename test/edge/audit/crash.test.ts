import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { verifyLog } from "../../../src/edge/audit/verify.ts";
import { openAuditSink } from "../../../src/edge/audit/worker-sink.ts";
import { aFolder, sinkOptions, until } from "./support.ts";

const APPENDER = fileURLToPath(new URL("./appender.ts", import.meta.url));

interface Appender {
  readonly child: ChildProcess;
  /** Ids by what their exchange was told. */
  readonly yes: string[];
  readonly no: string[];
}

/** `fileSize`: KiB that a file of the process may have (SIGXFSZ ignored, so that a write fails with EFBIG). */
function anAppender(dir: string, pause: number, fileSize: number | null): Appender {
  const limit = fileSize === null ? "" : `trap '' XFSZ; ulimit -S -f ${fileSize}; `;
  const child = spawn(
    "bash",
    ["-c", `${limit}exec "$0" --import tsx "$@"`, process.execPath, APPENDER, dir, String(pause)],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  onTestFinished(() => void child.kill("SIGKILL"));
  const found: Appender = { child, yes: [], no: [] };
  let rest = "";
  child.stdout?.on("data", (data: Buffer) => {
    const lines = (rest + data.toString()).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [told, id] = line.split(" ");
      (told === "yes" ? found.yes : found.no).push(id as string);
    }
  });
  return found;
}

const ended = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) =>
    (child.exitCode ?? child.signalCode) === null ? child.once("close", () => resolve()) : resolve(),
  );

/** Opens the log again, so that it recovers, and reads it. */
async function recovered(dir: string): Promise<{ ids: string[]; ok: boolean; problem: unknown }> {
  const sink = await openAuditSink(sinkOptions(dir));
  await sink.flush();
  await sink.close();
  const reader = new AuditReader(dir);
  try {
    const ids = [...reader.oldest({})].map((s) => s.record.id);
    const { ok, problem } = verifyLog(dir, reader, { key: null, head: null });
    return { ids, ok, problem };
  } finally {
    reader.close();
  }
}

test.each([[150], [400], [700]])(
  "kill -9 after %d released records loses none of them, and none is there twice",
  async (count) => {
    const dir = aFolder();
    const { child, yes } = anAppender(dir, 1, null);
    await until(() => yes.length >= count);
    child.kill("SIGKILL");
    await ended(child);
    const { ids, problem } = await recovered(dir);
    expect(problem).toBeNull();
    expect(new Set(ids).size).toBe(ids.length);
    const there = new Set(ids);
    expect(yes.filter((id) => !there.has(id))).toEqual([]);
  },
);

test("when the file system takes no more, nothing is released; when it does again, the log goes on without a restart", async () => {
  const dir = aFolder();
  const { child, yes, no } = anAppender(dir, 5, 150);
  await until(() => no.length >= 20);
  expect(child.exitCode).toBeNull();
  const before = yes.length;
  const lift = spawn("prlimit", ["--pid", String(child.pid), "--fsize=unlimited"], { stdio: "inherit" });
  await ended(lift);
  const started = Date.now();
  await until(() => yes.length >= before + 50);
  expect(Date.now() - started).toBeLessThan(6_000);
  child.kill("SIGKILL");
  await ended(child);
  const { ids, problem } = await recovered(dir);
  expect(problem).toBeNull();
  const there = new Set(ids);
  expect(yes.filter((id) => !there.has(id))).toEqual([]);
  expect(new Set(ids).size).toBe(ids.length);
});
