import fc from "fast-check";
import { expect, it } from "vitest";
import { Beginnings } from "../../src/filters/beginnings.ts";

it("are found wherever they stand, and none is passed over", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "_"), minLength: 3, maxLength: 5 });
  const text = fc.string({ unit: fc.constantFrom("a", "b", "_", "x"), maxLength: 40 });
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 4 }),
      text,
      fc.nat(10),
      fc.nat(10),
      (words, t, skip, less) => {
        const beginnings = new Beginnings(words.map((w) => Buffer.from(w)));
        const to = Math.max(0, t.length - less);
        const expected = [...t].flatMap((_, at) =>
          at >= skip && at + 3 <= to && words.some((w) => t.startsWith(w.slice(0, 3), at)) ? [at] : [],
        );
        const found: number[] = [];
        for (
          let at = beginnings.next(Buffer.from(t), skip, to);
          at >= 0;
          at = beginnings.next(Buffer.from(t), at + 1, to)
        )
          found.push(at);
        expect(found).toEqual(expected);
      },
    ),
    { numRuns: 5_000 },
  );
});
