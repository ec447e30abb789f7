// The built program, run as its users run it: a house that was started by `sallyport start`, and children of `sallyport run`.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { AuditRecord } from "../../src/audit/record.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { TestCa } from "../support/certificates.ts";
import { PATIENCE } from "../support/patience.ts";
import { openSite, type Site } from "./site.ts";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MAIN = process.env.SALLYPORT_MAIN ?? join(ROOT, "dist", "main.js");
/** Where a client is tested at all, a missing one is a failure. */
const REQUIRED = process.env.SALLYPORT_REQUIRE_CLIENTS === "1";

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The origins of a test, and the policy that leads to them. */
export interface Scene {
  /** The policy file after `version`, `tls` and `network`. */
  readonly policy: string;
  close(): Promise<void>;
}

/** Made-up names, so that a client meets a name and the usual port; rules take them to the test's own origins. */
function policyFor(site: Site): string {
  const to = (scheme: string, port: number) => `to: { url: "${scheme}://localhost:${port}", host: keep }`;
  return `clients:
  basic: { password: "pass-of-basic" }
  mcp-example: { password: "never-used" }
secrets:
  api: { env: API_TOKEN }
rules:
  - { id: site, allow: ["https://site.test"], encoded-slashes: allow, ${to("https", site.secure.port)} }
  - { id: plain, allow: ["http://plain.test"], ${to("http", site.plain.port)} }
  - id: api
    who: mcp-example
    allow: ["POST https://api.test/who"]
    headers: { set: { authorization: "Bearer \${secret:api}" } }
    ${to("https", site.secure.port)}
`;
}

/** The site for tools, with its policy. */
export interface ToolScene extends Scene {
  readonly site: Site;
}

async function openTools(ca: TestCa, folder: string): Promise<ToolScene> {
  const site = await openSite(ca, join(folder, "git"));
  return { site, policy: policyFor(site), close: () => site.close() };
}

export class BuiltHouse<S extends Scene = ToolScene> {
  readonly folder: string;
  readonly scene: S;
  /** URL of the proxy port. */
  readonly proxy: string;
  private readonly house: ChildProcess;
  /** How the house ended: its exit code or signal, and the last it said. */
  private readonly ended: Promise<string>;

  constructor(folder: string, scene: S, house: ChildProcess, proxy: string, ended: Promise<string>) {
    this.folder = folder;
    this.scene = scene;
    this.house = house;
    this.proxy = proxy;
    this.ended = ended;
  }

  get caFile(): string {
    return join(this.folder, "certs", "ca.pem");
  }
  get bundle(): string {
    return join(this.folder, "data", "trust", "bundle.pem");
  }

