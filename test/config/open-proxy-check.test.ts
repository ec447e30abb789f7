// Which configurations are open proxies: reached by others, asking nobody who they are, letting them go anywhere.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";

async function warningsOf(text: string, more: { listen?: string; env?: Record<string, string> } = {}) {
  const file = join(mkdtempSync(join(tmpdir(), "sallyport-open-")), "p.yaml");
  writeFileSync(file, `version: 1\n${text}`);
  const flags = more.listen === undefined ? {} : { listen: more.listen };
  const { warnings } = await loadConfig({ files: [file], env: more.env ?? {}, flags });
  return warnings.filter((w) => w.message.startsWith("an open proxy"));
}

const ALL = "server: { listen: '0.0.0.0:8080' }\n";
const REQUIRED = "server: { listen: '0.0.0.0:8080', authentication: required }\n";
const OPEN = "defaults: { action: allow }\n";
const rules = (...lines: string[]): string => `rules:\n${lines.map((l) => `  - { ${l} }\n`).join("")}`;
const EVERY = 'id: all, allow: ["*"], broad: true';

describe("an open proxy", () => {
  test.each<[string, string, RegExp, string]>([
    ["the default allows", ALL + OPEN, /listens at 0\.0\.0\.0:8080.*authentication: required/, "listen: "],
    ["an address of a network", `server: { listen: '10.1.2.3:8080' }\n${OPEN}`, /10\.1\.2\.3/, "listen: "],
    ["every IPv6 address", `server: { listen: '[::]:8080' }\n${OPEN}`, /\[::\]:8080/, "listen: "],
    ["a name, which nobody knows to be ours", `server: { listen: 'proxy.lan:1' }\n${OPEN}`, /proxy\.lan:1/, "listen: "],
    [
      "denials of some",
      ALL + OPEN + rules('id: d, deny: ["x.example", "*.x.example"]'),
      /defaults\.action/,
      "listen: ",
    ],
    ["the default only reports", `${ALL}defaults: { mode: report }\n`, /defaults\.mode/, "listen: "],
    ["a rule allows every host", ALL + rules(EVERY), /rule all allows every host/, "listen: "],
    ["for one method", ALL + rules('id: g, allow: ["GET https://*/**"], broad: true'), /rule g allows/, "listen: "],
    ["a tunnel rule", ALL + rules(`${EVERY}, tunnel: { reason: pins }`), /rule all/, "listen: "],
    [
      "a deny that is only reported",
      ALL + rules('id: d, deny: ["*"], broad: true, mode: report', EVERY),
      /all/,
      "listen: ",
    ],
    [
      "everybody is a client by address",
      `${REQUIRED}${OPEN}clients: { any: { addresses: ['0.0.0.0/0'] } }\n`,
      /give any a password/,
      "listen: ",
    ],
    [
      "a rule for such a client",
      `${REQUIRED}clients: { any: { addresses: ['::/0'] } }\n${rules(`${EVERY}, who: any`)}`,
      /give any a password/,
      "listen: ",
    ],
  ])("%s", async (_name, text, message, line) => {
    const warnings = await warningsOf(text);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]?.message).toMatch(message);
    expect(`version: 1\n${text}`.split("\n")[(warnings[0]?.line ?? 0) - 1]).toContain(line);
  });

  test.each<[string, string]>([
    ["loopback", `server: { listen: '127.0.0.1:8080' }\n${OPEN}`],
    ["another loopback address", `server: { listen: '127.9.9.9:8080' }\n${OPEN}`],
    ["localhost", `server: { listen: 'localhost:8080' }\n${OPEN}`],
    ["loopback of IPv6", `server: { listen: '[::1]:8080' }\n${OPEN}`],
    ["nothing said of the address", OPEN],
    ["authentication required", `${REQUIRED}${OPEN}clients: { a: { password: long-enough-it-is } }\n`],
    ["the default denies", ALL],
    ["some hosts are allowed", ALL + rules('id: a, allow: ["x.example", "*.y.example"]')],
    ["one path of every host", ALL + rules('id: a, allow: ["https://*/robots.txt"], broad: true')],
    ["a client with a password", `${ALL}clients: { a: { password: long-enough-it-is } }\n${rules(`${EVERY}, who: a`)}`],
    ["a network", `${REQUIRED}${OPEN}clients: { lan: { addresses: ['10.0.0.0/8'] } }\n`],
    ["everything goes to one origin", ALL + rules(`${EVERY}, to: 'https://x.example'`)],
    ["everything is redirected", ALL + rules(`${EVERY}, redirect: { to: 'https://x.example' }`)],
    ["a deny covers it", ALL + rules('id: d, deny: ["*"], broad: true', EVERY)],
    ["report mode is over", `${ALL}defaults: { mode: report, until: 2020-01-01 }\n`],
  ])("not: %s", async (_name, text) => {
    expect(await warningsOf(text)).toEqual([]);
  });

  test("the address of a flag or a variable counts, and what opens is the place", async () => {
    const text = `server: { listen: '127.0.0.1:1' }\n${OPEN}`;
    for (const more of [{ listen: "0.0.0.0:2" }, { env: { SALLYPORT_LISTEN: "0.0.0.0:2" } }]) {
      const [warning] = await warningsOf(text, more);
      expect([warning?.line, warning?.column]).toEqual([3, "defaults: { action: ".length + 1]);
      expect(warning?.message).toContain("0.0.0.0:2");
    }
    const [rule] = await warningsOf(rules(EVERY), { listen: "0.0.0.0:2" });
    expect([rule?.line, rule?.column]).toEqual([3, "  - { id: all, allow: [".length + 1]);
    expect(await warningsOf(ALL + OPEN, { listen: "127.0.0.1:2" })).toEqual([]);
  });
});
