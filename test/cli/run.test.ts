// Real children of a real house: what passes untouched, and whether the usual programs find the proxy and trust the CA.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PROGRAM } from "../support/cli.ts";
import { cli, openSmallHouse, REPOSITORY, type SmallHouse, startCli } from "./support/small-house.ts";

let house: SmallHouse;
beforeAll(async () => {
  house = await openSmallHouse();
});
afterAll(() => house.close());
const run = (command: string[], more: { env?: NodeJS.ProcessEnv; input?: Buffer; options?: string[] } = {}) =>
  cli(["run", "--data", house.data, ...(more.options ?? []), "--", ...command], more);
const node = (code: string) => [process.execPath, "-e", code];
const installed = (program: string) => (process.env.PATH ?? "").split(":").some((p) => existsSync(join(p, program)));

describe("standard input and output, signals, exit codes", () => {
  test("bytes pass untouched both ways, and nothing of ours is on standard output", async () => {
    const input = randomBytes(3_000_000);
    const { code, stdout, stderr } = await run(node("process.stdin.pipe(process.stdout)"), { input });
    expect(code).toBe(0);
    expect(stdout.equals(input)).toBe(true);
    expect(stderr).toBe("");
  });
  test.each([0, 1, 3, 255])("exit code %i", async (code) => {
    expect((await run(node(`process.exit(${code})`))).code).toBe(code);
  });
  test("a command that a signal ended: 128 and its number", async () => {
    expect((await run(node("process.kill(process.pid, 'SIGKILL')"))).code).toBe(137);
  });
  test("a command that is not there: 127, and why on standard error", async () => {
    const { code, stdout, stderr } = await run(["no-such-command-here"]);
    expect(code).toBe(127);
    expect(stdout.length).toBe(0);
    expect(stderr).toContain("no-such-command-here");
  });
  test("a file that cannot be run: 126", async () => {
    expect((await run([join(house.ca, "ca.pem")])).code).toBe(126);
  });
  test.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const)("%s is passed on", async (signal) => {
    const code = `process.on('${signal}', () => { console.log('got it'); process.exit(5) }); console.log('ready'); setInterval(() => {}, 1000)`;
    const child = startCli(["run", "--data", house.data, "--", ...node(code)]);
    let out = "";
    for await (const chunk of child.stdout) {
      if (out === "") child.kill(signal);
      out += chunk;
    }
    const exit = child.exitCode ?? (await once(child, "exit"))[0];
    expect([out, exit]).toEqual(["ready\ngot it\n", 5]);
  });
  test("options of the command are its own", async () => {
    const { stdout } = await run([process.execPath, "-p", "process.argv.slice(1).join()", "--", "--as", "x", "--help"]);
    expect(stdout.toString()).toBe("--as,x,--help\n");
  });
  test("its port ends with it, also when run itself is killed", async () => {
    await run(node("0"));
    const child = startCli(["run", "--data", house.data, "--", ...node("console.log(1); setTimeout(() => {}, 3000)")]);
    await once(child.stdout, "data");
    expect(house.openPorts()).toBe(1);
    child.kill("SIGKILL");
    await expect.poll(house.openPorts).toBe(0);
  });
});

