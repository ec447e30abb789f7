import { mkdirSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { rowOf, rowText } from "../../../src/audit/row.ts";
import { journalFolder } from "../../../src/edge/audit/folder.ts";
import { Intake } from "../../../src/edge/audit/intake.ts";
import { journalFile } from "../../../src/edge/audit/journal-files.ts";
import { type JournalLines, linesOf, readJournal } from "../../../src/edge/audit/journal-reader.ts";
import { JournalWriter } from "../../../src/edge/audit/journal-writer.ts";
import type { FromAuditor } from "../../../src/edge/audit/messages.ts";
import { AuditReader } from "../../../src/edge/audit/reader.ts";
import { verifyLog } from "../../../src/edge/audit/verify.ts";
import { aFolder, aRecord } from "./support.ts";

const all = Number.MAX_SAFE_INTEGER;
const taken = (read: JournalLines | null) => read && { lines: [...linesOf(read)], next: read.next };

test("a journal that was cut at any byte yields exactly the whole lines before the cut", () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir), { recursive: true });
  const lines = ["first", "zweite Ü", "third 🚪"].map((path) => JSON.stringify(aRecord({ path })));
  const bytes = Buffer.from(lines.map((l) => `${l}\n`).join(""));
  const ends = lines.map((_, i) =>
    Buffer.byteLength(
      lines
        .slice(0, i + 1)
        .map((l) => `${l}\n`)
        .join(""),
    ),
  );
  writeFileSync(journalFile(dir, 1), bytes);
  for (let cut = bytes.length; cut >= 0; cut--) {
    truncateSync(journalFile(dir, 1), cut);
    const whole = ends.filter((end) => end <= cut).length;
    const read = readJournal(dir, 1, 0, all);
    expect(taken(read)).toEqual({ lines: lines.slice(0, whole), next: whole === 0 ? 0 : ends[whole - 1] });
  }
});

test("records longer than a read come whole", () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir), { recursive: true });
  const long = "x".repeat(3_000_000);
  writeFileSync(journalFile(dir, 1), `a\n${long}\nb\n`);
  const seen: string[] = [];
  for (let at = 0; ; ) {
    const read = readJournal(dir, 1, at, all);
    if (read === null || read.next === at) break;
    seen.push(...linesOf(read));
    at = read.next;
  }
  expect(seen).toEqual(["a", long, "b"]);
});

test("the writer rotates, and starts a new file after those of an earlier run", () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir), { recursive: true });
  const writer = new JournalWriter(dir, 10, 0);
  writer.write(Buffer.from("0123456789\n"), 1);
  writer.write(Buffer.from("next\n"), 1);
  expect(writer.position).toEqual({ file: 2, end: 5 });
  writer.probe();
  writer.close();
  expect(taken(readJournal(dir, 2, 0, all))).toEqual({ lines: ["next"], next: 5 });
  expect(new JournalWriter(dir, 10, 7).position).toEqual({ file: 8, end: 0 });
});

/** Runs the auditor's work here, over what an earlier process left. */
async function takeIn(dir: string, liveFile: number): Promise<FromAuditor[]> {
  const said: FromAuditor[] = [];
  await new Promise<void>((resolve) => {
    const intake = new Intake({ dir, keep: { age: null, size: null }, liveFile }, (m) => said.push(m), resolve);
    intake.receive({ type: "close" });
  });
  return said;
}

test("what earlier runs left is taken in once: torn tails are dropped, a spoiled line has a record in its place", async () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir), { recursive: true });
  const line = (path: string) => `${rowText(rowOf(aRecord({ path })))}\n`;
  writeFileSync(journalFile(dir, 3), `${line("/a")}${line("/b")}{"torn`);
  writeFileSync(journalFile(dir, 4), `${line("/c")}spoiled\n\n${line("/d")}`);
  writeFileSync(journalFile(dir, 5), "");
  const said = await takeIn(dir, 6);
  expect(said.filter((m) => m.type === "warning")).toHaveLength(1);
  expect(readdirSync(journalFolder(dir))).toEqual([]);
  await takeIn(dir, 6);
  const reader = new AuditReader(dir);
  const paths = [...reader.oldest({})].map((s) => s.record.path ?? s.record.notes[0]);
  reader.close();
  expect(paths).toEqual(["/a", "/b", "/c", "journal-line-unreadable", "/d"]);
});

test("a line that our writer would write in another way is the record that it says, and one that nobody can write again is none", async () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir), { recursive: true });
  const line = (path: string) => rowText(rowOf(aRecord({ path })));
  const spaced = line("/spaced").replaceAll('","', '" , "');
  const infinite = line("/infinite").replace(/^\[\d+/, "[1e999");
  writeFileSync(journalFile(dir, 3), `${line("/a")}\n${spaced}\n${infinite}\n${line("/b")}\n`);
  const said = await takeIn(dir, 4);
  expect(said.filter((m) => m.type === "warning")).toHaveLength(1);
  const reader = new AuditReader(dir);
  onTestFinished(() => reader.close());
  const paths = [...reader.oldest({})].map((s) => s.record.path ?? s.record.notes[0]);
  expect(paths).toEqual(["/a", "/spaced", "journal-line-unreadable", "/b"]);
  expect(verifyLog(dir, reader, { key: null, head: null })).toMatchObject({ ok: true, records: 4 });
});

test("a head is signed all the same when the clock was set back", async () => {
  const dir = aFolder();
  mkdirSync(journalFolder(dir), { recursive: true });
  const writer = new JournalWriter(dir, 1_000_000, 0);
  const said: FromAuditor[] = [];
  const has = (type: FromAuditor["type"]): boolean => said.some((m) => m.type === type);
  let ended = false;
  const keep = { age: null, size: null };
  const intake = new Intake(
    { dir, keep, liveFile: writer.position.file },
    (m) => said.push(m),
    () => {
      ended = true;
    },
  );
  while (!has("ready")) await wait(5);
  const now = Date.now();
  vi.spyOn(Date, "now").mockImplementation(() => now - 3_600_000);
  onTestFinished(() => void vi.restoreAllMocks());
  for (let i = 0; i < 40 && !has("head"); i++) {
    writer.write(Buffer.from(`${rowText(rowOf(aRecord({ path: `/${i}` })))}\n`), 1);
    intake.receive({ type: "wrote", ...writer.position });
    await wait(50);
  }
  expect(has("head")).toBe(true);
  intake.receive({ type: "close" });
  while (!ended) await wait(5);
  writer.close();
});
