// Matching of canonical hosts and paths. The one place that uses micromatch; matchers are prepared when the policy is loaded.
import micromatch from "micromatch";
import type { HostPattern } from "./patterns.ts";

/** True when the canonical path (without query) matches. Takes linear time in the path for each `**`. */
export type PathMatcher = (path: string) => boolean;

/** A segment: `null` for `**`, true for `*`, a text that must be equal, or a prepared expression. */
type Segment = null | true | string | RegExp;

/** Only `*` means something: everything that micromatch could read otherwise is escaped, and switched off as well. */
const OPTIONS: micromatch.Options = {
  dot: true,
  nobrace: true,
  nobracket: true,
  noextglob: true,
  nonegate: true,
  noquantifiers: true,
  strictSlashes: true,
} as micromatch.Options;

/** Prepares the matcher of a pattern's canonical path: `*` is one segment or a part of one, `**` any number of segments. */
export function compilePath(pattern: string): PathMatcher {
  if (!pattern.includes("*")) return (path) => path === pattern;
  const segments = pattern.slice(1).split("/").map(compileSegment);
  if (segments.length === 1 && segments[0] === null) return () => true;
  return (path) => matchSegments(segments, path.slice(1).split("/"));
}

function compileSegment(segment: string): Segment {
  if (segment === "**") return null;
  if (segment === "*") return true;
  if (!segment.includes("*")) return segment;
  return micromatch.makeRe(segment.replace(/[^\w*-]/gu, "\\$&"), OPTIONS);
}

/** Greedy, going back only to the last `**`: the work is at most pattern times path. */
function matchSegments(pattern: readonly Segment[], path: readonly string[]): boolean {
  let p = 0;
  let star = -1;
  let resume = 0;
  for (let i = 0; i < path.length; ) {
    if (p < pattern.length && pattern[p] === null) {
      star = p++;
      resume = i;
    } else if (p < pattern.length && matchSegment(pattern[p] as Segment, path[i] as string)) {
      p++;
      i++;
    } else if (star >= 0) {
      p = star + 1;
      i = ++resume;
    } else return false;
  }
  while (p < pattern.length && pattern[p] === null) p++;
  return p === pattern.length;
}

function matchSegment(pattern: Segment, segment: string): boolean {
  if (pattern === true) return segment !== "";
  return typeof pattern === "string" ? pattern === segment : (pattern as RegExp).test(segment);
}

/** True when the canonical host matches: `*.x` is one or more labels in front of `x`, never `x` itself. */
export function matchesHost(pattern: HostPattern, host: string): boolean {
  if (pattern.kind === "any") return true;
  if (pattern.kind === "exact") return pattern.host === host;
  return host.length > pattern.suffix.length + 1 && host.endsWith(`.${pattern.suffix}`);
}

/** True when every host of `inner` is one of `outer`. */
export function coversHost(outer: HostPattern, inner: HostPattern): boolean {
  if (outer.kind === "any") return true;
  if (inner.kind === "any") return false;
  if (inner.kind === "exact") return matchesHost(outer, inner.host);
  return outer.kind === "suffix" && (inner.suffix === outer.suffix || inner.suffix.endsWith(`.${outer.suffix}`));
}
