// Tells when one of the policy's files changed: by what they hold and not by events alone, since editors replace files,
// and Kubernetes swaps symbolic links.
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";

const EVERY = 1_000;

/** A file, and the SHA-256 of its content when it was read (hex). */
export interface ReadFile {
  readonly file: string;
  readonly sha256: string;
}

/**
 * Calls `changed` once after the content of a file changed and was still for one round; at first, when it is not what was read:
 * it may have changed before anybody watched. Returns how to stop.
 */
export function watchFiles(files: () => readonly ReadFile[], changed: () => void): () => void {
  let known = files()
    .map(({ file, sha256 }) => `${file}\0${sha256}`)
    .join("\0");
  let pending: string | null = null;
  const timer = setInterval(() => {
    const now = fingerprint(files());
    if (now === known) {
      pending = null;
      return;
    }
    if (now !== pending) {
      pending = now; // perhaps half written: look once more
      return;
    }
    known = now;
    pending = null;
    changed();
  }, EVERY);
  timer.unref();
  return () => clearInterval(timer);
}

const fingerprint = (files: readonly ReadFile[]): string =>
  files.map(({ file }) => `${file}\0${contentOf(file)}`).join("\0");

function contentOf(file: string): string {
  try {
    // Nobody waits for a pipe that took the file's place.
    if (!statSync(file).isFile()) return "no file";
    return createHash("sha256").update(readFileSync(file)).digest("hex");
  } catch (error) {
    return `unreadable ${(error as NodeJS.ErrnoException).code ?? ""}`;
  }
}
