import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MultipartDigests, multipartBoundary } from "../../src/audit/multipart.ts";

const sha = (text: string): string => createHash("sha256").update(text, "latin1").digest("hex");

const form = (boundary: string, parts: readonly string[]): string =>
  `${parts.map((p) => `--${boundary}\r\nContent-Disposition: form-data; name="f"\r\n\r\n${p}\r\n`).join("")}--${boundary}--\r\n`;

function digests(boundary: string, body: string, cuts: readonly number[] = []): string[] {
  const scanner = new MultipartDigests(boundary);
  const bytes = Buffer.from(body, "latin1");
  const edges = [0, ...cuts.map((c) => c % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let i = 1; i < edges.length; i++) {
    const chunk = Buffer.from(bytes.subarray(edges[i - 1], edges[i]));
    scanner.push(chunk);
    chunk.fill(0); // borrowed: what was kept must have been copied
  }
  return scanner.parts;
}

test("each whole part has its digest, however the body is split", () => {
  const piece = fc.oneof(fc.string(), fc.constantFrom("\r\n", "--", "--b", "\r\n--", "\r\n--bX", "\r", "\n", "b"));
  const part = fc.array(piece, { maxLength: 6 }).map((p) => Buffer.from(p.join(""), "latin1").toString("latin1"));
  fc.assert(
    fc.property(
      fc.array(part, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      (parts, cuts) => {
        fc.pre(parts.every((p) => !/\r\n--b(--|[ \t]*\r\n)/.test(`\r\n${p}\r\n`) && !p.startsWith("--b")));
        expect(digests("b", form("b", parts), cuts)).toEqual(parts.map(sha));
      },
    ),
  );
});

test.each([
  ["a preamble and an epilogue", `hello\r\n${form("b", ["x"])}bye\r\n--b\r\n\r\ny\r\n--b--`, ["x"]],
  ["a part without fields", "--b\r\n\r\nx\r\n--b--", ["x"]],
  ["a part that is cut off", "--b\r\n\r\nx\r\n--b\r\n\r\nhalf", ["x"]],
  ["an empty part", form("b", [""]), [""]],
  ["padding after the boundary", "--b  \r\n\r\nx\r\n--b--", ["x"]],
  ["no boundary at all", "nothing here", []],
])("%s", (_name, body, parts) => {
  expect(digests("b", body)).toEqual(parts.map(sha));
  expect(
    digests(
      "b",
      body,
      [...body].map((_, i) => i),
    ),
  ).toEqual(parts.map(sha));
});

test("a part's fields are bounded", () => {
  expect(digests("b", `--b\r\nx: ${"y".repeat(20_000)}\r\n\r\nz\r\n--b--`)).toEqual([]);
});

test.each([
  ["multipart/form-data; boundary=abc", "abc"],
  ['Multipart/Form-Data; charset=utf-8; boundary="a b\\"c"', 'a b"c'],
  ["multipart/form-data", null],
  ["multipart/form-data; boundary=", null],
  [`multipart/form-data; boundary=${"x".repeat(71)}`, null],
  ["text/plain; boundary=abc", null],
  [null, null],
])("the boundary of %j", (type, boundary) => {
  expect(multipartBoundary(type)).toBe(boundary);
});
