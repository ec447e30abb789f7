// What of a document fits the schema when the whole does not: it is looked at all the same, so that every problem is told at once.
import { type ConfigDocument, configSchema } from "./schema.ts";

export interface FittingParts {
  readonly document: ConfigDocument;
  /** Where each rule of `document` stands in the tree. */
  readonly ruleAt: readonly number[];
  /** The names of all clients, also of those that do not fit. */
  readonly clients: readonly string[];
}

/** The sections, clients and rules that are well formed by themselves; defaults for the rest. */
export function fittingParts(tree: Readonly<Record<string, unknown>>): FittingParts {
  const whole: Record<string, unknown> = { version: 1 };
  for (const [key, value] of Object.entries(tree)) {
    if (key !== "clients" && key !== "rules" && fits({ [key]: value })) whole[key] = value;
  }
  // Without its section, the proxy's own TLS cannot be asked what it knows of clients.
  const lost = tree.server !== undefined && whole.server === undefined;
  const clients = Object.entries(isSection(tree.clients) ? tree.clients : {});
  const kept = clients.filter(
    ([name, value]) => fits({ clients: { [name]: value } }) && !(lost && hasCertificate(value)),
  );
  const rules = Array.isArray(tree.rules) ? (tree.rules as unknown[]) : [];
  const ruleAt = rules.flatMap((rule, i) => (fits({ rules: [rule] }) ? [i] : []));
  const document = configSchema.parse({
    ...whole,
    clients: Object.fromEntries(kept),
    rules: ruleAt.map((i) => rules[i]),
  });
  return { document, ruleAt, clients: clients.map(([name]) => name) };
}

const fits = (part: object): boolean => configSchema.safeParse({ version: 1, ...part }).success;
const isSection = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const hasCertificate = (client: unknown): boolean => isSection(client) && client.certificate !== undefined;
