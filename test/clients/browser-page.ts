// The page that a browser loads through the proxy. It uses what pages use, writes down what it saw, and posts that to /report;
// the answer says which page comes next.

export const HTML = `<!doctype html>
<meta charset="utf-8">
<title>loading</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
<p id="styled">text</p>
<img id="picture" src="/picture.gif">
<img id="refused" src="https://denied.test/picture.gif">
<script src="/classic.js"></script>
<script type="module" src="/main.js"></script>
`;

export const STYLE = "#styled { color: rgb(1, 2, 3); background-image: url(/back.svg) }\n";
export const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="3" height="2"></svg>\n`;
export const GIF = Buffer.from("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "base64");
export const CLASSIC = "globalThis.classic = 'classic script';\n";
export const PART = "export const part = 'imported module';\n";
export const FRAME = "<!doctype html><script>parent.postMessage('frame', '*')</script>\n";
export const WORKER = "fetch('/hello').then((r) => r.text()).then((t) => postMessage('worker: ' + t));\n";

/** Each check gives what the page saw, as text; the page itself judges nothing. */
export const MAIN = `import { part } from "./part.js";

const once = (target, name) => new Promise((done, fail) => {
  target.addEventListener(name, done, { once: true });
  target.addEventListener("error", () => fail(new Error("an error instead of " + name)), { once: true });
});
const loaded = async (image) => {
  if (!image.complete) await once(image, "load").catch(() => {});
  return image.naturalWidth + "x" + image.naturalHeight;
};
const shown = async (response) => response.status + " " + (await response.text());
const got = async (path, options) => shown(await fetch(path, options));
const digest = async (bytes) =>
  [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");
const pattern = (length) => Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);

async function style() {
  const entries = () => performance.getEntriesByType("resource");
  while (!entries().some(({ name }) => name.endsWith("/back.svg"))) await new Promise((done) => setTimeout(done, 20));
  return getComputedStyle(document.querySelector("#styled")).color;
}

async function events() {
  const source = new EventSource("/events");
  const [seen, acknowledged] = [[], []];
  // The next event is sent only once the one before it was acknowledged: an event that is held back is never seen.
  source.addEventListener("message", ({ data }) => {
    seen.push(data);
    acknowledged.push(got("/ack/" + data, { method: "POST" }));
  });
  await new Promise((done) => source.addEventListener("error", done, { once: true }));
  source.close();
  await Promise.all(acknowledged);
  return seen.join(",");
}

async function webSocket() {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
  socket.binaryType = "arraybuffer";
  await once(socket, "open");
  socket.send("text äöü");
  const { data: text } = await once(socket, "message");
  const sent = pattern(70000);
  socket.send(sent);
  const { data } = await once(socket, "message");
  const same = new Uint8Array(data).every((b, i) => b === sent[i]) && data.byteLength === sent.length;
  socket.close(3001, "bye");
  const { code, reason, wasClean } = await once(socket, "close");
  return [text, same, code, reason, wasClean].join(" ");
}

async function frame() {
  const said = once(window, "message");
  document.body.append(Object.assign(document.createElement("iframe"), { src: "/frame.html" }));
  return (await said).data;
}

async function cached() {
  const first = await got("/cached");
  return first + (await got("/cached", { cache: "no-cache" }));
}

async function streamed() {
  const parts = ["one ", "two ", "three"];
  const body = new ReadableStream({
    async pull(controller) {
      await new Promise((done) => setTimeout(done, 20));
      const part = parts.shift();
      if (part === undefined) controller.close();
      else controller.enqueue(new TextEncoder().encode(part));
    },
  });
  return got("/echo/streamed", { method: "POST", body, duplex: "half" });
}

async function form() {
  const content = new FormData();
  content.append("file", new Blob([pattern(2000000)]), "file.bin");
  return got("/count", { method: "POST", body: content });
}

const everywhere = {
  module: () => part,
  classic: () => globalThis.classic,
  style,
  picture: () => loaded(document.querySelector("#picture")),
  refusedPicture: () => loaded(document.querySelector("#refused")),
  refusedHost: () => fetch("https://denied.test/data"),
  refusedPath: async () => {
    const response = await fetch("/secret");
    return response.status + " " + (await response.json()).error;
  },
  gzip: () => got("/gzip"),
  post: () => got("/echo/post", { method: "POST", body: "sent by the page" }),
  head: async () => (await fetch("/head", { method: "HEAD" })).headers.get("content-length"),
  range: () => got("/range", { headers: { range: "bytes=3-6" } }),
  redirect: async () => (await fetch("/redirect")).url.slice(location.origin.length),
  missing: () => got("/missing"),
  cookie: async () => (await got("/cookie/set")) + (await got("/cookie/get")),
  cached,
  form,
  frame,
  events,
  webSocket,
  worker: async () => (await once(new Worker("/worker.js"), "message")).data,
  broken: () => got("/broken"),
  alternative: async () => (await fetch("/alternative")).headers.get("alt-svc"),
};
const secureOnly = {
  brotli: () => got("/brotli"),
  big: async () => digest(await (await fetch("/big")).arrayBuffer()),
  upload: async () => {
    const response = await fetch("/echo/upload", { method: "PUT", body: pattern(3000000) });
    return (await digest(await response.arrayBuffer())) === (await digest(pattern(3000000)));
  },
  crossOrigin: () => got("https://old.test/shared", { headers: { "x-own": "1" } }),
};

/** What a check gave, or the name of its error; none may hold up the report for ever. */
async function result(check) {
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error("nothing after 20 s")), 20000));
  try {
    return String(await Promise.race([check(), late]));
  } catch (error) {
    return error.name + ": " + error.message;
  }
}

const { http2 } = await (await fetch("/settings")).json();
const checks = { ...everywhere };
if (location.protocol === "https:") Object.assign(checks, secureOnly);
if (location.protocol === "https:" && http2) checks.streamed = streamed;
const names = Object.keys(checks);
const results = await Promise.all(names.map((name) => result(checks[name])));
const seen = Object.fromEntries(names.map((name, i) => [name, results[i]]));
const next = await (await fetch("/report", { method: "POST", body: JSON.stringify(seen) })).text();
if (next !== "") location.assign(next);
`;
