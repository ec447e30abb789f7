// Real clients, started as `sallyport run -- COMMAND`: each gets through, is intercepted, speaks as who it was started for, and
// is on record with path and digests. What is not installed is named.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltHouse, firstThatWorks, notHere, program, pythonWith, ROOT, startBuiltHouse } from "./built-house.ts";
import { GO, JAVA } from "./programs.ts";
import { BIG, DEB, GZIPPED, HELLO, PACKAGE, PACKAGES } from "./site.ts";

let house: BuiltHouse;
beforeAll(async () => {
  house = await startBuiltHouse();
});
afterAll(() => house?.close());

const sha256 = (content: string | Buffer): string => createHash("sha256").update(content).digest("hex");
const here = (client: string): string | null => firstThatWorks([client, client === "go" ? "version" : "--version"]);
const node = (code: string): string[] => [process.execPath, "-e", code];
const python = (module: string, code: string): string[] | null => {
  const found = pythonWith(module);
  return found === null ? null : [found, "-c", code];
};
const SENT = "sent by the client";

interface Expected {
  readonly method: string;
  readonly path: string;
  readonly sent?: string;
  readonly received: string | Buffer;
  readonly scheme?: string;
  readonly host?: string;
  readonly clientProtocol?: string;
}
const GOT: Expected = { method: "GET", path: "/hello", received: HELLO };
const ECHOED: Expected = { method: "POST", path: "/echo", sent: SENT, received: SENT };

/** Runs it as `name`, and holds the records against what is expected. */
async function through(name: string, command: readonly string[], out: string | null, expected: readonly Expected[]) {
  const ran = await house.run(name, command);
  expect({ ...ran, command: name }).toMatchObject({ code: 0, ...(out === null ? {} : { out }) });
  const records = await house.exchanges(name, expected.length);
  expect(records.length, JSON.stringify(records)).toBe(expected.length);
  expected.forEach((e, i) => {
    expect(records[i]).toMatchObject({
      client: name,
      decision: "allow",
      method: e.method,
      scheme: e.scheme ?? "https",
      host: e.host ?? "site.test",
      path: e.path,
      sent: { sha256: sha256(e.sent ?? ""), complete: true },
      received: { sha256: sha256(e.received), bytes: e.received.length, complete: true },
      uninspected: false,
      ...(e.clientProtocol === undefined ? {} : { clientProtocol: e.clientProtocol }),
    });
  });
  return ran;
}

type Row = readonly [
  name: string,
  needs: string,
  command: () => readonly string[] | null,
  out: string | null,
  expected: readonly Expected[],
];
const HELLO_URL = "https://site.test/hello";
const ECHO_URL = "https://site.test/echo";
const curl =
  (...args: string[]) =>
  () =>
    here("curl") === null ? null : ["curl", "-sS", ...args];

