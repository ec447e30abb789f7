// The CA's files: where they lie, how they are read, and how they are made without ever overwriting what is there.
import { type KeyObject, randomBytes, X509Certificate } from "node:crypto";
import {
  constants,
  copyFile,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
} from "node:fs/promises";
import { join } from "node:path";
import { ProxyError } from "../../shared/errors.ts";

export const certificateFile = (dir: string): string => join(dir, "ca.pem");
export const keyFile = (dir: string): string => join(dir, "ca.key");
/** The certificate of a rotation that was cut between its two renames. */
export const pendingCertificateFile = (dir: string): string => join(dir, "ca.pem.new");

const DAY_MS = 86_400_000;
/** How long a rotated root stays in the bundles. */
export const GRACE_MS = 30 * DAY_MS;
const MAX_FILE_BYTES = 256 * 1024;
/** The certificate that `writeTemporary` wrote. */
const UNFINISHED = /^ca\.pem\.[0-9a-f]{12}\.tmp$/;
const PREVIOUS = /^ca-previous-(\d{4}-\d{2}-\d{2})(?:-\d+)?\.pem$/;

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException | null)?.code ?? "";

/** A CA that cannot be used: refused at start, with what to do about it. */
export const caProblem = (text: string, cause?: unknown): ProxyError =>
  new ProxyError("bad-configuration", text, cause === undefined ? {} : { cause });

/** Makes the folder for its owner alone; leaves one that is there as it is. */
export async function makeFolder(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
}

/** The file's text, or null when there is none. */
export async function readOptional(path: string): Promise<string | null> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw caProblem(`cannot read ${path} (${codeOf(error)})`, error);
  }
  try {
    return await readBounded(handle, path);
  } finally {
    await handle.close();
  }
}

async function readBounded(handle: FileHandle, path: string): Promise<string> {
  const { size } = await handle.stat();
  if (size > MAX_FILE_BYTES) throw caProblem(`${path} is too large to be a certificate or key (${size} bytes)`);
  return await handle.readFile("utf8");
}

/** The key file's text, or null when there is none; refuses one that others than its owner may read. */
export async function readKeyFile(path: string): Promise<string | null> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw caProblem(
      `cannot read the CA's key ${path} (${codeOf(error)})${codeOf(error) === "EACCES" ? ": run as the user that owns it, or name another folder with --ca" : ""}`,
      error,
    );
  }
  try {
    // Asked of the open file, so that the file that is checked is the file that is read.
    const { mode } = await handle.stat();
    if (process.platform !== "win32" && (mode & 0o077) !== 0) {
      const seen = (mode & 0o777).toString(8).padStart(4, "0");
      throw caProblem(`others may read the CA's key ${path} (mode ${seen}): run chmod 600 ${path}`);
    }
    return await readBounded(handle, path);
  } finally {
    await handle.close();
  }
}

/** Writes a file of that name beside it, whole and on disk, readable by its owner alone when `secret`; or leaves none. */
export async function writeTemporary(path: string, text: string, secret: boolean): Promise<string> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const handle = await open(temporary, "wx", secret ? 0o600 : 0o644);
  try {
    await handle.writeFile(text);
    await handle.sync();
    await handle.close();
    return temporary;
  } catch (error) {
    await handle.close().catch(() => {});
    await rm(temporary, { force: true });
    // What is said of an open file does not name it.
    throw Object.assign(error as Error, { path });
  }
}

/** Both temporary files of a CA, or none. */
export async function writeBoth(
  dir: string,
  keyText: string,
  certificateText: string,
): Promise<{ readonly key: string; readonly certificate: string }> {
  const certificate = await writeTemporary(certificateFile(dir), certificateText, false);
  try {
    return { key: await writeTemporary(keyFile(dir), keyText, true), certificate };
  } catch (error) {
    await rm(certificate, { force: true });
    throw error;
  }
}

/** Puts the certificate in place that a creation left behind which was cut between its two files. False: there is none of `key`. */
export async function finishCreation(dir: string, key: KeyObject): Promise<boolean> {
  for (const name of (await readdir(dir)).filter((one) => UNFINISHED.test(one))) {
    const text = await readOptional(join(dir, name));
    if (text !== null && isCertificateOf(text, key)) {
      await settle(join(dir, name), certificateFile(dir));
      return true;
    }
  }
  return false;
}

function isCertificateOf(text: string, key: KeyObject): boolean {
  try {
    return new X509Certificate(text).checkPrivateKey(key);
  } catch {
    return false; // cut while it was written
  }
}

/** Gives a temporary file its name unless the name is taken. False: it was; the temporary file is gone either way. */
export async function settle(temporary: string, path: string): Promise<boolean> {
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    // File systems without hard links.
    return await copyExclusive(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function copyExclusive(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Writes a new file; false when the name is taken, in which case nothing changes. */
export async function writeNew(path: string, text: string, secret: boolean): Promise<boolean> {
  return await settle(await writeTemporary(path, text, secret), path);
}

/** Replaces both files by the new ones; a cut between the renames is mended by `finishRotation`. */
export async function replaceBoth(dir: string, keyText: string, certificateText: string): Promise<void> {
  const { key, certificate } = await writeBoth(dir, keyText, certificateText);
  await rename(certificate, pendingCertificateFile(dir));
  await rename(key, keyFile(dir));
  await finishRotation(dir);
}

/** Puts the pending certificate of a rotation in place. */
export async function finishRotation(dir: string): Promise<void> {
  try {
    await rename(pendingCertificateFile(dir), certificateFile(dir));
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

/** Keeps a root that is about to be replaced. `now`: milliseconds since 1970. Returns the file's path. */
export async function keepPrevious(dir: string, certificateText: string, now: number): Promise<string> {
  const date = new Date(now).toISOString().slice(0, 10);
  for (let n = 1; n <= 100; n++) {
    const path = join(dir, n === 1 ? `ca-previous-${date}.pem` : `ca-previous-${date}-${n}.pem`);
    if (await writeNew(path, certificateText, false)) return path;
  }
  throw caProblem(`the CA in ${dir} was rotated a hundred times today`);
}

/** Texts of the rotated roots whose time of grace has not ended. */
export async function readPrevious(dir: string, now: number): Promise<string[]> {
  const names = (await readdir(dir)).sort();
  const kept = names.filter((name) => {
    const date = PREVIOUS.exec(name)?.[1];
    // The date is that of a day: the grace ends with the thirtieth day after it.
    return date !== undefined && now < Date.parse(date) + GRACE_MS + DAY_MS;
  });
  return await Promise.all(kept.map((name) => readFile(join(dir, name), "utf8")));
}
