import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Ajv from "ajv";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { filterOf, withFilters } from "../../src/cli/audit/flags.ts";
import { lockFolder } from "../../src/edge/audit/folder.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { signingKey } from "../../src/edge/audit/signing-key.ts";
import { AuditStore } from "../../src/edge/audit/store.ts";
import { aRecord, linesFor, until } from "../edge/audit/support.ts";
import { tamper } from "../edge/audit/tamper.ts";
import { PROGRAM } from "../support/cli.ts";

const sha = (text: string): string => createHash("sha256").update(text).digest("hex");
let dir: string;
/** A log of its own, that grows. */
let followed: string;

/** The command as a process: what it printed, and its exit code. */
const audit = (...args: string[]) => auditIn(dir, ...args);

function auditIn(data: string, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const argv = [...PROGRAM, "audit", ...args, "--data", data];
    execFile(process.execPath, argv, { maxBuffer: 1 << 26 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

const EVIL = "/x\u001b[31mred\u202egnp.exe";
const RECORDS: AuditRecord[] = [
  aRecord({ method: "DELETE", status: 403, decision: "deny", rule: null, reason: "not-allowed", path: "/repos/a/b" }),
  aRecord({ client: '=cmd|"/c calc"!A1', path: EVIL }),
  aRecord({
    method: "POST",
    host: "files.example",
    sent: { bytes: 6, sha256: sha("report"), complete: true, parts: [sha("part of it")] },
    requestFields: ["Content-Type", "text/plain"],
    requestBody: { base64: Buffer.from("report").toString("base64"), whole: true },
  }),
  aRecord({ status: 429, host: "slow.example" }),
  aRecord({ status: 502, reason: "origin-timeout", path: "/repos/a/b?page=[redacted]" }),
  aRecord({ kind: "connect", method: "CONNECT", host: "pinned.example", path: null, uninspected: true, status: 200 }),
];

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "sallyport-audit-cli-"));
  lockFolder(dir)();
  const store = new AuditStore(dir);
  store.append(linesFor(...RECORDS), { file: 0, offset: 0 });
  store.sign(Date.now(), signingKey(dir));
  store.close();
  followed = mkdtempSync(join(tmpdir(), "sallyport-audit-cli-"));
  lockFolder(followed)();
  const other = new AuditStore(followed);
  other.append(linesFor(aRecord()), { file: 0, offset: 0 });
  other.close();
});
afterAll(() => {
  for (const folder of [dir, followed]) rmSync(folder, { recursive: true, force: true });
});

/** The escape and the bidirectional override that one record tries to get through. */
const steering = (text: string): string[] => ["\u001b", "\u202e"].filter((c) => text.includes(c));

const idsOf = (out: string): string[] => (JSON.parse(out) as { id: string }[]).map((r) => r.id);
const id = (i: number): string => (RECORDS[i] as AuditRecord).id;

test.each<[string[], number[]]>([
  [["--decision", "deny"], [0]],
  [
    ["--status", "4xx"],
    [0, 3],
  ],
  [
    ["--status", "5xx,429"],
    [3, 4],
  ],
  [
    ["--host", "*.EXAMPLE"],
    [2, 3, 5],
  ],
  [["--host", "api.github.com", "--method", "DELETE,PUT"], [0]],
  [
    ["--path", "/repos/a/b"],
    [0, 2, 3, 4],
  ],
  [
    ["--path", "/repos/*"],
    [0, 2, 3, 4],
  ],
  [["--rule", "-"], [0]],
  [["--reason", "origin-*"], [4]],
  [["--digest", sha("part of it").slice(0, 16)], [2]],
  [["--digest", sha("report")], [2]],
  [["--kind", "connect"], [5]],
  [["--uninspected"], [5]],
  [["--until", "1h"], []],
  [
    ["--since", "1h", "--limit", "2"],
    [4, 5],
  ],
])("the filters %j", (args, wanted) => {
  const command = withFilters(new Command()).option("--limit <n>", "", "50").parse(args, { from: "user" });
  const reader = new AuditReader(dir);
  const found = reader.newest(filterOf(command.opts(), Date.now()), Number(command.opts().limit)).reverse();
  reader.close();
  expect(found.map((f) => f.record.id)).toEqual(wanted.map(id));
});