const ROWS: readonly Row[] = [
  ["curl", "curl", curl(HELLO_URL), HELLO, [GOT]],
  ["curl-http1", "curl", curl("--http1.1", HELLO_URL), HELLO, [{ ...GOT, clientProtocol: "1.1" }]],
  ["curl-http2", "curl", curl("--http2", HELLO_URL), HELLO, [GOT]],
  ["curl-head", "curl", curl("-I", "-o", "/dev/null", HELLO_URL), "", [{ ...GOT, method: "HEAD", received: "" }]],
  ["curl-post", "curl", curl("-d", SENT, ECHO_URL), SENT, [ECHOED]],
  ["curl-expect", "curl", curl("-d", SENT, "-H", "Expect: 100-continue", ECHO_URL), SENT, [ECHOED]],
  ["curl-chunked", "curl", curl("-d", SENT, "-H", "Transfer-Encoding: chunked", ECHO_URL), SENT, [ECHOED]],
  ["curl-plain", "curl", curl("http://plain.test/hello"), HELLO, [{ ...GOT, scheme: "http", host: "plain.test" }]],
  ["curl-two", "curl", curl(HELLO_URL, HELLO_URL), HELLO + HELLO, [GOT, GOT]],
  ["wget", "wget", () => (here("wget") === null ? null : ["wget", "-q", "-O", "-", HELLO_URL]), HELLO, [GOT]],
  [
    "wget-post",
    "wget",
    () => (here("wget") === null ? null : ["wget", "-q", "-O", "-", `--post-data=${SENT}`, ECHO_URL]),
    SENT,
    [ECHOED],
  ],
  [
    "python-urllib",
    "python3",
    () =>
      python(
        "ssl",
        `import urllib.request as u;print(u.urlopen("${HELLO_URL}").read().decode()+u.urlopen("${ECHO_URL}",b"${SENT}").read().decode(),end="")`,
      ),
    HELLO + SENT,
    [GOT, ECHOED],
  ],
  [
    "python-requests",
    "Python requests",
    () =>
      python(
        "requests",
        `import requests;s=requests.Session();print(s.get("${HELLO_URL}").text+s.post("${ECHO_URL}",data=b"${SENT}").text,end="")`,
      ),
    HELLO + SENT,
    [GOT, ECHOED],
  ],
  [
    "python-httpx",
    "Python httpx",
    () =>
      python(
        "httpx",
        `import httpx;c=httpx.Client();print(c.get("${HELLO_URL}").text+c.post("${ECHO_URL}",content=b"${SENT}").text,end="")`,
      ),
    HELLO + SENT,
    [GOT, ECHOED],
  ],
  [
    "python-aiohttp",
    "Python aiohttp",
    () =>
      python(
        "aiohttp",
        `import aiohttp,asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as s:
        a=await (await s.get("${HELLO_URL}")).text()
        b=await (await s.post("${ECHO_URL}",data=b"${SENT}")).text()
        print(a+b,end="")
asyncio.run(main())`,
      ),
    HELLO + SENT,
    [GOT, ECHOED],
  ],
  [
    "node-fetch",
    "node",
    () =>
      node(
        `(async()=>{process.stdout.write(await (await fetch("${HELLO_URL}")).text()+await (await fetch("${ECHO_URL}",{method:"POST",body:"${SENT}"})).text())})()`,
      ),
    HELLO + SENT,
    [GOT, ECHOED],
  ],
  [
    "node-fetch-gzip",
    "node",
    () => node(`fetch("https://site.test/gzip").then(r=>r.text()).then(t=>process.stdout.write(t))`),
    HELLO,
    [{ method: "GET", path: "/gzip", received: GZIPPED }],
  ],
  ["node-https", "node", () => node(`require("https").get("${HELLO_URL}",r=>r.pipe(process.stdout))`), HELLO, [GOT]],
  [
    "node-http",
    "node",
    () => node(`require("http").get("http://plain.test/hello",r=>r.pipe(process.stdout))`),
    HELLO,
    [{ ...GOT, scheme: "http", host: "plain.test" }],
  ],
  [
    "node-https-post",
    "node",
    () =>
      node(
        `const q=require("https").request("${ECHO_URL}",{method:"POST"},r=>r.pipe(process.stdout));q.write("${SENT.slice(0, 5)}");q.end("${SENT.slice(5)}")`,
      ),
    SENT,
    [ECHOED],
  ],
  [
    "undici",
    "undici",
    () =>
      node(
        `require("${ROOT}node_modules/undici").request("${HELLO_URL}").then(r=>r.body.text()).then(t=>process.stdout.write(t))`,
      ),
    HELLO,
    [GOT],
  ],
  [
    "axios",
    "axios",
    () =>
      node(
        `const a=require("${ROOT}node_modules/axios");(async()=>{const g=await a.get("${HELLO_URL}");const p=await a.post("${ECHO_URL}","${SENT}");process.stdout.write(g.data+p.data)})()`,
      ),
    HELLO + SENT,
    [GOT, ECHOED],
  ],
  [
    "java",
    "java and javac",
    () => {
      if (here("javac") === null || here("java") === null) return null;
      const source = join(house.folder, "Get.java");
      writeFileSync(source, JAVA);
      return ["java", source, HELLO_URL, ECHO_URL, SENT];
    },
    `${HELLO}${SENT}${HELLO}`,
    [GOT, ECHOED, GOT],
  ],
];

