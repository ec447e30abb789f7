// CPU time and memory of a process with all its children, from /proc (Linux).
import { readdirSync, readFileSync } from "node:fs";

/** Clock ticks a second: 100 on every Linux that Node runs on (`getconf CLK_TCK`). */
const TICKS = 100;

interface Stat {
  readonly pid: number;
  readonly parent: number;
  /** Seconds, with those of children that have ended. */
  readonly cpu: number;
}

/** Of a line of /proc/PID/stat (proc(5)); the command in parentheses may hold spaces and parentheses. */
export function parseStat(line: string): Stat {
  const field = fieldsOf(line);
  const ended = (field(16) + field(17)) / TICKS;
  return { pid: Number.parseInt(line, 10), parent: field(4), cpu: ownCpu(line) + ended };
}

function ownCpu(line: string): number {
  const field = fieldsOf(line);
  return (field(14) + field(15)) / TICKS;
}

/** The fields after the command, by the numbers of proc(5). */
function fieldsOf(line: string): (number: number) => number {
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return (number) => Number(fields[number - 3]);
}

/** The process and everything that descends from it. */
function tree(root: number): Stat[] {
  const all = new Map<number, Stat>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const line = read(`/proc/${name}/stat`);
    if (line !== null) all.set(Number(name), parseStat(line));
  }
  const found = [...all.values()].filter((stat) => stat.pid === root);
  for (let i = 0; i < found.length; i++) {
    const own = found[i]?.pid;
    found.push(...[...all.values()].filter((stat) => stat.parent === own && stat.pid !== own));
  }
  return found;
}

/** A process may end between the listing and the reading. */
function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** Seconds of CPU time that the tree has used so far. Throws when the process is gone. */
export function cpuSeconds(root: number): number {
  const stats = tree(root);
  if (stats.length === 0) throw new Error(`process ${root} has ended`);
  return stats.reduce((sum, { cpu }) => sum + cpu, 0);
}

/** Seconds of CPU time of each thread of one process, the most first. */
export function threadSeconds(pid: number): number[] {
  const lines = readdirSync(`/proc/${pid}/task`).map((tid) => read(`/proc/${pid}/task/${tid}/stat`));
  const seconds = lines.filter((line) => line !== null).map((line) => ownCpu(line));
  return seconds.sort((a, b) => b - a);
}

/** Resident bytes of the tree; pages that processes share count for each. */
export function residentBytes(root: number): number {
  const kilobytes = tree(root).map(({ pid }) => /^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`) ?? "")?.[1] ?? 0);
  return kilobytes.reduce<number>((sum, value) => sum + Number(value) * 1024, 0);
}
