// What came from one end of a WebSocket, dealt with in order: nothing overtakes a message that is still being searched.
import type { Turns, Work } from "../../exchange/turns.ts";

/** Steps of a few milliseconds. */
export type Steps = Iterator<void, void>;

interface Item {
  /** Bytes that it holds. */
  bytes: number;
  /** Deals with it, or begins to: what is returned goes on with it. */
  begin(): Steps | null;
}

export interface InboxEvents {
  /** There is more than was dealt with at once: nothing else should come for now. */
  full(): void;
  /** Everything was dealt with, after `full`. */
  empty(): void;
  /** So many bytes wait here. */
  holds(bytes: number): void;
  /** Something could not be dealt with. */
  failed(error: unknown): void;
}

export class Inbox implements Work {
  private readonly turns: Turns;
  private readonly events: InboxEvents;
  private items: Item[] = [];
  private steps: Steps | null = null;
  private bytes = 0;
  private working = false;
  /** True: there was no time for everything at once. */
  busy = false;

  constructor(turns: Turns, events: InboxEvents) {
    this.turns = turns;
    this.events = events;
  }

  add(bytes: number, begin: () => Steps | null): void {
    this.items.push({ bytes, begin });
    this.bytes += bytes;
    if (!this.working) {
      this.working = true;
      this.turns.take(this);
    }
    if (!this.working) return;
    if (!this.busy) this.events.full();
    this.busy = true;
    this.events.holds(this.bytes);
  }

  /** The same for what takes no time worth counting. */
  addShort(bytes: number, act: () => void): void {
    if (this.working) {
      this.add(bytes, () => {
        act();
        return null;
      });
      return;
    }
    try {
      act();
    } catch (error) {
      this.events.failed(error);
    }
  }

  step(): boolean {
    const item = this.items[0];
    if (item === undefined) return this.rest();
    try {
      this.steps ??= item.begin();
      if (this.steps !== null && this.steps.next().done !== true) return this.items.length > 0 || this.rest();
    } catch (error) {
      this.clear();
      this.events.failed(error);
      return this.rest();
    }
    this.steps = null;
    // Dealing with it may have cleared everything.
    if (this.items.shift() !== undefined) this.bytes -= item.bytes;
    if (this.busy) this.events.holds(this.bytes);
    return this.items.length > 0 || this.rest();
  }

  /** What is dealt with right now goes on, and counts elsewhere. */
  passing(): void {
    const [item] = this.items;
    if (item === undefined || item.bytes === 0) return;
    this.bytes -= item.bytes;
    item.bytes = 0;
    if (this.busy) this.events.holds(this.bytes);
  }

  /** Forgets everything that was not dealt with. */
  clear(): void {
    this.items = [];
    this.steps = null;
    this.bytes = 0;
    if (this.busy) this.events.holds(0);
  }

  private rest(): false {
    this.working = false;
    if (this.busy) {
      this.busy = false;
      this.events.empty();
    }
    return false;
  }
}
