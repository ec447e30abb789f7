// A house as small as one can be, for tests of the commands: real sockets, a real CA, a real control socket. Whatever host is
// asked for, it answers itself: over TLS or in the clear, inside CONNECT or outside. It keeps what it saw.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSecureContext, TLSSocket } from "node:tls";
import { fileURLToPath } from "node:url";
import { openCa } from "../../../src/edge/tls/ca.ts";
import { type ControlledHouse, openControl } from "../../../src/roles/control.ts";
import { PROGRAM } from "../../support/cli.ts";

export interface Seen {
  readonly client: string | null;
  readonly method: string;
  readonly url: string;
  readonly host: string;
  readonly secure: boolean;
}

export interface SmallHouse {
  readonly folder: string;
  readonly data: string;
  readonly ca: string;
  readonly seen: Seen[];
  readonly openPorts: () => number;
  readonly house: ControlledHouse;
  close(): Promise<void>;
}

export const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));

export async function openSmallHouse(): Promise<SmallHouse> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "sallyport-cli-")));
  const data = join(folder, "data");
  const caDir = join(folder, "certs");
  const ca = await openCa({ dir: caDir, now: Date.now });
  const seen: Seen[] = [];
  const ports = new Set<{ close(): Promise<void> }>();
  const openChildPort = async (client: string | null) => {
    if (client === "refused") throw new Error("the policy names no client refused");
    const port = await openProxy(client, seen, (host) => ca.mint(host));
    const opened = {
      port: port.port,
      close: async () => {
        ports.delete(opened);
        await port.close();
      },
    };
    ports.add(opened);
    return opened;
  };
  const main = await openChildPort(null);
  const house: ControlledHouse = {
    addresses: { proxy: `http://127.0.0.1:${main.port}`, admin: null },
    facts: {
      policyFile: "policies/observe.yaml",
      caFile: ca.file,
      caFingerprint: ca.fingerprint,
      caCreated: true,
      auditFile: join(data, "audit.db"),
      rootsFrom: "Node.js",
      secretVariables: ["SMALL_HOUSE_SECRET"],
      warnings: [],
    },
    openChildPort,
    reload: async () => {},
    drain: async () => {},
  };
  const control = await openControl(house, data);
  return {
    folder,
    data,
    ca: caDir,
    seen,
    house,
    openPorts: () => ports.size - 1,
    close: async () => {
      await control.close();
      for (const p of [...ports]) await p.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

type Mint = (host: string) => Promise<{ certPem: string; keyPem: string }>;

async function openProxy(client: string | null, seen: Seen[], mint: Mint) {
  const sockets = new Set<Socket>();
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const secure = request.socket instanceof TLSSocket;
    const { method = "", url = "", headers } = request;
    seen.push({ client, method, url, host: headers.host ?? "", secure });
    if (url.includes("/big")) return void response.end(Buffer.alloc(300_000, "b"));
    response.end(`answered ${method} ${headers.host} ${url} for ${client}`);
  };
  const origin = createServer(answer);
  const server = createServer(answer);
  server.on("connection", (s) => {
    sockets.add(s);
    s.on("error", () => s.destroy()).on("close", () => sockets.delete(s));
  });
  server.on("connect", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const authority = request.url ?? "";
    const host = authority.replace(/:\d+$/, "");
    if (host === "refused.example") {
      return void socket.end("HTTP/1.1 403 not-allowed no rule allows it\r\nconnection: close\r\n\r\n");
    }
    void mint(host).then(({ certPem, keyPem }) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      if (head.length > 0) socket.unshift(head);
      const begin = () => {
        if (!authority.endsWith(":443")) return origin.emit("connection", socket);
        const secureContext = createSecureContext({ cert: certPem, key: keyPem });
        const tls = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ["http/1.1"] });
        tls.on("error", () => socket.destroy());
        return origin.emit("connection", tls);
      };
      begin();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      for (const s of sockets) s.destroy();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}

export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Environment of this test without what an outer proxy put there. */
export function cleanEnvironment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  for (const name of ["PATH", "HOME", "LANG", "TMPDIR", "PYENV_ROOT"])
    if (process.env[name]) env[name] = process.env[name];
  return { ...env, NO_COLOR: "1", ...more };
}

/** Starts the program as a user does. */
export function startCli(args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = REPOSITORY) {
  return spawn(process.execPath, [...PROGRAM, ...args], { env: cleanEnvironment(env), cwd });
}

/** Runs it to its end, with bytes for its standard input. */
export async function cli(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; input?: Buffer; cwd?: string } = {},
): Promise<Ran> {
  const child = startCli(args, options.env, options.cwd);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (b: Buffer) => out.push(b));
  child.stderr.on("data", (b: Buffer) => err.push(b));
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? Buffer.alloc(0));
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString() };
}
