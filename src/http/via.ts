// Via (RFC 9110 section 7.6.3): which intermediaries a message came through. Loops are known by it, also those of CONNECTs.
import { allValues, type Fields, isNamed } from "./fields.ts";

/** What an intermediary adds. `received`: the HTTP version in which the message came to it. */
export const viaEntry = (received: string, pseudonym: string): string => `${received} ${pseudonym}`;

/** All values of Via as one, in order; "": none. */
export const viaOf = (fields: Fields): string => allValues(fields, "via").join(", ");

/** The value with one more intermediary at its end. */
export const withVia = (value: string, entry: string): string => (value === "" ? entry : `${value}, ${entry}`);

/** True when the message went through the intermediary of this pseudonym before. */
export function wentThrough(fields: Fields, pseudonym: string): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    if (isNamed(fields[i] as string, "via") && (fields[i + 1] as string).includes(pseudonym)) return true;
  }
  return false;
}
