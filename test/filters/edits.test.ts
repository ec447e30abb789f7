import fc from "fast-check";
import { expect, it } from "vitest";
import { ByteWindow } from "../../src/filters/byte-window.ts";
import { Edits } from "../../src/filters/edits.ts";
import { cpuTime } from "../support/cpu.ts";

const TEXT = "abcdefghijklmnopqrstuvwxyz";

/** The edited text, given out in steps. An edit is known as soon as its beginning may leave. */
function edited(edits: readonly (readonly [number, number, string])[], steps: readonly number[]): string {
  const window = new ByteWindow();
  window.append(Buffer.from(TEXT));
  const list = new Edits();
  let out = "";
  let from = 0;
  const pending = [...edits].sort((a, b) => a[0] - b[0]);
  for (const to of [...steps].sort((a, b) => a - b).concat(TEXT.length)) {
    for (let e = pending[0]; e !== undefined && e[0] < to; e = pending[0]) {
      list.add(e[0], e[1], Buffer.from(e[2]));
      pending.shift();
    }
    list.emit(window, from, to, (bytes) => {
      out += Buffer.from(bytes).toString();
    });
    from = Math.max(from, to);
    window.dropTo(from);
  }
  return out;
}

it.each([
  [[[1, 3, "X"]], "aXdefghijklmnopqrstuvwxyz"],
  [[[0, 26, ""]], ""],
  [
    [
      [1, 5, "X"],
      [3, 8, "Y"],
    ],
    "aXijklmnopqrstuvwxyz",
  ],
  [
    [
      [1, 5, "X"],
      [5, 8, "Y"],
    ],
    "aXYijklmnopqrstuvwxyz",
  ],
  [
    [
      [1, 2, "X"],
      [1, 8, "Y"],
    ],
    "aXijklmnopqrstuvwxyz",
  ],
  [[[24, 26, "X"]], "abcdefghijklmnopqrstuvwxX"],
] as [[number, number, string][], string][])("%j", (edits, expected) => {
  expect(edited(edits, [])).toBe(expected);
  expect(
    edited(
      edits,
      [...TEXT].map((_, i) => i),
    ),
  ).toBe(expected);
});

it("gives the same however it is given out", () => {
  const edit = fc
    .tuple(fc.nat(25), fc.integer({ min: 1, max: 8 }))
    .map(([s, n]) => [s, Math.min(26, s + n), "#"] as const);
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 8 }), fc.array(fc.nat(26), { maxLength: 8 }), (edits, steps) => {
      expect(edited(edits, steps)).toBe(edited(edits, []));
    }),
  );
});

it("many of several rules are made in a time that grows with their number alone", () => {
  const window = new ByteWindow();
  const size = 200_000;
  window.append(Buffer.alloc(size, "ab"));
  const cost = cpuTime(() => {
    const list = new Edits();
    for (const first of [0, 1]) for (let at = first; at < size; at += 2) list.add(at, at + 1, Buffer.from("x"));
    let bytes = 0;
    list.emit(window, 0, size, (piece) => {
      bytes += piece.length;
    });
    expect(bytes).toBe(size);
  });
  expect(cost).toBeLessThan(3_000);
});
