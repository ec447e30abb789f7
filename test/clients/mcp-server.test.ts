// An MCP server of the usual kind (stdio, a Python or Node script that calls an https API) under `sallyport run`: its protocol
// passes untouched, and what it asks of the API is decided, gets a credential that it never sees, and is recorded.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltHouse, notHere, pythonWith, startBuiltHouse } from "./built-house.ts";

let house: BuiltHouse;
beforeAll(async () => {
  house = await startBuiltHouse();
});
afterAll(() => house?.close());

/** Answers `initialize`, `tools/list` and `tools/call`; the one tool asks the API who it is. */
const PYTHON = `
import sys, json, urllib.request, urllib.error

def call(url):
    try:
        request = urllib.request.Request(url, data=b'{"question":"who am I"}', method="POST")
        return urllib.request.urlopen(request).read().decode(), False
    except urllib.error.HTTPError as e:
        return "%d %s" % (e.code, json.loads(e.read())["error"]), True

for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "example", "version": "1"}}
    elif message["method"] == "tools/list":
        result = {"tools": [{"name": "ask", "inputSchema": {"type": "object"}}]}
    else:
        text, failed = call(message["params"]["arguments"]["url"])
        result = {"content": [{"type": "text", "text": text}], "isError": failed}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\\n")
    sys.stdout.flush()
`;

const NODE = `
const lines = require("node:readline").createInterface({ input: process.stdin });
const call = async (url) => {
  const response = await fetch(url, { method: "POST", body: '{"question":"who am I"}' });
  return response.ok ? [await response.text(), false] : [response.status + " " + (await response.json()).error, true];
};
const results = {
  initialize: () => ({ protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "example", version: "1" } }),
  "tools/list": () => ({ tools: [{ name: "ask", inputSchema: { type: "object" } }] }),
  "tools/call": async ({ arguments: { url } }) => {
    const [text, isError] = await call(url);
    return { content: [{ type: "text", text }], isError };
  },
};
(async () => {
  for await (const line of lines) {
    const { id, method, params } = JSON.parse(line);
    if (id !== undefined) console.log(JSON.stringify({ jsonrpc: "2.0", id, result: await results[method](params) }));
  }
})();
`;

const message = (id: number, method: string, params: object = {}): string =>
  `${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`;
const ask = (id: number, url: string): string => message(id, "tools/call", { name: "ask", arguments: { url } });

const servers: readonly [string, () => readonly string[] | null][] = [
  [
    "python3",
    () => {
      const python = pythonWith("json");
      if (python === null) return null;
      writeFileSync(join(house.folder, "server.py"), PYTHON);
      return [python, join(house.folder, "server.py")];
    },
  ],
  [
    "node",
    () => {
      writeFileSync(join(house.folder, "server.cjs"), NODE);
      return [process.execPath, join(house.folder, "server.cjs")];
    },
  ],
];

test.each(servers)("an MCP server in %s", async (name, command) => {
  const found = command();
  if (found === null) return expect(notHere(name)).toBe(true);
  const before = (await house.exchanges("mcp-example", 0)).length;
  const input =
    message(1, "initialize", { protocolVersion: "2025-06-18", capabilities: {} }) +
    `${JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })}\n` +
    message(2, "tools/list") +
    ask(3, "https://api.test/who") +
    ask(4, "https://api.test/elsewhere");
  const { code, out, err } = await house.run("mcp-example", found, { input });
  expect({ code, err }).toEqual({ code: 0, err: "" });
  // Every line is a message of the server, and nothing else is there.
  const answers = out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(answers.map(({ id }) => id)).toEqual([1, 2, 3, 4]);
  expect(answers[2].result).toEqual({ content: [{ type: "text", text: '{"authorized":true}' }], isError: false });
  expect(answers[3].result).toEqual({ content: [{ type: "text", text: "403 not-allowed" }], isError: true });

  const [allowed, denied] = (await house.exchanges("mcp-example", before + 2)).slice(before);
  expect(allowed).toMatchObject({ decision: "allow", rule: "api", host: "api.test", path: "/who", status: 200 });
  expect(allowed?.sent).toMatchObject({ bytes: 23, complete: true });
  expect(denied).toMatchObject({ decision: "deny", reason: "not-allowed", path: "/elsewhere", origin: null });
  expect(JSON.stringify([allowed, denied])).not.toContain("t0ken");
  expect(out).not.toContain("t0ken");
  const asked = house.scene.site.secure.requests.filter((r) => r.url === "/who");
  expect(asked.at(-1)?.headers).toMatchObject({ host: "api.test", authorization: "Bearer t0ken-of-the-api" });
  return undefined;
});
