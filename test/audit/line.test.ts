import fc from "fast-check";
import { expect, test } from "vitest";
import { LineBuffer } from "../../src/audit/line.ts";
import type { AuditRecord } from "../../src/audit/record.ts";
import { rowOf, rowText } from "../../src/audit/row.ts";
import { aRecord } from "../edge/audit/support.ts";
import { anyRecord } from "./any-record.ts";

const lines = (records: readonly AuditRecord[]): string => records.map((r) => `${rowText(rowOf(r))}\n`).join("");
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

test("the lines are the canonical texts of their rows, byte for byte", () => {
  const buffer = new LineBuffer();
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 3 }), (records) => {
      for (const record of records) buffer.add(record);
      expect(textOf(buffer.take())).toBe(lines(records));
    }),
    { numRuns: 300 },
  );
});

const times = (all: Partial<AuditRecord["timings"]>): Partial<AuditRecord> => ({
  timings: { wait: 0.12, dns: null, connect: 3, tls: null, firstByte: 0.005, total: 12.345, ...all },
});
const bare = (address: string | null): AuditRecord["origin"] & object => ({
  address,
  port: 443,
  tls: null,
  fingerprint: null,
  resolvedBy: "here",
  to: null,
  via: null,
});
const body = (more: object): AuditRecord["sent"] => ({ bytes: 1, sha256: "ab".repeat(32), complete: true, ...more });

test.each<[string, Partial<AuditRecord>]>([
  ["all timings", times({ dns: 0, tls: 99.999 })],
  ["no first byte", times({ firstByte: null })],
  ["no timing but the first", times({ connect: null, firstByte: null })],
  ["no timing at all", times({ wait: null, connect: null, firstByte: null })],
  ["an origin without TLS", { origin: bare("192.0.2.1") }],
  ["an origin without TLS, by IPv6", { origin: { ...bare("2001:db8::1"), resolvedBy: "next-proxy" } }],
  ["an address that is none", { origin: bare('a"\\b') }],
  ["no address", { origin: bare(null) }],
  ["an origin without TLS behind a next proxy", { origin: { ...bare("192.0.2.1"), via: "http://p.test:3128" } }],
  ["a time below zero, and one that is none", times({ wait: -0.001, total: Number.NaN })],
  ["large numbers", { at: 2 ** 52, sent: body({ bytes: Number.MAX_SAFE_INTEGER }), received: body({ bytes: 1e21 }) }],
  ["numbers around a power of ten", { status: 999, port: 1_000, at: 9_999_999_999_999 }],
  ["a fraction in the time of day", { at: 1_700_000_000_000.75 }],
  ["a note beside the timings", { ...times({}), notes: ["host-replaced"] }],
  ["an error beside the timings", { ...times({}), error: 'said "no"\n' }],
  ["messages of a WebSocket", { ...times({}), received: body({ messages: 0 }) }],
  ["a decoded body", { ...times({}), sent: body({ decoded: { bytes: 2, sha256: "cd".repeat(32) } }) }],
  ["everything that JSON escapes", { path: '/\u0000\u001f"\\\u007f\u2028\ud83d\ude00\ud800' }],
])("%s", (_name, changes) => {
  const buffer = new LineBuffer();
  const record = aRecord(changes);
  buffer.add(record);
  const second = { ...record, id: "2" };
  buffer.add(second);
  expect(textOf(buffer.take())).toBe(lines([record, second]));
});

test("the buffer grows for what does not fit, and what was taken does not come again", () => {
  const buffer = new LineBuffer();
  const long = aRecord({ path: `/${"x".repeat(3_000_000)}`, error: "\u0001".repeat(100_000) });
  const many = Array.from({ length: 1_000 }, (_, i) => aRecord({ path: `/${i}` }));
  for (const round of [[long], many, [long, ...many]]) {
    for (const record of round) buffer.add(record);
    expect(textOf(buffer.take())).toBe(lines(round));
  }
  expect(buffer.take()).toHaveLength(0);
});

test("a record that cannot be written leaves nothing of itself", () => {
  const buffer = new LineBuffer();
  const whole = aRecord();
  buffer.add(whole);
  expect(() => buffer.add({ ...aRecord(), timings: null } as unknown as AuditRecord)).toThrow(TypeError);
  buffer.add(whole);
  expect(textOf(buffer.take())).toBe(lines([whole, whole]));
});
