// Brings a checkout to the state in which it runs: dependencies installed, sources built. Plain Node, no dependency,
// because this runs before there are any. Says what it does in one line on stderr; stdout belongs to the command.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const MODULES = join(ROOT, "node_modules");
const INSTALLED = join(MODULES, ".sallyport-installed");
const BUILT = join(ROOT, "dist", ".sallyport-built");
const COMMAND = process.platform === "win32" ? "sallyport.cmd" : "sallyport";
const LOCK = join(ROOT, ".sallyport-prepare.lock");
const LOCK_STALE_MS = 15 * 60_000;

const say = (text) => process.stderr.write(`sallyport: ${text}\n`);

/** Installs when the lock file, package.json, the Node version or the machine is not what was installed for. */
export function install() {
  checkNode();
  withLock(() => {
    const wanted = digest(
      ["package.json", "package-lock.json"],
      `${process.version} ${process.platform} ${process.arch}`,
    );
    if (readMark(INSTALLED) === wanted) return;
    if (!treeIsWhole()) {
      say("installing dependencies (npm install) …");
      // Not `npm ci`: it refuses a lock file that lacks the optional packages of another platform, of which some registries
      // have none. `npm install` takes the locked versions and their digests just so; --no-save leaves the lock file alone.
      const args = ["install", "--no-save", "--no-audit", "--no-fund", "--include=dev"];
      // Where neither the prebuilt add-on nor Node's headers can be fetched, its install step fails, and npm with it.
      if (!npm(args, { mustWork: false })) npm([...args, "--ignore-scripts"]);
    }
    nativeAddOn();
    writeFileSync(INSTALLED, wanted);
  });
}

/** Builds when a source is not the one that was built. */
export function build() {
  withLock(() => {
    const sources = listFiles("src").concat(["tsconfig.json", "tsconfig.build.json", "package-lock.json"]);
    const wanted = digest(sources, "");
    if (readMark(BUILT) === wanted && existsSync(join(MODULES, ".bin", COMMAND))) return;
    say("building (tsc) …");
    rmSync(join(ROOT, "dist"), { recursive: true, force: true });
    run(process.execPath, [join(MODULES, "typescript", "bin", "tsc"), "-p", "tsconfig.build.json"]);
    linkCommand();
    writeFileSync(BUILT, wanted);
  });
}

/** Makes `npx sallyport` find the command in this folder. npm links the commands of dependencies only. */
function linkCommand() {
  const main = join(ROOT, "dist", "main.js");
  const bin = join(MODULES, ".bin");
  chmodSync(main, 0o755);
  if (process.platform === "win32") {
    writeFileSync(join(bin, COMMAND), `@node "${main}" %*\r\n`);
    return;
  }
  rmSync(join(bin, COMMAND), { force: true });
  symlinkSync(join("..", "..", "dist", "main.js"), join(bin, COMMAND));
}

/**
 * Runs a program in place of this one: same standard streams, signals passed on, its exit code is ours. A signal from a
 * terminal reaches the child by itself, since both are in the foreground; sent to this process alone, it is passed on.
 */
export function become(args) {
  const child = spawn(process.execPath, args, { stdio: "inherit", cwd: process.cwd() });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"]) {
    try {
      process.on(signal, () => {
        if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
      });
    } catch {
      // Not every platform knows every signal.
    }
  }
  child.on("error", (error) => fail(`cannot start Node: ${error.message}`));
  child.on("exit", (code, signal) => process.exit(signal === null ? code : 128 + (constants.signals[signal] ?? 0)));
}

export function fail(text) {
  say(text);
  process.exit(2);
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail(`needs Node.js >= 20.19; this is ${process.version}`);
}

