// Collects what is wrong while a configuration is loaded.
import type { DocumentPath, Findings } from "../policy/problems.ts";
import { ConfigError, type ConfigProblem } from "./loaded.ts";
import type { MergedDocument } from "./merge.ts";
import type { SecretValues } from "./secrets.ts";

/** Collects problems with their places, without secrets. */
export class Report {
  readonly #merged: MergedDocument;
  readonly #secrets: SecretValues;
  readonly #problems: ConfigProblem[];
  readonly warnings: ConfigProblem[] = [];

  constructor(merged: MergedDocument, secrets: SecretValues) {
    this.#merged = merged;
    this.#secrets = secrets;
    this.#problems = [...merged.problems];
  }

  problem(path: DocumentPath, message: string, key = false): void {
    this.#problems.push({ ...this.#merged.locate(path, key), message: this.#secrets.scrub(message) });
  }

  warn(path: DocumentPath, message: string): void {
    this.warnings.push({ ...this.#merged.locate(path), message: this.#secrets.scrub(message) });
  }

  /** About a whole file. */
  warnAt(file: string, message: string): void {
    this.warnings.push({ file, line: 1, column: 1, message: this.#secrets.scrub(message) });
  }

  take(findings: Findings): void {
    for (const p of findings.problems) this.problem(p.path, p.message);
    for (const w of findings.warnings) this.warn(w.path, w.message);
  }

  throwIfAny(): void {
    if (this.#problems.length === 0) return;
    const order = (a: ConfigProblem, b: ConfigProblem) => a.line - b.line || a.column - b.column;
    const files = [...new Set(this.#problems.map((p) => p.file))];
    throw new ConfigError(files.flatMap((file) => this.#problems.filter((p) => p.file === file).sort(order)));
  }
}
