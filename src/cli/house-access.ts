// How `run`, `env` and `doctor` come to a house: the one that holds the data folder, or one started for as long as a child
// needs it. That one is a process of its own, so that it outlives the child that happened to be first when others joined.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ControlClient, joinHouse } from "../roles/control.ts";
import { CommandError, safeText } from "./output.ts";
import type { Places } from "./places.ts";

const START_DEADLINE = 30_000;
const POLL = 40;
/** After our own attempt failed, another process may still be about to open its house. */
const GRACE = 3000;

/**
 * Joins the house of these places, or starts one. Throws CommandError with what the house said when it cannot start, and when
 * the house that is there has another policy than the one that was asked for.
 */
export async function joinOrStartHouse(places: Places, env: NodeJS.ProcessEnv): Promise<ControlClient> {
  const house = (await joinHouse(places.data)) ?? (await startAndJoin(places, env));
  try {
    await refuseOtherPolicy(house, places);
    return house;
  } catch (error) {
    house.end();
    throw error;
  }
}

/** A child that was to run under one policy must not run under another one unnoticed. */
async function refuseOtherPolicy(house: ControlClient, places: Places): Promise<void> {
  const asked = places.configFiles[0];
  if (asked === undefined) return;
  const { policyFile } = (await house.status()).facts;
  if (samePath(asked, policyFile)) return;
  throw new CommandError(
    `the house that holds ${safeText(places.data)} has the policy ${safeText(policyFile)}, not ${safeText(asked)}: ` +
      "stop it, name another folder with --data, or leave -c (SALLYPORT_CONFIG) out",
  );
}

function samePath(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    return a === b;
  }
}

async function startAndJoin(places: Places, env: NodeJS.ProcessEnv): Promise<ControlClient> {
  mkdirSync(places.data, { recursive: true, mode: 0o700 });
  const log = join(places.data, "house.log");
  const { child, ended } = spawnHouse(places, env, log);
  const deadline = performance.now() + START_DEADLINE;
  let until = deadline;
  while (performance.now() < until) {
    const client = await joinHouse(places.data);
    if (client !== null) {
      child.unref();
      return client;
    }
    if (ended() && until === deadline) until = Math.min(deadline, performance.now() + GRACE);
    await sleep(POLL);
  }
  if (!ended()) child.kill("SIGTERM");
  const said = readFileSync(log, "utf8").trim();
  throw new CommandError(said === "" ? "the house did not start in time" : `the house did not start:\n${said}`);
}

function spawnHouse(places: Places, env: NodeJS.ProcessEnv, log: string): { child: ChildProcess; ended(): boolean } {
  const files = places.configFiles.flatMap((file) => ["-c", file]);
  const folders = ["--data", places.data, "--ca", places.ca];
  const output = openSync(log, "w", 0o600);
  try {
    const child = spawn(
      process.execPath,
      [...process.execArgv, process.argv[1] as string, "start", ...files, ...folders, "--for-children"],
      { detached: true, stdio: ["ignore", "ignore", output], env, windowsHide: true },
    );
    let over = false;
    child.once("exit", () => {
      over = true;
    });
    child.once("error", () => {
      over = true;
    });
    return { child, ended: () => over };
  } finally {
    closeSync(output);
  }
}

/** The folder of the CA that a house uses. */
export const caFolder = (caFile: string): string => dirname(caFile);
