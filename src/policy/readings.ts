// The ways in which servers could read a path, and which of them a rule may accept.
import { type CanonicalPath, canonicalPath } from "../http/path.ts";

export interface PathReadings {
  /** The canonical path. */
  readonly path: string;
  /** Other readings: a deny matches any, an allow must match all. */
  readonly others: readonly string[] | null;
  /**
   * The readings of servers that cut parameters off segments (`/admin;x/y` as `/admin/y`; RFC 3986 section 3.3 leaves them to
   * the server); null: there are none. A deny matches any; an allow must match all, unless its pattern speaks of parameters.
   */
  readonly bare: readonly string[] | null;
  /** Why readers disagree dangerously; null: they do not. */
  readonly dangerous: string | null;
  /** True when encoded slashes are all the danger there is. */
  readonly slashesOnly: boolean;
}

/** All readings of a path as sent. `canonical` is what `canonicalPath` said of it. */
export function readPath(sent: string, { path, merged, dangerous }: CanonicalPath): PathReadings {
  let others: string[] | null = merged === null ? null : [merged];
  let slashesOnly = false;
  if (dangerous !== null) {
    const decoded = canonicalPath((sent.split("?", 1)[0] as string).replace(/%2f/gi, "/"));
    others = [...(others ?? []), decoded.path];
    if (decoded.merged !== null) others.push(decoded.merged);
    // Dot segments that appear only once the slashes are decoded are an attack, not a name with a slash in it.
    slashesOnly = decoded.dangerous === null && !/(?:%2f|\/)\.{1,2}(?:%2f|\/|$)/i.test(sent);
  }
  const bare = path.includes(";") ? [path, ...(others ?? [])].map(withoutParameters) : null;
  return { path, others, bare, dangerous, slashesOnly };
}

const withoutParameters = (path: string): string => path.replace(/;[^/]*/g, "");
