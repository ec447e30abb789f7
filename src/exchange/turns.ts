// The port to what shares the event loop among those who search content; the house has one.

/** Work in steps of a few milliseconds each. */
export interface Work {
  /** Does the next step. False: there is no more for now. Never throws. */
  step(): boolean;
}

export interface Turns {
  /** Does the work at once while this turn of the event loop has time for it, and the rest of it later, in turn with that of others. */
  take(work: Work): void;
}
