// One word for each thing (docs/glossary.md): the words that it bans do not stand in the source, where they have no meaning of
// their own in a library or a standard.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");

/** The banned word, and the files in which it is somebody else's word. */
const BANNED: readonly (readonly [word: RegExp, elsewhere: readonly string[]])[] = [
  [/upstream/i, []],
  [/downstream/i, []],
  [/ingress/i, []],
  // The product's description.
  [/egress/i, ["src/main.ts"]],
  [/mitm/i, []],
  // commander's
  [/pass-?through/i, ["src/cli/run.ts"]],
  // SQLite's
  [/transaction/i, ["src/edge/audit/"]],
  // Of a JWT (RFC 7519), of WebSocket frames (RFC 6455)
  [/payload/i, ["src/edge/auth/", "src/cli/token.ts", "src/edge/websocket/", "src/audit/record.ts"]],
  [/hop-?by-?hop/i, []],
  [/verdict/i, []],
  [/middleware/i, []],
  [/plugin/i, []],
  [/backend/i, []],
  [/tenant/i, []],
  [/fake ?cert/i, []],
  [/(?:white|black)-?list/i, []],
];

const files = readdirSync(join(ROOT, "src"), { recursive: true })
  .map((name) => `src/${String(name).replaceAll("\\", "/")}`)
  .filter((name) => /\.[mc]?[tj]s$/.test(name));

test.each(BANNED.map(([word, elsewhere]) => [word.source, word, elsewhere] as const))(
  "nobody says %s",
  (_source, word, elsewhere) => {
    const found = files
      .filter((file) => !elsewhere.some((place) => file.startsWith(place)))
      .flatMap((file) =>
        readFileSync(join(ROOT, file), "utf8")
          .split("\n")
          .flatMap((line, i) => (word.test(line) ? [`${file}:${i + 1}: ${line.trim()}`] : [])),
      );
    expect(found).toEqual([]);
  },
);

test("an exception that is not needed goes", () => {
  const idle = BANNED.flatMap(([word, elsewhere]) =>
    elsewhere.filter(
      (place) => !files.some((file) => file.startsWith(place) && word.test(readFileSync(join(ROOT, file), "utf8"))),
    ),
  );
  expect(idle).toEqual([]);
});
