// Journals are numbered files of one JSON record per line. They are written by the main thread, read once, and deleted.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { journalFolder } from "./folder.ts";

const NAME = /^(\d{8,15})\.jsonl$/;

export const journalFile = (dir: string, number: number): string =>
  join(journalFolder(dir), `${String(number).padStart(8, "0")}.jsonl`);

/** The numbers of the journals in the folder, ascending; none when the folder is missing. */
export function journalNumbers(dir: string): number[] {
  let names: string[];
  try {
    names = readdirSync(journalFolder(dir));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  const numbers: number[] = [];
  for (const name of names) {
    const found = NAME.exec(name);
    if (found !== null) numbers.push(Number(found[1]));
  }
  return numbers.sort((a, b) => a - b);
}
