// Coarse deadlines for connections: a wheel of small records instead of a setTimeout per request. `at` may be moved freely:
// the record is looked at again when its slot comes round. A stopped record drops its owner, so that the wheel never keeps
// a closed connection alive.

const TICK = 250;
const SLOTS = 256;

export interface Expires {
  /** The deadline passed. The owner moves `at` or stops the deadline; otherwise it is asked again at the next tick. */
  expire(): void;
}

export class Deadline {
  owner: Expires | null;
  /** The tick at which it is looked at next; entries of other ticks are stale. */
  tick = 0;
  private when: number;
  private readonly wheel: TimerWheel;
  constructor(wheel: TimerWheel, owner: Expires, at: number) {
    this.wheel = wheel;
    this.owner = owner;
    this.when = at;
  }
  /** Milliseconds on the wheel's clock. */
  get at(): number {
    return this.when;
  }
  /** Later costs an assignment; sooner than it would be looked at costs one more entry on the wheel. */
  set at(at: number) {
    this.when = at;
    if (at < this.tick * TICK - TICK && this.owner !== null) this.wheel.place(this);
  }
  stop(): void {
    this.owner = null;
  }
}

/** One wheel for each house. */
export class TimerWheel {
  /** Milliseconds since the wheel was made, moving in steps of a tick. */
  now = 0;
  /** The last tick whose deadlines were judged; behind `now` after a stall, and within each turn. */
  private judged = 0;
  private readonly slots: Deadline[][] = Array.from({ length: SLOTS }, () => []);
  private readonly began = performance.now();
  private readonly timer: NodeJS.Timeout;
  private judging: NodeJS.Immediate | undefined;
  private readonly failed: (error: unknown) => void;

  /** `failed` is told of what an owner threw. */
  constructor(failed: (error: unknown) => void) {
    this.failed = failed;
    this.timer = setInterval(() => this.tick(), TICK);
    this.timer.unref();
  }

  /** A deadline `ms` from now. */
  start(owner: Expires, ms: number): Deadline {
    const deadline = new Deadline(this, owner, this.now + ms);
    this.place(deadline);
    return deadline;
  }

  /** Entries on the wheel, those of stopped deadlines too until their time comes round. */
  get entries(): number {
    return this.slots.reduce((sum, slot) => sum + slot.length, 0);
  }

  close(): void {
    clearInterval(this.timer);
    clearImmediate(this.judging);
  }

  /** Enters a deadline at the tick at which it is to be looked at. */
  place(deadline: Deadline): void {
    const due = Math.ceil(Math.min(deadline.at, Number.MAX_SAFE_INTEGER) / TICK);
    deadline.tick = Math.min(Math.max(due, this.judged + 1), this.judged + SLOTS - 1);
    (this.slots[deadline.tick % SLOTS] as Deadline[]).push(deadline);
  }

  /** A bug in one owner costs that owner its deadline, and nobody else. */
  private expire(deadline: Deadline): void {
    try {
      deadline.owner?.expire();
    } catch (error) {
      deadline.stop();
      this.failed(error);
    }
  }

  /**
   * Node runs timers before it reads sockets: after a stall (a starved machine, a stopped process) everything would be late
   * that has long arrived. So the clock moves now, and who is late is judged once this turn has read what there is.
   */
  private tick(): void {
    this.now = Math.max(this.now, Math.floor((performance.now() - this.began) / TICK) * TICK);
    this.judging = setImmediate(() => this.judge());
  }

  /** Tick by tick up to now, so that a stalled loop fires late but fires everything. */
  private judge(): void {
    const target = this.now / TICK;
    while (this.judged < target) {
      const tick = ++this.judged;
      const slot = this.slots[tick % SLOTS] as Deadline[];
      if (slot.length === 0) continue;
      for (const deadline of slot.splice(0)) {
        if (deadline.owner === null || deadline.tick !== tick) continue;
        if (deadline.at <= this.now) this.expire(deadline);
        if (deadline.owner !== null && deadline.tick === tick) this.place(deadline);
      }
    }
  }
}
