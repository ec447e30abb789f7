import { chmodSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { type LoadOptions, loadConfig } from "../../src/config/load.ts";
import { ConfigError, type LoadedConfig } from "../../src/config/loaded.ts";
import { runTests } from "../../src/config/run-tests.ts";

function folder(files: Record<string, string | Buffer>): string {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-config-"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

const load = (files: Record<string, string | Buffer>, more: Partial<LoadOptions> = {}): Promise<LoadedConfig> => {
  const dir = folder(files);
  return loadConfig({ files: [join(dir, "p.yaml")], env: {}, flags: {}, cwd: dir, ...more });
};

/** Problems as `file:line:column: message`, without the folder. */
async function problems(files: Record<string, string | Buffer>, more: Partial<LoadOptions> = {}): Promise<string[]> {
  try {
    await load(files, more);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((p) => `${p.file.split("/").at(-1)}:${p.line}:${p.column}: ${p.message}`);
  }
  return [];
}

it("warns of a file that every user of the machine may change, also where it is included", async () => {
  const dir = folder({ "p.yaml": "version: 1\ninclude: [more.yaml]\n", "more.yaml": "rules: []\n" });
  const options = { files: [join(dir, "p.yaml")], env: {}, flags: {}, cwd: dir };
  const modes = [0o644, 0o664, 0o666] as const;
  const said: string[][] = [];
  for (const mode of modes) {
    chmodSync(join(dir, "more.yaml"), mode);
    const { warnings } = await loadConfig(options);
    said.push(warnings.map((w) => `${basename(w.file)}: ${w.message}`));
  }
  const warning = "more.yaml: every user of this machine may change this file: run chmod o-w more.yaml";
  expect(said).toEqual([[], [], [warning]]);
});

const V = "version: 1\n";
/** The text after line 1, and what must be said, where. */
const WRONG: [what: string, text: string, expected: string][] = [
  ["an unknown key", "rulez: []", 'p.yaml:2:1: unknown key "rulez": did you mean rules?'],
  ["an unknown key inside", "server:\n  lisen: 127.0.0.1:1", 'p.yaml:3:3: unknown key "lisen": did you mean listen?'],
  ["a key of a later version", "mcp: {}", "p.yaml:2:1: mcp: not supported in this version"],
  [
    "a key of a later version in a rule",
    "rules:\n  - id: r\n    allow: a.example\n    cache: { ttl: 3s }",
    "p.yaml:5:5: cache: not supported in this version",
  ],
  ["a rate limit", "defaults: { limits: { rate: 3/minute } }", "p.yaml:2:23: rate: not supported in this version"],
  [
    "a pool",
    "rules: [{ id: r, allow: a.example, to: pool }]",
    "p.yaml:2:40: a pool of origins is not supported in this version: give one origin, as https://host",
  ],
  [
    "socks",
    "rules: [{ id: r, allow: a.example, via: 'socks5://x:1' }]",
    "p.yaml:2:41: a SOCKS proxy is not supported in this version: give an http:// or https:// one",
  ],
  ["known secrets", "rules: [{ id: r, allow: a.example, content: [{ redact: { pattern: '(' } }] }]", "p.yaml:2:67:"],
  ["a key twice", "audit: {}\naudit: {}", "p.yaml:3:1: this key stands here twice"],
  [
    "a bad size",
    "defaults:\n  limits: { request: 10MB }",
    "p.yaml:3:22: a size is a number with B, KiB, MiB or GiB, such as 64KiB, or none",
  ],
  [
    "a bad duration",
    "defaults: { limits: { idle: 60 } }",
    "p.yaml:2:29: a duration is a number with ms, s, m, h or d, such as 30s",
  ],
  [
    "a status that is none of those",
    "rules: [{ id: r, allow: a.example, redirect: { to: 'https://b.example', status: 200 } }]",
    "p.yaml:2:81: expected 301, or 302, or 303, or 307, or 308",
  ],
  [
    "neither off nor an address",
    "server: { admin: nowhere }",
    "p.yaml:2:18: an address is host:port, such as 127.0.0.1:8080 or [::1]:8080",
  ],
  [
    "a bad date",
    "rules: [{ id: r, deny: a.example, mode: report, until: 2027-02-30 }]",
    "p.yaml:2:56: there is no such day",
  ],
  [
    "a bad pattern",
    "rules:\n  - id: r\n    allow:\n      - a.example\n      - get a.example",
    "p.yaml:6:9: methods are case-sensitive: did you mean GET?",
  ],
  [
    "an id twice",
    "rules:\n  - { id: r, allow: a.example }\n  - { id: r, deny: b.example }",
    "p.yaml:4:11: another rule is called r already",
  ],
  [
    "an unknown client",
    "clients: { alice: { addresses: [10.0.0.0/8] } }\nrules: [{ id: r, who: alcie, allow: a.example }]",
    "p.yaml:3:23: no client is called alcie: did you mean alice?",
  ],
  [
    "everything",
    "rules: [{ id: r, allow: '*' }]",
    "p.yaml:2:25: * covers every host: name the hosts, or say broad: true",
  ],
  [
    "a top-level domain",
    "rules: [{ id: r, deny: ['*.com'] }]",
    "p.yaml:2:25: *.com covers a whole top-level domain: name the hosts, or say broad: true",
  ],
  ["neither allow nor deny", "rules: [{ id: r }]", "p.yaml:2:9: rule r says neither allow nor deny"],
  [
    "a deny with a plan",
    "rules: [{ id: r, deny: a.example, headers: {} }]",
    "p.yaml:2:44: what is denied has no use for headers",
  ],
  [
    "a tunnel with a method",
    "rules: [{ id: r, allow: GET a.example, tunnel: { reason: x } }]",
    "p.yaml:2:25: a tunnel is not opened: a method cannot be compared",
  ],
  [
    "a tunnel with headers",
    "rules: [{ id: r, allow: a.example, tunnel: { reason: x }, headers: {} }]",
    "p.yaml:2:68: a tunnel is not opened: headers contradicts it",
  ],
  [
    "a tunnel without a reason",
    "rules: [{ id: r, allow: a.example, tunnel: {} }]",
    "p.yaml:2:44: reason is missing: a tunnel wants a reason",
  ],
  [
    "a line break in a field (F13)",
    'rules: [{ id: r, allow: a.example, headers: { set: { x-a: "b\\r\\nc: d" } } }]',
    "p.yaml:2:59: the value of x-a holds a line break, another control character or one beyond Latin-1",
  ],
  [
    "Host",
    "rules: [{ id: r, allow: a.example, headers: { set: { Host: x } } }]",
    "p.yaml:2:60: Host follows the target: use `to: { url: …, host: set|keep }`",
  ],
  [
    "framing",
    "rules: [{ id: r, allow: a.example, headers: { remove: [Content-Length] } }]",
    "p.yaml:2:56: Content-Length belongs to the connection or to the framing and cannot be edited",
  ],
  [
    "connection fields of the response",
    "rules: [{ id: r, allow: a.example, headers: { response: { append: { Proxy-Status: x } } } }]",
    "p.yaml:2:83: Proxy-Status belongs to the connection or to the framing and cannot be edited",
  ],
  [
    "a redirect with a query",
    "rules: [{ id: r, allow: a.example, redirect: { to: 'https://b.example/?x' } }]",
    "p.yaml:2:52: a redirect goes to scheme://host[:port][/prefix], http or https, without a query",
  ],
  [
    "an unknown reference",
    "rules: [{ id: r, allow: a.example, headers: { set: { x: '${evn:X}' } } }]",
    "p.yaml:2:57: a reference is ${env:NAME}, ${file:PATH} or ${secret:NAME}: did you mean env:? (for the characters themselves write $${)",
  ],
  [
    "a missing variable",
    "clients: { a: { password: '${env:NOPE}' } }",
    "p.yaml:2:27: the environment variable NOPE is not set",
  ],
  [
    "a missing secret",
    "secrets: { git: { env: HAVE } }\nrules: [{ id: r, allow: a.example, headers: { set: { x: '${secret:gti}' } } }]",
    "p.yaml:3:57: no secret is called gti: did you mean git?",
  ],
  [
    "a file that never ends",
    "clients: { a: { password: '${file:/dev/zero}' } }",
    "p.yaml:2:27: cannot read /dev/zero: it is not a regular file",
  ],
  ["a missing file", "clients: { a: { password: '${file:nope}' } }", "p.yaml:2:27: cannot read "],
  [
    "a secret without a source",
    "secrets: { a: {} }",
    "p.yaml:2:15: a secret comes from exactly one of env, file and command",
  ],
  [
    "a secret whose variable is missing",
    "secrets: { a: { env: NOPE } }",
    "p.yaml:2:15: the secret a: the environment variable NOPE is not set",
  ],
  [
    "a secret whose command fails",
    "secrets: { a: { command: ['false'] } }",
    "p.yaml:2:15: the secret a: false failed with exit code 1",
  ],
  [
    "a secret whose command is not there",
    "secrets: { a: { command: no-such-command-here } }",
    "p.yaml:2:15: the secret a: there is no command no-such-command-here",
  ],
  [
    "a client nobody can be",
    "clients: { a: {} }",
    "p.yaml:2:15: nothing says how a is recognised: password, bearer, addresses or certificate",
  ],
  [
    "a hash that is none",
    "clients: { a: { password: 'scrypt:3:8:1:AAAA:BBBB' } }",
    "p.yaml:2:27: a hashed password is scrypt:N:r:p:SALT:HASH, N a power of two, salt and hash in base64",
  ],
  [
    "key confusion",
    "clients: { a: { bearer: { jwks: 'https://x/', algorithms: [HS256] } } }",
    "p.yaml:2:60: HS256 does not go with public keys",
  ],
  [
    "two keys",
    "clients: { a: { bearer: { jwks: 'https://x/', secret: y } } }",
    "p.yaml:2:25: a bearer token is checked with exactly one of secret, public-key and jwks",
  ],
  [
    "an address that is none",
    "clients: { a: { addresses: [10.0.0.0/33] } }",
    'p.yaml:2:29: "10.0.0.0/33" is not an address or a range',
  ],
  ["a network that is none", "network: { allow: [10.0.0.1/8] }", "p.yaml:2:20: "],
  [
    "an exception without an end",
    "tls: { exceptions: [{ host: a.example, allow: expired, reason: x }] }",
    "p.yaml:2:21: until is missing: a date is YYYY-MM-DD",
  ],
  ["a root that is not there", "tls: { roots: [nope.pem] }", "p.yaml:2:16: cannot read "],
  ["a root that is none", "tls: { roots: [p.yaml] }", "p.yaml:2:16: "],
  [
    "a listener that is none",
    "server: { listen: '8080' }",
    "p.yaml:2:19: an address is host:port, such as 127.0.0.1:8080 or [::1]:8080",
  ],
  ["a tag", "audit: !x {}", "p.yaml:2:8: Unresolved tag: !x"],
  ["a second document", "---\nx: 1", "p.yaml:2:1: one file holds one document: remove the line ---"],
  ["__proto__", "__proto__: { x: 1 }", 'p.yaml:2:1: unknown key "__proto__"'],
];

describe("what is wrong is told with its place", () => {
  it.each(WRONG)("%s", async (_, text, expected) => {
    const found = await problems({ "p.yaml": V + text }, { env: { HAVE: "have-a-secret" } });
    expect(
      found.some((line) => line.startsWith(expected)),
      found.join("\n"),
    ).toBe(true);
  });

  it("tells everything at once, in the order of the file", async () => {
    const text = `${V}rulez: 1\naudit: { sync: never }\nrules:\n  - { id: r, allow: 'a.*.b' }\n  - { id: s, allow: a.example, limits: { idle: 1 } }\n`;
    const found = await problems({ "p.yaml": text });
    expect(found.map((f) => f.split(":")[1])).toEqual(["2", "3", "5", "6"]);
  });

  it("tells what is wrong in well-formed parts beside what is not well formed", async () => {
    const text = `${V}rulez: 1
tls: { roots: [nope.pem] }
clients:
  d: {}
  e: { password: [1] }
  f: { certificate: { name: x } }
rules:
  - { id: a, alow: x.example }
  - { id: b, allow: b.example, who: [e, nobody] }
  - { id: b, allow: c.example, who: f }
server: { lisen: x }
network: { allow: [10.0.0.1/8] }
`;
    const found = await problems({ "p.yaml": text });
    expect(found.map((f) => f.replace(/^p\.yaml:(\d+):\d+: /, "$1 "))).toEqual([
      '2 unknown key "rulez": did you mean rules?',
      expect.stringMatching(/^3 cannot read .*nope\.pem: there is no such file/),
      "5 nothing says how d is recognised: password, bearer, addresses or certificate",
      expect.stringMatching(/^6 /),
      '9 unknown key "alow": did you mean allow?',
      "10 no client is called nobody",
      "11 another rule is called b already",
      '12 unknown key "lisen": did you mean listen?',
      '13 "10.0.0.1/8" has bits beyond its prefix length',
    ]);
  });

  it("wants a version", async () => {
    expect(await problems({ "p.yaml": "rules: []" })).toEqual([
      "p.yaml:1:1: version is missing: the version of this format is 1",
    ]);
    expect(await problems({ "p.yaml": "" })).toEqual([
      "p.yaml:1:1: version is missing: the version of this format is 1",
    ]);
    expect((await problems({ "p.yaml": "version: 2" }))[0]).toMatch(/^p.yaml:1:10: /);
  });

  it("survives what is made to harm", async () => {
    const bomb = `${V}a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c]\n`;
    expect((await problems({ "p.yaml": bomb }))[0]).toMatch(/alias/);
    expect((await problems({ "p.yaml": `${V}x: ${"[".repeat(50_000)}` })).length).toBeGreaterThan(0);
    expect((await problems({ "p.yaml": Buffer.from([0x76, 0xff, 0xfe]) }))[0]).toMatch(/not UTF-8/);
    expect((await problems({ "p.yaml": "- 1" }))[0]).toMatch(/map of sections/);
  });

  it("never shows a secret", async () => {
    const text = `${V}secrets: { s: { env: S } }\nrules: [{ id: r, allow: a.example, to: 'x\${secret:s}' }, { id: q, allow: 'h \${secret:s} \${env:S}' }]\n`;
    const found = await problems({ "p.yaml": text }, { env: { S: "hunter2-hunter2" } });
    expect(found.length).toBeGreaterThan(0);
    expect(found.join()).not.toContain("hunter2");
  });
});

describe("several files", () => {
  it("joins them in order, as one namespace", async () => {
    const config = await load({
      "p.yaml": `${V}include: [sub/q.yaml]\nrules: [{ id: one, deny: a.example }]\nnetwork: { allow: [10.0.0.0/8] }\n`,
      "sub/q.yaml": `rules: [{ id: two, deny: b.example }]\nnetwork: { allow: [172.16.0.0/12] }\nclients: { a: { password: "\${file:pw}" } }\n`,
      "sub/pw": "from-a-file\n",
    });
    expect(config.policy.rules.map((r) => r.id)).toEqual(["one", "two"]);
    expect(config.network.allow).toEqual(["10.0.0.0/8", "172.16.0.0/12"]);
    expect(config.clients[0]?.password).toEqual({ kind: "plain", password: "from-a-file" });
    expect(config.sources).toHaveLength(2);
  });
  it("refuses what is said twice, with both places", async () => {
    const found = await problems({
      "p.yaml": `${V}include: [q.yaml]\ndefaults: { action: deny }\nrules: [{ id: r, deny: a.example }]\nclients: { a: { addresses: [10.0.0.1] } }\n`,
      "q.yaml": `defaults: { action: allow }\nrules: [{ id: r, deny: b.example }]\nclients: { a: { addresses: [10.0.0.2] } }\n`,
    });
    expect(found[0]).toMatch(/^q.yaml:1:13: defaults.action is set already in .*p.yaml:3:13$/);
    expect(found[1]).toMatch(/^q.yaml:3:12: clients.a is set already/);
    const ids = await problems({
      "p.yaml": `${V}include: [q.yaml]\nrules: [{ id: r, deny: a.example }]\n`,
      "q.yaml": `rules: [{ id: r, deny: b.example }]\n`,
    });
    expect(ids).toEqual(["q.yaml:1:15: another rule is called r already"]);
  });
  it("refuses a circle and a file that is not there", async () => {
    expect((await problems({ "p.yaml": `${V}include: [p.yaml]` }))[0]).toMatch(/^p.yaml:2:11: .*included twice/);
    expect((await problems({ "p.yaml": `${V}include: [nope.yaml]` }))[0]).toMatch(
      /^p.yaml:2:11: cannot read .*no such file/,
    );
  });
});

describe("what is right is ready to use", () => {
  it("fills in defaults; BOM and CRLF do no harm", async () => {
    const config = await load({ "p.yaml": "\uFEFFversion: 1\r\nrules:\r\n  - id: r\r\n    allow: a.example\r\n" });
    expect(config.server).toMatchObject({
      listen: { host: "127.0.0.1", port: 8080 },
      authentication: "optional",
      opaque: "deny",
      strictHost: false,
    });
    expect(config.policy.defaults.limits).toEqual({
      request: Infinity,
      response: Infinity,
      headers: 32768,
      url: 16384,
      idle: 60000,
      total: Infinity,
    });
    expect(config.policy.version).toMatch(/^[0-9a-f]{16}$/);
    expect(config.audit).toEqual({ required: true, keep: { age: Infinity, size: Infinity }, sync: "normal" });
  });

  it("lets flags beat the environment, and that the file", async () => {
    const file = { "p.yaml": `${V}server: { listen: "[::1]:1", admin: off, data: ./d, log-level: warn }\n` };
    const env = {
      SALLYPORT_LISTEN: "127.0.0.1:2",
      SALLYPORT_ADMIN: "localhost:3",
      SALLYPORT_DATA: "/e",
      SALLYPORT_CA: "/c",
    };
    const plain = await load(file);
    expect(plain.server.listen).toEqual({ host: "::1", port: 1 });
    expect(plain.server.admin).toBeNull();
    expect(plain.server.data).toMatch(/\/d$/);
    const second = await load(file, { env });
    expect(second.server).toMatchObject({
      listen: { port: 2 },
      admin: { host: "127.0.0.1", port: 3 },
      data: "/e",
      ca: "/c",
    });
    const third = await load(file, {
      env,
      flags: { listen: "127.0.0.1:0", admin: "off", data: "/f", logLevel: "debug" },
    });
    expect(third.server).toMatchObject({ listen: { port: 0 }, admin: null, data: "/f", ca: "/c", logLevel: "debug" });
  });

  it("puts secrets in from the environment, files and commands, and knows their values", async () => {
    const config = await load(
      {
        "p.yaml": `${V}secrets:\n  e: { env: TOKEN }\n  f: { file: s.txt }\n  c: { command: [printf, from-command] }\nrules:\n  - id: r\n    allow: a.example\n    headers: { set: { a: "Bearer \${secret:e}", b: "\${secret:f}", c: "\${secret:c}", d: "$\${x}" } }\n    via: { url: "http://p.example:3128", username: u, password: "\${secret:e}" }\n`,
        "s.txt": "from-file\n",
      },
      { env: { TOKEN: "from-environment" } },
    );
    const plan = config.policy.rules[0]?.plan;
    expect(plan?.requestEdits.map((e) => e.value)).toEqual([
      "Bearer from-environment",
      "from-file",
      "from-command",
      "${x}",
    ]);
    expect(plan?.via?.authorization).toBe(`Basic ${Buffer.from("u:from-environment").toString("base64")}`);
    expect([...config.secretValues].sort()).toEqual(["from-command", "from-environment", "from-file"]);
  });

  it("percent-decodes the user of a next proxy exactly once (O3)", async () => {
    const config = await load({
      "p.yaml": `${V}rules: [{ id: r, allow: a.example, via: "http://u%40x:p%253A%2F@p.example:3128" }]`,
    });
    expect(config.policy.rules[0]?.plan.via).toMatchObject({
      host: "p.example",
      port: 3128,
      authorization: `Basic ${btoa("u@x:p%3A/")}`,
    });
    expect(config.secretValues).toEqual(expect.arrayContaining(["p%253A%2F", "p%3A/"].filter((x) => x.length >= 6)));
  });

  it("warns of what is probably not meant", async () => {
    const config = await load({
      "p.yaml": `${V}rules:
  - { id: a, allow: ["*.x.example"] }
  - { id: b, allow: ["GET y.x.example"] }
  - { id: c, allow: ["bücher.de", "pаypal.com"] }
  - { id: d, allow: z.example, to: "http://10.0.0.1" }
  - { id: e, deny: w.example, mode: report }
  - { id: f, deny: v.example, mode: report, until: 2020-01-01 }
  - { id: g, allow: v.example }
`,
    });
    const text = config.warnings.map((w) => `${w.line}: ${w.message}`).join("\n");
    expect(text).toMatch(/^3: \*\.x\.example does not cover x\.example itself/m);
    expect(text).toMatch(/^4: GET y\.x\.example never decides: rule a covers it/m);
    expect(text).toMatch(/^5: bücher\.de is compared as xn--bcher-kva\.de/m);
    expect(text).toMatch(/^5: pаypal mixes letters of several scripts/m);
    expect(text).toMatch(/^6: 10\.0\.0\.1 is closed to the proxy: add 10\.0\.0\.1\/32 to network\.allow/m);
    expect(text).toMatch(/^7: rule e: report mode without an end/m);
    expect(text).toMatch(/^8: rule f: report mode is over/m);
    expect(text).toMatch(/^9: v\.example never decides: rule f covers it, and a deny always wins/m);
  });
});

describe("an exception for names that many own", () => {
  it.each([
    ["*.com", true],
    ["*.COM.", true],
    ["*.internal", true],
    ["*.co.uk", true],
    ["*.com.au", true],
    ["*.example.com", false],
    ["*.co.example", false],
    ["*.old.co.uk", false],
    ["com", false],
    ["old.example", false],
  ])("%s: warned of: %s", async (host, warned) => {
    const config = await load({
      "p.yaml": `${V}tls: { exceptions: [{ host: "${host}", allow: expired, reason: x, until: 2999-01-01 }] }`,
    });
    const told = config.warnings.map((w) => `${w.line}:${w.column}: ${w.message}`);
    const name = host.toLowerCase().replace(/\.$/, "");
    const warning = `2:29: ${name} overlooks this for every site under ${name.slice(2)}: name the sites that need it`;
    expect(told).toEqual(warned ? [warning] : []);
  });
});

describe("the policies that people start from", () => {
  const dir = join(import.meta.dirname, "../../policies");
  const files = ["observe.yaml", "strict.yaml", ...readdirSync(join(dir, "examples")).map((f) => join("examples", f))];
  it.each(files)("%s passes its own tests", async (file) => {
    const config = await loadConfig({ files: [join(dir, file)], env: {}, flags: {}, secrets: "placeholder" });
    const results = runTests(config);
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter((r) => !r.passed)).toEqual([]);
  });
});