  /** Runs a command of the program in this house's folders. */
  command(
    args: readonly string[],
    { env, ...options }: { cwd?: string; input?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Ran> {
    return program(this.line(args), { ...options, env: this.environment(env) });
  }

  /** The whole command line of such a command. */
  line([name = "", ...rest]: readonly string[]): string[] {
    const ca = name === "run" ? ["--ca", join(this.folder, "certs")] : [];
    return [process.execPath, MAIN, name, "--data", join(this.folder, "data"), ...ca, ...rest];
  }

  /** Runs a client under `sallyport run --as NAME`. */
  run(as: string, command: readonly string[], options: { cwd?: string; input?: string } = {}): Promise<Ran> {
    return this.command(["run", "--as", as, "--", ...command], { cwd: this.folder, ...options });
  }

  /** The environment of a user: nothing of an outer proxy or of the test runner. */
  environment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    const { PATH, LANG, PYENV_ROOT } = process.env;
    const kept = { PATH, LANG, PYENV_ROOT, HOME: this.folder, GOCACHE: join(tmpdir(), "sallyport-go-cache") };
    return { ...kept, GIT_TERMINAL_PROMPT: "0", GOFLAGS: "-mod=mod", GO111MODULE: "auto", ...more };
  }

  /** The exchanges of a client that are recorded, once there are `count`. */
  async exchanges(client: string, count: number): Promise<AuditRecord[]> {
    for (const end = Date.now() + PATIENCE; ; await wait(25)) {
      const found = this.records().filter((r) => r.client === client && r.kind === "exchange");
      if (found.length >= count) return found;
      if (Date.now() > end) throw new Error(`only ${found.length} of ${client}: ${JSON.stringify(this.records())}`);
    }
  }

  /** Every record so far, oldest first. */
  records(): AuditRecord[] {
    const reader = new AuditReader(join(this.folder, "data"));
    try {
      return [...reader.oldest({})].map((stored) => stored.record);
    } finally {
      reader.close();
    }
  }

  /** Throws when the house had ended by itself, does not end well, or does not end. */
  async close(): Promise<void> {
    const alive = this.house.exitCode === null && this.house.signalCode === null;
    this.house.kill("SIGTERM");
    const ended = await Promise.race([this.ended, wait(50_000, null)]);
    if (ended === null) this.house.kill("SIGKILL");
    await this.scene.close();
    // A browser's children write for a moment after it has ended.
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    if (ended === null) throw new Error("the house did not end within 50 s of SIGTERM");
    if (!alive || !ended.startsWith("0 ")) throw new Error(`the house ended${alive ? "" : " by itself"}: ${ended}`);
  }
}

/** A house for the tools that the tests drive. */
export const startBuiltHouse = (): Promise<BuiltHouse> => startHouseFor(openTools);

/** A house whose policy leads to the origins of `open`, which gets the CA of the origins and the house's folder. */
export async function startHouseFor<S extends Scene>(
  open: (ca: TestCa, folder: string) => Promise<S>,
): Promise<BuiltHouse<S>> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is not there: npm run build (npm test does it)`);
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "sallyport-clients-")));
  const ca = new TestCa();
  const scene = await open(ca, folder);
  writeFileSync(join(folder, "roots.pem"), ca.cert);
  const policy = join(folder, "policy.yaml");
  const network = `network: { allow: [127.0.0.0/8, "::1/128"] }`;
  writeFileSync(policy, `version: 1\ntls: { roots: [roots.pem] }\n${network}\n${scene.policy}`);
  const args = ["start", "-c", policy, "--data", join(folder, "data"), "--ca", join(folder, "certs")];
  const house = spawn(process.execPath, [MAIN, ...args, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], {
    env: { PATH: process.env.PATH, HOME: folder, API_TOKEN: "t0ken-of-the-api", NO_COLOR: "1" },
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  house.stdout.on("data", (b: Buffer) => {
    said += b;
  });
  house.stderr.on("data", (b: Buffer) => {
    said += b;
  });
  const ended = once(house, "exit").then(([code, signal]) => `${code ?? signal} ${said.slice(-4_000)}`);
  for (const end = Date.now() + 30_000; ; await wait(25)) {
    const proxy = /^ {2}proxy +(https?:\S+)/m.exec(said)?.[1];
    if (proxy !== undefined) return new BuiltHouse(folder, scene, house, proxy, ended);
    if (Date.now() > end || house.exitCode !== null) throw new Error(`the house did not start: ${said}`);
  }
}

/** Runs a program to its end. */
export async function program(
  command: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd?: string; input?: string; deadline?: number },
): Promise<Ran> {
  const [file = "", ...args] = command;
  const child = spawn(file, args, { env: options.env, ...(options.cwd === undefined ? {} : { cwd: options.cwd }) });
  const timer = setTimeout(() => child.kill("SIGTERM"), options.deadline ?? 60_000);
  let out = "";
  let err = "";
  child.stdout.on("data", (b: Buffer) => {
    out += b;
  });
  child.stderr.on("data", (b: Buffer) => {
    err += b;
  });
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  return { code, out, err };
}

/** The first of these commands that works, or null. */
export const firstThatWorks = (...commands: readonly (readonly [string, ...string[]])[]): string | null =>
  commands.find(([file, ...args]) => spawnSync(file, args, { timeout: 20_000 }).status === 0)?.[0] ?? null;

/** A Python that has the module: the one in PATH, or the system's, for which distributions package modules. */
export const pythonWith = (module: string): string | null =>
  firstThatWorks(["python3", "-c", `import ${module}`], ["/usr/bin/python3", "-c", `import ${module}`]);

/** Says that a client is not here. Throws where that is a failure. Always returns true: the test is over. */
export function notHere(client: string): true {
  if (REQUIRED) throw new Error(`${client} is not installed, and SALLYPORT_REQUIRE_CLIENTS=1 wants it`);
  process.stdout.write(`not tested here, since it is not installed: ${client}\n`);
  return true;
}
