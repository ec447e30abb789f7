// The media type filter: by Content-Type (RFC 9110 section 8.3), and by nothing else.
import { allValues } from "../http/fields.ts";
import type { HeadFacts, HeadMatcher } from "./content-plan.ts";

/** What content without a Content-Type is taken for (RFC 9110 section 8.3). */
const UNNAMED = "application/octet-stream";
const TYPE = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+\/[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** The media type of a field value in lower case without its parameters. */
export const mediaTypeOf = (value: string): string => (value.split(";", 1)[0] as string).trim().toLowerCase();

/** A matcher for `image/png`, or `image/*` for all of a kind. Throws an Error for anything else. */
export function mediaTypeMatcher(wanted: string): HeadMatcher {
  const type = wanted.trim().toLowerCase();
  if (!TYPE.test(type)) throw new Error("not a media type: write it like image/png, or image/*");
  const prefix = type.endsWith("/*") ? type.slice(0, -1) : null;
  return {
    matches(head: HeadFacts): boolean {
      const named = allValues(head.fields, "content-type");
      // Two fields, or a list in one: any of them may be what the receiver believes.
      const types = named.length > 0 ? named.flatMap((value) => value.split(",")).map(mediaTypeOf) : [UNNAMED];
      if (named.length === 0 && !head.hasContent) return false;
      return types.some((t) => (prefix === null ? t === type : type === "*/*" || t.startsWith(prefix)));
    },
  };
}
