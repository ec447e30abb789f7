// Which denies for named clients are escaped by saying nothing.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import type { LoadedConfig } from "../../src/config/loaded.ts";

function load(text: string): Promise<LoadedConfig> {
  const file = join(mkdtempSync(join(tmpdir(), "sallyport-anonymous-")), "p.yaml");
  writeFileSync(file, `version: 1\n${text}`);
  return loadConfig({ files: [file], env: {}, flags: {} });
}

const CLIENTS = `clients:
  bot: { password: long-enough-it-is }
  idp: { bearer: { secret: a-secret-of-more-than-thirty-two-bytes } }
  lan: { addresses: [10.0.0.0/8] }
  both: { password: another-long-one, addresses: [10.0.0.0/8] }
`;
const deny = (who: string): string => `  - { id: d, who: ${who}, deny: ["x.example", "*.x.example"] }\n`;
const OPEN = `defaults: { action: allow }\n${CLIENTS}rules:\n`;
const CLOSED = `${CLIENTS}rules:\n`;

describe("a deny with who", () => {
  test.each<[string, string, RegExp | null]>([
    ["a password, everything else allowed", `${OPEN}${deny("bot")}`, /is not bot and escapes/],
    ["a token", `${OPEN}${deny("idp")}`, /is not idp and escapes/],
    ["several", `${OPEN}${deny("[bot, idp, lan]")}`, /is not bot or idp and escapes/],
    ["a password beside an address", `${OPEN}${deny("both")}`, /is not both and escapes/],
    ["an address alone: nobody helps being known by it", `${OPEN}${deny("lan")}`, null],
    ["authentication required", `server: { authentication: required }\n${OPEN}${deny("bot")}`, null],
    ["nothing is allowed to nobody", `${CLOSED}${deny("bot")}  - { id: a, who: bot, allow: ["x.example"] }\n`, null],
    ["another host is allowed to nobody", `${CLOSED}${deny("bot")}  - { id: a, allow: ["y.example"] }\n`, null],
    ["the host is allowed to nobody", `${CLOSED}${deny("bot")}  - { id: a, allow: ["GET x.example/p"] }\n`, /escapes/],
    ["a name below it is", `${CLOSED}${deny("bot")}  - { id: a, allow: ["*.a.x.example"] }\n`, /escapes/],
    ["every host is", `${CLOSED}${deny("bot")}  - { id: a, allow: ["https://*"], broad: true }\n`, /escapes/],
    ["a deny for everybody", `${OPEN}  - { id: d, deny: ["x.example", "*.x.example"] }\n`, null],
  ])("%s", async (_name, text, wanted) => {
    const warnings = (await load(text)).warnings.filter((w) => w.message.includes("shows no credential"));
    expect(warnings).toHaveLength(wanted === null ? 0 : 1);
    if (wanted === null) return;
    expect(warnings[0]?.message).toMatch(wanted);
    expect(warnings[0]?.message).toContain("rule d: ");
    // The line of the rule.
    expect(`version: 1\n${text}`.split("\n")[(warnings[0]?.line ?? 0) - 1]).toContain("id: d");
  });
});
