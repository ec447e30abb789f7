// The port between the policy (which holds compiled content rules) and the stage that runs them.
import type { Fields } from "../http/fields.ts";

/** Compiled content rules of one policy rule; `filters/index.ts` makes it, `stages/content.ts` runs it. */
export interface ContentPlan {
  /** True when a rule looks at request content, at response content. */
  readonly onRequest: boolean;
  readonly onResponse: boolean;
  /** For `explain` and the record. */
  readonly describe: readonly string[];
}

export type { Fields };
