// The admin port: /healthz, /readyz and /metrics. It only reads, and it says nothing secret.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, isIP } from "node:net";
import { hostname } from "node:os";
import type { Log } from "../../shared/log.ts";
import type { ReadyReport } from "./readiness.ts";

export interface AdminOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly ready: () => ReadyReport;
  readonly scrape: () => Promise<{ contentType: string; text: string }>;
  readonly log: Log;
  /** Names by which this port may be asked, beside addresses, `localhost`, single-label names and this machine's own. */
  readonly names?: readonly string[];
}

export interface AdminServer {
  /** `http://127.0.0.1:9090` */
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

const MAX_CONNECTIONS = 64;
const HEAD_BYTES = 8 * 1024;
const TEXT = "text/plain; charset=utf-8";

/** Listens; rejects with the error of `listen` (such as EADDRINUSE). */
export async function startAdminServer(options: AdminOptions): Promise<AdminServer> {
  const names = new Set(["localhost", hostname().toLowerCase(), options.host.toLowerCase(), ...(options.names ?? [])]);
  const server = createServer(
    { maxHeaderSize: HEAD_BYTES, headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000 },
    (request, response) => {
      answer(request, options, names)
        .catch((error: unknown): Answer => {
          options.log.error({ error }, "the admin port could not answer");
          return { status: 500, contentType: TEXT, text: "internal error\n" };
        })
        .then((said) => send(request, response, said))
        .catch(() => response.destroy());
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = 15_000;
  await listening(server, options);
  const { address, family, port } = server.address() as AddressInfo;
  const shown = family === "IPv6" ? `[${address}]` : address;
  return { address: `http://${shown}:${port}`, port, close: () => closed(server) };
}

async function answer(request: IncomingMessage, options: AdminOptions, names: ReadonlySet<string>): Promise<Answer> {
  // A page in somebody's browser can make its own name resolve to this address (DNS rebinding) and then read the answer.
  if (!isOwnName(request.headers.host, names)) {
    return { status: 421, contentType: TEXT, text: "this port is not served under that name\n" };
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    return { status: 405, contentType: TEXT, text: "only GET and HEAD\n" };
  }
  switch ((request.url ?? "").split("?", 1)[0]) {
    case "/healthz":
      return { status: 200, contentType: TEXT, text: "ok\n" };
    case "/readyz": {
      const report = options.ready();
      const status = report.ready ? 200 : 503;
      return { status, contentType: "application/json", text: `${JSON.stringify(report)}\n` };
    }
    case "/metrics":
      return { status: 200, ...(await options.scrape()) };
    default:
      return { status: 404, contentType: TEXT, text: "/healthz /readyz /metrics\n" };
  }
}

/** An address, a single label (never a public name) or a name that was given to us. */
function isOwnName(host: string | undefined, names: ReadonlySet<string>): boolean {
  const name = (host ?? "").toLowerCase().match(/^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/)?.[1];
  if (name === undefined) return false;
  const bare = name.replace(/^\[|\]$/g, "");
  return isIP(bare) !== 0 || !bare.includes(".") || names.has(bare);
}

function send(request: IncomingMessage, response: ServerResponse, { status, contentType, text }: Answer): void {
  response.writeHead(status, {
    "content-type": contentType,
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...(status === 405 ? { allow: "GET, HEAD" } : {}),
    // Nothing here takes content: whatever a client sends after its head is not read.
    ...(status >= 400 && status !== 503 ? { connection: "close" } : {}),
  });
  response.end(request.method === "HEAD" ? undefined : text);
}

function listening(server: Server, { host, port, log }: AdminOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      server.off("error", reject);
      server.on("error", (error) => log.error({ error }, "the admin port has an error"));
      resolve();
    });
  });
}

/** Stops taking connections and ends the open ones: nothing here is worth waiting for. */
function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
