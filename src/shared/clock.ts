// The port for time. Pure folders get the time as an argument or through this.

export interface Clock {
  /** Wall-clock time in milliseconds since 1970; may jump. */
  now(): number;
  /** Monotonic milliseconds with fractions, for durations. */
  tick(): number;
}