test("query prints what its filters match, as a table and as JSON", async () => {
  const { code, out } = await audit("query", "--json", "--decision", "deny");
  expect([code, idsOf(out)]).toEqual([0, [id(0)]]);
  const asTable = await audit("query", "--decision", "deny");
  expect(asTable.out).toMatch(/^TIME +CLIENT +REQUEST +STATUS +RULE +SENT +RECEIVED +TOOK\n/);
  expect(asTable.out).toMatch(
    /DELETE https:\/\/api\.github\.com\/repos\/a\/b +403 +- +0 B +0 B +1\.3 ms +not-allowed\n/,
  );
  expect(asTable.out).not.toContain("\u001b");
});

test("tail follows what is written while it runs", async () => {
  const child = spawn(process.execPath, [...PROGRAM, "audit", "tail", "--limit", "1", "--json", "--data", followed]);
  let out = "";
  child.stdout.on("data", (data: Buffer) => {
    out += data.toString();
  });
  const store = new AuditStore(followed);
  try {
    await until(() => out.split("\n").length === 2);
    const late = aRecord();
    store.append(linesFor(late), { file: 0, offset: 0 });
    await until(() => out.includes(late.id));
  } finally {
    store.close();
    child.kill("SIGTERM");
  }
  expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0);
});

test("tail prints each record once, however fast they come", async () => {
  const child = spawn(process.execPath, [...PROGRAM, "audit", "tail", "--json", "--data", followed]);
  let out = "";
  child.stdout.on("data", (data: Buffer) => {
    out += data.toString();
  });
  const store = new AuditStore(followed);
  const paths: string[] = [];
  try {
    for (const end = Date.now() + 3_000; Date.now() < end; await new Promise(setImmediate)) {
      paths.push(`/fast/${paths.length}`);
      store.append(linesFor(aRecord({ path: paths.at(-1) as string })), { file: 0, offset: 0 });
    }
    await until(() => out.includes(`"${paths.at(-1)}"`));
  } finally {
    store.close();
    child.kill("SIGTERM");
  }
  await new Promise((resolve) => child.once("close", resolve));
  const printed = out.match(/\/fast\/\d+/g) ?? [];
  expect(new Set(printed).size).toBe(printed.length);
  // It began somewhere in the middle, and left nothing out from there on.
  expect(printed).toEqual(paths.slice(-printed.length));
});

test.each<[string[], number[]]>([
  [["--sort", "sent", "--limit", "1"], [2]],
  [["--sort", "sent", "--limit", "1", "--status", "4xx"], [3]],
  [
    ["--sort", "time", "--limit", "2"],
    [4, 5],
  ],
])("query %j: of all that match, not of the newest", async (args, found) => {
  expect(idsOf((await audit("query", ...args, "--json")).out)).toEqual(found.map(id));
});

test.each([
  [["query", "--sort", "denied"], /records are sorted by/],
  [["query", "--group-by", "host", "--sort", "took"], /groups are sorted by/],
  [["query", "--tool", "x"], /not supported in this version/],
  [["query", "--since", "yesterday"], /--since/],
  [["query", "--status", "abc"], /--status/],
  [["query", "--digest", "zz"], /--digest/],
  [["prune"], /--older-than/],
  [["find-body", "/nowhere/at/all"], /there is no such file/],
])("%j is wrong usage", async (args, message) => {
  const { code, err } = await audit(...args);
  expect(code).toBe(2);
  expect(err).toMatch(message);
});

