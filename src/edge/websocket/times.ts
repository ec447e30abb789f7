// How long a WebSocket that is ending may take, in milliseconds.

export interface Times {
  /** The second close frame after the first: so much silence. */
  readonly answer: number;
  /** The same, whatever else comes from the side that owes it. */
  readonly longestAnswer: number;
  /** A connection that we ended, to close. */
  readonly linger: number;
  /** A connection that we ended, to take what was written to it before: so long without a byte. */
  readonly unread: number;
}

export const TIMES: Times = { answer: 10_000, longestAnswer: 60_000, linger: 2_000, unread: 30_000 };
