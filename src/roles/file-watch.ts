// Tells when one of the policy's files changed: by what they hold and not by events alone, since editors replace files,
// and Kubernetes swaps symbolic links.
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";

const EVERY = 1_000;

/** Calls `changed` once after the content of a file changed and was still for one round. Returns how to stop. */
export function watchFiles(files: () => readonly string[], changed: () => void): () => void {
  let known = fingerprint(files());
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

function fingerprint(files: readonly string[]): string {
  const hash = createHash("sha256");
  for (const file of files) {
    hash.update(`${file}\0`);
    try {
      // Nobody waits for a pipe that took the file's place.
      hash.update(statSync(file).isFile() ? readFileSync(file) : "no file");
    } catch (error) {
      hash.update(`unreadable ${(error as NodeJS.ErrnoException).code ?? ""}`);
    }
    hash.update("\0");
  }
  return hash.digest("hex");
}
