// Keeps secrets and control characters out of the operational log.
import { KnownSecrets, REDACTED } from "../../shared/known-secrets.ts";

const MAX_DEPTH = 6;
const MAX_ITEMS = 100;
const MAX_TEXT = 16 * 1024;
/** Keys whose values are never written, whatever they hold. */
const CREDENTIAL_KEY =
  /^(?:proxy-?)?authorization$|cookie|passw(?:or)?d|passphrase|secret|credential|(?:api|access|private|signing)[-_]?key|(?:^|[-_])(?:auth|access|refresh|id|session|bearer)?[-_]?token$|(?:Token|Key|Secret|Password)$/i;
const KEY_EXCEPTION = /^(?:key|publicKey|public-key)$/i;
// Every repetition below is bounded: these run on texts that a client chose, and must take linear time.
const URL_PASSWORD = /([a-z][a-z0-9+.-]{0,15}:\/\/)[^\s/?#@]+@/gi;
const SCHEME_CREDENTIAL = /\b(bearer|basic|digest|negotiate)\s+[a-z0-9._~+/=-]{6,}/gi;
const QUERY_CREDENTIAL = /([?&;][^=&;\s]{0,40}?(?:token|key|secret|passw|auth|sig|code)[^=&;\s]{0,40}=)[^&;\s#"']+/gi;
const PEM_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not reach a terminal
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the same without the line feed
const CONTROL_BUT_LF = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** Removes the known secrets, in every spelling in which they may turn up, and what looks like one. */
export class Scrubber {
  private readonly secrets: KnownSecrets;

  /** What is added to `secrets` later is removed too. */
  constructor(secrets: KnownSecrets = new KnownSecrets()) {
    this.secrets = secrets;
  }

  /** A text that may be written; control characters are shown, not sent. */
  text(value: string, keepLines = false): string {
    // Secrets first and the cut after them: half a secret at the cut would no longer be found.
    let text = this.secrets.redactPath(value);
    if (text.length > MAX_TEXT) text = `${text.slice(0, MAX_TEXT)}…`;
    text = text
      .replace(PEM_KEY, REDACTED)
      .replace(URL_PASSWORD, `$1${REDACTED}@`)
      .replace(SCHEME_CREDENTIAL, `$1 ${REDACTED}`)
      .replace(QUERY_CREDENTIAL, `$1${REDACTED}`);
    return text.replace(keepLines ? CONTROL_BUT_LF : CONTROL, shown);
  }

  /** A copy of an event that may be written: bounded in depth and size, errors unfolded. */
  event(event: object): Record<string, unknown> {
    const copy = this.value(event, 0, new Set());
    return typeof copy === "object" && copy !== null ? (copy as Record<string, unknown>) : { value: copy };
  }

  private value(value: unknown, depth: number, seen: Set<object>): unknown {
    if (typeof value === "string") return this.text(value);
    if (typeof value === "bigint") return value.toString();
    if (typeof value === "function" || typeof value === "symbol") return undefined;
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value) || depth >= MAX_DEPTH) return "[…]";
    // A body or a key that strays into an event: its size is all that is told.
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
    seen.add(value);
    try {
      return this.object(value, depth, seen);
    } finally {
      seen.delete(value);
    }
  }

  private object(value: object, depth: number, seen: Set<object>): unknown {
    if (value instanceof Error) return this.error(value, depth, seen);
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
    if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => this.value(item, depth + 1, seen));
    const copy: Record<string, unknown> = {};
    for (const [key, item] of Object.entries(value).slice(0, MAX_ITEMS)) {
      const hidden = CREDENTIAL_KEY.test(key) && !KEY_EXCEPTION.test(key) && isTelling(item);
      copy[this.text(key)] = hidden ? REDACTED : this.value(item, depth + 1, seen);
    }
    return copy;
  }

  private error(error: Error, depth: number, seen: Set<object>): object {
    const { code, reason } = error as { code?: unknown; reason?: unknown };
    return {
      type: this.text(error.name),
      message: this.text(error.message),
      ...(typeof code === "string" ? { code: this.text(code) } : {}),
      ...(typeof reason === "string" ? { reason: this.text(reason) } : {}),
      ...(error.stack ? { stack: this.text(error.stack, true) } : {}),
      ...(error.cause === undefined ? {} : { cause: this.value(error.cause, depth + 1, seen) }),
    };
  }
}

/** Numbers and flags under such a key ("tokens: 3") tell nothing. */
const isTelling = (value: unknown): boolean => typeof value === "string" || typeof value === "object";

const shown = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
