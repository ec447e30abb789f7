// Sizes, durations and times as people write and read them.

const SIZES: readonly [string, number][] = [
  ["GiB", 1024 ** 3],
  ["MiB", 1024 ** 2],
  ["KiB", 1024],
];

/** `1.5 MiB`. */
export function sizeText(bytes: number): string {
  for (const [unit, size] of SIZES) if (bytes >= size) return `${(bytes / size).toFixed(1)} ${unit}`;
  return `${bytes} B`;
}

/** `0.4 ms`, `2.1 s`, `3.0 min`. */
export function tookText(ms: number): string {
  if (ms < 1000) return `${ms.toFixed(1)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/;
const MS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };

/** Milliseconds of `30s 5m 1h 7d 2w`, or null. */
export function durationOf(text: string): number | null {
  const found = DURATION.exec(text);
  return found === null ? null : Number(found[1]) * (MS[found[2] as string] as number);
}

/** Milliseconds since 1970 that a Date can hold. */
const MAX_TIME = 8.64e15;

/** True for a time that can be shown: one that was changed may be none. */
export const isMoment = (at: unknown): at is number => typeof at === "number" && Math.abs(at) <= MAX_TIME;

/** A moment in milliseconds since 1970: a duration before `now`, or an ISO 8601 date or time; null: neither. */
export function momentOf(text: string, now: number): number | null {
  const ago = durationOf(text);
  if (ago !== null) return now - ago;
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : at;
}

/** Bytes of `64KiB 20GiB 1000`, or null. */
export function sizeOf(text: string): number | null {
  const found = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$/.exec(text);
  if (found === null) return null;
  const power = ["B", "KiB", "MiB", "GiB", "TiB"].indexOf(found[2] ?? "B");
  return Math.floor(Number(found[1]) * 1024 ** power);
}
