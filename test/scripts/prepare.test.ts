// npm start and npm test run their program in place of themselves: streams, arguments, signals and exit codes go through.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";

const PREPARE = join(import.meta.dirname, "..", "..", "scripts", "prepare.mjs");

/** Starts Node with `become` of a program given as text. */
function becoming(program: string, ...args: string[]): ChildProcess {
  const text = `const { become } = await import(${JSON.stringify(PREPARE)});
    become(["-e", ${JSON.stringify(program)}, "--", ...process.argv.slice(1)]);`;
  return spawn(process.execPath, ["--input-type=module", "-e", text, "--", ...args], {
    stdio: ["pipe", "pipe", "pipe"],
  });
}

async function outcome(child: ChildProcess): Promise<{ code: number | null; out: string; err: string }> {
  let out = "";
  let err = "";
  child.stdout?.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    err += chunk;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out, err };
}

test("arguments, standard input and output go through, and nothing is added", async () => {
  const child = becoming(
    "process.stdout.write(JSON.stringify(process.argv.slice(1))); process.stdin.pipe(process.stdout)",
    "--a b",
    "ü",
  );
  child.stdin?.end("in");
  expect(await outcome(child)).toEqual({ code: 0, out: '["--a b","ü"]in', err: "" });
});

test("the exit code is the program's", async () => {
  expect((await outcome(becoming("process.exit(7)"))).code).toBe(7);
});

test.each([
  ["SIGTERM", 15],
  ["SIGINT", 2],
  ["SIGHUP", 1],
] as const)("%s reaches the program, which may take its time", async (signal, number) => {
  const child = becoming(`process.on("${signal}", () => setTimeout(() => process.exit(40 + ${number}), 200));
    setInterval(() => {}, 1000); console.log("ready")`);
  child.stdout?.once("data", () => child.kill(signal));
  expect((await outcome(child)).code).toBe(40 + number);
});

test("a program that a signal ends gives 128 and its number", async () => {
  const child = becoming('setInterval(() => {}, 1000); console.log("ready")');
  child.stdout?.once("data", () => child.kill("SIGTERM"));
  expect((await outcome(child)).code).toBe(143);
});