describe("the variables", () => {
  test("both spellings, and one identity", async () => {
    const { stdout } = await run(node("console.log(JSON.stringify(process.env))"));
    const env = JSON.parse(stdout.toString());
    for (const name of ["http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]) {
      expect(env[name]).toBe(env.HTTP_PROXY);
    }
    expect(env.HTTP_PROXY).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect([env.NO_PROXY, env.no_proxy]).toEqual(Array(2).fill("localhost,127.0.0.1,::1"));
    for (const name of ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"]) {
      expect(existsSync(env[name])).toBe(true);
    }
  });
  test("an inherited NO_PROXY is dropped with a notice, in both spellings", async () => {
    const env = { NO_PROXY: "*", no_proxy: "example.com" };
    const { stdout, stderr } = await run(node("console.log(process.env.NO_PROXY, process.env.no_proxy)"), { env });
    expect(stdout.toString()).toBe("localhost,127.0.0.1,::1 localhost,127.0.0.1,::1\n");
    expect(stderr).toContain("NO_PROXY");
    expect(stderr).toContain("no_proxy");
  });
  test("--no-proxy is taken over", async () => {
    const options = ["--no-proxy", "*.Internal.example, 10.0.0.0/8"];
    const { stdout } = await run(node("console.log(process.env.NO_PROXY)"), { options });
    expect(stdout.toString()).toBe(".internal.example,10.0.0.0/8\n");
  });
  test.each(["10.0.0.0/", "*", "a:0", "http://x"])(
    "a malformed --no-proxy %s: exit code 2, nothing started",
    async (list) => {
      const { code, stdout, stderr } = await run(node("console.log(1)"), { options: ["--no-proxy", list] });
      expect([code, stdout.toString()]).toEqual([2, ""]);
      expect(stderr).toContain(JSON.stringify(list));
    },
  );
  test("variables that the policy reads secrets from are not passed on, with a notice; others are", async () => {
    const folder = mkdtempSync(join(tmpdir(), "sallyport-run-"));
    const policy = join(folder, "p.yaml");
    const text = [
      "version: 1",
      "secrets: { github: { env: GITHUB_TOKEN } }",
      'clients: { mcp: { password: "${env:MCP_PASSWORD}" } }',
      "rules:",
      '  - { id: a, who: mcp, allow: "https://${env:API_HOST}", headers: { set: { authorization: "Bearer ${secret:github}" } } }',
    ].join("\n");
    writeFileSync(policy, text);
    const secrets = {
      GITHUB_TOKEN: "ghp_1234567890",
      MCP_PASSWORD: "correct horse",
      SALLYPORT_CA_PASSPHRASE: "battery staple",
    };
    const options = ["-c", policy, "--data", join(folder, "data"), "--ca", join(folder, "ca"), "--as", "mcp"];
    const code = "console.log(JSON.stringify(process.env))";
    const ran = await cli(["run", ...options, "--", ...node(code)], { env: { ...secrets, API_HOST: "api.example" } });
    expect(ran.stderr).toContain("GITHUB_TOKEN is not passed on");
    const env = JSON.parse(ran.stdout.toString());
    for (const name of Object.keys(secrets)) expect(env[name]).toBeUndefined();
    expect(env.API_HOST).toBe("api.example");
    for (const value of Object.values(secrets)) expect(ran.stdout.toString() + ran.stderr).not.toContain(value);
    // The house had them all the same: its CA's key is encrypted with the passphrase.
    expect(readFileSync(join(folder, "ca", "ca.key"), "utf8")).toContain("ENCRYPTED");
  });
  test("a client that the house refuses: exit code 2", async () => {
    const { code, stderr } = await run(node("0"), { options: ["--as", "refused"] });
    expect(code).toBe(2);
    expect(stderr).toContain("names no client");
  });
  test("a run inside a run speaks as itself, and variables do not grow", async () => {
    const inner = ["run", "--data", house.data, "--as", "inner", "--"];
    const code = `console.log(process.env.JAVA_TOOL_OPTIONS.split('-Dhttp.proxyHost').length, process.env.NODE_OPTIONS.split('--require').length)`;
    const { stdout, stderr } = await run([process.execPath, ...PROGRAM, ...inner, ...node(code)]);
    expect([stdout.toString(), stderr]).toEqual(["2 2\n", expect.not.stringContaining("NO_PROXY")]);
  });
});

describe("programs find the proxy and trust the CA", () => {
  const said = (url: string, client = "kid") => {
    const { host, pathname } = new URL(url);
    return `answered GET ${host} ${pathname} for ${client}`;
  };
  const HTTPS = "https://secure.example/x";
  const HTTP = "http://plain.example/x";
  const nodeFetch = (url: string) => node(`fetch('${url}').then(r => r.text()).then(t => process.stdout.write(t))`);
  const nodeGet = (url: string, agent = "") =>
    node(`const m = require('${url.split(":")[0]}'); m.get('${url}', {${agent}}, r => r.pipe(process.stdout))`);
  const python = (url: string) => [
    "python3",
    "-c",
    `import urllib.request as u,sys; sys.stdout.write(u.urlopen('${url}').read().decode())`,
  ];
  const clients: [string, string, string[]][] = [
    ["node fetch, https", "node", nodeFetch(HTTPS)],
    ["node https.get", "node", nodeGet(HTTPS)],
    ["node http.get", "node", nodeGet(HTTP)],
    ["node https.get with an agent of its own", "node", nodeGet(HTTPS, "agent: new m.Agent({ keepAlive: false })")],
    ["node https.get without an agent", "node", nodeGet(HTTPS, "agent: false")],
    ["curl, https", "curl", ["curl", "-sS", HTTPS]],
    ["wget, https", "wget", ["wget", "-q", "-O", "-", HTTPS]],
    ["python urllib, https", "python3", python(HTTPS)],
  ];
  test.each(clients.filter(([, program]) => program === "node" || installed(program)))(
    "%s",
    async (_name, _p, command) => {
      const { code, stdout, stderr } = await run(command, { options: ["--as", "kid"] });
      const url = command.join(" ").includes("https") ? HTTPS : HTTP;
      expect({ code, out: stdout.toString(), stderr }).toMatchObject({ code: 0, out: said(url) });
    },
  );
  test.each(clients.filter(([name]) => name === "node fetch, https"))("node fetch, http", async () => {
    const { stdout } = await run(nodeFetch(HTTP), { options: ["--as", "kid"] });
    expect(stdout.toString()).toBe(said(HTTP));
  });
  test("node: a larger body arrives whole", async () => {
    const { stdout } = await run(
      node(`fetch('https://big.example/big').then(r => r.text()).then(t => console.log(t.length))`),
    );
    expect(stdout.toString()).toBe("300000\n");
  });
  test("node: a refusal names the status", async () => {
    const code = `require('https').get('https://refused.example/').on('error', e => console.log(e.code, e.message))`;
    expect((await run(node(code))).stdout.toString()).toMatch(/^EPROXYREFUSED .*refused\.example:443: 403 not-allowed/);
  });
  test("node: an agent that makes its own connections is left alone", async () => {
    const code = `
      const http = require('http'), net = require('net');
      const s = http.createServer((q, r) => r.end('own')).listen(0, '127.0.0.1', () => {
        class Own extends http.Agent { createConnection() { return net.connect(s.address().port, '127.0.0.1') } }
        http.get('http://elsewhere.example/', { agent: new Own() }, r => { r.pipe(process.stdout); r.on('end', () => s.close()) });
      })`;
    expect((await run(node(code))).stdout.toString()).toBe("own");
  });
  test("node: NO_PROXY is honoured by http and fetch", async () => {
    const code = `
      const http = require('http');
      const s = http.createServer((q, r) => r.end('direct ')).listen(0, '127.0.0.1', async () => {
        const url = 'http://127.0.0.1:' + s.address().port;
        process.stdout.write(await (await fetch(url)).text());
        http.get(url, { agent: false }, r => { r.pipe(process.stdout); r.on('end', () => s.close(() => process.exit())) });
      })`;
    expect((await run(node(code))).stdout.toString()).toBe("direct direct ");
  });
  const java = installed("java") ? [["java"]] : [];
  test.each(java)("%s", async () => {
    const source = join(house.folder, "Get.java");
    writeFileSync(
      source,
      `public class Get { public static void main(String[] a) throws Exception {
        System.out.write(new java.net.URL("${HTTPS}").openStream().readAllBytes()); System.out.flush(); } }`,
    );
    const { code, stdout, stderr } = await run(["java", source], { options: ["--as", "kid"] });
    expect({ code, out: stdout.toString(), stderr }).toMatchObject({ code: 0, out: said(HTTPS) });
  });
});

describe("a house that is there already", () => {
  const observe = join(REPOSITORY, "policies/observe.yaml");
  test("is joined when it has the policy that was asked for", async () => {
    const { code } = await run(node("process.exit(7)"), { options: ["-c", observe] });
    expect(code).toBe(7);
  });
  test("is not joined when it has another: the command does not run", async () => {
    const strict = join(REPOSITORY, "policies/strict.yaml");
    const { code, stdout, stderr } = await run(node("console.log('ran')"), { options: ["-c", strict] });
    expect([code, stdout.toString()]).toEqual([2, ""]);
    expect(stderr).toContain(`has the policy policies/observe.yaml, not ${strict}`);
    expect(stderr).toContain("--data");
  });
});
