// A program that was told two secrets, and clients that bring each of them to every place of which something is written, in
// every spelling that this place can hold. Afterwards neither is in anything that the program wrote or says of it.
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { AuditReader } from "../../src/edge/audit/reader.ts";
import { cli, startCli } from "../cli/support/small-house.ts";
import { TestCa } from "../support/certificates.ts";
import { type HttpOrigin, origins, type RawOrigin, startHttpOrigin, startRawOrigin } from "../support/origin.ts";
import { connectTo, tlsThrough, tunnelThrough } from "../support/raw-client.ts";
import { BINARY, masked, rawWebSocket, startWsOrigin, TEXT, type WsOrigin } from "../support/web-socket.ts";

/** May stand in a host name, and in a token. */
const PLAIN = "Hunter2-Label-Secret";
/** Needs escapes everywhere. */
const ODD = 'p@ss/w+rd "é&<1';
const SPELT = (secret: string): Record<string, string> => {
  const raw = Buffer.from(secret);
  const hex = raw.toString("hex");
  const at = (n: number): string => Buffer.concat([Buffer.alloc(n, "x"), raw, Buffer.alloc(3, "z")]).toString("base64");
  return {
    raw: raw.toString("latin1"),
    "base64 at 0": at(0),
    "base64 at 1": at(1),
    "base64 at 2": at(2),
    base64url: raw.toString("base64url"),
    hex,
    "hex in capitals": hex.toUpperCase(),
    percent: encodeURIComponent(secret),
    "percent twice": encodeURIComponent(encodeURIComponent(secret)),
    "percent byte by byte": hex.replace(/../g, "%$&"),
    json: Buffer.from(JSON.stringify(secret).slice(1, -1)).toString("latin1"),
    "json escapes": [...secret].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""),
  };
};
const URL_SAFE = /^[A-Za-z0-9%._~-]+$/;
const LABEL_SAFE = /^[A-Za-z0-9-]{1,63}$/;
const FIELD_SAFE = /^[\t\x20-\x7e\x80-\xff]+$/;

interface Visit {
  readonly name: string;
  readonly spelling: string;
}
const visits: Visit[] = [];
for (const secret of [PLAIN, ODD])
  for (const [name, spelling] of Object.entries(SPELT(secret))) visits.push({ name: `${secret} ${name}`, spelling });
const inUrls = visits.filter((v) => URL_SAFE.test(v.spelling));
const inFields = visits.filter((v) => FIELD_SAFE.test(v.spelling));
const inLabels = visits.filter((v) => LABEL_SAFE.test(v.spelling));
/** A partly encoded one is for paths. */
const inPaths = [...inUrls, { name: "percent here and there", spelling: "Hunt%65r2-L%61bel-S%2565cret" }];

const ca = new TestCa();
let folder: string;
let port: number;
let admin: number;
let stop: () => Promise<number>;
let written = "";
let metrics = "";
let echo: HttpOrigin;
let sockets: WsOrigin;
let named: RawOrigin;
let blind: RawOrigin;
let plainOrigin: string;
let houseCa: string;

/** Answers with what it was sent: in a field and as content, which comes in pieces that cut it. */
const echoing: Parameters<typeof startHttpOrigin>[0] = (request, response) => {
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => parts.push(part));
  request.on("end", () => {
    const note = request.headers["x-note"];
    if (typeof note === "string") response.setHeader("x-echo", note);
    const content = Buffer.concat(parts);
    const half = content.length >> 1;
    response.write(content.subarray(0, half));
    setTimeout(() => response.end(content.subarray(half)), 5);
  });
};

