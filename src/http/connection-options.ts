// The options of Connection (RFC 9110 section 7.6.1). One reader for all who act on them.
import { isNamed } from "./fields.ts";

const KEEP_ALIVE: readonly string[] = ["keep-alive"];
const CLOSE: readonly string[] = ["close"];

/** True for Connection, and for Proxy-Connection, which is read like it, as old clients mean it. */
export const isConnection = (name: string): boolean => isNamed(name, "connection") || isNamed(name, "proxy-connection");

/** The options in one value, in lower case; empty ones are none. */
export function connectionOptions(value: string): readonly string[] {
  // What nearly all values are: nothing is made for them.
  if (isNamed(value, "keep-alive")) return KEEP_ALIVE;
  if (isNamed(value, "close")) return CLOSE;
  return value
    .split(",")
    .map((option) => option.trim().toLowerCase())
    .filter((option) => option !== "");
}
