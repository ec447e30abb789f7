// The inspection of one body: searches its decoded bytes, says how much of it may leave, and makes the replacements.
import type { ProxyError } from "../shared/errors.ts";
import { ByteWindow } from "./byte-window.ts";
import { charsetsOf, decoderFor, TELLING, TranscodedText } from "./charset.ts";
import type { ContentAction, TextRule } from "./content-plan.ts";
import { Edits } from "./edits.ts";
import { EventBoundaries } from "./event-boundaries.ts";
import { GrpcBoundaries } from "./grpc-boundaries.ts";
import { type Following, TextScan } from "./text-scan.ts";

export interface InspectionOptions {
  readonly rules: readonly TextRule[];
  /** Bytes that wait whole until they are decided. */
  readonly hold: number;
  /** Bytes of a unit that are searched; Infinity: all. */
  readonly scanLimit: number;
  /** What is judged as a whole and leaves as a whole: the body, each event of an event stream, or each message of a gRPC call. */
  readonly unit: "body" | "event" | "message";
  /** Named by the media type, or null. */
  readonly charset: string | null;
  /** What is done about a match of the rule: its action, or less (report mode) or more (what must not be changed is blocked). */
  act(rule: TextRule): ContentAction;
  /** Told of every first match of a rule that is not blocked. */
  noted(rule: TextRule, action: ContentAction, name: string | null): void;
  /** The error that blocks. `name`: what was found, where that can be said. */
  blocked(rule: TextRule, name: string | null): ProxyError;
  /** Told when the content cannot be searched; throws unless it may pass. */
  unscannable(why: string): void;
}

const STRIDE = 1024;
/** The same while everything is held: so many are searched in a few milliseconds. */
const HELD_STRIDE = 16 * 1024;

export class Inspection {
  readonly #o: InspectionOptions;
  readonly #plain = new ByteWindow();
  readonly #scan: TextScan;
  readonly #edits = new Edits();
  readonly #events: EventBoundaries | GrpcBoundaries | null;
  /** True: nothing is blocked or changed, so nothing waits. */
  readonly #passive: boolean;
  readonly #replacements = new Map<TextRule, Buffer>();
  readonly #noted = new Set<TextRule>();
  /** The body in the other charsets in which somebody may read it. */
  readonly #others: { text: TranscodedText; scan: TextScan }[] = [];
  #begun = false;
  #ended = false;
  #givenUp = false;
  /** True: the rest of this event or message passes unsearched. */
  #skipping = false;
  #safe = 0;
  #searched = 0;
  /** So many new bytes are searched at once: with each search the longest match before them is searched again. */
  readonly #stride: number;
  /** The end of the last whole event. */
  #boundary = 0;
  #left = 0;

  constructor(options: InspectionOptions) {
    this.#o = options;
    this.#scan = new TextScan(options.rules, this.#plain);
    this.#stride = Math.min(STRIDE, ...options.rules.map((rule) => rule.matcher.longest));
    const { unit } = options;
    this.#events =
      unit === "event"
        ? new EventBoundaries()
        : unit === "message"
          ? new GrpcBoundaries(() => options.unscannable("a message is compressed"))
          : null;
    this.#passive = options.rules.every((rule) => options.act(rule) === "report");
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.#plain.end;
  }