const policy = (): string => `version: 1
tls: { roots: [roots.pem] }
server: { log-level: debug }
defaults: { action: deny }
network: { allow: [127.0.0.0/8] }
secrets: { plain: { env: THE_PLAIN }, odd: { env: THE_ODD } }
clients: { agent: { password: Proxy-Pass-77 } }
rules:
  - { id: "pin-${PLAIN}", allow: ["*.pin.test"], to: "https://127.0.0.1:${blind.port}", tunnel: { reason: pins } }
  - { id: pinned, allow: ["127.0.0.1:${blind.port}"], tunnel: { reason: pins } }
  - { id: certificate, allow: ["127.0.0.1:${named.port}"] }
  - { id: "rule-${PLAIN}", allow: ["http://*.leak.test", "https://*.leak.test"], to: "${plainOrigin}" }
  - { id: sockets, allow: ["http://localhost:${sockets.port}"], record: { bodies: 4KiB } }
  - id: echo
    allow: ["${plainOrigin}"]
    headers: { set: { x-injected: "\${secret:plain}" } }
    record: { fields: [x-note, x-echo, authorization, referer, location], bodies: 4KiB, query: true }
`;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-spellings-"));
  echo = await startHttpOrigin(echoing);
  plainOrigin = `http://127.0.0.1:${echo.port}`;
  sockets = await startWsOrigin();
  named = await startRawOrigin(origins.text("no"), { tls: ca.leaf(`${PLAIN.toLowerCase()}.other.test`) });
  blind = await startRawOrigin(origins.text("unseen"), { tls: ca.leaf("x.pin.test", { names: ["*.pin.test"] }) });
  writeFileSync(join(folder, "roots.pem"), ca.cert);
  writeFileSync(join(folder, "policy.yaml"), policy());
  await start();
});

afterAll(async () => {
  await stop?.();
  await Promise.all([echo.close(), sockets.close(), named.close(), blind.close()]);
  rmSync(folder, { recursive: true, force: true });
});

async function start(): Promise<void> {
  const places = ["--data", join(folder, "data"), "--ca", join(folder, "certs")];
  const ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "debug"];
  const child = startCli(["start", "-c", join(folder, "policy.yaml"), ...places, ...ports], {
    THE_PLAIN: PLAIN,
    THE_ODD: ODD,
  });
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (bytes: Buffer) => {
      written += bytes.toString("latin1");
    });
  stop = async () => {
    if (child.exitCode !== null) return child.exitCode;
    child.kill("SIGTERM");
    return (await once(child, "exit"))[0] as number;
  };
  for (const end = Date.now() + 30_000; !/\n {2}try .*\n/.test(written); await wait(50))
    if (Date.now() > end || child.exitCode !== null) throw new Error(written);
  port = Number(/proxy +http:\/\/127\.0\.0\.1:(\d+)/.exec(written)?.[1]);
  admin = Number(/admin +(?:http:\/\/)?127\.0\.0\.1:(\d+)/.exec(written)?.[1]);
  houseCa = readFileSync(join(folder, "certs", "ca.pem"), "utf8");
}

/** Sends a request; the status of the answer. */
async function ask(bytes: string | readonly (string | Buffer)[]): Promise<number> {
  const client = await connectTo(port);
  for (const part of typeof bytes === "string" ? [bytes] : bytes) {
    client.send(part as string);
    await wait(5);
  }
  const { status } = await client.response();
  client.destroy();
  return status;
}

const records = (): AuditRecord[] => {
  const reader = new AuditReader(join(folder, "data"));
  try {
    return [...reader.oldest({})].map((stored) => stored.record);
  } finally {
    reader.close();
  }
};

