// How long the matches of a regular expression can be: the longest way through its compiled program.
import type { RE2JS } from "re2js";

/** What is used of an instruction of a compiled RE2 program. */
interface Instruction {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  readonly runes: ArrayLike<number>;
}

interface Program {
  readonly inst: readonly Instruction[];
  readonly start: number;
}

const ALT = 1;
const ALT_MATCH = 2;
const FAIL = 5;
const MATCH = 6;
const RUNE = 8;
const RUNE1 = 9;
const RUNE_ANY_NOT_NL = 11;
const FOLD_CASE = 1;

const programOf = (pattern: RE2JS): Program => (pattern.re2() as unknown as { prog: Program }).prog;
const isRune = (i: Instruction): boolean => i.op >= RUNE && i.op <= RUNE_ANY_NOT_NL;

/** True when the pattern can match without taking a byte. */
export function matchesEmpty(pattern: RE2JS): boolean {
  const program = programOf(pattern);
  const seen = new Set<number>([program.start]);
  // A Set may grow while it is walked: every instruction that is reached without a byte comes up once.
  for (const at of seen) {
    const instruction = program.inst[at] as Instruction;
    if (instruction.op === MATCH) return true;
    if (!isRune(instruction)) for (const next of followers(instruction)) seen.add(next);
  }
  return false;
}

/**
 * Bytes of UTF-8 of the longest match; Infinity where there is none. Depth first, each instruction once, without recursion:
 * a program may have thousands of them. Throws an Error for a construct whose length is not known.
 */
export function longestMatch(pattern: RE2JS): number {
  const program = programOf(pattern);
  const lengths = new Map<number, number>();
  const open = new Set<number>();
  const stack: number[] = [program.start];
  while (stack.length > 0) {
    const at = stack.at(-1) as number;
    const instruction = program.inst[at] as Instruction;
    const nexts = followers(instruction);
    if (!lengths.has(at) && !open.has(at)) {
      open.add(at);
      for (const next of nexts) if (!lengths.has(next) && !open.has(next)) stack.push(next);
      continue;
    }
    stack.pop();
    if (lengths.has(at)) continue;
    open.delete(at);
    lengths.set(at, lengthFrom(instruction, nexts, lengths));
  }
  return Math.max(0, lengths.get(program.start) as number);
}

function lengthFrom(instruction: Instruction, nexts: number[], lengths: Map<number, number>): number {
  if (instruction.op === MATCH) return 0;
  let longest = Number.NEGATIVE_INFINITY;
  // A follower without a length is still open: the way comes back to it, so it has no end.
  for (const next of nexts) longest = Math.max(longest, lengths.get(next) ?? Number.POSITIVE_INFINITY);
  return longest + bytesOf(instruction);
}

function followers(instruction: Instruction): number[] {
  if (instruction.op > RUNE_ANY_NOT_NL) throw new Error("the pattern uses a construct whose length is not known");
  if (instruction.op === MATCH || instruction.op === FAIL) return [];
  if (instruction.op === ALT || instruction.op === ALT_MATCH) return [instruction.out, instruction.arg];
  return [instruction.out];
}

function bytesOf(instruction: Instruction): number {
  if (!isRune(instruction)) return 0;
  const runes = instruction.runes;
  if (instruction.op > RUNE1 || runes.length === 0) return 4;
  const largest = runes[runes.length - 1] as number;
  if (instruction.op === RUNE && (instruction.arg & FOLD_CASE) !== 0) return foldedBytes(largest);
  return utf8Length(largest);
}

/** K also matches the Kelvin sign, s the long s; other ASCII letters only their two cases. */
function foldedBytes(rune: number): number {
  if (rune >= 0x80) return 4;
  return /[ks]/i.test(String.fromCharCode(rune)) ? 3 : 1;
}

const utf8Length = (rune: number): number => (rune < 0x80 ? 1 : rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4);
