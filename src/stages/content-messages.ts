// Content rules for what comes in whole units after the head: the messages of a WebSocket connection.
import type { Exchange } from "../exchange/exchange.ts";
import { ByteWindow } from "../filters/byte-window.ts";
import { openFrom, type TextMatcher } from "../filters/content-plan.ts";
import { Inspection, type InspectionOptions } from "../filters/inspection.ts";
import { ContentSide, type Direction } from "./content-side.ts";

/** Filters the messages of one direction, in order. */
export interface MessageFilter {
  /**
   * Takes one whole message (its data, without compression), a piece at a time: others may have their turn between. Returns what
   * goes on: the same bytes (borrowed from the caller), or a copy with replacements. Throws ProxyError `content-blocked`, also for
   * a match that began in an earlier message; nothing of this message may go on then. The next one is taken after it.
   */
  take(message: Uint8Array): Generator<void, Uint8Array>;
  /** Looks at the data of a ping, a pong or a close frame. Throws ProxyError `content-blocked`; nothing of it is replaced. */
  control(data: Uint8Array): void;
}

/** The filter of the exchange's rules for bodies, or null where no rule looks at this direction. */
export function contentMessages(x: Exchange, direction: Direction): MessageFilter | null {
  const plan = x.decision?.allowed ? x.decision.plan.content : null;
  if (plan === null || plan === undefined || plan[direction].body.length === 0) return null;
  return new Messages(new ContentSide(x, plan, direction));
}

/** Bytes that are searched at once: a few milliseconds, whatever they are. */
const PIECE = 32 * 1024;

/** Each message is a text of its own; what goes on across their borders is looked for beside. */
class Messages implements MessageFilter {
  readonly #side: ContentSide;
  readonly #longest: number;
  /** True: replacements are possible. */
  readonly #edits: boolean;
  /** The end of what came before: as much as a match could begin in. */
  #tail: Buffer = Buffer.alloc(0);
  /** Where in it each rule's could: not in a match that was dealt with already. */
  #starts: readonly number[];

  constructor(side: ContentSide) {
    this.#side = side;
    this.#longest = Math.max(...side.rules.body.map((rule) => rule.matcher.longest));
    this.#starts = side.rules.body.map(() => 0);
    this.#edits = side.rules.body.some((rule) => side.actOnBody(rule) === "redact");
  }

  *take(message: Uint8Array): Generator<void, Uint8Array> {
    const border = this.#tail.length;
    const text = Buffer.concat([this.#tail, message.subarray(0, this.#longest)]);
    this.#lookAcross(text, border);
    const inspection = inspectionOf(this.#side, "body", null, PIECE);
    const edited = this.#edits ? new ByteWindow() : null;
    const release = (): void => {
      if (edited === null) inspection.skip();
      else if (!inspection.holding) inspection.emit((bytes) => edited.append(bytes));
    };
    for (let at = 0; at < message.length; at += PIECE) {
      if (at > 0) yield;
      inspection.push(message.subarray(at, at + PIECE));
      release();
    }
    inspection.end();
    if (message.length <= this.#longest) this.#keepEnd(text, border, inspection.matchEnds);
    else {
      this.#starts = this.#starts.map(() => 0);
      const end = message.subarray(-this.#longest);
      this.#keepEnd(Buffer.from(end), end.length - message.length, inspection.matchEnds);
    }
    if (edited === null || !inspection.changed) return message;
    release();
    return edited.slice(0, edited.end);
  }

  control(data: Uint8Array): void {
    const text = Buffer.from(data.buffer, data.byteOffset, data.length);
    for (const rule of this.#side.rules.body)
      if (
        text.length > 0 &&
        rule.matcher.find(text, 0, text.length) !== null &&
        this.#side.matched(rule, "control frames")
      )
        throw this.#side.blocked(rule, "control frames");
  }

  /** Throws where a match begins before the border and ends behind it. */
  #lookAcross(text: Buffer, border: number): void {
    this.#side.rules.body.forEach((rule, i) => {
      if (crosses(rule.matcher, text, this.#starts[i] as number, border) && this.#side.matched(rule, "messages"))
        throw this.#side.blocked(rule, "messages");
    });
  }

  /**
   * Keeps a copy of the end of the text, from where a match may begin that goes on in the next message. The message stands at
   * `border`, and the last match of each rule in it ends at `ends`.
   */
  #keepEnd(text: Buffer, border: number, ends: readonly number[]): void {
    const starts = this.#side.rules.body.map(({ matcher }, i) => {
      const end = ends[i] as number;
      const from = Math.max(this.#starts[i] as number, end > 0 ? border + end : 0);
      return Math.max(from, openFrom(matcher, text, from, text.length));
    });
    const first = Math.min(...starts);
    this.#tail = Buffer.from(text.subarray(first));
    this.#starts = starts.map((start) => start - first);
  }
}

function crosses(matcher: TextMatcher, text: Buffer, from: number, border: number): boolean {
  if (from >= border) return false;
  let match = matcher.find(text, from, text.length);
  while (match !== null && match.start < border) {
    if (match.end > border) return true;
    match = matcher.find(text, match.start + 1, text.length);
  }
  return false;
}

/** The inspection of what one side's rules say about bodies. */
export function inspectionOf(
  side: ContentSide,
  unit: InspectionOptions["unit"],
  charset: string | null,
  hold = side.plan.hold,
): Inspection {
  return new Inspection({
    rules: side.rules.body,
    hold,
    scanLimit: side.plan.scanLimit,
    unit,
    charset,
    act: (rule) => side.actOnBody(rule),
    noted: (rule, action, name) => side.noted(rule, action, name),
    blocked: (rule, name) => side.blocked(rule, "body", name),
    unscannable: (why) => side.unscannable(why),
  });
}
