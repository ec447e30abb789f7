// A section of the configuration: unknown keys are errors, with the key that was probably meant; keys of a later version
// are recognised and refused.
import { z } from "zod";
import { nearest } from "../policy/problems.ts";

/** Separates the sentences about several unknown keys of one section: one for each key, in their order. */
export const KEY_SEPARATOR = "\n";

/** An object with exactly these keys; `later`: keys that a later version will have. */
export function section<S extends z.core.$ZodLooseShape>(shape: S, later: readonly string[] = []) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code === "unrecognized_keys") {
        const keys = (issue as { keys?: string[] }).keys ?? [];
        return keys.map((key) => aboutKey(key, known, later)).join(KEY_SEPARATOR);
      }
      if (issue.code === "invalid_type")
        return `a section with keys (${known.slice(0, 6).join(", ")}${known.length > 6 ? ", …" : ""}) stands here`;
      return undefined;
    },
  });
}

function aboutKey(key: string, known: readonly string[], later: readonly string[]): string {
  const shown = JSON.stringify(key.length > 60 ? `${key.slice(0, 60)}…` : key);
  if (later.includes(key)) return `${key}: not supported in this version`;
  const meant = nearest(key, [...known, ...later]);
  return `unknown key ${shown}${meant === null ? ` (known: ${known.join(", ")})` : `: did you mean ${meant}?`}`;
}

/** One value or a list of them, always as a list. */
export const listOf = <T extends z.ZodType>(item: T) =>
  z.union([z.array(item).min(1, "an empty list"), item.transform((one) => [one] as z.output<T>[])]);

/** The name of a rule, client or secret. */
export const name = () =>
  z
    .string("a name")
    .regex(
      /^[A-Za-z][A-Za-z0-9._-]{0,63}$/,
      "a name begins with a letter and has letters, digits, dot, hyphen and underscore, at most 64",
    );