  /** True while nothing at all may leave. */
  get holding(): boolean {
    if (this.free || this.#events !== null) return false;
    return this.bytes <= this.#o.hold;
  }

  /** True when whatever else comes may leave. */
  get free(): boolean {
    return this.#passive || this.#givenUp || this.#ended;
  }

  /** Bytes of the body that may leave: no match begins before them that was not dealt with. */
  get safe(): number {
    return this.free || this.#skipping ? this.bytes : this.#safe;
  }

  /** True once the body was whole. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True when something was replaced. */
  get changed(): boolean {
    return this.#edits.any;
  }

  /** For each rule the end of its last match; 0: there was none. What stands before was dealt with. */
  get matchEnds(): readonly number[] {
    return this.#scan.ends;
  }

  /** Takes decoded bytes. Throws a ProxyError when the body is blocked. */
  push(chunk: Uint8Array): void {
    this.#plain.append(chunk);
    if (this.#givenUp) return;
    for (const { text } of this.#others) text.append(chunk);
    this.#events?.push(chunk, (boundary) => this.#endUnit(boundary));
    if (!this.#skipping && this.bytes - this.#boundary > this.#o.scanLimit) this.#passLimit();
    // So that what is passed over need not be kept.
    if (this.#skipping) this.#scan.skipTo(this.bytes);
    else if (!this.#givenUp && this.#isDue) this.#search(this.bytes, "more");
  }

  /** True when what came should be searched before more of it comes. */
  get #isDue(): boolean {
    // An event that is too large to be held is treated like a long body.
    if (this.#events !== null) return this.bytes - this.#boundary > this.#o.hold;
    return this.#begin(false) && this.bytes - this.#searched >= (this.holding ? HELD_STRIDE : this.#stride);
  }

  #endUnit(boundary: number): void {
    if (!this.#skipping && boundary - this.#boundary > this.#o.scanLimit) this.#passLimit();
    if (this.#skipping) this.#scan.skipTo(boundary);
    else this.#search(boundary, "pause");
    this.#skipping = false;
    this.#boundary = boundary;
    this.#safe = boundary;
  }

  /** The body is whole. Throws a ProxyError when it is blocked. */
  end(): void {
    if (!this.#givenUp) {
      this.#begin(true);
      for (const { text } of this.#others) text.end();
      this.#search(this.bytes, "end");
    }
    this.#ended = true;
  }

  /** Lets the rest of the body, or of this event or message, pass unsearched, where the policy allows that. */
  #passLimit(): void {
    this.#begin(true);
    this.#search(this.#boundary + this.#o.scanLimit, "pause");
    this.#o.unscannable(`it has more than ${this.#o.scanLimit} bytes, the scan limit`);
    if (this.#events === null) this.#givenUp = true;
    else this.#skipping = true;
  }

  /** Gives out what may leave, with replacements, and forgets it. */
  emit(write: (bytes: Uint8Array) => void): void {
    const to = this.safe;
    // Not as Buffers, whose `slice` does not copy.
    const bare = (b: Uint8Array): void => write(new Uint8Array(b.buffer, b.byteOffset, b.length));
    if (to > this.#left) this.#edits.emit(this.#plain, this.#left, to, bare);
    this.#left = Math.max(this.#left, to);
    this.#forget();
  }

  /** Forgets what may leave: its coded form is sent instead. */
  skip(): void {
    if (!this.holding) this.#left = Math.max(this.#left, this.safe);
    this.#forget();
  }

  #forget(): void {
    this.#plain.dropTo(this.#givenUp ? this.#left : Math.min(this.#left, this.#scan.needed));
    for (const { text, scan } of this.#others) text.window.dropTo(scan.needed);
  }

  /** Looks at the first bytes once they are there. False: they are not. */
  #begin(whole: boolean): boolean {
    if (this.#begun) return true;
    if (this.bytes < TELLING && !whole) return false;
    this.#begun = true;
    if (this.#events !== null) return true;
    const first = this.#plain.slice(0, Math.min(TELLING, this.bytes));
    for (const charset of charsetsOf(first, this.#o.charset)) this.#readIn(charset);
    return true;
  }

  /** The label may lie, so the bytes are searched as they are, too. */
  #readIn(charset: string): void {
    const decoder = decoderFor(charset);
    if (decoder === null) {
      this.#o.unscannable("its charset is unknown");
      return;
    }
    const text = new TranscodedText(decoder);
    this.#others.push({ text, scan: new TextScan(this.#o.rules, text.window) });
    text.append(this.#plain.slice(0, this.bytes));
  }

  #search(upto: number, following: Following): void {
    this.#searched = upto;
    this.#scan.search(upto, following, (rule, start, end) => this.#matched(rule, start, end));
    for (const { text, scan } of this.#others)
      scan.search(text.window.end, following, (rule) => this.#matchedElsewhere(rule));
    if (following === "more") this.#safe = Math.max(this.#safe, this.#decided());
  }

  #decided(): number {
    const elsewhere = this.#others.map(({ text, scan }) => text.sourceOf(scan.decided));
    return Math.min(this.#scan.decided, ...elsewhere);
  }

  #matched(rule: TextRule, start: number, end: number): boolean {
    const action = this.#o.act(rule);
    // What is out cannot be taken back: a replacement that would begin there is a block.
    const name = (): string | null => rule.matcher.nameOf?.(this.#plain.slice(start, end)) ?? null;
    if (action === "block" || (action === "redact" && start < this.#left)) throw this.#o.blocked(rule, name());
    this.#note(rule, action, name);
    if (action === "report") return true;
    this.#edits.add(start, end, this.#replacement(rule));
    return false;
  }

  /** Offsets of a transcoded text do not say which bytes to replace. */
  #matchedElsewhere(rule: TextRule): boolean {
    const action = this.#o.act(rule);
    if (action !== "report") throw this.#o.blocked(rule, null);
    this.#note(rule, action, () => null);
    return true;
  }

  #note(rule: TextRule, action: ContentAction, name: () => string | null): void {
    if (this.#noted.has(rule)) return;
    this.#noted.add(rule);
    this.#o.noted(rule, action, name());
  }

  #replacement(rule: TextRule): Buffer {
    let bytes = this.#replacements.get(rule);
    if (bytes === undefined) {
      bytes = Buffer.from(rule.replacement, "utf8");
      this.#replacements.set(rule, bytes);
    }
    return bytes;
  }
}
