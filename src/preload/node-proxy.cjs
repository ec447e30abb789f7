// Loaded into the Node processes of a child by NODE_OPTIONS. Older Node versions read no proxy variable: this sends what
// http, https and fetch do through the proxy, with CONNECT. It changes the way that plain agents connect and the default
// dispatcher of fetch; an agent or dispatcher that the program brings connects as it always did. JavaScript on purpose: it
// must run in any Node, whatever else is installed, and must never make a program fail that would have run without it.
"use strict";

const MARK = Symbol.for("sallyport.preload");
const DISPATCHER = Symbol.for("undici.globalDispatcher.1");
const MAX_HEAD = 16 * 1024;
const DEADLINE = 60_000;

if (!globalThis[MARK]) {
  Object.defineProperty(globalThis, MARK, { value: true });
  const proxy = readProxy(process.env.https_proxy || process.env.HTTPS_PROXY || process.env.http_proxy);
  if (proxy !== null) {
    const listed = readNoProxy(process.env.no_proxy ?? process.env.NO_PROXY ?? "");
    // A client that reads the proxy variables itself (axios) connects to the proxy through these agents.
    const direct = (host, port) => (host === proxy.host && Number(port) === proxy.port) || listed(host, port);
    patchAgents(proxy, direct);
    patchFetch(proxy, direct);
  }
}

function readProxy(text) {
  try {
    const url = new URL(text);
    if (url.protocol !== "http:") return null;
    return { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 80) };
  } catch {
    return null;
  }
}

// The list as `sallyport run` writes it: names, `.names`, addresses, ranges, each but the last with an optional port.
function readNoProxy(text) {
  const net = require("node:net");
  const checks = [];
  for (const entry of text.toLowerCase().split(/[\s,]+/)) {
    const range = /^([^/]+)\/(\d+)$/.exec(entry);
    const ported = net.isIP(entry) ? null : /^(.+):(\d+)$/.exec(entry);
    const name = (ported ? ported[1] : entry).replace(/^\[|\]$/g, "");
    const port = ported ? Number(ported[2]) : null;
    if (name === "" || name === "*") continue;
    if (range && net.isIP(range[1])) {
      const list = new net.BlockList();
      const family = (address) => (net.isIP(address) === 6 ? "ipv6" : "ipv4");
      list.addSubnet(range[1], Number(range[2]), family(range[1]));
      checks.push((host) => net.isIP(host) !== 0 && list.check(host, family(host)));
    } else if (name.startsWith(".")) {
      checks.push((host, p) => host.endsWith(name) && (port === null || port === p));
    } else {
      const below = net.isIP(name) ? null : `.${name}`;
      const fits = (host) => host === name || (below !== null && host.endsWith(below));
      checks.push((host, p) => fits(host) && (port === null || port === p));
    }
  }
  return (host, port) => {
    const name = String(host)
      .toLowerCase()
      .replace(/^\[|\]$/g, "")
      .replace(/\.$/, "");
    return checks.some((check) => check(name, Number(port)));
  };
}

