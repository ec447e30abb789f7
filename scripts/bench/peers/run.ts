// Runs a program to its end and gives what it printed.
import { spawn } from "node:child_process";

/** Its standard output and error together; rejects when it cannot be started, fails, or takes longer than `milliseconds`. */
export function output(command: string, args: readonly string[], milliseconds = 30_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...args], { stdio: ["ignore", "pipe", "pipe"], timeout: milliseconds });
    let text = "";
    const take = (chunk: Buffer): void => {
      if (text.length < 1 << 20) text += chunk.toString("utf8");
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("error", reject);
    child.on("close", (code, signal) =>
      code === 0 ? resolve(text) : reject(new Error(`${command} ended with ${code ?? signal}: ${text.slice(0, 500)}`)),
    );
  });
}
