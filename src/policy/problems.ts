// What is wrong with a policy document: found by everything that compiles it, all at once, with the place of each.

/** Where in the document: `["rules", 3, "allow", 0]`. */
export type DocumentPath = readonly (string | number)[];

export interface DocumentProblem {
  readonly path: DocumentPath;
  readonly message: string;
}

/** The document cannot be used. Holds every problem that was found; never a secret. */
export class PolicyError extends Error {
  override readonly name = "PolicyError";
  readonly problems: readonly DocumentProblem[];
  constructor(problems: readonly DocumentProblem[]) {
    super(problems.map((p) => `${p.path.join(".")}: ${p.message}`).join("\n"));
    this.problems = problems;
  }
}

/** Collects problems and warnings while a document is compiled. */
export class Findings {
  readonly problems: DocumentProblem[] = [];
  readonly warnings: DocumentProblem[] = [];

  problem(path: DocumentPath, message: string): void {
    this.problems.push({ path, message });
  }

  warn(path: DocumentPath, message: string): void {
    this.warnings.push({ path, message });
  }
}

/** Names cut down to the one nearest to `wrong` (at most a third of it differs), or null. */
export function nearest(wrong: string, known: Iterable<string>): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(wrong.length / 3)) + 1;
  for (const name of known) {
    const distance = editDistance(wrong.toLowerCase(), name.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      bestDistance = distance;
      best = name;
    }
  }
  return best;
}

/** Optimal string alignment distance (a swap of neighbours counts once); gives up at `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit || a.length > 64 || b.length > 64) return limit;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(
        (last[j] as number) + 1,
        (row[j - 1] as number) + 1,
        (last[j - 1] as number) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] as number) + 1);
      }
      row.push(cost);
    }
    before = last;
    last = row;
  }
  return last[b.length] as number;
}
