// How often the `secrets` filter is wrong, and how fast it is: `npx tsx scripts/measure-secrets.ts [FOLDER…]`.
// Every file below the folders (default: node_modules) is taken for a body that holds no secret, so each match is printed,
// to be looked at: what is no token or key is a false positive. Random data in the encodings of the net is searched as well, since
// there chance alone can make a token. The tokens of the corpus are the other side: each must be found.
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { secretMatchers } from "../src/filters/secrets.ts";
import { positives } from "../test/filters/corpus/positives.ts";

const LARGEST_FILE = 64 * 1024 * 1024;
const folders = process.argv.length > 2 ? process.argv.slice(2) : ["node_modules"];
const matchers = secretMatchers([{ value: "a-configured-secret" }], 4096);

let files = 0;
let bytes = 0;
let matches = 0;
const before = process.cpuUsage();
for (const folder of folders)
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const path = join(folder, name);
    const info = statSync(path, { throwIfNoEntry: false });
    if (!info?.isFile() || info.size > LARGEST_FILE) continue;
    files++;
    bytes += info.size;
    const text = readFileSync(path);
    const kinds = new Set<string>();
    for (const { kind, matcher } of matchers) {
      const match = kinds.has(kind) ? null : matcher.find(text, 0, text.length);
      if (match === null) continue;
      kinds.add(kind);
      matches++;
      // The beginning says which format it is; the rest could be a secret after all.
      console.log(
        `${kind}  ${path}:${match.start}  ${JSON.stringify(text.toString("latin1", match.start, match.start + 12))}…`,
      );
    }
  }
const seconds = process.cpuUsage(before).user / 1e6;

/** Bytes of random data for each encoding. */
const RANDOM = 64 * 1024 * 1024;
const alphabet = (characters: string) => (data: Buffer) =>
  Buffer.from(data.map((byte) => characters.charCodeAt(byte % characters.length)));
const ENCODINGS: readonly [string, (data: Buffer) => Buffer][] = [
  ["bytes", (data) => data],
  ["base64", (data) => Buffer.from(data.toString("base64"))],
  ["base64 in lines", (data) => Buffer.from(data.toString("base64").replace(/.{76}/g, "$&\r\n"))],
  ["base64url", (data) => Buffer.from(data.toString("base64url"))],
  ["hexadecimal", (data) => Buffer.from(data.toString("hex"))],
  ["base32", alphabet("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")],
  ["letters and digits", alphabet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")],
];
for (const [name, encode] of ENCODINGS) {
  const text = encode(randomBytes(RANDOM));
  let found = 0;
  for (const { matcher } of matchers)
    for (let at = 0; ; found++) {
      const match = matcher.find(text, at, text.length);
      if (match === null) break;
      at = match.end;
    }
  console.log(`random data in ${name}, ${(text.length / 1e6).toFixed(0)} MB: ${found} matches`);
}

const tokens = positives(20);
const missed = tokens.filter(([, token]) => !matchers.some((m) => m.matcher.find(Buffer.from(token), 0, token.length)));
const share = ((matches / Math.max(1, files)) * 100).toFixed(3);
console.log(
  `files ${files}, ${(bytes / 1e6).toFixed(1)} MB, matches ${matches} (${share} % of the files), ${(bytes / 1e6 / seconds).toFixed(0)} MB/s`,
);
console.log(
  `tokens of the corpus ${tokens.length}, missed ${missed.length}${missed.map(([name]) => ` ${name}`).join("")}`,
);
process.exitCode = missed.length > 0 ? 1 : 0;
