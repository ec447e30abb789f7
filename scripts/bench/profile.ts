// Where our CPU time goes: Node's own profiler, read back.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { aligned } from "./report.ts";

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
    /** Ids of what it called. */
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

const LINES = 40;

/** Every profile of this folder (one for each thread): the functions with the most time of their own. */
export function profileText(dir: string): string {
  const files = readdirSync(dir).filter((name) => name.endsWith(".cpuprofile"));
  const texts = files.map((name) => top(JSON.parse(readFileSync(join(dir, name), "utf8")) as CpuProfile));
  return texts.length === 0 ? "no profile was written\n" : texts.join("\n");
}

/** Time of its own by function; what waits for work is left out of the whole. */
function top(profile: CpuProfile): string {
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  for (const { callFrame, children } of profile.nodes)
    for (const child of children ?? []) names.set(child, withCaller(names.get(child) ?? "?", callFrame));
  const own = new Map<string, number>();
  profile.samples.forEach((id, i) => {
    const name = names.get(id) ?? "?";
    own.set(name, (own.get(name) ?? 0) + (profile.timeDeltas[i] ?? 0));
  });
  const idle = own.get("(idle)") ?? 0;
  own.delete("(idle)");
  const busy = [...own.values()].reduce((a, b) => a + b, 0);
  const rows = [...own].sort((a, b) => b[1] - a[1]).slice(0, LINES);
  const share = (us: number): string => `${((us / busy) * 100).toFixed(1)} %`;
  return `${(busy / 1e6).toFixed(2)} s busy, ${(idle / 1e6).toFixed(2)} s idle\n${aligned(rows.map(([name, us]) => ["", share(us), name]))}`;
}

function nameOf({ functionName, url, lineNumber }: CpuProfile["nodes"][number]["callFrame"]): string {
  const place = /(?:dist|node_modules)\/.*$/.exec(url)?.[0] ?? url;
  return `${functionName === "" ? "(anonymous)" : functionName}${place === "" ? "" : `  ${place}:${lineNumber + 1}`}`;
}

/** What has no place of its own is Node's machine code: who called it says which of the many writes it is. */
const withCaller = (name: string, caller: CpuProfile["nodes"][number]["callFrame"]): string =>
  name.includes(":") || name.startsWith("(") || caller.url === "" ? name : `${name}  called by ${nameOf(caller)}`;
