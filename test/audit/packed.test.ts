import fc from "fast-check";
import { expect, test } from "vitest";
import { COLUMN_KEYS, hashOf, PACKED_KEYS, Packer, packedValue, unpack } from "../../src/audit/packed.ts";
import { AT, ROW_KEYS, type Row, rowOf } from "../../src/audit/row.ts";
import { aRecord } from "../edge/audit/support.ts";
import { anyRecord } from "./any-record.ts";

const HASH = "0123456789abcdef".repeat(4);
const WORDS = ["parent", "scheme", "clientProtocol", "originProtocol", "sni", "origin"] as const;

/** A row as the store packs it: words are numbers. */
function stored(row: Row, word: number): Row {
  for (const key of WORDS.slice(1)) if (row[AT[key]] !== null) row[AT[key]] = word;
  return row;
}

/** What a journal can hold of a text. */
const asUtf8 = (text: string): string => Buffer.from(text, "utf8").toString("utf8");

/** What comes back when the columns are there and the rest is packed. */
function back(packed: Uint8Array, row: Row): { hash: string; row: Row } {
  const found: Row = new Array(ROW_KEYS.length).fill(null);
  for (const key of COLUMN_KEYS) found[AT[key]] = row[AT[key]] ?? null;
  return { hash: unpack(packed, found), row: found };
}

test("each value of a row has a column or is packed, and none is both", () => {
  expect([...COLUMN_KEYS, ...PACKED_KEYS].sort()).toEqual([...ROW_KEYS].sort());
});

test("what is packed comes back, also beside others in one buffer that grows", () => {
  const packer = new Packer();
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 4 }), fc.nat(2 ** 40), (records, word) => {
      const rows = records.map((record) => stored(rowOf(record), word));
      const wellFormed = rows.map((row) => row.map((v) => (typeof v === "string" ? asUtf8(v) : v)));
      const packed = wellFormed.map((row) => packer.pack(row, HASH));
      wellFormed.forEach((row, i) => {
        const bytes = packed[i] as Uint8Array;
        expect(back(bytes, row)).toEqual({ hash: HASH, row });
        expect(hashOf(bytes)).toBe(HASH);
        for (const key of PACKED_KEYS) expect(packedValue(bytes, key)).toBe(row[AT[key]]);
      });
      packer.reset();
    }),
  );
});

test.each([0, 1, 125, 126, 127, 16_381, 16_382, 2 ** 32, Number.MAX_SAFE_INTEGER, 1.5, -1, 1e300])(
  "the number %d comes back",
  (number) => {
    const row = stored(rowOf(aRecord()), 7);
    row[AT.port] = number;
    expect(back(new Packer().pack(row, HASH), row).row).toEqual(row);
  },
);

test.each(["", "x".repeat(64), "AB".repeat(32), "\u20ac".repeat(64), "ab".repeat(31)])(
  "a digest that is none comes back: %j",
  (text) => {
    const row = stored(rowOf(aRecord()), 7);
    row[AT.sentSha] = text;
    expect(back(new Packer().pack(row, HASH), row).row).toEqual(row);
  },
);

test("a buffer that had to grow goes on with the next", () => {
  const packer = new Packer();
  for (const error of ["a", "x".repeat(3_000_000), "\u20ac".repeat(100_000), "b"]) {
    const row = stored(rowOf(aRecord({ error })), 7);
    expect(back(packer.pack(row, HASH), row).row).toEqual(row);
    packer.reset();
  }
});

test("a hash that is none is not packed", () => {
  expect(() => new Packer().pack(stored(rowOf(aRecord()), 1), "no hash")).toThrow(RangeError);
});

test("bytes that were cut, lengthened or turned are damaged or other values, and never more than an error", () => {
  const row = stored(rowOf(aRecord({ error: "some error" })), 300);
  const whole = Buffer.from(new Packer().pack(row, HASH));
  const read = (bytes: Uint8Array) => unpack(bytes, new Array(ROW_KEYS.length).fill(null));
  for (let end = 0; end < whole.length; end++) expect(() => read(whole.subarray(0, end))).toThrow(RangeError);
  expect(() => read(Buffer.concat([whole, Buffer.of(0)]))).toThrow(RangeError);
  for (let i = 0; i < whole.length; i++) {
    const turned = Buffer.from(whole);
    turned[i] = 255;
    try {
      read(turned);
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
    }
    expect(() => packedValue(turned, "more")).not.toThrow();
  }
  expect(packedValue(whole.subarray(0, 40), "id")).toBeNull();
});
