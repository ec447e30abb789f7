// The site that real clients talk to: one https origin with things to get, to send to, to clone and to install.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import type http from "node:http";
import { gzipSync } from "node:zlib";
import type { TestCa } from "../support/certificates.ts";
import { type HttpOrigin, startHttpOrigin } from "../support/origin.ts";

export const HELLO = "hello from the origin\n";
/** 200 kB that differ everywhere, for ranges. */
export const BIG = Buffer.from(Array.from({ length: 25_000 }, (_, i) => `${i}`.padStart(7, "0")).join("\n"));

export const GZIPPED = gzipSync(HELLO);

export interface Site {
  readonly secure: HttpOrigin;
  readonly plain: HttpOrigin;
  close(): Promise<void>;
}

/** `gitRoot`: the folder of bare repositories below /git/. */
export async function openSite(ca: TestCa, gitRoot: string): Promise<Site> {
  const handler: http.RequestListener = (request, response) => answer(request, response, gitRoot);
  const secure = await startHttpOrigin(handler, ca.leaf("localhost"));
  const plain = await startHttpOrigin(handler);
  return {
    secure,
    plain,
    close: async () => {
      await secure.close();
      await plain.close();
    },
  };
}

function answer(request: http.IncomingMessage, response: http.ServerResponse, gitRoot: string): void {
  const { pathname } = new URL(request.url ?? "/", "http://site");
  if (pathname === "/echo") {
    response.setHeader("content-type", "application/octet-stream");
    request.pipe(response);
  } else if (pathname === "/hello") {
    response.setHeader("content-type", "text/plain");
    response.setHeader("content-length", HELLO.length);
    response.end(HELLO);
  } else if (pathname === "/gzip") {
    response.setHeader("content-encoding", "gzip");
    response.end(GZIPPED);
  } else if (pathname === "/big") {
    range(request, response);
  } else if (pathname === "/who") {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ authorized: request.headers.authorization === "Bearer t0ken-of-the-api" }));
  } else if (pathname.startsWith("/git/")) {
    git(request, response, gitRoot, pathname.slice(4));
  } else if (pathname.startsWith("/npm/")) {
    registry(response, decodeURIComponent(pathname.slice(5)));
  } else if (pathname.startsWith("/debian/")) {
    repository(response, pathname.slice(8).replace(/^\.\//, ""));
  } else {
    response.statusCode = 404;
    response.end("nothing here\n");
  }
}

function range(request: http.IncomingMessage, response: http.ServerResponse): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  response.setHeader("accept-ranges", "bytes");
  response.setHeader("content-length", BIG.length - from);
  if (from > 0) {
    response.statusCode = 206;
    response.setHeader("content-range", `bytes ${from}-${BIG.length - 1}/${BIG.length}`);
  }
  response.end(BIG.subarray(from));
}

// ---- git over HTTPS (git-http-backend is a CGI program) -----------------------------------------------------------------

function git(request: http.IncomingMessage, response: http.ServerResponse, root: string, path: string): void {
  const { headers } = request;
  const child = spawn("git", ["http-backend"], {
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_CONFIG_COUNT: "2",
      GIT_CONFIG_KEY_0: "safe.directory",
      GIT_CONFIG_VALUE_0: "*",
      GIT_CONFIG_KEY_1: "http.receivepack",
      GIT_CONFIG_VALUE_1: "true",
      REQUEST_METHOD: request.method,
      PATH_INFO: path,
      QUERY_STRING: (request.url ?? "").split("?")[1] ?? "",
      CONTENT_TYPE: headers["content-type"] ?? "",
      ...(headers["content-length"] === undefined ? {} : { CONTENT_LENGTH: headers["content-length"] }),
      ...(headers["content-encoding"] === undefined ? {} : { HTTP_CONTENT_ENCODING: headers["content-encoding"] }),
      ...(headers["git-protocol"] === undefined ? {} : { GIT_PROTOCOL: headers["git-protocol"] as string }),
    },
  });
  child.on("error", () => response.destroy());
  child.stdin.on("error", () => {});
  request.pipe(child.stdin);
  let head = Buffer.alloc(0);
  const begin = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    child.stdout.off("data", begin);
    for (const line of head.toString("latin1", 0, end).split("\r\n")) {
      const colon = line.indexOf(":");
      const [name, value] = [line.slice(0, colon), line.slice(colon + 1).trim()];
      if (name.toLowerCase() === "status") response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.write(head.subarray(end + 4));
    child.stdout.pipe(response);
  };
  child.stdout.on("data", begin);
}

// ---- a registry with one package ---------------------------------------------------------------------------------------

export const PACKAGE = "@tiny/package";
const TARBALL = gzipSync(
  tar({
    "package/package.json": JSON.stringify({ name: PACKAGE, version: "1.0.0", main: "index.js" }),
    "package/index.js": "module.exports = 'tiny';\n",
  }),
);

function registry(response: http.ServerResponse, path: string): void {
  if (path.endsWith(".tgz")) return void response.end(TARBALL);
  if (path !== PACKAGE) {
    response.statusCode = 404;
    return void response.end("{}");
  }
  const integrity = `sha512-${createHash("sha512").update(TARBALL).digest("base64")}`;
  const dist = { tarball: `https://site.test/npm/${PACKAGE}/-/package-1.0.0.tgz`, integrity };
  const versions = { "1.0.0": { name: PACKAGE, version: "1.0.0", dist } };
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ name: PACKAGE, "dist-tags": { latest: "1.0.0" }, versions }));
}

// ---- a flat repository of Debian packages with one of them ---------------------------------------------------------------

/** Nobody unpacks it. */
export const DEB = Buffer.from("!<arch>\n".repeat(1_000));
export const PACKAGES = `Package: tiny
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@site.test>
Filename: ./tiny_1.0_all.deb
Size: ${DEB.length}
SHA256: ${createHash("sha256").update(DEB).digest("hex")}
Description: tiny
`;

function repository(response: http.ServerResponse, path: string): void {
  if (path === "Packages") return void response.end(PACKAGES);
  if (path === "tiny_1.0_all.deb") return void response.end(DEB);
  response.statusCode = 404;
  response.end();
}

/** A ustar archive. */
function tar(files: Readonly<Record<string, string>>): Buffer {
  const blocks: Buffer[] = [];
  for (const [name, content] of Object.entries(files)) {
    const head = Buffer.alloc(512);
    head.write(name, 0);
    head.write("0000644\x000000000\x000000000\0", 100);
    head.write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
    head.write("00000000000\0        0", 136);
    head.write("ustar\x0000", 257);
    const sum = head.reduce((a, b) => a + b, 0);
    head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    blocks.push(head, Buffer.from(content), Buffer.alloc((512 - (content.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
