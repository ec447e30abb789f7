import fc from "fast-check";
import { expect, test } from "vitest";
import { LineBuffer } from "../../src/audit/line.ts";
import { LineValues, NULL, NUMBER } from "../../src/audit/line-values.ts";
import { WORD_PLACES } from "../../src/audit/packed.ts";
import { AT, parseRow, ROW_KEYS, type Row, rowOf, rowText } from "../../src/audit/row.ts";
import { aRecord } from "../edge/audit/support.ts";
import { anyRecord } from "./any-record.ts";

/** What JSON.parse would have given. */
const rowIn = (line: LineValues): Row =>
  ROW_KEYS.map((_, place) => {
    const kind = line.kinds[place];
    return kind === NULL ? null : kind === NUMBER ? (line.numbers[place] as number) : line.text(place);
  });

/** The line that was scanned is exactly what `rowText` writes of the values that were found. */
function expectSame(line: LineValues, text: string): void {
  const row = rowIn(line);
  expect(row).toEqual(parseRow(text));
  expect(rowText(row)).toBe(text);
}

test("every line that is written is read, with the values that JSON.parse finds", () => {
  const written = new LineBuffer();
  const line = new LineValues();
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 4 }), (records) => {
      for (const record of records) written.add(record);
      const bytes = Buffer.from(written.take());
      line.use(bytes);
      let at = 0;
      for (const record of records) {
        const end = line.scan(at);
        expectSame(line, bytes.toString("utf8", at, end));
        expect(rowIn(line)).toEqual(parseRow(rowText(rowOf(record))));
        at = end + 1;
      }
      expect(at).toBe(bytes.length);
    }),
    { numRuns: 300 },
  );
});

test("words are found again by their bytes, as long as the same bytes stand there", () => {
  const word = fc.constantFrom("a", "ab", "", 'a"', "a\\", "b", "ü", null);
  const record = fc.record({ client: word, host: word, rule: word, sni: word }).map((changes) => aRecord(changes));
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 8 }), (records) => {
      const texts = records.map((r) => rowText(rowOf(r)));
      const line = new LineValues();
      const words: string[] = [];
      line.use(Buffer.from(`${texts.join("\n")}\n`));
      let at = 0;
      for (const text of texts) {
        at = line.scan(at) + 1;
        for (const place of WORD_PLACES) {
          const kind = line.kinds[place] as number;
          if (kind !== NULL && kind !== NUMBER) line.setWord(place, words.push(line.text(place)) - 1);
        }
        const found = rowIn(line).map((value, place) =>
          value !== null && WORD_PLACES.includes(place) ? (words[value as number] as string) : value,
        );
        expect(found).toEqual(parseRow(text));
      }
    }),
  );
});

const whole = rowText(rowOf(aRecord({ path: '/a"b\\cü\u0001', error: "broke", client: null })));

test("whatever is changed in a line, it is refused or is another line that would be written so", () => {
  const bytes = Buffer.from(`${whole}\n`);
  const line = new LineValues();
  const look = (changed: Buffer): void => {
    line.use(changed);
    const end = line.scan(0);
    if (end >= 0) expectSame(line, changed.toString("utf8", 0, end));
  };
  for (let i = 0; i < bytes.length; i++) {
    for (const byte of Buffer.from('0-9.eE",[]{}\\nultrfaü \n\t\u0000\u007f')) {
      const changed = Buffer.from(bytes);
      changed[i] = byte;
      look(changed);
      look(Buffer.concat([bytes.subarray(0, i), Buffer.of(byte), bytes.subarray(i)]));
    }
    look(Buffer.concat([bytes.subarray(0, i), bytes.subarray(i + 1)]));
    look(bytes.subarray(0, i));
  }
});

const with28 = (place: number, value: string): string => {
  const row = rowOf(aRecord());
  return `[${row.map((v, i) => (i === place ? value : rowText([v]).slice(1, -1))).join(",")}]`;
};

test.each<[string, string]>([
  ["an empty line", ""],
  ["no list", "{}"],
  ["too few values", whole.replace(/,[^,]*]$/, "]")],
  ["too many values", whole.replace(/]$/, ",1]")],
  ["something behind it", `${whole} `],
  ["spaces between values", whole.replace(",", ", ")],
  ["a text for a number", with28(AT.at, '"1"')],
  ["a number for a text", with28(AT.path, "1")],
  ["null for what is never null", with28(AT.address, "null")],
  ["true", with28(AT.path, "true")],
  ["a number with a zero in front", with28(AT.port, "01")],
  ["a number with a fraction that is none", with28(AT.port, "1.0")],
  ["a number with a plus", with28(AT.port, "+1")],
  ["no number", with28(AT.port, "")],
  ["minus zero", with28(AT.port, "-0")],
  ["more digits than a number has", with28(AT.port, "12345678901234567890")],
  ["a number beyond all", with28(AT.port, "1e999")],
  ["an escape that JSON.stringify does not write", with28(AT.path, '"\\/"')],
  ["a letter that needs no escape", with28(AT.path, '"\\u0041"')],
  ["a control character with an escape of its own", with28(AT.path, '"\\u000a"')],
  ["half of a pair", with28(AT.path, '"\\ud800"')],
  ["an escape that is cut", with28(AT.path, '"\\u00')],
  ["a text without an end", with28(AT.path, '"')],
])("%s is not read", (_name, text) => {
  expect(new LineValues().take(text)).toBe(false);
});

test("bytes that are no UTF-8 are not read", () => {
  const line = new LineValues();
  const at = whole.indexOf("/a") + 1;
  const bytes = Buffer.from(`${whole}\n`);
  bytes[at] = 0xff;
  line.use(bytes);
  expect(line.scan(0)).toBe(-1);
});

test.each(["0", "-1", "1.5", "1e+21", "999999999999999", "9007199254740991", "1e-7"])(
  "the number %s is read",
  (text) => {
    const line = new LineValues();
    expect(line.take(with28(AT.port, text))).toBe(true);
    expect(line.numbers[AT.port]).toBe(Number(text));
  },
);

test("words that are numbers are read where they are expected, and only there", () => {
  const row = rowOf(aRecord());
  for (const place of WORD_PLACES) if (row[place] !== null) row[place] = 7;
  expect(new LineValues(false).take(rowText(row))).toBe(true);
  expect(new LineValues().take(rowText(row))).toBe(false);
  expect(new LineValues(false).take(rowText(rowOf(aRecord())))).toBe(false);
});
