// Whether the house is ready, and what stands in the way: pure, from facts that the house hands over.

export interface ReadyFacts {
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly draining: boolean;
  /** null: the log is written. `required`: without it nothing passes. */
  readonly audit: { readonly unavailable: string | null; readonly required: boolean };
  readonly policy: {
    readonly version: string;
    /** The last reload failed: since when, and what was wrong (no secret). The old policy is still in force. */
    readonly failed: { readonly at: number; readonly message: string } | null;
    /** Settings that the file changed and that wait for the next start. */
    readonly waiting: readonly string[];
  };
  /** When the CA's certificate ends, in milliseconds since 1970. */
  readonly caNotAfter: number;
}

export interface ReadyProblem {
  readonly name: "draining" | "audit-unavailable" | "policy-rejected" | "restart-needed" | "ca-expiring" | "ca-expired";
  /** True: no traffic should come here now. False: served, but somebody must look. */
  readonly blocks: boolean;
  readonly detail: string;
}

export interface ReadyReport {
  readonly ready: boolean;
  readonly policy: string;
  readonly problems: readonly ReadyProblem[];
}

const DAY = 86_400_000;
/** How long before its end the CA is reported. */
const CA_WARNING = 30 * DAY;

/**
 * The answer of `/readyz`. A bad policy file does not make the house unready: the good one is still in force, and taking
 * every instance out of service at once for a typing error would be the worse failure.
 */
export function readyReport(facts: ReadyFacts): ReadyReport {
  const problems: ReadyProblem[] = [];
  const problem = (name: ReadyProblem["name"], blocks: boolean, detail: string) =>
    problems.push({ name, blocks, detail });
  if (facts.draining) problem("draining", true, "shutting down; open exchanges are being finished");
  if (facts.audit.unavailable !== null) problem("audit-unavailable", facts.audit.required, facts.audit.unavailable);
  const { failed, waiting } = facts.policy;
  if (failed)
    problem("policy-rejected", false, `since ${isoTime(failed.at)} the old policy is kept: ${failed.message}`);
  if (waiting.length > 0) problem("restart-needed", false, `read at the next start: ${waiting.join(", ")}`);
  const left = facts.caNotAfter - facts.now;
  if (left <= 0) problem("ca-expired", true, `the CA ended at ${isoTime(facts.caNotAfter)}: run "sallyport ca rotate"`);
  else if (left < CA_WARNING) {
    problem("ca-expiring", false, `the CA ends at ${isoTime(facts.caNotAfter)}: run "sallyport ca rotate"`);
  }
  return { ready: !problems.some((p) => p.blocks), policy: facts.policy.version, problems };
}

const isoTime = (ms: number): string => new Date(ms).toISOString();