const get = (target: string, fields = "", method = "GET"): string => {
  const { host } = new URL(target);
  return `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;
};

/** TLS inside a CONNECT, whatever comes of it. */
async function tryTls(authority: string, servername: string, trust: string): Promise<void> {
  const inside = await tlsThrough(port, authority, {
    servername,
    ca: trust,
    tls: { checkServerIdentity: () => undefined },
  });
  inside.send(`GET / HTTP/1.1\r\nHost: ${servername}\r\n\r\n`);
  await inside.response();
  inside.socket.end();
}

/** Each place, and how each spelling gets there; they all run before anything is looked at. */
const PLACES: Readonly<Record<string, readonly [readonly Visit[], (v: Visit) => Promise<unknown>]>> = {
  path: [inPaths, ({ spelling }) => ask(get(`${plainOrigin}/path/${spelling}/x`))],
  query: [inPaths, ({ spelling }) => ask(get(`${plainOrigin}/query?a=${spelling}&b=1`))],
  "query that is not recorded": [inPaths, ({ spelling }) => ask(get(`http://h.leak.test/hidden?a=${spelling}`))],
  "name of a query value": [inPaths, ({ spelling }) => ask(get(`http://h.leak.test/name?${spelling}=&b`))],
  "field recorded": [
    inFields,
    ({ spelling }) => ask(get(`${plainOrigin}/field`, `X-Note: a${spelling}b\r\nReferer: http://u:${PLAIN}@h/\r\n`)),
  ],
  "credential fields": [
    inFields,
    ({ spelling }) =>
      ask(get(`${plainOrigin}/credential`, `Authorization: Bearer ${spelling}\r\nCookie: s=${spelling}\r\n`)),
  ],
  "body recorded, cut into chunks": [
    visits,
    ({ spelling }) => {
      const body = Buffer.from(`{"a":"${spelling}"}`, "latin1");
      const cut = body.length >> 1;
      const chunk = (b: Buffer): Buffer =>
        Buffer.concat([Buffer.from(`${b.length.toString(16)}\r\n`), b, Buffer.from("\r\n")]);
      const head = get(`${plainOrigin}/body`, "Transfer-Encoding: chunked\r\n", "POST");
      return ask([head, chunk(body.subarray(0, cut)), chunk(body.subarray(cut)), "0\r\n\r\n"]);
    },
  ],
  method: [[{ name: "raw", spelling: PLAIN }], ({ spelling }) => ask(get(`${plainOrigin}/method`, "", spelling))],
  "host label": [inLabels, ({ spelling }) => ask(get(`http://${spelling}.leak.test/host`))],
  "host label that is refused": [inLabels, ({ spelling }) => ask(get(`http://x.${spelling}.denied.test/`))],
  "CONNECT that is refused": [inLabels, ({ spelling }) => refusedConnect(`${spelling}.denied.test:443`)],
  "SNI of a blind tunnel": [
    inLabels,
    ({ spelling }) => tryTls(`${spelling}.pin.test:443`, `${spelling}.pin.test`, ca.cert),
  ],
  "SNI that is not the name of CONNECT": [
    inLabels,
    ({ spelling }) => tryTls("a.pin.test:443", `${spelling}.other.test`, ca.cert).catch(() => {}),
  ],
  "an intercepted host, refused by the client": [
    inLabels,
    ({ spelling }) => tryTls(`${spelling}.leak.test:443`, `${spelling}.leak.test`, ca.cert).catch(() => {}),
  ],
  "neither TLS nor HTTP inside CONNECT": [
    inLabels,
    async ({ spelling }) => {
      const inside = await tunnelThrough(port, `${spelling}.leak.test:443`);
      inside.send("SSH-2.0-x\r\n\r\n");
      await inside.closed();
    },
  ],
  "error text: the name in an origin's certificate": [
    [{ name: "raw", spelling: PLAIN }],
    async () => {
      const inside = await tlsThrough(port, `127.0.0.1:${named.port}`, { ca: houseCa });
      inside.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${named.port}\r\n\r\n`);
      await inside.response();
      inside.destroy();
    },
  ],
  "an invalid request": [inFields, ({ spelling }) => ask(`GET http://x/ HTTP/1.1\r\n${spelling}\r\n\r\n`)],
  "userinfo of a URL": [
    inUrls,
    ({ spelling }) => ask(get(`http://h/`).replace("http://h", `http://user:${spelling}@h`)),
  ],
  // Few: who guesses is made to wait.
  "Proxy-Authorization": [
    inFields.slice(0, 2),
    ({ spelling }) =>
      ask(
        get(
          `${plainOrigin}/auth`,
          `Proxy-Authorization: Basic ${Buffer.from(`agent:${spelling}`).toString("base64")}\r\n`,
        ),
      ),
  ],
  "Proxy-Authorization that is right": [
    [{ name: "right", spelling: "" }],
    () =>
      ask(
        get(
          `${plainOrigin}/right`,
          `Proxy-Authorization: Basic ${Buffer.from("agent:Proxy-Pass-77").toString("base64")}\r\n`,
        ),
      ),
  ],
  "WebSocket messages, cut": [
    visits,
    async ({ spelling }) => {
      const body = Buffer.from(spelling, "latin1");
      const cut = body.length >> 1;
      const client = await rawWebSocket("plain ws", { port, ca: houseCa }, sockets.port, "/ws");
      const opcode = !/[\x80-\xff]/.test(spelling) ? TEXT : BINARY;
      client.connection.send(masked(opcode, body.subarray(0, cut), { fin: false }));
      client.connection.send(masked(0, body.subarray(cut)));
      client.connection.send(masked(TEXT, "between"));
      await wait(30);
      client.connection.destroy();
    },
  ],
};

async function refusedConnect(authority: string): Promise<number> {
  return ask(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
}

const body = (r: AuditRecord, side: "requestBody" | "responseBody"): string =>
  Buffer.from(r[side]?.base64 ?? "", "base64").toString("latin1");
const fieldIn = (fields: readonly string[] | undefined, name: string): string =>
  fields?.[fields.findIndex((f, i) => i % 2 === 0 && f.toLowerCase() === name) + 1] ?? "";

/** What stands beside base64 at another alignment may stay. */
const marked = (name: string | null, before: string, after: string): boolean => {
  const [first, second, ...more] = (name ?? "").split("[redacted]");
  if (second === undefined || more.length > 0 || !first?.startsWith(before) || !second.endsWith(`.${after}`))
    return false;
  return first.length - before.length < 4 && second.length - after.length < 6;
};

/** What the records of each place look like: all of them, with the mark where the secret was. */
const WANTED: Readonly<Record<string, (r: AuditRecord) => boolean>> = {
  path: (r) => /^\/path\/.{0,7}\[redacted\].{0,9}\/x$/.test(r.path ?? ""),
  query: (r) => /^\/query\?a=.{0,7}\[redacted\].{0,9}&b=1$/.test(r.path ?? ""),
  "query that is not recorded": (r) => r.path === "/hidden?a=[redacted]",
  "name of a query value": (r) => /^\/name\?.{0,7}\[redacted\].{0,9}=&\[redacted\]$/.test(r.path ?? ""),
  "field recorded": (r) =>
    /^a.{0,7}\[redacted\].{0,9}b$/.test(fieldIn(r.requestFields, "x-note")) &&
    fieldIn(r.requestFields, "referer") === "http://[redacted]@h/" &&
    /^a.{0,7}\[redacted\].{0,9}b$/.test(fieldIn(r.responseFields, "x-echo")),
  "credential fields": (r) => r.path === "/credential" && fieldIn(r.requestFields, "authorization") === "[redacted]",
  "body recorded, cut into chunks": (r) =>
    [body(r, "requestBody"), body(r, "responseBody")].every((b) => /^\{"a":".{0,7}\[redacted\].{0,9}"\}$/.test(b)) &&
    r.requestBody?.whole === false,
  "host label": (r) => r.path === "/host" && marked(r.host, "", "leak.test"),
  "host label that is refused": (r) => marked(r.host, "x.", "denied.test") && r.reason === "not-allowed",
  "CONNECT that is refused": (r) => marked(r.host, "", "denied.test") && r.kind === "connect",
  "SNI of a blind tunnel": (r) =>
    r.uninspected &&
    marked(r.sni, "", "pin.test") &&
    r.host?.toLowerCase() === r.sni?.toLowerCase() &&
    r.rule === "pin-[redacted]",
  "SNI that is not the name of CONNECT": (r) => marked(r.sni, "", "other.test") && r.host === "a.pin.test",
  "an intercepted host, refused by the client": (r) =>
    r.reason?.startsWith("client-tls-") === true && marked(r.host, "", "leak.test"),
  "neither TLS nor HTTP inside CONNECT": (r) => r.reason === "opaque-protocol" && marked(r.host, "", "leak.test"),
  "error text: the name in an origin's certificate": (r) => r.error?.includes("[redacted].other.test") === true,
  "WebSocket messages, cut": (r) =>
    r.kind === "upgrade" && /^.{0,7}\[redacted\].{0,9}between$/.test(body(r, "requestBody")),
  "Proxy-Authorization": (r) => r.path === "/auth" && r.reason === "wrong-credential",
  "Proxy-Authorization that is right": (r) => r.path === "/right" && r.client === "agent",
};

describe("every spelling in every place", () => {
  let all: AuditRecord[];
  beforeAll(async () => {
    await Promise.all(
      Object.values(PLACES).map(async ([some, go]) => {
        for (const visit of some) await go(visit);
      }),
    );
    for (let before = -1; before !== records().length; await wait(400)) before = records().length;
    all = records();
    const scrape = await fetch(`http://127.0.0.1:${admin}/metrics`);
    metrics = await scrape.text();
  }, 120_000);

  test.each(Object.keys(WANTED))("%s: the record is there, and the mark stands where the secret was", (place) => {
    const count = PLACES[place]?.[0].length ?? 0;
    expect(count).toBeGreaterThan(0);
    const found = all.filter(WANTED[place] as (r: AuditRecord) => boolean);
    expect(found.length).toBe(count);
  });

  test("nothing of them is in what a record says", () => {
    for (const record of all) {
      const bodies = [body(record, "requestBody"), body(record, "responseBody")];
      for (const text of [JSON.stringify(record), ...Object.values(record).map(String), ...bodies])
        expect(leaks(text), JSON.stringify(record)).toEqual([]);
    }
  });

  test("nor in the metrics, which name the rule by the mark", () => {
    expect(metrics).toContain('rule="rule-[redacted]"');
    expect(leaks(metrics)).toEqual([]);
  });

  test("nor in what the commands print", async () => {
    const places = ["--data", join(folder, "data")];
    const shown = all.filter((r) => r.host === "[redacted].leak.test" || r.requestBody !== undefined).slice(-2);
    const runs = [
      ...shown.map((r) => ["show", r.id, "--json"]),
      ["query", "--limit", "100000", "--json"],
      ["query", "--limit", "100000", "--group-by", "host"],
      ["stats"],
      ...["jsonl", "csv", "har"].map((format) => ["export", "--format", format]),
      ["verify"],
    ];
    for (const args of runs) {
      const { code, stdout, stderr } = await cli(["audit", ...args, ...places]);
      expect([args, code, stderr]).toEqual([args, 0, expect.anything()]);
      expect(stdout.length).toBeGreaterThan(20);
      expect(leaks(stdout.toString("latin1") + stderr), args.join(" ")).toEqual([]);
    }
  });

  test("nor, after it has ended, in any file that it wrote or in its log, which speaks of these hosts", async () => {
    expect(await stop()).toBe(0);
    expect(written).toContain("[redacted].leak.test");
    expect(leaks(written)).toEqual([]);
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
      .map((name) => join(folder, name))
      .filter((file) => statSync(file).isFile() && !/(?:policy\.yaml|roots\.pem)$/.test(file));
    expect(files.some((file) => file.endsWith("audit.db"))).toBe(true);
    for (const file of files) expect(leaks(readFileSync(file).toString("latin1")), file).toEqual([]);
  });
});

/** Which spellings stand in a text, in whatever letters: said by this file alone. Of base64 what depends on the secret alone. */
const FORBIDDEN = [PLAIN, ODD].flatMap((secret) => {
  const { "base64 at 0": zero, "base64 at 1": one, "base64 at 2": two, ...rest } = SPELT(secret);
  return [...Object.values(rest), secret, zero?.slice(0, -6), one?.slice(2, -6), two?.slice(3, -6)].map((t) =>
    (t as string).toLowerCase(),
  );
});
FORBIDDEN.push("hunt%65r2", "proxy-pass-77", Buffer.from("agent:Proxy-Pass-77").toString("base64").toLowerCase());

function leaks(text: string): string[] {
  const folded = text.toLowerCase();
  return FORBIDDEN.filter((spelling) => folded.includes(spelling));
}
