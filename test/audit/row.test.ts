import fc from "fast-check";
import { expect, test } from "vitest";
import { ChainWriter, chainHash, GENESIS } from "../../src/audit/hash-chain.ts";
import type { AuditRecord } from "../../src/audit/record.ts";
import { parseRow, type Row, recordOf, rowOf, rowText } from "../../src/audit/row.ts";
import { aRecord } from "../edge/audit/support.ts";
import { anyRecord } from "./any-record.ts";

test("a row holds all of its record: there and back nothing is lost", () => {
  fc.assert(
    fc.property(anyRecord, (record) => {
      expect(recordOf(rowOf(record))).toEqual(record);
      const text = rowText(rowOf(record));
      expect(Buffer.from(text, "utf8").toString("utf8")).toBe(text);
      expect(rowText(parseRow(text) as Row)).toBe(text);
    }),
  );
});

test("records that differ anywhere have different canonical texts, and so different hashes", () => {
  fc.assert(
    fc.property(anyRecord, anyRecord, fc.nat(40), (a, b, pick) => {
      const keys = Object.keys(b) as (keyof AuditRecord)[];
      const key = keys[pick % keys.length] as keyof AuditRecord;
      const changed = { ...a, [key]: b[key] } as AuditRecord;
      const same = JSON.stringify(recordOf(rowOf(changed))) === JSON.stringify(recordOf(rowOf(a)));
      expect(rowText(rowOf(changed)) === rowText(rowOf(a))).toBe(same);
      expect(chainHash(GENESIS, 1, rowText(rowOf(changed))) === chainHash(GENESIS, 1, rowText(rowOf(a)))).toBe(same);
    }),
  );
});

test("the chain that grows by bytes is the chain of the texts", () => {
  const chain = new ChainWriter({ seq: 0, hash: GENESIS });
  let hash = GENESIS;
  const texts = ["a", "x".repeat(70_000), "ü", "", "y".repeat(65_400), "z".repeat(300_000), "b"];
  texts.forEach((text, i) => {
    const bytes = Buffer.from(`before${text}behind`);
    const found = chain.add(bytes, 6, bytes.length - 6);
    hash = chainHash(hash, i + 1, text);
    expect(Buffer.from(found).toString("latin1", 0, 64)).toBe(hash);
    expect(chain.point).toEqual({ seq: i + 1, hash });
  });
  const before = { seq: 1_234_567, hash: "ab".repeat(32) };
  chain.reset(before);
  chain.add(Buffer.from("text"), 0, 4);
  expect(chain.point).toEqual({ seq: 1_234_568, hash: chainHash(before.hash, 1_234_568, "text") });
});

test("the number and the hash before are part of a hash", () => {
  const row = rowText(rowOf(aRecord()));
  expect(chainHash(GENESIS, 1, row)).not.toBe(chainHash(GENESIS, 2, row));
  expect(chainHash(GENESIS, 1, row)).not.toBe(chainHash("f".repeat(64), 1, row));
});

test.each([
  ["a lone half of a pair", "/\ud800x", "/\ufffdx"],
  ["a whole pair", "/\u{1f6aa}", "/\u{1f6aa}"],
  ["what looks like an escape", "/\\ud800", "/\\ud800"],
  ["an escape after a backslash", "/\\\ud800", "/\\\ufffd"],
])("%s in a path is kept as UTF-8 can keep it", (_name, path, kept) => {
  const row = parseRow(rowText(rowOf(aRecord({ path }))));
  expect(row === null ? null : recordOf(row).path).toBe(kept);
});

test.each([
  ["", null],
  ["{}", null],
  ["[]", null],
  ["[1,2,3]", null],
])("%j is no row", (text, row) => {
  expect(parseRow(text)).toBe(row);
});

test("a row with a value of another type is no row", () => {
  const row = rowOf(aRecord());
  for (let i = 0; i < row.length; i++) {
    const wrong: unknown[] = [...row];
    wrong[i] = true;
    expect(parseRow(JSON.stringify(wrong))).toBeNull();
  }
});