describe("under sallyport run", () => {
  test.each(ROWS)("%s", async (name, needs, command, out, expected) => {
    const found = command();
    if (found === null) return expect(notHere(needs)).toBe(true);
    await through(name, found, out, expected);
    return undefined;
  });

  test("curl goes on where a download broke off", async () => {
    if (here("curl") === null) return expect(notHere("curl")).toBe(true);
    const file = join(house.folder, "resumed");
    writeFileSync(file, BIG.subarray(0, 50_000));
    const command = ["curl", "-sS", "-C", "-", "-o", file, "https://site.test/big"];
    await through("curl-resume", command, "", [{ method: "GET", path: "/big", received: BIG.subarray(50_000) }]);
    return expect(readFileSync(file).equals(BIG)).toBe(true);
  });

  test("curl sends a file of 3 MB", async () => {
    if (here("curl") === null) return expect(notHere("curl")).toBe(true);
    const content = "0123456789abcde\n".repeat(200_000);
    const file = join(house.folder, "upload");
    writeFileSync(file, content);
    const command = ["curl", "-sS", "-T", file, "-o", "/dev/null", ECHO_URL];
    await through("curl-put", command, "", [{ method: "PUT", path: "/echo", sent: content, received: content }]);
    return undefined;
  });

  test("go", { timeout: 120_000 }, async () => {
    if (here("go") === null) return expect(notHere("go")).toBe(true);
    mkdirSync(join(house.folder, "go"), { recursive: true });
    const [source, binary] = [join(house.folder, "go", "main.go"), join(house.folder, "go", "get")];
    writeFileSync(source, GO);
    const built = await program(["go", "build", "-o", binary, source], {
      env: house.environment(),
      cwd: join(house.folder, "go"),
      deadline: 110_000,
    });
    expect(built).toMatchObject({ code: 0 });
    await through("go", [binary, HELLO_URL, ECHO_URL, SENT], HELLO + SENT, [GOT, ECHOED]);
    return undefined;
  });

  test("git clones and pushes over HTTPS", async () => {
    if (here("git") === null) return expect(notHere("git")).toBe(true);
    const bare = join(house.folder, "git", "repository.git");
    const env = house.environment({
      GIT_AUTHOR_NAME: "t",
      GIT_AUTHOR_EMAIL: "t@site.test",
      GIT_COMMITTER_NAME: "t",
      GIT_COMMITTER_EMAIL: "t@site.test",
    });
    const git = (cwd: string, ...args: string[]) => program(["git", ...args], { env, cwd });
    mkdirSync(bare, { recursive: true });
    await git(bare, "init", "--bare", "-b", "main", ".");
    const first = await house.run("git", ["git", "clone", "https://site.test/git/repository.git", "work"]);
    expect(first).toMatchObject({ code: 0 });
    const work = join(house.folder, "work");
    writeFileSync(join(work, "file"), "content\n".repeat(5_000));
    await git(work, "add", "file");
    await git(work, "commit", "-m", "first");
    expect(await house.run("git", ["git", "push", "origin", "HEAD:main"], { cwd: work })).toMatchObject({ code: 0 });
    expect(await house.run("git", ["git", "clone", "https://site.test/git/repository.git", "again"])).toMatchObject({
      code: 0,
    });
    expect(readFileSync(join(house.folder, "again", "file"), "utf8")).toBe("content\n".repeat(5_000));
    const records = await house.exchanges("git", 6);
    expect(records.every((r) => r.status === 200 && r.sent.complete && r.received.complete)).toBe(true);
    expect(records.map((r) => `${r.method} ${r.path?.split("?")[0]}`)).toContain(
      "POST /git/repository.git/git-receive-pack",
    );
    return undefined;
  });

  test("npm installs a package", async () => {
    if (here("npm") === null) return expect(notHere("npm")).toBe(true);
    const folder = join(house.folder, "npm");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), "{}");
    const quiet = ["--no-audit", "--no-fund", "--no-update-notifier"]; // the notifier asks for npm itself
    const flags = ["--registry", "https://site.test/npm/", "--cache", join(folder, "cache"), ...quiet];
    const ran = await house.run("npm", ["npm", "install", PACKAGE, ...flags], { cwd: folder });
    expect(ran).toMatchObject({ code: 0 });
    expect(readFileSync(join(folder, "node_modules", PACKAGE, "index.js"), "utf8")).toContain("tiny");
    const wanted = ["/npm/@tiny%2fpackage", "/npm/@tiny/package/-/package-1.0.0.tgz"];
    const recorded = async () => (await house.exchanges("npm", 2)).map((r) => r.path);
    await expect.poll(recorded).toEqual(expect.arrayContaining(wanted));
    return undefined;
  });

  test("apt-get reads a list of packages and fetches one", async () => {
    if (aptIsMissing()) return expect(here("apt-get")).toBeNull();
    const apt = aptGet("apt-http", "http://plain.test/debian", {});
    expect(await house.run("apt", [...apt, "update"])).toMatchObject({ code: 0 });
    const fetched = await house.run("apt", [...apt, "download", "tiny"]);
    expect(fetched).toMatchObject({ code: 0 });
    expect(readFileSync(join(house.folder, "tiny_1.0_all.deb")).equals(DEB), fetched.err).toBe(true);
    await checkApt("apt", 0, "http");
    return undefined;
  });
});

