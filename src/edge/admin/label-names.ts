// Bounds the number of label values: the first N names get a label of their own, later ones share `other`.

/** Names that come from the policy, at most `limit` of them; reloads may bring new ones for ever. */
export class LabelNames {
  private readonly limit: number;
  private readonly known = new Set<string>();

  constructor(limit: number) {
    this.limit = limit;
  }

  /** The label for a name; `-` where there is none. */
  labelOf(name: string | null): string {
    if (name === null) return "-";
    if (this.known.has(name)) return name;
    if (this.known.size >= this.limit) return "other";
    this.known.add(name);
    return name;
  }
}
