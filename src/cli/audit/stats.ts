// `audit stats`: refusals, failures, where the bytes went, and what was never opened.
import type { Filter } from "../../audit/query.ts";
import { sizeText } from "../../audit/units.ts";
import type { AuditReader, GroupLine } from "../../edge/audit/reader.ts";
import { colours, print, printJson, safeText } from "../output.ts";
import { groupTable } from "./ask.ts";
import { type FilterFlags, filterOf, limitOf, withRecords } from "./flags.ts";

export interface StatsFlags extends FilterFlags {
  readonly limit: string;
}

interface Stats {
  readonly from: number | null;
  readonly to: number | null;
  readonly records: number;
  readonly sent: number;
  readonly received: number;
  readonly tooMany: number;
  readonly unauthorised: number;
  readonly serverErrors: number;
  readonly denied: number;
  readonly uninspected: {
    readonly records: number;
    readonly sent: number;
    readonly received: number;
    readonly share: number;
  };
  readonly topHosts: readonly GroupLine[];
}

/** Figures over all that match; with `--uninspected`, the hosts that were tunnelled or upgraded unopened. */
export const stats = (flags: StatsFlags): Promise<void> =>
  withRecords(flags, (reader) => {
    const { uninspected, ...filter } = filterOf(flags, Date.now());
    if (uninspected === true) {
      const hosts = reader.groups({ ...filter, uninspected: true }, "host", "sent", limitOf(flags.limit));
      if (flags.json === true) printJson(hosts.map((l) => ({ host: l.value, ...l, value: undefined })));
      else print(hosts.length === 0 ? "everything was opened" : groupTable("host", hosts));
      return;
    }
    const found = collect(reader, filter, limitOf(flags.limit));
    if (flags.json === true)
      printJson({ ...found, topHosts: found.topHosts.map((l) => ({ host: l.value, ...l, value: undefined })) });
    else printStats(found);
  });

function collect(reader: AuditReader, filter: Filter, limit: number): Stats {
  const all = reader.totals(filter);
  const byStatus = reader.groups(filter, "status", "records", 1_000);
  const count = (test: (status: number) => boolean): number =>
    byStatus.reduce((n, l) => n + (typeof l.value === "number" && test(l.value) ? l.records : 0), 0);
  const closed = reader.totals({ ...filter, uninspected: true });
  // An intercepted CONNECT has no bytes of its own: nothing is counted twice.
  const bytes = all.sent + all.received;
  return {
    from: all.from,
    to: all.to,
    records: all.records,
    sent: all.sent,
    received: all.received,
    tooMany: count((s) => s === 429),
    unauthorised: count((s) => s === 401 || s === 403),
    serverErrors: count((s) => s >= 500),
    denied: byStatus.reduce((n, l) => n + l.denied, 0),
    uninspected: {
      records: closed.records,
      sent: closed.sent,
      received: closed.received,
      share: bytes === 0 ? 0 : (closed.sent + closed.received) / bytes,
    },
    topHosts: reader.groups(filter, "host", "sent", limit),
  };
}

function printStats(s: Stats): void {
  if (s.records === 0) {
    print("no records match");
    return;
  }
  const span = [s.from, s.to].map((t) => new Date(t as number).toISOString().slice(0, 19).replace("T", " "));
  print(
    `${s.records} records from ${span[0]} to ${span[1]} UTC, ${sizeText(s.sent)} sent, ${sizeText(s.received)} received\n`,
  );
  const lines: [string, number, (t: string) => string][] = [
    ["denied", s.denied, colours.red],
    ["429 too many requests", s.tooMany, colours.yellow],
    ["401/403 not authorised", s.unauthorised, colours.yellow],
    ["5xx server errors", s.serverErrors, colours.red],
    ["uninspected", s.uninspected.records, colours.yellow],
  ];
  for (const [name, n, colour] of lines)
    print(`${name.padEnd(24)}${String(n).padStart(9)}  ${bar(n / s.records, colour)}`);
  print(`\n${(s.uninspected.share * 100).toFixed(1)} % of the bytes were not opened (--uninspected lists the hosts)\n`);
  const most = Math.max(1, ...s.topHosts.map((h) => h.sent));
  print(colours.bold("bytes sent to"));
  for (const h of s.topHosts)
    print(
      `${safeText(String(h.value ?? "-"))
        .slice(0, 48)
        .padEnd(50)}${sizeText(h.sent).padStart(10)}  ${bar(h.sent / most, colours.cyan)}`,
    );
}

/** Bars are for eyes: only on a terminal. */
const bar = (share: number, colour: (text: string) => string): string =>
  process.stdout.isTTY === true ? colour("█".repeat(Math.round(share * 30))) : "";
