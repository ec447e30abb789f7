// Whether one pattern says everything that another says: for warnings about rules that can never decide.
import type { CompiledRule } from "./compiled.ts";
import { coversHost } from "./match.ts";
import type { Pattern } from "./patterns.ts";

/** True when every request that `inner` matches is matched by `outer` (false when that is not certain). */
export function coversPattern(outer: Pattern, inner: Pattern): boolean {
  return (
    coversHost(outer.host, inner.host) &&
    (outer.scheme === null || outer.scheme === inner.scheme) &&
    coversPort(outer, inner) &&
    (outer.methods === null || (inner.methods?.every((m) => outer.methods?.includes(m)) ?? false)) &&
    coversPath(outer.path, inner.path)
  );
}

function coversPort(outer: Pattern, inner: Pattern): boolean {
  if (outer.port === inner.port) return true;
  if (outer.port !== null && inner.port === null) return outer.scheme !== null && outer.port === own(inner);
  if (outer.port === null && inner.port !== null) return inner.scheme !== null && inner.port === own(inner);
  return false;
}

const own = (pattern: Pattern): number | null =>
  pattern.scheme === null ? null : pattern.scheme === "https" ? 443 : 80;

function coversPath(outer: string | null, inner: string | null): boolean {
  if (outer === null || outer === "/**" || outer === inner) return true;
  if (inner === null || !outer.endsWith("/**")) return false;
  const prefix = outer.slice(0, -3);
  return !prefix.includes("*") && (inner === prefix || inner.startsWith(`${prefix}/`));
}

/** True when everybody whom `inner` speaks of is one of `outer`'s. */
export const coversWho = (outer: CompiledRule, inner: CompiledRule): boolean =>
  outer.who === null || (inner.who !== null && [...inner.who].every((name) => outer.who?.has(name)));
