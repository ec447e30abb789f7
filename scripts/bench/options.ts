// The command line of `npm run bench`.
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { SCENARIOS, type ScenarioId } from "./scenarios.ts";

export interface BenchOptions {
  readonly scenarios: readonly ScenarioId[];
  /** Names of peers; null: all. */
  readonly peers: readonly string[] | null;
  readonly rounds: number;
  /** Of each measurement. */
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly check: boolean;
  /** File for the figures. */
  readonly json: string | null;
  /** The scenario to run under Node's profiler, instead of a benchmark. */
  readonly profile: ScenarioId | null;
  /** Our built main.js; null: build, and take dist/main.js. */
  readonly main: string | null;
  /** Another built main.js of ours that takes part, such as that of the code before a change. */
  readonly beside: string | null;
}

export const HELP = `npm run bench -- [options]
  --only A,B        these scenarios: ${SCENARIOS.map((s) => s.id).join(" ")}
  --peers A,B       these peers, or none (default: all)
  --rounds N        interleaved rounds, of which the medians are shown (default 3)
  --seconds N       duration of each measurement (default 3)
  --quick           1 round of 1 second: figures to look at, not to quote
  --check           exit 1 when a target is missed or its peer is missing; what comes near a target, on either
                    side, is measured in eight more rounds, all of which count
  --json FILE       write all figures
  --profile A       run this scenario under Node's profiler and show where our CPU time goes
  --main FILE       a built main.js (default: builds, and takes dist/main.js)
  --beside FILE     the main.js of another build takes part, as "other build": did a change pay?
`;

/** Throws with a text for the user. */
export function readOptions(args: readonly string[]): BenchOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: "string" },
      peers: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
      json: { type: "string" },
      profile: { type: "string" },
      main: { type: "string" },
      beside: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  const seconds = positive("--seconds", values.seconds, values.quick ? 1 : 3, 60);
  return {
    scenarios: values.only === undefined ? SCENARIOS.map((s) => s.id) : names(values.only).map(scenarioId),
    peers: values.peers === undefined ? null : names(values.peers).filter((name) => name !== "none"),
    rounds: Math.ceil(positive("--rounds", values.rounds, values.quick ? 1 : 3, 100)),
    seconds,
    warmSeconds: Math.min(1.5, seconds / 2),
    check: values.check,
    json: values.json ?? null,
    profile: values.profile === undefined ? null : scenarioId(values.profile),
    main: values.main === undefined ? null : resolve(values.main),
    beside: values.beside === undefined ? null : resolve(values.beside),
  };
}

const names = (text: string): string[] => text.split(",").filter((name) => name !== "");

function scenarioId(text: string): ScenarioId {
  const found = SCENARIOS.find(({ id }) => id === text);
  if (found === undefined)
    throw new Error(`no scenario ${JSON.stringify(text)}; there are ${SCENARIOS.map((s) => s.id).join(", ")}`);
  return found.id;
}

function positive(name: string, text: string | undefined, usual: number, most: number): number {
  const value = text === undefined ? usual : Number(text);
  if (!(value > 0 && value <= most)) throw new Error(`${name} wants a number above 0, at most ${most}`);
  return value;
}
