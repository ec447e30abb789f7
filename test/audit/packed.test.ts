import fc from "fast-check";
import { expect, test } from "vitest";
import { LineValues } from "../../src/audit/line-values.ts";
import { PackedRecord, Run, WORD_PLACES } from "../../src/audit/packed.ts";
import { Packer } from "../../src/audit/packer.ts";
import { AT, ROW_KEYS, type Row, rowOf, rowText } from "../../src/audit/row.ts";
import { Signature } from "../../src/audit/signature.ts";
import { aRecord } from "../edge/audit/support.ts";
import { anyRecord } from "./any-record.ts";

const HASH = "0123456789abcdef".repeat(4);

/** A row as it is packed: words are numbers, and texts are what a journal can hold. */
function stored(row: Row, word: number): Row {
  for (const place of WORD_PLACES) if (row[place] !== null) row[place] = word;
  return row.map((value) => (typeof value === "string" ? Buffer.from(value, "utf8").toString("utf8") : value));
}

function add(packer: Packer, row: Row, hash = HASH): void {
  const line = new LineValues(false);
  expect(line.take(rowText(row))).toBe(true);
  packer.add(line, Buffer.from(hash, "latin1"));
}

const runOf = (...rows: Row[]): Run => {
  const packer = new Packer();
  for (const row of rows) add(packer, row);
  return new Run(Buffer.from(packer.take()));
};
const back = (run: Run, i = 0): Row => new PackedRecord().read(run, i).row([]);

test("what is packed comes back, one behind the other, in buffers that grow and are used again", () => {
  const packer = new Packer();
  const record = new PackedRecord();
  fc.assert(
    fc.property(fc.array(anyRecord, { minLength: 1, maxLength: 4 }), fc.nat(2 ** 40), (records, word) => {
      const rows = records.map((r) => stored(rowOf(r), word));
      for (const row of rows) add(packer, row);
      expect(packer.count).toBe(rows.length);
      const run = new Run(Buffer.from(packer.take()));
      expect(run.count).toBe(rows.length);
      rows.forEach((row, i) => {
        expect(record.read(run, i).row([])).toEqual(row);
        expect([record.hash, run.hash(i)]).toEqual([HASH, HASH]);
        ROW_KEYS.forEach((_, place) => {
          expect(record.isNull(place)).toBe(row[place] === null);
          if (typeof row[place] !== "string") expect(record.numbers[place]).toBe(row[place] ?? 0);
        });
      });
    }),
  );
});

test("a packed record has the terms of its line, so that verify can compare", () => {
  const line = new LineValues(false);
  fc.assert(
    fc.property(anyRecord, fc.nat(2 ** 40), (any, word) => {
      const row = stored(rowOf(any), word);
      const [written, read] = [new Signature(), new Signature()];
      expect(line.take(rowText(row))).toBe(true);
      written.add(line);
      read.addPacked(new PackedRecord().read(runOf(row), 0));
      expect(Buffer.from(read.bits).equals(written.bits)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test("values can be read up to one of them, and the others later", () => {
  const row = stored(rowOf(aRecord({ path: "/ü", error: "broke" })), 7);
  const run = runOf(row, row);
  const record = new PackedRecord();
  for (let end = 0; end <= ROW_KEYS.length; end++) {
    record.begin(run, end % 2, end);
    if (end > AT.path) expect(record.text(AT.path)).toBe("/ü");
    record.finish();
    expect(record.row([])).toEqual(row);
  }
});

test.each([0, 1, 125, 126, 127, 16_381, 16_382, 2 ** 32, Number.MAX_SAFE_INTEGER, 1.5, -1, 1e300])(
  "the number %d comes back",
  (number) => {
    const row = stored(rowOf(aRecord()), 7);
    row[AT.port] = number;
    expect(back(runOf(row))).toEqual(row);
  },
);

test.each(["", "x".repeat(64), "AB".repeat(32), "\u20ac".repeat(64), "ab".repeat(31), `${"ab".repeat(31)}a\u0130`])(
  "a digest that is none comes back: %j",
  (text) => {
    const row = stored(rowOf(aRecord()), 7);
    row[AT.sentSha] = text;
    expect(back(runOf(row))).toEqual(row);
  },
);

test("a run that had to grow goes on with the next", () => {
  const packer = new Packer();
  for (const error of ["a", "x".repeat(3_000_000), "\u20ac".repeat(100_000), "b"]) {
    const row = stored(rowOf(aRecord({ error })), 7);
    add(packer, row);
    expect(back(new Run(packer.take()))).toEqual(row);
  }
});

test("a run can lose its first records", () => {
  const rows = ["/a", "/b", "/c"].map((path) => stored(rowOf(aRecord({ path })), 7));
  const run = runOf(...rows);
  for (let gone = 0; gone < 3; gone++) {
    const rest = new Run(run.without(gone));
    expect(rest.count).toBe(3 - gone);
    for (let i = 0; i < rest.count; i++) expect(back(rest, i)).toEqual(rows[gone + i]);
  }
  expect(run.without(3)).toHaveLength(0);
});

test("a hash that is none is not packed", () => {
  expect(() => add(new Packer(), stored(rowOf(aRecord()), 1), "no hash")).toThrow(RangeError);
});

test("what is left of a damaged record stays damaged, and does not harm its neighbours", () => {
  const row = stored(rowOf(aRecord()), 7);
  const whole = runOf(row);
  const packer = new Packer();
  const left = [Buffer.alloc(0), whole.bytes.subarray(4, 40), Buffer.alloc(100_000)];
  for (const bytes of left) {
    add(packer, row);
    packer.addDamaged(bytes);
  }
  add(packer, row);
  const run = new Run(Buffer.from(packer.take()));
  expect(run.count).toBe(7);
  for (let i = 0; i < 7; i++) {
    if (i % 2 === 0) expect(back(run, i)).toEqual(row);
    else expect(() => back(run, i)).toThrow(RangeError);
  }
});

test("bytes that were cut, lengthened or turned are damaged or other values, and never more than an error", () => {
  const row = stored(rowOf(aRecord({ error: "some error" })), 300);
  const { bytes } = runOf(row, row);
  const first = runOf(row).bytes.length;
  for (let end = 0; end < bytes.length; end++) {
    const run = new Run(bytes.subarray(0, end));
    expect(run.count).toBe(end <= first ? 1 : 2);
    if (end >= first) expect(back(run)).toEqual(row);
    if (end !== first) expect(() => back(run, run.count - 1)).toThrow(RangeError);
    expect(run.hash(run.count - 1)).toMatch(/^[0-9a-f]{0,64}$/);
  }
  const longer = new Run(Buffer.concat([bytes, Buffer.of(0)]));
  expect(() => back(longer, 2)).toThrow(RangeError);
  for (let i = 0; i < bytes.length; i++) {
    const turned = Buffer.from(bytes);
    turned[i] = 255;
    const run = new Run(turned);
    for (let k = 0; k < run.count; k++) {
      try {
        back(run, k);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }
  }
});

test.each([null, 5, "text"])("%j in the place of a run is one damaged record", (value) => {
  const run = new Run(value);
  expect([run.count, run.hash(0)]).toEqual([1, ""]);
  expect(() => back(run)).toThrow(RangeError);
});
