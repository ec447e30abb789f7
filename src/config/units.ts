// Sizes, durations and dates as people write them.
import { z } from "zod";

const SIZES: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };
const DURATIONS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

const SIZE = /^(\d{1,12}(?:\.\d{1,3})?)(B|KiB|MiB|GiB|TiB)$/;
const DURATION = /^(\d{1,12}(?:\.\d{1,3})?)(ms|s|m|h|d)$/;
const DATE = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2})?Z)?$/;

/** `64KiB` in bytes; null when it is not a size. Powers of 1024 only, so that nobody guesses. */
export function parseSize(text: string): number | null {
  const match = SIZE.exec(text);
  return match === null ? null : Math.round(Number(match[1]) * (SIZES[match[2] as string] as number));
}

/** `30s` in milliseconds; null when it is not a duration. */
export function parseDuration(text: string): number | null {
  const match = DURATION.exec(text);
  return match === null ? null : Math.round(Number(match[1]) * (DURATIONS[match[2] as string] as number));
}

/** The end of a day (UTC), or a time of day in UTC, in milliseconds since 1970; null when there is no such day. */
export function parseUntil(text: string): number | null {
  if (!DATE.test(text)) return null;
  const start = Date.parse(text.length === 10 ? `${text}T00:00:00Z` : text);
  if (Number.isNaN(start) || new Date(start).toISOString().slice(0, 10) !== text.slice(0, 10)) return null;
  return text.length === 10 ? start + 86_400_000 : start;
}

const SIZE_HINT = "a size is a number with B, KiB, MiB or GiB, such as 64KiB";
const DURATION_HINT = "a duration is a number with ms, s, m, h or d, such as 30s";
// Timers of Node hold 31 bits of milliseconds.
const LONGEST_WAIT = 2 ** 31 - 1;

/** A size in bytes. */
export const size = () =>
  z
    .string(SIZE_HINT)
    .regex(SIZE, SIZE_HINT)
    .transform((text) => parseSize(text) as number);

/** A size, or `none` for no limit (Infinity). */
export const sizeOrNone = () => orNone(size(), `${SIZE_HINT}, or none`);

const duration = (least: number, most: number) =>
  z
    .string(DURATION_HINT)
    .regex(DURATION, DURATION_HINT)
    .transform((text, context) => {
      const value = parseDuration(text) as number;
      if (value < least || value > most) {
        context.issues.push({
          code: "custom",
          input: text,
          message: `between ${least}ms and ${Math.floor(most / 86_400_000)}d`,
        });
      }
      return value;
    });

/** A wait in milliseconds: at least 1, at most what a timer can hold. */
export const wait = () => duration(1, LONGEST_WAIT);

/** A wait, or `none`. */
export const waitOrNone = () => orNone(wait(), `${DURATION_HINT}, or none`);

/** An age in milliseconds; may be years. */
export const age = () => duration(1000, 36_500 * 86_400_000);

/** A date; the day itself is included. */
export const until = () =>
  z
    .string("a date is YYYY-MM-DD")
    .regex(DATE, "a date is YYYY-MM-DD, or YYYY-MM-DDTHH:MMZ")
    .transform((text, context) => {
      const value = parseUntil(text);
      if (value === null) context.issues.push({ code: "custom", input: text, message: "there is no such day" });
      return value ?? 0;
    });

/** `none` for Infinity, or else what `schema` reads. */
export function orNone<T extends z.ZodType<number, string>>(schema: T, hint: string) {
  return z.string(hint).transform((text, context) => {
    if (text === "none") return Number.POSITIVE_INFINITY;
    const result = schema.safeParse(text);
    if (result.success) return result.data;
    context.issues.push({ code: "custom", input: text, message: hint });
    return 0;
  });
}