/** Somebody's own `npm install` is as good as ours, when it put in place exactly what the lock file says. */
function treeIsWhole() {
  const wanted = packagesOf(join(ROOT, "package-lock.json"));
  const found = packagesOf(join(MODULES, ".package-lock.json"));
  if (wanted === null || found === null) return false;
  const missing = Object.entries(wanted).filter(([path, { version, optional }]) => {
    return path !== "" && found[path]?.version !== version && !(optional && found[path] === undefined);
  });
  return missing.length === 0 && Object.entries(found).every(([path, { optional }]) => optional || path in wanted);
}

function packagesOf(lockFile) {
  try {
    return JSON.parse(readFileSync(lockFile, "utf8")).packages;
  } catch {
    return null;
  }
}

/**
 * better-sqlite3 brings a prebuilt add-on for this Node and machine, or none: where its download is closed, the install
 * step compiles it; where install steps are switched off, neither happened and it is compiled here.
 */
function nativeAddOn() {
  if (addOnWorks()) return;
  say("compiling the SQLite add-on (Python 3, make and a C++ compiler are needed; a minute or two) …");
  const env = localHeaders();
  npm(["rebuild", "better-sqlite3", "--foreground-scripts", "--ignore-scripts=false"], { mustWork: false, env });
  if (!addOnWorks()) {
    fail(
      "the SQLite add-on could not be fetched or compiled: install Python 3, make and a C++ compiler, then try again",
    );
  }
}

/** node-gyp downloads Node's headers unless it is told where they are; most installations have them beside the program. */
function localHeaders() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const there = existsSync(join(prefix, "include", "node", "node.h"));
  return there ? { npm_config_nodedir: process.env.npm_config_nodedir ?? prefix } : {};
}

function addOnWorks() {
  const probe = "const D = require('better-sqlite3'); new D(':memory:').exec('select 1')";
  return spawnSync(process.execPath, ["-e", probe], { cwd: ROOT, stdio: "ignore" }).status === 0;
}

function npm(args, options) {
  // npm's own entry when npm started us; else the one on the path (a .cmd on Windows, which needs a shell).
  const entry = process.env.npm_execpath;
  if (entry?.endsWith(".js")) return run(process.execPath, [entry, ...args], options);
  return run("npm", args, { ...options, shell: process.platform === "win32" });
}

/** Its stdout goes to our stderr. True: it worked. */
function run(command, args, { mustWork = true, shell = false, env = {} } = {}) {
  const stdio = ["ignore", 2, 2];
  const { status, error } = spawnSync(command, args, { cwd: ROOT, shell, stdio, env: { ...process.env, ...env } });
  if (status !== 0 && mustWork) fail(`${command} ${args[0]} failed${error ? `: ${error.message}` : ""}`);
  return status === 0;
}

/** Two commands at once on a fresh checkout would install over each other: the second waits. */
function withLock(work) {
  const deadline = Date.now() + LOCK_STALE_MS;
  while (!takeLock()) {
    if (Date.now() > deadline) fail(`another command seems to be installing; if not, remove ${LOCK}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 250);
  }
  const release = () => rmSync(LOCK, { recursive: true, force: true });
  process.on("exit", release);
  try {
    work();
  } finally {
    process.off("exit", release);
    release();
  }
}

function takeLock() {
  try {
    mkdirSync(LOCK);
    writeFileSync(join(LOCK, "pid"), String(process.pid));
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    if (!holderLives()) rmSync(LOCK, { recursive: true, force: true });
    return false;
  }
}

function holderLives() {
  try {
    const pid = Number(readFileSync(join(LOCK, "pid"), "utf8"));
    process.kill(pid, 0);
    return true;
  } catch (error) {
    if (error.code === "EPERM") return true;
    // The folder is there and the pid not yet: its maker is between two lines. An old one has no maker any more.
    if (error.code === "ENOENT") return existsSync(LOCK) && Date.now() - statSync(LOCK).mtimeMs < 5_000;
    return false;
  }
}

function listFiles(folder) {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .map((path) => path.slice(ROOT.length + 1))
    .sort();
}

function digest(files, salt) {
  const hash = createHash("sha256").update(salt);
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(join(ROOT, file)));
  return hash.digest("hex");
}

function readMark(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}