/** Only Debian and its children have it: elsewhere it is named, and is no failure. */
function aptIsMissing(): boolean {
  const missing = here("apt-get") === null;
  if (missing) process.stdout.write("not tested here, since it is not installed: apt-get\n");
  return missing;
}

/** A command that has nothing to do with the system's packages. */
function aptGet(name: string, repository: string, more: Readonly<Record<string, string>>): string[] {
  const folder = join(house.folder, name);
  for (const part of ["lists/partial", "archives/partial", "etc"]) mkdirSync(join(folder, part), { recursive: true });
  writeFileSync(join(folder, "sources.list"), `deb [trusted=yes] ${repository} ./\n`);
  writeFileSync(join(folder, "status"), "");
  const options = {
    "Dir::Etc": join(folder, "etc"),
    "Dir::Etc::SourceList": join(folder, "sources.list"),
    "Dir::State": folder,
    "Dir::State::Lists": join(folder, "lists"),
    "Dir::State::status": join(folder, "status"),
    "Dir::Cache": folder,
    "APT::Sandbox::User": "",
    ...more,
  };
  return ["apt-get", ...Object.entries(options).flatMap(([option, value]) => ["-o", `${option}=${value}`])];
}

/** `from`: how many records the client had before. */
async function checkApt(client: string, from: number, scheme: string): Promise<void> {
  const recorded = async () =>
    (await house.exchanges(client, from)).slice(from).map((r) => ({ ...r, path: r.path?.replace("/./", "/") }));
  const [list, file] = ["/debian/Packages", "/debian/tiny_1.0_all.deb"].map((path) => ({
    ...{ decision: "allow", method: "GET", scheme, path, status: 200 },
    received: expect.objectContaining({ sha256: sha256(path.endsWith("deb") ? DEB : PACKAGES), complete: true }),
  }));
  const wanted = [expect.objectContaining(list ?? {}), expect.objectContaining(file ?? {})];
  await expect.poll(recorded).toEqual(expect.arrayContaining(wanted));
}

describe("with the usual variables and a password, without run", () => {
  const rows: readonly [string, () => readonly string[] | null][] = [
    ["curl", () => (here("curl") === null ? null : ["curl", "-sS", HELLO_URL])],
    [
      "wget",
      () => (here("wget") === null ? null : ["wget", "-q", "-O", "-", "--ca-certificate", house.bundle, HELLO_URL]),
    ],
    [
      "python3",
      () => python("ssl", `import urllib.request as u;print(u.urlopen("${HELLO_URL}").read().decode(),end="")`),
    ],
    ["Python requests", () => python("requests", `import requests;print(requests.get("${HELLO_URL}").text,end="")`)],
  ];
  test.each(rows)("%s", async (name, command) => {
    // Writes the bundle, as people would with `sallyport ca export`.
    const files = await house.command(["env", "--shell", "dotenv"]);
    expect(files.code).toBe(0);
    const found = command();
    if (found === null) return expect(notHere(name)).toBe(true);
    const proxy = house.proxy.replace("://", "://basic:pass-of-basic@");
    const trust = { SSL_CERT_FILE: house.bundle, CURL_CA_BUNDLE: house.bundle, REQUESTS_CA_BUNDLE: house.bundle };
    const env = house.environment({ https_proxy: proxy, HTTPS_PROXY: proxy, ...trust });
    const before = (await house.exchanges("basic", 0)).length;
    expect(await program(found, { env })).toMatchObject({ code: 0, out: HELLO });
    const records = await house.exchanges("basic", before + 1);
    expect(records.at(-1)).toMatchObject({ client: "basic", host: "site.test", path: "/hello", decision: "allow" });
    return undefined;
  });

  test("apt-get, which reads its own options", async () => {
    if (aptIsMissing()) return expect(here("apt-get")).toBeNull();
    expect(await house.command(["env", "--shell", "dotenv"])).toMatchObject({ code: 0 });
    const apt = aptGet("apt-https", "https://site.test/debian", {
      "Acquire::https::Proxy": house.proxy.replace("://", "://basic:pass-of-basic@"),
      "Acquire::https::CAInfo": house.bundle,
    });
    const [env, cwd] = [house.environment(), join(house.folder, "apt-https")];
    const before = (await house.exchanges("basic", 0)).length;
    expect(await program([...apt, "update"], { env, cwd })).toMatchObject({ code: 0 });
    expect(await program([...apt, "download", "tiny"], { env, cwd })).toMatchObject({ code: 0 });
    expect(readFileSync(join(cwd, "tiny_1.0_all.deb")).equals(DEB)).toBe(true);
    await checkApt("basic", before, "https");
    return undefined;
  });
});
