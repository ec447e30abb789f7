// The doctor with a real house: every runtime that is here, and a command whose requests it finds, or does not find, on record.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Step } from "../../src/cli/doctor-hops.ts";
import { type BuiltHouse, firstThatWorks, notHere, startBuiltHouse } from "./built-house.ts";

let house: BuiltHouse;
beforeAll(async () => {
  house = await startBuiltHouse();
});
afterAll(() => house?.close());

const URL_OF_SITE = "https://site.test/hello";
async function doctor(as: string, command: string[], env: NodeJS.ProcessEnv = {}) {
  const args = ["doctor", "--json", "--as", as, URL_OF_SITE, "--", ...command];
  const { code, out } = await house.command(args, { env });
  return { code, steps: (JSON.parse(out) as { steps: Step[] }).steps };
}
const node = (code: string) => [process.execPath, "-e", code];

describe("a command", () => {
  test("its requests are found, and every runtime that is here gets through", async () => {
    const { code, steps } = await doctor("patient", node(`fetch("${URL_OF_SITE}").then(r => r.text())`));
    expect(steps.filter((s) => s.status === "failed")).toEqual([]);
    expect(code).toBe(0);
    const step = (name: string) => steps.find((s) => s.step === name);
    for (const [name, program, flag] of [
      ["go", "go", "version"],
      ["java", "javac", "--version"],
      ["python3", "python3", "--version"],
    ] as const) {
      if (firstThatWorks([program, flag]) === null) expect(step(`${name}: site.test`)).toBeUndefined();
      else expect(step(`${name}: site.test`)).toMatchObject({ status: "ok", why: expect.stringContaining("200") });
    }
    const requests = steps.at(-1);
    expect(requests).toMatchObject({ status: "ok", why: "1 reached the proxy (site.test)" });
    expect(requests?.step).toContain("its requests");
  });

  test.each([
    ["asks for nothing", node("0"), "warning", "none reached the proxy"],
    [
      "is denied",
      node(`fetch("https://other.test/").catch(() => {})`),
      "warning",
      "1 reached the proxy (other.test); 1 denied",
    ],
    [
      "goes without a word since it does not trust the CA",
      node(
        `const s=require("net").connect(new URL(process.env.https_proxy).port,"127.0.0.1",()=>s.write("CONNECT site.test:443 HTTP/1.1\\r\\nhost: site.test:443\\r\\n\\r\\n"));s.once("data",()=>require("tls").connect({socket:s,servername:"site.test",ca:require("tls").rootCertificates}).on("error",()=>process.exit(0)))`,
      ),
      "warning",
      "it opened a connection through the proxy and asked for nothing",
    ],
  ] as const)("that %s", async (name, command, status, why) => {
    // No runtime is found in an empty PATH: only the command is tried.
    const { steps } = await doctor(name.replaceAll(" ", "-"), command, { PATH: house.folder });
    expect(steps.at(-1)).toMatchObject({ status, why });
  });

  test("that says that it does not trust the CA", async () => {
    if (firstThatWorks(["curl", "--version"]) === null) return expect(notHere("curl")).toBe(true);
    const command = `PATH=${process.env.PATH}; exec curl -sS --cacert ${house.folder}/roots.pem ${URL_OF_SITE}`;
    const { code, steps } = await doctor("distrust", ["/bin/sh", "-c", command], { PATH: house.folder });
    expect(code).toBe(1);
    const why = "it reached the proxy and does not trust the CA (site.test)";
    return expect(steps.at(-1)).toMatchObject({ status: "failed", why });
  });
});