/** Opens a tunnel through the proxy; calls back with a connected socket. */
function openTunnel(proxy, host, port, done) {
  const net = require("node:net");
  const name = String(host).replace(/^\[|\]$/g, "");
  const authority = `${net.isIP(name) === 6 ? `[${name}]` : name}:${port}`;
  const socket = net.connect({ host: proxy.host, port: proxy.port });
  let head = Buffer.alloc(0);
  const finish = (error) => {
    clearTimeout(timer);
    socket.removeListener("readable", read);
    socket.removeListener("error", failed);
    socket.removeListener("close", closed);
    if (error === null) return done(null, socket);
    socket.on("error", () => {});
    socket.destroy();
    done(error);
  };
  const failed = (cause) =>
    finish(problem(`the proxy ${proxy.host}:${proxy.port} cannot be reached: ${cause.message}`, cause.code));
  const closed = () => finish(problem("the proxy closed the connection", "ECONNRESET"));
  const read = () => {
    for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) head = Buffer.concat([head, bytes]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0)
      return head.length > MAX_HEAD ? finish(problem("the proxy's answer is not HTTP", "EPROTO")) : undefined;
    const status = /^HTTP\/1\.[01] (\d{3})(?: ([^\r]*))?/.exec(head.toString("latin1", 0, end));
    if (status === null || status[1][0] !== "2") {
      const said = status ? `${status[1]} ${status[2] ?? ""}`.trim() : "something that is not HTTP";
      return finish(problem(`the proxy refused ${authority}: ${said}`, "EPROXYREFUSED"));
    }
    const rest = head.subarray(end + 4);
    if (rest.length > 0) socket.unshift(rest);
    return finish(null);
  };
  const timer = setTimeout(() => finish(problem("the proxy did not answer in time", "ETIMEDOUT")), DEADLINE);
  // By `readable`, so that afterwards the stream stands as if nobody had ever read from it.
  socket.on("readable", read);
  socket.on("error", failed);
  socket.on("close", closed);
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n`);
  return socket;
}

function problem(message, code) {
  const error = new Error(`sallyport: ${message}`);
  error.code = code || "EPROXY";
  return error;
}

function patchAgents(proxy, direct) {
  const http = require("node:http");
  const https = require("node:https");
  const net = require("node:net");
  patchAgent(http.Agent, 80, proxy, direct, (tunnel) => tunnel);
  patchAgent(https.Agent, 443, proxy, direct, (tunnel, options, secure) => {
    const name = String(options.host ?? "").replace(/^\[|\]$/g, "");
    const servername = options.servername ?? (net.isIP(name) ? "" : name);
    return secure({ ...options, servername, socket: tunnel, path: null });
  });
}

function patchAgent(Agent, defaultPort, proxy, direct, wrap) {
  const original = Agent.prototype.createConnection;
  Agent.prototype.createConnection = function createConnection(...args) {
    const options = typeof args[0] === "object" && args[0] !== null ? args[0] : null;
    const done = args.find((a) => typeof a === "function");
    const elsewhere =
      options === null ||
      done === undefined ||
      options.socketPath ||
      options.socket ||
      // This Node's own support is on for this agent.
      this.options?.proxyEnv;
    const port = options?.port ?? defaultPort;
    if (elsewhere || direct(options.host ?? "localhost", port)) return original.apply(this, args);
    openTunnel(proxy, options.host ?? "localhost", port, (error, tunnel) => {
      if (error !== null) return done(error);
      try {
        done(
          null,
          wrap(tunnel, options, (o) => original.call(this, o)),
        );
      } catch (thrown) {
        tunnel.destroy();
        done(thrown);
      }
      return undefined;
    });
    return undefined;
  };
}

// The default dispatcher is made when it is first asked for: most programs never do, and should not wait for undici to load.
function patchFetch(proxy, direct) {
  // Already there: this Node's own support (NODE_USE_ENV_PROXY), or the program's.
  if (Object.getOwnPropertyDescriptor(globalThis, DISPATCHER) !== undefined) return;
  let made;
  const put = (value) => {
    // Loading undici has put its own default in the place of this property.
    if (Object.getOwnPropertyDescriptor(globalThis, DISPATCHER)?.configurable === false) globalThis[DISPATCHER] = value;
    else
      Object.defineProperty(globalThis, DISPATCHER, { value, writable: true, enumerable: false, configurable: true });
  };
  Object.defineProperty(globalThis, DISPATCHER, {
    configurable: true,
    enumerable: false,
    set: put,
    get() {
      if (made === undefined) {
        made = null;
        try {
          made = makeDispatcher(proxy, direct);
          put(made);
        } catch {
          // Too old a Node for it, or it is not installed: fetch connects as it always did.
        }
      }
      return made ?? undefined;
    },
  });
}

function makeDispatcher(proxy, direct) {
  // Not the package's index: when the program itself is loading this copy of undici, that is only half there.
  const Agent = require("undici/lib/dispatcher/agent");
  const buildConnector = require("undici/lib/core/connect");
  const plain = buildConnector({});
  return new Agent({
    connect(options, done) {
      const secure = options.protocol === "https:";
      const port = options.port || (secure ? 443 : 80);
      if (direct(options.hostname, port)) return plain(options, done);
      return openTunnel(proxy, options.hostname, port, (error, tunnel) => {
        if (error !== null) return done(error, null);
        if (!secure) return done(null, tunnel);
        return plain({ ...options, httpSocket: tunnel }, done);
      });
    },
  });
}