test("neither a table, JSON, CSV nor HAR lets a record steer the terminal or a spreadsheet", async () => {
  for (const args of [["query"], ["query", "--group-by", "client"], ["show", id(1)]])
    expect(steering((await audit(...args, "--json")).out)).toEqual([]);
  for (const format of ["table", "jsonl", "csv"]) {
    const { out } = await audit("query", "--format", format);
    expect(steering(out)).toEqual([]);
    if (format === "csv") expect(out).toContain(`"'=cmd|""/c calc""!A1"`);
  }
  for (const format of ["jsonl", "csv", "har"]) {
    const { out } = await audit("export", "--format", format);
    expect(out.length).toBeGreaterThan(100);
    expect(steering(out)).toEqual([]);
  }
  const shown = await audit("show", id(1));
  expect(steering(shown.out)).toEqual([]);
  expect(shown.out).toContain("\\x1b[31mred");
});

test("show and find-body say no with exit code 1, and find what is there", async () => {
  expect((await audit("show", "01ARZ3NDEKTSV4RRFFQ69G5FAV")).code).toBe(1);
  for (const [text, code] of [
    ["report", 0],
    ["part of it", 0],
    ["another", 1],
  ] as const) {
    const file = join(dir, "body");
    writeFileSync(file, text);
    const found = await audit("find-body", file, "--json");
    expect(found.code).toBe(code);
    expect(idsOf(JSON.stringify(JSON.parse(found.out).found))).toEqual(code === 0 ? [id(2)] : []);
  }
});

test("find-body finds what was sent behind a thousand records that have its digest in a field", async () => {
  const log = mkdtempSync(join(tmpdir(), "sallyport-audit-cli-"));
  onTestFinished(() => rmSync(log, { recursive: true }));
  lockFolder(log)();
  const store = new AuditStore(log);
  const sent = aRecord({ sent: { bytes: 6, sha256: sha("report"), complete: true } });
  const noise = Array.from({ length: 1_200 }, () => aRecord({ requestFields: ["X-Any", sha("report")] }));
  store.append(linesFor(sent, ...noise), { file: 0, offset: 0 });
  store.close();
  const file = join(log, "body");
  writeFileSync(file, "report");
  const { code, out } = await auditIn(log, "find-body", file, "--json");
  expect([code, idsOf(JSON.stringify(JSON.parse(out).found))]).toEqual([0, [sent.id]]);
});

test("stats counts refusals, failures and what was not opened", async () => {
  const { out } = await audit("stats", "--json");
  expect(JSON.parse(out)).toMatchObject({
    records: 6,
    tooMany: 1,
    unauthorised: 1,
    serverErrors: 1,
    denied: 1,
    uninspected: { records: 1 },
  });
  expect((await audit("stats")).out).toMatch(/429 too many requests +1/);
  const grouped = JSON.parse((await audit("query", "--group-by", "host", "--sort", "sent", "--json")).out);
  expect(grouped[0]).toMatchObject({ host: "files.example", sent: 6, records: 1 });
});

test("the uninspected share is of all bytes, those of WebSockets too", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-audit-cli-"));
  const received = { bytes: 10, sha256: sha("0123456789"), complete: true };
  const store = new AuditStore(folder);
  const records = [
    aRecord({ received }),
    aRecord({ kind: "connect", received, uninspected: true }),
    aRecord({ kind: "upgrade", status: 101, received }),
    aRecord({ kind: "upgrade", status: 101, received }),
  ];
  store.append(linesFor(...records), { file: 0, offset: 0 });
  store.close();
  const { out } = await auditIn(folder, "stats", "--json");
  expect(JSON.parse(out).uninspected).toEqual({ records: 1, sent: 0, received: 10, share: 1 / 4 });
  rmSync(folder, { recursive: true, force: true });
});

