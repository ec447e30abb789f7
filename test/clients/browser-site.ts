// The site that a browser loads: the same page at three origins (HTTP/2, HTTP/1.1 over TLS, clear HTTP), with what pages load.
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import type { AddressInfo, Server } from "node:net";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { WebSocketServer } from "ws";
import type { TestCa } from "../support/certificates.ts";
import { echo } from "../support/web-socket.ts";
import { CLASSIC, FRAME, GIF, HTML, MAIN, PART, STYLE, SVG, WORKER } from "./browser-page.ts";
import type { Scene } from "./built-house.ts";

export const HELLO = "hello, browser\n";
/** 8 MB that do not compress. */
export const BIG = Buffer.from(Uint32Array.from({ length: 2_000_000 }, (_, i) => Math.imul(i, 2_654_435_761)).buffer);
const GZIPPED = gzipSync(HELLO);
export const BROTLI = brotliCompressSync(HELLO);

interface Resource {
  readonly type: string;
  readonly content: string | Buffer;
  readonly fields?: Readonly<Record<string, string>>;
}

/** What is simply there. Nothing is kept by a cache, so that every load is a request. */
export const RESOURCES: Readonly<Record<string, Resource>> = {
  "/": { type: "text/html", content: HTML },
  "/style.css": { type: "text/css", content: STYLE },
  "/back.svg": { type: "image/svg+xml", content: SVG },
  "/picture.gif": { type: "image/gif", content: GIF },
  "/classic.js": { type: "text/javascript", content: CLASSIC },
  "/main.js": { type: "text/javascript", content: MAIN },
  "/part.js": { type: "text/javascript", content: PART },
  "/worker.js": { type: "text/javascript", content: WORKER },
  "/frame.html": { type: "text/html", content: FRAME },
  "/hello": { type: "text/plain", content: HELLO },
  "/secret": { type: "text/plain", content: "nobody gets this\n" },
  "/gzip": { type: "text/plain", content: GZIPPED, fields: { "content-encoding": "gzip" } },
  "/brotli": { type: "text/plain", content: BROTLI, fields: { "content-encoding": "br" } },
  "/big": { type: "application/octet-stream", content: BIG },
  "/head": { type: "text/plain", content: HELLO },
  "/alternative": { type: "text/plain", content: HELLO, fields: { "alt-svc": 'h3=":443"; ma=86400' } },
  "/cookie/set": { type: "text/plain", content: "set\n", fields: { "set-cookie": "a=1" } },
};

export interface PageSeen {
  /** Scheme and host of the page. */
  readonly origin: string;
  /** What each check of the page gave. */
  readonly seen: Readonly<Record<string, string>>;
}

export class BrowserSite implements Scene {
  readonly policy: string;
  private readonly servers: readonly Server[];
  private visit: { http2: boolean; left: string[]; seen: PageSeen[]; done: (seen: PageSeen[]) => void } | null = null;
  private readonly acknowledged = new Map<string, () => void>();

  constructor(servers: readonly Server[]) {
    this.servers = servers;
    const [modern, old, plain] = servers.map((s) => (s.address() as AddressInfo).port);
    const to = (scheme: string, port: number | undefined) => `to: { url: "${scheme}://localhost:${port}", host: keep }`;
    this.policy = `rules:
  - { id: secret, deny: ["https://new.test/secret", "https://old.test/secret", "http://plain.test/secret"] }
  - { id: new, allow: ["https://new.test"], ${to("https", modern)} }
  - { id: old, allow: ["https://old.test"], ${to("https", old)} }
  - { id: plain, allow: ["http://plain.test"], ${to("http", plain)} }
`;
  }

  /** Resolves once a browser that begins at the first page has reported from each of them. `http2`: whether it speaks that. */
  reports(pages: readonly string[], http2: boolean): Promise<PageSeen[]> {
    return new Promise((done) => {
      this.visit = { http2, left: [...pages.slice(1), ""], seen: [], done };
    });
  }

  async close(): Promise<void> {
    for (const server of this.servers) {
      (server as Partial<http.Server>).closeAllConnections?.();
      server.close();
    }
  }

