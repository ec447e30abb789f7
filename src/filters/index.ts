// The list of filters, and the compilation of a rule's `content:`. To add a filter: its file, its key in schema.ts, a line here.
import type {
  ContentAction,
  ContentPlan,
  HeadMatcher,
  HeadRule,
  SideRules,
  TextMatcher,
  TextRule,
} from "./content-plan.ts";
import { extensionMatcher } from "./extension.ts";
import { LiteralSet } from "./literal-set.ts";
import { mediaTypeMatcher } from "./media-type.ts";
import { patternMatcher } from "./pattern.ts";
import type { ContentRuleInput, Place } from "./schema.ts";
import { secretMatchers } from "./secrets.ts";
import { textMatcher } from "./text.ts";

export { contentRuleSchema } from "./schema.ts";

/** The filters that look into text, by their key in the policy file. */
const TEXT_FILTERS = {
  text: textMatcher,
  pattern: patternMatcher,
} satisfies Record<string, (value: string, ignoreCase: boolean) => TextMatcher>;

/** The filters that decide by the head alone. */
const HEAD_FILTERS = {
  "media-type": mediaTypeMatcher,
  extension: extensionMatcher,
} satisfies Record<string, (value: string) => HeadMatcher>;

type TextKey = keyof typeof TEXT_FILTERS;
type HeadKey = keyof typeof HEAD_FILTERS;
const FILTERS: readonly (TextKey | HeadKey | "secrets")[] = [
  ...(Object.keys(TEXT_FILTERS) as TextKey[]),
  ...(Object.keys(HEAD_FILTERS) as HeadKey[]),
  "secrets",
];
const isTextKey = (key: TextKey | HeadKey): key is TextKey => Object.hasOwn(TEXT_FILTERS, key);

export interface ContentOptions {
  /** Bytes that wait whole until they are decided. Default: 64 KiB. */
  readonly hold?: number;
  /** Bytes of the longest match a pattern or keyword may have. Default: 4 KiB. */
  readonly maxMatch?: number;
  /** Bytes of decoded content that are scanned. Default: no limit. */
  readonly scanLimit?: number;
  /** Default: 100. */
  readonly ratioLimit?: number;
  /** Default: deny. */
  readonly onUnscannable?: "deny" | "allow";
  /** Default: enforce. A function where the mode has an end date. */
  readonly mode?: "enforce" | "report" | (() => "enforce" | "report");
  /** Values that must not appear in any description. */
  readonly secrets?: readonly { readonly name: string; readonly value: string }[];
}

export interface ContentProblem {
  /** Where in `content:`: index, then keys. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What is wrong with a rule's `content:`, all of it. */
export class ContentRuleError extends Error {
  override readonly name = "ContentRuleError";
  readonly problems: readonly ContentProblem[];
  constructor(problems: readonly ContentProblem[]) {
    super(problems.map((p) => `content.${p.path.join(".")}: ${p.message}`).join("\n"));
    this.problems = problems;
  }
}

/** Compiles the entries of a rule's `content:` (which fit `contentRuleSchema`). Throws a ContentRuleError with every problem. */
export function compileContent(rules: readonly ContentRuleInput[], options: ContentOptions = {}): ContentPlan {
  const compiler = new Compiler(options);
  rules.forEach((rule, index) => {
    compiler.add(rule, index);
  });
  return compiler.plan();
}

/** About 50 ms for one match. */
const MOST_STEPS = 2_000_000;
/** So many keywords are faster one by one. */
const FEW = 2;

type Entry = {
  [K in TextKey | HeadKey]?: string | string[] | undefined;
} & {
  "ignore-case"?: boolean | undefined;
  in?: Place | Place[] | undefined;
  on?: "request" | "response" | "both" | undefined;
  status?: number | undefined;
  message?: string | undefined;
  with?: string | undefined;
  secrets?: true | undefined;
};

interface MutableSide {
  head: HeadRule[];
  path: TextRule[];
  query: TextRule[];
  fields: TextRule[];
  host: TextRule[];
  body: TextRule[];
}

const emptySide = (): MutableSide => ({ head: [], path: [], query: [], fields: [], host: [], body: [] });
const listOf = <T>(value: T | T[] | undefined): T[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value];

class Compiler {
  readonly #options: ContentOptions;
  readonly #maxMatch: number;
  readonly #problems: ContentProblem[] = [];
  readonly #request = emptySide();
  readonly #response = emptySide();
  readonly #describe: string[] = [];

