// The files that a child's variables point at: our CA, the system's roots with it, the same for Java and for wget. They lie in
// the data folder, are written whole or not at all, and only when they changed.
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { TrustFiles } from "./child-environment.ts";
import { javaTrustStore } from "./java-trust-store.ts";

/** Writes the files below `data`. `caPem`: our CA and its predecessors; `bundlePem`: these and the system's roots. */
export function writeTrustFiles(
  data: string,
  caPem: string,
  bundlePem: string,
  inherited: NodeJS.ProcessEnv,
): TrustFiles {
  const folder = resolve(data, "trust");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const files: TrustFiles = {
    ca: join(folder, "ca.pem"),
    bundle: join(folder, "bundle.pem"),
    java: join(folder, "java.jks"),
    wgetrc: join(folder, "wgetrc"),
    preload: preloadPath(),
  };
  replace(files.ca, Buffer.from(caPem));
  // The Java store follows from the bundle: a new one is made only when the bundle is new.
  if (replace(files.bundle, Buffer.from(bundlePem)) || read(files.java) === null) {
    replace(files.java, javaTrustStore(bundlePem));
  }
  replace(files.wgetrc, Buffer.from(wgetrc(files, inherited)));
  return files;
}

/** The preload beside the built program (or beside its source). */
export function preloadPath(): string {
  return fileURLToPath(new URL("../preload/node-proxy.cjs", import.meta.url));
}

/** WGETRC takes the place of the user's own file, so ours begins with it. */
function wgetrc(files: TrustFiles, inherited: NodeJS.ProcessEnv): string {
  const own = inherited.WGETRC && inherited.WGETRC !== files.wgetrc ? inherited.WGETRC : join(homedir(), ".wgetrc");
  const theirs = read(own)?.toString("utf8") ?? "";
  return `${theirs}${theirs === "" || theirs.endsWith("\n") ? "" : "\n"}use_proxy = on\nca_certificate = ${files.bundle}\n`;
}

function read(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

/** True when the file was written. */
function replace(path: string, content: Buffer): boolean {
  if (read(path)?.equals(content)) return false;
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  writeFileSync(temporary, content, { mode: 0o600, flag: "wx" });
  renameSync(temporary, path);
  return true;
}