test("an export that cannot be written whole leaves nothing, and one whose reader has had enough is no failure", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-audit-cli-"));
  const store = new AuditStore(folder);
  const path = `/${"x".repeat(2_000)}`;
  store.append(linesFor(...Array.from({ length: 200 }, () => aRecord({ path }))), { file: 0, offset: 0 });
  store.close();
  const ours = `"${process.execPath}" ${PROGRAM.map((text) => `"${text}"`).join(" ")} audit export --data "${folder}"`;
  const sh = (script: string) =>
    new Promise<{ code: number; err: string }>((resolve) => {
      execFile("bash", ["-c", script], (error, _out, err) =>
        resolve({ code: error === null ? 0 : Number(error.code), err }),
      );
    });
  const out = join(folder, "part.jsonl");
  const full = await sh(`trap '' XFSZ; ulimit -f 100; exec ${ours} --out "${out}"`);
  expect(full).toMatchObject({ code: 2, err: expect.stringMatching(/EFBIG|too large/i) });
  expect(existsSync(out)).toBe(false);
  expect(await sh(`set -o pipefail; ${ours} | head -n 1`)).toEqual({ code: 0, err: "" });
  rmSync(folder, { recursive: true, force: true });
});

test("the HAR export validates against HAR 1.2", async () => {
  const out = join(dir, "out.har");
  expect((await audit("export", "--format", "har", "--out", out)).code).toBe(0);
  expect((await audit("export", "--format", "har", "--out", out)).code).toBe(2);
  const har = JSON.parse(readFileSync(out, "utf8"));
  expect(har.log.entries).toHaveLength(5);
  expect(har.log.entries[2].request.postData).toEqual({ mimeType: "text/plain", text: "report" });
  const schemas = createRequire(import.meta.url)("har-schema") as Record<string, { $id?: string }>;
  const ajv = new Ajv.default({
    strict: false,
    schemas: Object.values(schemas).map(({ ...s }) => ({ ...s, $schema: undefined })) as never,
    formats: {
      "date-time": (t: string) => !Number.isNaN(Date.parse(t)),
      uri: (t: string) => URL.canParse(t),
      ipv4: true,
      ipv6: true,
    },
  });
  const validate = ajv.getSchema("har.json#") ?? ajv.getSchema("har.json");
  expect(validate).toBeDefined();
  expect(validate?.(har), JSON.stringify(validate?.errors)).toBe(true);
  expect(validate?.({ log: { ...har.log, entries: [{}] } })).toBe(false);
});

test("verify says yes, with a kept head too, and no with exit code 1 once a record is changed", async () => {
  const kept = (await audit("head", "--json")).out;
  expect((await audit("verify", "--head", kept)).code).toBe(0);
  expect((await audit("verify")).out).toMatch(/intact: 6 records/);
  tamper(dir, "UPDATE records SET packed = edited(packed, 'status', 200) WHERE seq = 4");
  const changed = await audit("verify");
  expect(changed.code).toBe(1);
  expect(changed.out).toMatch(/record 4 /);
});

test("--json is one document, or for tail and export a document a line, and does not go with another format", async () => {
  const lines = (await audit("export", "--json")).out.trim().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual([1, 2, 3, 4, 5, 6]);
  for (const format of ["csv", "har"]) {
    const { code, out, err } = await audit("export", "--json", "--format", format);
    expect([code, out]).toEqual([2, ""]);
    expect(err).toContain("'--format <format>' cannot be used with option '--json'");
  }
});

test("find-body of a folder says so", async () => {
  expect(await audit("find-body", dir)).toMatchObject({
    code: 2,
    err: expect.stringContaining("is a folder: name a file"),
  });
});