  constructor(options: ContentOptions) {
    this.#options = options;
    this.#maxMatch = options.maxMatch ?? 4096;
  }

  add(rule: ContentRuleInput, index: number): void {
    const actions = (["block", "redact", "report"] as const).filter((a) => rule[a] !== undefined);
    const action = actions[0];
    if (action === undefined || actions.length > 1) {
      this.#problem([index], "write exactly one of block, redact and report");
      return;
    }
    const entry = rule[action];
    this.#addEntry(action, entry === "secrets" ? { secrets: true } : (entry as Entry), index);
  }

  #addEntry(action: ContentAction, entry: Entry, index: number): void {
    const given = FILTERS.filter((key) => entry[key] !== undefined);
    const key = given[0];
    if (key === undefined || given.length > 1) {
      this.#problem([index, action], `write exactly one of ${FILTERS.join(", ")}`);
    } else if (key === "secrets") this.#addSecrets(action, entry, index);
    else if (isTextKey(key)) this.#addText(action, key, entry, index);
    else this.#addHead(action, key, entry, index);
  }

  #addText(action: ContentAction, key: TextKey, entry: Entry, index: number): void {
    const places = new Set(listOf(entry.in));
    if (places.size === 0) for (const p of ["body", "fields", "query"] as const) places.add(p);
    if (entry.in === undefined && action !== "redact") places.add("path");
    const title = this.#title(action, key, entry, index, [...places]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (/[\0-\x1f\x7f]/.test(entry.with ?? "") && (places.size > 1 || !places.has("body")))
      this.#problem([index, action, "with"], "control characters can stand in bodies only: say `in: body`");
    const matchers = this.#textMatchers(entry, key, [index, action, key], places.has("body"));
    for (const matcher of matchers) {
      const rule: TextRule = { ...this.#common(action, entry, title, index), matcher, secret: false };
      for (const side of this.#sides(entry)) for (const p of places) side[p].push(rule);
    }
  }

  #textMatchers(entry: Entry, key: TextKey, path: (string | number)[], inBody: boolean): TextMatcher[] {
    const values = listOf(entry[key]);
    const ignoreCase = entry["ignore-case"] ?? false;
    const matchers = values.map((value, at) =>
      this.#attempt([...path, at], () => this.#bounded(TEXT_FILTERS[key](value, ignoreCase), inBody)),
    );
    const good = matchers.filter((matcher) => matcher !== null);
    // Many keywords are found together, in one pass.
    const together =
      key === "text" && !ignoreCase && good.length > FEW && values.every((v) => Buffer.byteLength(v) > 1);
    return together ? [new LiteralSet(values.map((v) => Buffer.from(v, "utf8")))] : good;
  }

  /** What must not leave, so the response is left alone unless the entry says otherwise. */
  #addSecrets(action: ContentAction, given: Entry, index: number): void {
    const entry: Entry = { ...given, on: given.on ?? "request" };
    const places: Place[] = given.in === undefined ? ["body", "fields", "query", "path", "host"] : listOf(given.in);
    const title = this.#title(action, "secrets", entry, index, places);
    for (const { kind, matcher, host } of secretMatchers(this.#options.secrets ?? [], this.#maxMatch)) {
      const common = {
        ...this.#common(action, entry, title, index),
        label: `content[${index}] (${kind})`,
        secret: true,
      };
      for (const side of this.#sides(entry)) {
        for (const p of places) if (p !== "host") side[p].push({ ...common, matcher });
        if (host !== null && places.includes("host")) side.host.push({ ...common, matcher: host });
      }
    }
  }

