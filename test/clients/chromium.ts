// Chromium, headless, with a profile and a certificate database of its own.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { firstThatWorks } from "./built-house.ts";

/** What it would otherwise ask for by itself, and what changes the scheme of an address that was given to it. */
const OFF = [
  "HttpsUpgrades",
  "HttpsFirstBalancedMode",
  "OptimizationHints",
  "MediaRouter",
  "Translate",
  "AutofillServerCommunication",
];
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-default-apps",
  "--disable-extensions",
  "--disable-sync",
  "--no-first-run",
  "--no-default-browser-check",
  "--no-pings",
  "--password-store=basic",
  `--disable-features=${OFF.join(",")}`,
];

/** The command of the browser, or null: it is not here. */
export const findChromium = (): string | null =>
  firstThatWorks(["chromium", "--version"], ["chromium-browser", "--version"], ["google-chrome", "--version"]);

/** It has no flag that does nothing and ends well, so it is enough that it starts. */
export const hasCertutil = (): boolean => spawnSync("certutil", ["-H"], { timeout: 20_000 }).error === undefined;

/** A home folder below `folder` whose certificate database trusts these CAs (PEM), made as README.md tells users to. */
export function homeThatTrusts(folder: string, cas: Readonly<Record<string, string>>): string {
  const home = mkdtempSync(join(folder, "home-"));
  const database = join(home, ".pki", "nssdb");
  mkdirSync(database, { recursive: true });
  const certutil = (...args: string[]): void => {
    const { status, stderr } = spawnSync("certutil", ["-d", `sql:${database}`, ...args], { timeout: 20_000 });
    if (status !== 0) throw new Error(`certutil: ${stderr}`);
  };
  certutil("-N", "--empty-password");
  for (const [name, pem] of Object.entries(cas)) {
    const file = join(home, `${name}.pem`);
    writeFileSync(file, pem);
    certutil("-A", "-t", "C,,", "-n", name, "-i", file);
  }
  return home;
}

export const flagsFor = (home: string): string[] => [...FLAGS, `--user-data-dir=${join(home, "profile")}`];

/** Runs a browser until `reported` resolves, and ends it. Throws when it ends by itself or says nothing for `deadline` ms. */
export async function browse<T>(
  [file = "", ...args]: readonly string[],
  { env, reported, deadline = 60_000 }: { env: NodeJS.ProcessEnv; reported: Promise<T>; deadline?: number },
): Promise<T> {
  const child = spawn(file, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (b: Buffer) => {
    said = (said + b).slice(-4_000);
  });
  const ended = once(child, "exit");
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no report after ${deadline} ms; the browser said: ${said}`)), deadline);
    void ended.then(([code]) => fail(new Error(`the browser ended with ${code}: ${said}`)));
  });
  try {
    return await Promise.race([reported, never]);
  } finally {
    clearTimeout(timer);
    child.kill("SIGTERM");
    await ended;
  }
}
