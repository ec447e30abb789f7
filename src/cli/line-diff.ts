// A line diff for people: `-` gone, `+` new, with a few lines around each change.

const AROUND = 2;
/** Beyond so many pairs of changed lines the middle is shown as replaced whole. */
const MAX_CELLS = 1_000_000;

/** The lines of a diff, each beginning with "+", "-" or a blank; `…` where equal lines are left out. */
export function lineDiff(before: string, after: string): string[] {
  const a = before.split(/\r?\n/);
  const b = after.split(/\r?\n/);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const middle = changes(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const lines = [...a.slice(0, start).map((l) => ` ${l}`), ...middle, ...a.slice(a.length - end).map((l) => ` ${l}`)];
  return fold(lines);
}

/** By the longest common subsequence. */
function changes(a: readonly string[], b: readonly string[]): string[] {
  const whole = [...a.map((l) => `-${l}`), ...b.map((l) => `+${l}`)];
  if (a.length * b.length > MAX_CELLS) return whole;
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  const at = (i: number, j: number): number => common[i]?.[j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      (common[i] as Uint32Array)[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: string[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push(` ${a[i++]}`);
      j++;
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) lines.push(`-${a[i++]}`);
    else lines.push(`+${b[j++]}`);
  }
  return lines;
}

function fold(lines: readonly string[]): string[] {
  const near = lines.map((_, i) =>
    lines.slice(Math.max(0, i - AROUND), i + AROUND + 1).some((l) => !l.startsWith(" ")),
  );
  return lines.flatMap((line, i) => (near[i] ? [line] : near[i - 1] || i === 0 ? [" …"] : []));
}
