// The class of difference between two readings of one stream.
import type { Reading, ReadMessage } from "./our-reading.ts";

/**
 * Null: they agree. `strict: …`: we refuse what llhttp takes, which is meant. `wait: …`: the stream ends in the middle of
 * something that llhttp refuses already and we have not taken yet: nothing of it counts as read. Anything else is a
 * difference that could let a message pass unseen, and must be explained or must not be.
 */
export function difference(ours: Reading, theirs: Reading): string | null {
  const count = Math.max(ours.messages.length, theirs.messages.length);
  for (let i = 0; i < count; i++) {
    const found = compareMessages(ours.messages[i], theirs.messages[i], ours.status, theirs.status);
    if (found === "same") continue;
    return found;
  }
  if (theirs.status.startsWith("error") && ours.status === "more") return `wait: llhttp ${theirs.status}`;
  return null;
}

function compareMessages(
  ours: ReadMessage | undefined,
  theirs: ReadMessage | undefined,
  status: string,
  other: string,
): string | null {
  if (ours === undefined) return `strict: ${status}`;
  if (theirs === undefined) return `WE ACCEPT, llhttp: ${other}`;
  if (ours.line !== theirs.line || !sameList(ours.fields, theirs.fields)) return "HEADS DIFFER";
  if (ours.complete && theirs.complete) return ours.body === theirs.body ? "same" : "BODIES DIFFER";
  if (ours.complete) return `we complete, llhttp: ${other}`;
  if (theirs.complete) return `strict: ${status}`;
  if (other.startsWith("error") && !status.startsWith("error")) return `wait: llhttp ${other}`;
  return null;
}

const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((text, i) => text === b[i]);
