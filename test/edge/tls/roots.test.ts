import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { certificateBlocks } from "../../../src/edge/tls/der.ts";
import { systemRoots, trustBundle, withAdded } from "../../../src/edge/tls/roots.ts";
import { issueCa } from "./issue.ts";

const base = mkdtempSync(join(tmpdir(), "roots-test-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));
const [a, b, c] = [await issueCa("A"), await issueCa("B"), await issueCa("C")];
const file = (name: string, text: string): string => {
  writeFileSync(join(base, name), text);
  return join(base, name);
};
const bundle = file("bundle.pem", `# comment\n${a.pem}\n${b.pem}${a.pem}`);
const other = file("other.pem", c.pem);

describe("the system's roots", () => {
  test("are those of SSL_CERT_FILE first", async () => {
    const roots = await systemRoots({ env: { SSL_CERT_FILE: other }, paths: [bundle] });
    expect(roots).toEqual({ pems: [c.pem], from: other });
  });

  test("else those of the first known path that has any, each once", async () => {
    const paths = [join(base, "absent.pem"), file("empty.pem", ""), bundle, other];
    expect(await systemRoots({ env: { SSL_CERT_FILE: "" }, paths })).toEqual({ pems: [a.pem, b.pem], from: bundle });
  });

  test("else Node's own", async () => {
    const roots = await systemRoots({ env: {}, paths: [] });
    expect(roots.from).toBe("Node.js");
    expect(roots.pems.length).toBeGreaterThan(50);
  });

  test("one damaged entry does not spoil the others", async () => {
    const damaged = file("damaged.pem", `-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n${a.pem}`);
    expect((await systemRoots({ env: {}, paths: [damaged] })).pems).toEqual([a.pem]);
  });

  test.each([
    ["is not there", join(base, "absent.pem"), /cannot read .*ENOENT/],
    ["holds none", file("text.pem", "hello"), /holds no certificate/],
  ])("SSL_CERT_FILE that %s is refused, not passed over", async (_title, path, why) => {
    await expect(systemRoots({ env: { SSL_CERT_FILE: path }, paths: [bundle] })).rejects.toThrow(why);
  });
});

test("tls.roots come beside the system's, each once; an empty file is refused", async () => {
  const system = await systemRoots({ env: {}, paths: [bundle] });
  expect(withAdded(system, [{ file: "x", pem: c.pem + a.pem }]).pems).toEqual([a.pem, b.pem, c.pem]);
  expect(() => withAdded(system, [{ file: "x.pem", pem: "" }])).toThrow(/tls\.roots: x\.pem holds no certificate/);
});

test("the bundle for children holds the roots, our CA and the rotated ones, each once", async () => {
  const system = await systemRoots({ env: {}, paths: [bundle] });
  const text = trustBundle(system, { certificatePem: c.pem, previous: [b.pem] });
  expect(certificateBlocks(text)).toEqual([a.pem, b.pem, c.pem]);
});