describe("a log that was tampered with", () => {
  /** A copy of the log, changed. */
  function damaged(change: string): string {
    const copy = mkdtempSync(join(tmpdir(), "sallyport-audit-cli-"));
    onTestFinished(() => rmSync(copy, { recursive: true, force: true }));
    lockFolder(copy)();
    const store = new AuditStore(copy);
    store.append(linesFor(...RECORDS), { file: 0, offset: 0 });
    store.sign(Date.now(), signingKey(copy));
    store.close();
    tamper(copy, change);
    return copy;
  }
  const EDIT = "UPDATE records SET packed = edited(packed, 'at', 9e18) WHERE seq = 2";
  const LEFT_OUT = /the audit log is damaged: record 2 is left out\. Run `sallyport audit verify`/;

  test("what is whole is shown, what is not is named, and the exit code is 1", async () => {
    const log = damaged(EDIT);
    const all = await auditIn(log, "query", "--json");
    expect([all.code, idsOf(all.out)]).toEqual([1, [0, 2, 3, 4, 5].map(id)]);
    for (const args of [["query", "--sort", "sent"], ["query", "--group-by", "host"], ["stats"], ["export"]]) {
      const { code, out, err } = await auditIn(log, ...args);
      expect([args, code, out === ""]).toEqual([args, 1, false]);
      expect(err).toMatch(LEFT_OUT);
    }
    const figures = await auditIn(log, "stats", "--json");
    expect(JSON.parse(figures.out)).toMatchObject({ records: 5 });
    expect(figures.err).toMatch(LEFT_OUT);
    const out = join(log, "part.jsonl");
    expect((await auditIn(log, "export", "--out", out)).err).toMatch(LEFT_OUT);
    expect(readFileSync(out, "utf8").trim().split("\n")).toHaveLength(5);
    expect(await auditIn(log, "show", id(0), "--json")).toMatchObject({ code: 0, err: "" });
  });
  test("a head that is not what was signed is not handed out", async () => {
    for (const change of ["UPDATE heads SET at = 9e18", "UPDATE heads SET hash = 5", "UPDATE heads SET at = at - 1"]) {
      const log = damaged(change);
      for (const more of [[], ["--json"]]) {
        const { code, out, err } = await auditIn(log, "head", ...more);
        expect([code, out]).toEqual([1, ""]);
        expect(err).toContain("the head at record 6 is not what was signed");
      }
    }
  });
  test("an index that hides records is named by verify", async () => {
    const log = damaged("DELETE FROM blocks");
    expect((await auditIn(log, "query", "--json", "--decision", "deny")).out).toBe("[]\n");
    const { code, out } = await auditIn(log, "verify");
    expect([code, out]).toEqual([1, expect.stringMatching(/^index: .*the index of records 1 to 6 was changed/)]);
  });
  test.each<[string, string | null, RegExp]>([
    ["shared values", "UPDATE words SET text = CAST('GET' AS BLOB) WHERE text = 'GET'", /1 of the values .* cannot be/],
    ["a table that is gone", "DROP TABLE words", /audit\.db is damaged \(no such table: words\): move it elsewhere/],
    ["nothing in it", null, /audit\.db is empty: no proxy has written to it yet, or somebody emptied it/],
  ])("a database with %s", async (_name, change, wanted) => {
    const log = damaged(change ?? "SELECT 1");
    if (change === null) truncateSync(join(log, "audit.db"));
    const { code, err } = await auditIn(log, "query");
    expect(code).not.toBe(0);
    expect(err).toMatch(wanted);
  });
  test("records that were changed are not pruned", async () => {
    const log = damaged("DELETE FROM records WHERE seq = 2");
    const { code, out, err } = await auditIn(log, "prune", "--to-size", "1KiB");
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/old records are not pruned, because the log was changed: record 2 is missing/);
  });
  test("a folder that is a file, and a key that is none", async () => {
    const log = damaged("SELECT 1");
    writeFileSync(join(log, "audit.key"), "none");
    expect((await auditIn(log, "prune", "--to-size", "1KiB")).err).toContain("audit.key holds no Ed25519 key");
    expect((await auditIn(join(log, "audit.db"), "query")).err).toContain("is a file, not the folder of a log");
  });
});
