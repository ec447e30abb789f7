// Lines on descriptors that misbehave. What is at stake is the process: it must neither wait nor end because of its log.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { LinesOut } from "../../../src/edge/log/lines-out.ts";
import { PATIENCE } from "../../support/patience.ts";

function aFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-lines-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A descriptor, closed at the end of the test. */
function opened(file: string, flags: number | string): number {
  const fd = openSync(file, flags);
  onTestFinished(() => closeSync(fd));
  return fd;
}

/** A pipe of which neither end waits. */
function aPipe(): { readEnd: number; writeEnd: number } {
  const file = join(aFolder(), "pipe");
  expect(spawnSync("mkfifo", [file]).status).toBe(0);
  const readEnd = opened(file, constants.O_RDONLY | constants.O_NONBLOCK);
  return { readEnd, writeEnd: opened(file, constants.O_WRONLY | constants.O_NONBLOCK) };
}

/** All that is in the pipe now. */
function drained(fd: number): string {
  const parts: Buffer[] = [];
  for (;;) {
    const bytes = Buffer.alloc(65_536);
    try {
      const count = readSync(fd, bytes);
      if (count === 0) break;
      parts.push(bytes.subarray(0, count));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      break;
    }
  }
  return Buffer.concat(parts).toString();
}

const numbered = (count: number, width: number): string[] =>
  Array.from({ length: count }, (_, i) => `${String(i).padEnd(width, ".")}\n`);

test("lines arrive whole and in order, short and long ones", async () => {
  const file = join(aFolder(), "log");
  const out = new LinesOut({ fd: opened(file, "w"), mostWaiting: 4_000_000 });
  const lines = [...numbered(500, 20), ...numbered(3, 200_000), ...numbered(500, 20)];
  for (const line of lines) out.write(line);
  await out.flush(PATIENCE);
  expect(readFileSync(file, "utf8")).toBe(lines.join(""));
});

test("a full pipe: what fits in memory waits for the reader, what does not is lost, and a flush gives up in time", async () => {
  const { readEnd, writeEnd } = aPipe();
  const out = new LinesOut({ fd: writeEnd, mostWaiting: 300_000 });
  const lines = numbered(500, 999);
  for (const line of lines) out.write(line);
  const started = performance.now();
  await out.flush(300);
  expect(performance.now() - started).toBeGreaterThan(250);
  let read = "";
  const gone = out.flush(PATIENCE).then(() => true);
  while (!(await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 10, false))])))
    read += drained(readEnd);
  read += drained(readEnd);
  expect(read).toBe(lines.slice(0, 300).join(""));
  out.write("after\n");
  await out.flush(PATIENCE);
  expect(drained(readEnd)).toBe("after\n");
});

test("a full disk costs the lines of that time, and no more", async () => {
  const file = join(aFolder(), "log");
  const full = openSync("/dev/full", "w");
  const out = new LinesOut({ fd: full, mostWaiting: 10_000 });
  for (let round = 0; round < 5; round++) {
    for (const line of numbered(9, 999)) out.write(line);
    await out.flush(PATIENCE);
  }
  closeSync(full);
  expect(opened(file, "w"), "the same number").toBe(full);
  out.write("there is room again\n");
  await out.flush(PATIENCE);
  expect(readFileSync(file, "utf8")).toBe("there is room again\n");
});

const url = new URL("../../../src/edge/log/lines-out.ts", import.meta.url).href;

/** Runs a program that writes to stderr, which the shell has made of `stderr`; its exit code. */
async function exitCode(stderr: string, program: string): Promise<number | null> {
  const code = `const { LinesOut } = await import(${JSON.stringify(url)});
    process.stderr.isTTY; // as the log does: Node then never waits for a pipe
    const out = new LinesOut({ fd: 2, mostWaiting: 4_000_000 });
    ${program}`;
  const run = ["--import", "tsx", "--input-type=module", "-e", code];
  const child = spawn("bash", ["-c", `${stderr}\nexec "$0" "$@"`, process.execPath, ...run], {
    stdio: ["ignore", "ignore", "ignore"],
    env: { ...process.env, PIPE: join(aFolder(), "pipe") },
  });
  const late = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
  const [status] = (await once(child, "exit")) as [number | null];
  clearTimeout(late);
  return status;
}

const WRITE = "for (let i = 0; i < 200; i++) out.write('x'.repeat(999) + '\\n');";
const STUCK: [string, string][] = [
  ["a pipe that nobody reads", 'mkfifo "$PIPE"; exec 2<>"$PIPE"'],
  ["a pipe that nobody can read any more", "exec 2> >(exec true); sleep 0.3"],
  ["a full disk", "exec 2>/dev/full"],
];

test.each(STUCK)("%s: the process ends when it wants to", async (_what, stderr) => {
  expect(await exitCode(stderr, `${WRITE} setTimeout(() => process.exit(7), 300);`)).toBe(7);
  expect(await exitCode(stderr, `${WRITE} process.exit(8);`)).toBe(8);
});

test("a pipe that nobody reads, and that a child has got as well", async () => {
  const child = "(await import('node:child_process')).spawnSync('true', { stdio: 'inherit' });";
  expect(await exitCode('mkfifo "$PIPE"; exec 2<>"$PIPE"', `${child} ${WRITE} process.exit(9);`)).toBe(9);
});

test("what was written in the last turn is there after the end", async () => {
  const file = join(aFolder(), "log");
  const program =
    "out.write('first\\n'); setTimeout(() => { out.write('last\\n'); out.write('words\\n'); process.exit(3); }, 200);";
  expect(await exitCode(`exec 2>${file}`, program)).toBe(3);
  // "last" is with the system when the end comes, so that the order of these two is nobody's.
  const said = readFileSync(file, "utf8").split("\n");
  expect(said[0]).toBe("first");
  expect(said.slice(1).sort()).toEqual(["", "last", "words"]);
});