  answer(request: http.IncomingMessage, response: http.ServerResponse, scheme: string): void {
    const { method, url: path = "/", headers } = request;
    const origin = `${scheme}://${headers[":authority"] ?? headers.host}`;
    const resource = RESOURCES[path];
    response.setHeader("cache-control", "no-store");
    if (path === "/report") void this.report(origin, request, response);
    else if (path === "/settings") response.end(JSON.stringify({ http2: this.visit?.http2 }));
    else if (path === "/events") void this.events(origin, response);
    else if (path.startsWith("/ack/")) this.acknowledge(`${origin}${path}`, response);
    else if (path.startsWith("/echo/")) request.pipe(response);
    else if (resource !== undefined) give(resource, method === "HEAD", response);
    else special(path, request, response);
  }

  private async report(origin: string, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const visit = this.visit;
    const seen = JSON.parse((await contentOf(request)).toString()) as PageSeen["seen"];
    if (visit === null) return void response.destroy();
    visit.seen.push({ origin, seen });
    response.end(visit.left.shift() ?? "");
    if (visit.left.length === 0) visit.done(visit.seen);
  }

  /** Three events, each only after the page has said that it has the one before. */
  private async events(origin: string, response: http.ServerResponse): Promise<void> {
    response.setHeader("content-type", "text/event-stream");
    for (const event of ["1", "2", "3"]) {
      const acknowledged = new Promise<void>((done) => this.acknowledged.set(`${origin}/ack/${event}`, done));
      response.write(`data: ${event}\n\n`);
      await acknowledged;
    }
    response.end();
  }

  private acknowledge(key: string, response: http.ServerResponse): void {
    this.acknowledged.get(key)?.();
    response.statusCode = 204;
    response.end();
  }
}

export async function openBrowserSite(ca: TestCa): Promise<BrowserSite> {
  const holder: { site: BrowserSite | null } = { site: null };
  const over =
    (scheme: string): http.RequestListener =>
    (request, response) =>
      holder.site?.answer(request, response, scheme);
  const pair = ca.leaf("localhost");
  // What node:http2 hands to a listener has the interface of node:http.
  const modern = over("https") as unknown as Parameters<typeof http2.createSecureServer>[1];
  const servers = [
    http2.createSecureServer({ ...pair, allowHTTP1: true }, modern),
    https.createServer(pair, over("https")),
    http.createServer(over("http")),
  ];
  const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: true });
  webSockets.on("connection", echo);
  for (const server of servers) {
    server.on("upgrade", (request: http.IncomingMessage, socket, head) => {
      webSockets.handleUpgrade(request, socket, head, (opened) => webSockets.emit("connection", opened, request));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  }
  holder.site = new BrowserSite(servers);
  return holder.site;
}

function give({ type, content, fields = {} }: Resource, head: boolean, response: http.ServerResponse): void {
  response.setHeader("content-type", type);
  response.setHeader("content-length", Buffer.byteLength(content));
  for (const [name, value] of Object.entries(fields)) response.setHeader(name, value);
  response.end(head ? undefined : content);
}

function special(path: string, request: http.IncomingMessage, response: http.ServerResponse): void {
  if (path === "/redirect") {
    response.writeHead(302, { location: "/hello" }).end();
  } else if (path === "/range") {
    response.writeHead(206, { "content-range": "bytes 3-6/10", "content-length": "4" }).end("3456");
  } else if (path === "/count") {
    void contentOf(request).then((content) => response.end(`${content.length > 2_000_000}`));
  } else if (path === "/cookie/get") {
    response.end(request.headers.cookie);
  } else if (path === "/cached") {
    const [known, fields] = [request.headers["if-none-match"], { etag: '"1"', "cache-control": "max-age=600" }];
    response.writeHead(known === '"1"' ? 304 : 200, fields).end(known === '"1"' ? undefined : HELLO);
  } else if (path === "/shared") {
    const allowed = { "access-control-allow-origin": "*", "access-control-allow-headers": "x-own" };
    if (request.method === "OPTIONS") response.writeHead(204, allowed).end();
    else response.writeHead(200, allowed).end(`own: ${request.headers["x-own"]}`);
  } else if (path === "/broken") {
    response.write("the beginning");
    setTimeout(() => breakOff(response), 50);
  } else {
    response.writeHead(404).end("nothing here\n");
  }
}

/** Of an HTTP/2 connection only the stream: others are on it. */
function breakOff(response: http.ServerResponse): void {
  const { stream } = response as unknown as { stream?: http2.ServerHttp2Stream };
  if (stream === undefined) response.destroy();
  else stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
}

async function contentOf(request: http.IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
