// npm run release-check: clones HEAD into an empty folder and does there what the README says: npm start (waits for the
// banner, sends one request through it, SIGTERM) and npm test. Takes minutes; not part of npm test. --start-only skips npm test.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fail, ROOT } from "./prepare.mjs";

const BANNER_MS = 10 * 60_000;
const DRAIN_MS = 20_000;
const TEST_MS = 20 * 60_000;
const say = (text) => process.stderr.write(`release-check: ${text}\n`);

const folder = mkdtempSync(join(tmpdir(), "sallyport-release-"));
let child = null;
process.on("exit", () => {
  if (child?.exitCode === null) process.kill(-child.pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const { status } = spawnSync("git", ["clone", "--quiet", "--no-hardlinks", ROOT, folder], { stdio: "inherit" });
if (status !== 0) fail("git clone failed");
await checkStart();
if (!process.argv.includes("--start-only")) await checkTest();
say("both commands of the README work on a fresh clone");

async function checkStart() {
  say("npm start …");
  // Ports of the system's choice: the usual ones may be taken here.
  start(["start", "--", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], ["ignore", "pipe", "pipe"]);
  const said = await banner();
  say(said.trim().split("\n").join("\nrelease-check:   "));
  const proxy = said.match(/proxy\s+http:\/\/127\.0\.0\.1:(\d+)/);
  if (!proxy) fail("the banner names no proxy address");
  await refusedButAlive(Number(proxy[1]));
  process.kill(-child.pid, "SIGTERM");
  const timer = setTimeout(() => fail("SIGTERM did not end it in time"), DRAIN_MS);
  const [code, signal] = await once(child, "exit");
  clearTimeout(timer);
  if (code !== 0 && code !== 143 && signal !== "SIGTERM") fail(`npm start ended with ${code ?? signal}`);
}

async function checkTest() {
  say("npm test …");
  start(["test"], "inherit");
  const timer = setTimeout(() => fail("npm test took too long"), TEST_MS);
  const [code] = await once(child, "exit");
  clearTimeout(timer);
  if (code !== 0) fail(`npm test ended with ${code}`);
}

/** In a group of its own, so that a signal reaches npm and its children as it does from a terminal. */
function start(args, stdio) {
  child = spawn("npm", args, { cwd: folder, stdio, detached: true });
  child.stderr?.pipe(process.stderr);
}

function banner() {
  return new Promise((resolve) => {
    let said = "";
    const timer = setTimeout(() => fail("no banner in time"), BANNER_MS);
    const look = (chunk) => {
      said += chunk;
      if (!/^\s*try\s/m.test(said)) return;
      clearTimeout(timer);
      resolve(said);
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    child.on("exit", (code) => fail(`npm start ended with ${code} before its banner`));
  }).finally(() => child.removeAllListeners("exit"));
}

/** One request through the proxy: to a loopback address, which the shipped policy refuses, so no network is needed. */
async function refusedButAlive(port) {
  const asked = request({ host: "127.0.0.1", port, path: "http://127.0.0.1:1/", headers: { host: "127.0.0.1:1" } });
  asked.end();
  const [response] = await once(asked, "response");
  response.resume();
  const decision = response.headers["x-sallyport-decision"] ?? "";
  if (response.statusCode !== 403 || !decision.startsWith("deny")) {
    fail(`expected a refusal with status 403, got ${response.statusCode} ${decision}`);
  }
  say(`one request: ${response.statusCode} ${decision}`);
}
