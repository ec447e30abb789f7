// npm run soak: what takes too long for npm test. Mixed traffic, everybody misbehaving, kill -9 under load, and the memory figures,
// each against what docs/promises.md says. Exit code 1 when a promise is broken.
import { parseArgs } from "node:util";
import { chaos } from "./chaos.ts";
import { killLoop } from "./kill-loop.ts";
import { FULL, measureMemory } from "./memory.ts";
import { mixedTraffic } from "./mixed.ts";

const HELP = `npm run soak [-- OPTIONS]     without options: mixed traffic, chaos and kills for 10 minutes, then the memory figures

  --minutes N    how long, in all, for mixed traffic, chaos and kills (default 10)
  --mixed        only mixed traffic
  --chaos        only clients and origins that misbehave
  --kills N      only the kill loop, N times
  --memory       only the memory figures
  --json         one object at the end instead of text
`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    mixed: { type: "boolean", default: false },
    chaos: { type: "boolean", default: false },
    kills: { type: "string" },
    memory: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

const problems: string[] = [];
const report: Record<string, unknown> = {};
const say = (text: string): void => {
  if (!values.json) process.stdout.write(`${text}\n`);
};
const mib = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
const wrong = (text: string): void => {
  problems.push(text);
  say(`  BROKEN: ${text}`);
};

async function mixed(minutes: number): Promise<void> {
  say(`mixed traffic for ${minutes} minutes …`);
  const result = await mixedTraffic(minutes * 60);
  report.mixed = result;
  for (const [kind, count] of Object.entries(result.expected))
    say(`  ${kind}: ${count}, records: ${result.recorded[kind] ?? 0}`);
  say(`  memory: ${mib(result.memoryEarly)} early, ${mib(result.memoryLate)} late, at the lowest`);
  say(`  descriptors: ${result.descriptorsBefore} before, ${result.descriptorsAfter} after`);
  for (const text of [...result.unexpected, ...result.problems]) wrong(text);
}

async function misbehaving(minutes: number): Promise<void> {
  say(`chaos for ${minutes} minutes …`);
  const result = await chaos(minutes * 60);
  report.chaos = result;
  const begun = Object.entries(result.begun).map(([kind, n]) => `${n} ${kind}`);
  say(`  clients: ${begun.join(", ")}; origins saw ${result.seen} requests; seed ${result.seed}`);
  for (const text of result.problems.slice(0, 20)) wrong(text);
}

/** About two seconds each. */
async function kills(count: number): Promise<void> {
  say(`kill -9 under load, ${count} times …`);
  const result = await killLoop({ kills: count, clients: 16, load: 500 });
  report.kills = result;
  const slowest = Math.max(...result.firstAnswers.slice(1));
  say(
    `  ${result.answered} answered, ${result.records} records; slowest first answer after a start: ${slowest.toFixed(0)} ms`,
  );
  say(
    `  ${Object.entries(result.answeredBy)
      .map(([kind, n]) => `${n} ${kind}`)
      .join(", ")}`,
  );
  for (const [kind, n] of Object.entries(result.answeredBy)) if (n === 0) wrong(`nothing was answered ${kind}`);
  if (result.missing.length > 0) wrong(`${result.missing.length} answered exchanges are not in the log`);
  if (result.twice.length > 0) wrong(`${result.twice.length} exchanges are in the log twice`);
  if (result.chain !== null) wrong(`the chain: ${result.chain}`);
  if (result.integrity !== "ok") wrong(`integrity check: ${result.integrity}`);
  const busiest = Math.max(...result.firstAnswersCpu.slice(1));
  say(`  most CPU time of a start until its first answer: ${busiest.toFixed(0)} ms`);
  // A machine with other work stretches the one and not the other.
  if (Math.min(slowest, busiest) >= 1_000) wrong("the first answer came later than a second after a start");
}

async function memory(): Promise<void> {
  say("memory …");
  const figures = await measureMemory(FULL);
  report.memory = figures;
  for (const { what, grown, limit } of figures) {
    const text = limit < 1024 * 1024 ? `${(grown / 1024).toFixed(1)} KiB` : mib(grown);
    say(`  ${what}: ${text} (under ${limit < 1024 * 1024 ? `${limit / 1024} KiB` : mib(limit)})`);
    if (grown >= limit) wrong(what);
  }
}

if (values.help) say(HELP);
else {
  const minutes = Number(values.minutes);
  const all = !values.mixed && !values.chaos && values.kills === undefined && !values.memory;
  if (all || values.mixed) await mixed(all ? minutes / 3 : minutes);
  if (all || values.chaos) await misbehaving(all ? minutes / 3 : minutes);
  if (all || values.kills !== undefined) await kills(Number(values.kills ?? Math.ceil((minutes * 20) / 2.5)));
  if (all || values.memory) await memory();
  report.problems = problems;
  if (values.json) process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);
  else say(problems.length === 0 ? "everything held" : `${problems.length} broken`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