  #addHead(action: ContentAction, key: HeadKey, entry: Entry, index: number): void {
    if (entry.in !== undefined)
      this.#problem([index, action, "in"], `${key} looks at the head alone: leave \`in\` out`);
    const title = this.#title(action, key, entry, index, []);
    listOf(entry[key]).forEach((value, at) => {
      const matcher = this.#attempt([index, action, key, at], () => HEAD_FILTERS[key](value));
      if (matcher === null) return;
      const rule: HeadRule = { ...this.#common(action, entry, title, index), matcher };
      for (const side of this.#sides(entry)) side.head.push(rule);
    });
  }

  /** Fields, queries and paths are short and whole; a body may come in any pieces. */
  #bounded(matcher: TextMatcher, inBody: boolean): TextMatcher {
    if (!inBody) return matcher;
    if ((matcher.cost ?? 0) > MOST_STEPS && matcher.longest <= this.#maxMatch)
      throw new Error("the pattern is too large: shorten its repetitions, so that no text can keep it busy for long");
    if (matcher.longest <= this.#maxMatch) return matcher;
    if (matcher.longest === Number.POSITIVE_INFINITY)
      throw new Error(
        "the pattern has no longest match: write a bound, such as {1,200}, instead of * or + or {n,}, so that it is found however a body is cut",
      );
    throw new Error(
      `its longest match has ${matcher.longest} bytes, more than max-match (${this.#maxMatch}): shorten it or raise max-match`,
    );
  }

  #sides(entry: Entry): MutableSide[] {
    const on = entry.on ?? "both";
    return on === "request" ? [this.#request] : on === "response" ? [this.#response] : [this.#request, this.#response];
  }

  #common(action: ContentAction, entry: Entry, title: string, index: number) {
    return {
      action,
      title,
      label: `content[${index}]`,
      status: entry.status ?? null,
      message: entry.message ?? null,
      replacement: action === "redact" ? (entry.with ?? "[redacted]") : "",
    };
  }

  /** Never holds a configured secret, even where an operator wrote one as a keyword. */
  #title(action: ContentAction, key: keyof Entry, entry: Entry, index: number, places: string[]): string {
    let values = listOf(entry[key] as string | string[]).join(", ");
    if (key === "secrets") values = "";
    for (const { value } of this.#options.secrets ?? [])
      if (value !== "") values = values.replaceAll(value, "(secret)");
    const where = places.length > 0 ? ` in ${places.join(", ")}` : "";
    const title = `content[${index}]: ${action} ${key}${values === "" ? "" : ` ${clip(values)}`}${where} on ${entry.on ?? "both"}`;
    this.#describe.push(title);
    return title;
  }

  #attempt<T>(path: readonly (string | number)[], make: () => T): T | null {
    try {
      return make();
    } catch (error) {
      this.#problem(path, (error as Error).message);
      return null;
    }
  }

  #problem(path: readonly (string | number)[], message: string): void {
    this.#problems.push({ path, message });
  }

  plan(): ContentPlan {
    if (this.#problems.length > 0) throw new ContentRuleError(this.#problems);
    const { mode = "enforce", hold = 65536, scanLimit = Number.POSITIVE_INFINITY } = this.#options;
    return Object.freeze({
      onRequest: hasRules(this.#request),
      onResponse: hasRules(this.#response),
      describe: this.#describe,
      request: this.#request,
      response: this.#response,
      hold,
      scanLimit,
      ratioLimit: this.#options.ratioLimit ?? 100,
      onUnscannable: this.#options.onUnscannable ?? "deny",
      mode: typeof mode === "function" ? mode : () => mode,
    });
  }
}

const hasRules = (side: SideRules): boolean => Object.values(side).some((rules) => rules.length > 0);
const clip = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}…` : text);
