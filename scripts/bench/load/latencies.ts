// Durations of one run, and their percentiles. Holds a bounded number: after that, every second one, and so on.

const MOST = 1 << 18;

export class Latencies {
  private values: number[] = [];
  private every = 1;
  private seen = 0;

  /** Milliseconds. */
  add(value: number): void {
    if (this.seen++ % this.every !== 0) return;
    this.values.push(value);
    if (this.values.length < MOST) return;
    this.values = this.values.filter((_, i) => i % 2 === 0);
    this.every *= 2;
  }

  /** The value that this share (0 to 1) does not exceed; 0 when there is none. */
  percentile(share: number): number {
    const sorted = Float64Array.from(this.values).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  }
}
