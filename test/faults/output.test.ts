// Nobody reads what the program says, or the disk behind it is full: it serves, keeps its policy, and ends when it is asked to.
// A command whose output is lost, on the other hand, has failed.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { connectTo } from "../../scripts/soak/client.ts";
import { type SoakOrigins, startOrigins } from "../../scripts/soak/origins.ts";
import { MAIN, OPEN } from "../../scripts/soak/program.ts";
import { freePort } from "../support/free-port.ts";
import { PATIENCE } from "../support/patience.ts";

let origins: SoakOrigins;
beforeAll(async () => {
  origins = await startOrigins();
});
afterAll(() => origins.close());

interface Running {
  readonly child: ChildProcess;
  readonly policy: string;
  readonly port: number;
  /** The folder in which the shell stood. */
  readonly dir: string;
}

/** The program with the outputs that `outputs` gives it (shell text). */
async function running(outputs: string): Promise<Running> {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-output-"));
  const policy = join(dir, "policy.yaml");
  writeFileSync(policy, `version: 1\n${OPEN}`);
  const port = await freePort();
  const places = ["--data", "data", "--ca", "ca", "--listen", `127.0.0.1:${port}`, "--admin", "off"];
  const args = [process.execPath, MAIN, "start", "-c", policy, ...places, "--log-level", "debug"];
  const child = spawn("bash", ["-c", `${outputs}\nexec "$0" "$@"`, ...args], { cwd: dir, stdio: "ignore" });
  onTestFinished(() => {
    child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  });
  const one = { child, policy, port, dir };
  await expect.poll(() => ask(one)).toBe(200);
  return one;
}

/** The status of a request; null: no answer. */
async function ask({ port }: Running): Promise<number | null> {
  try {
    const client = await connectTo(port);
    const host = `127.0.0.1:${origins.plain}`;
    const { status } = await client.ask(`GET http://${host}/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    client.destroy();
    return status;
  } catch {
    return null;
  }
}

/** Fills the pipe at descriptor `fd`, of which both ends are open and nobody reads. */
const fullPipe = (fd: number): string =>
  `mkfifo pipe${fd}; exec ${fd}<>pipe${fd}; dd if=/dev/zero of=pipe${fd} bs=4096 oflag=nonblock status=none 2>dd${fd}.txt; touch filled${fd}`;

const OUTPUTS: [string, string][] = [
  ["standard error is a full pipe", fullPipe(2)],
  ["standard output is a full pipe", fullPipe(1)],
  ["nobody can read standard error", "exec 2> >(exec true); sleep 0.2"],
  ["nobody can read standard output", "exec > >(exec true); sleep 0.2"],
  ["the disk behind standard error is full", "exec 2>/dev/full"],
  ["the disk behind standard output is full", "exec >/dev/full"],
  ["neither is open", "exec >&- 2>&-"],
];

test.each(OUTPUTS)("%s", async (_what, outputs) => {
  const one = await running(outputs);
  if (outputs.includes("mkfifo"))
    expect(existsSync(join(one.dir, `filled${outputs.includes("pipe2") ? 2 : 1}`))).toBe(true);
  one.child.kill("SIGHUP");
  appendFileSync(one.policy, "nonsense: true\n");
  for (let i = 0; i < 5; i++) {
    one.child.kill("SIGHUP");
    await new Promise((done) => setTimeout(done, 100));
    expect(await ask(one)).toBe(200);
  }
  const ended = once(one.child, "exit");
  const asked = performance.now();
  one.child.kill("SIGTERM");
  expect(await ended).toEqual([0, null]);
  expect(performance.now() - asked).toBeLessThan(15_000);
});

test("a command whose output goes to a full disk says so and fails; one that is not read to its end does not", () => {
  const shell = (text: string) =>
    spawnSync("bash", ["-c", text, process.execPath, MAIN], { encoding: "utf8", timeout: PATIENCE });
  const full = shell('"$0" "$1" policy schema >/dev/full');
  expect(full.status).toBe(2);
  expect(full.stderr).toContain("cannot be written: ENOSPC");
  expect(shell('set -o pipefail; "$0" "$1" policy schema | true')).toMatchObject({ status: 0, stderr: "" });
});
