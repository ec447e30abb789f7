import { expect, test } from "vitest";
import { recordedFields, redactQuery } from "../../src/audit/redact.ts";
import { KnownSecrets } from "../../src/shared/known-secrets.ts";

test.each([
  ["/a", "/a"],
  ["/a?", "/a?"],
  ["/a?k=v", "/a?k=[redacted]"],
  ["/a?k=v&l=&m=x=y", "/a?k=[redacted]&l=&m=[redacted]"],
  ["/a?token", "/a?[redacted]"],
  ["/a?k=v?w=z", "/a?k=[redacted]"],
  ["*", "*"],
])("the query of %s is recorded as %s", (path, wanted) => {
  expect(redactQuery(path)).toBe(wanted);
});

test.each([
  "Authorization",
  "Proxy-Authorization",
  "Cookie",
  "Set-Cookie",
  "X-Api-Key",
  "x-github-token",
  "X-Client-Secret",
  "DB-Password",
])("the value of %s is never recorded", (name) => {
  expect(recordedFields([name, "hush", "x-a", "1"], [name.toLowerCase()], false, new KnownSecrets())).toEqual([
    name,
    "[redacted]",
  ]);
});

test("a configured secret is replaced in any field", () => {
  expect(recordedFields(["X-Note", "a s3cret b"], ["x-note"], false, new KnownSecrets(["s3cret"]))).toEqual([
    "X-Note",
    "a [redacted] b",
  ]);
});
