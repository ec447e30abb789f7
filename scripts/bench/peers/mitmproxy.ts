// mitmproxy's mitmdump. Large bodies stream: its default holds each whole, which costs it a hundred times as much.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { scenariosBut } from "../scenarios.ts";
import { findProgram, type Peer } from "./peer.ts";
import { output } from "./run.ts";

export const mitmproxy: Peer = {
  name: "mitmproxy",
  install: "apt-get install mitmproxy",
  scenarios: scenariosBut(),
  version: async () => {
    const program = findProgram("mitmdump");
    return program === null ? null : (/^Mitmproxy: (\S+)/im.exec(await output(program, ["--version"]))?.[1] ?? null);
  },
  prepare: async ({ dir, port, originCa, ca }) => {
    copyFileSync(ca.both, join(dir, "mitmproxy-ca.pem"));
    const settings = [`confdir=${dir}`, `ssl_verify_upstream_trusted_ca=${originCa}`, "stream_large_bodies=1m"];
    const args = ["--quiet", "--listen-host", "127.0.0.1", "--listen-port", `${port}`];
    return {
      command: findProgram("mitmdump") as string,
      args: [...args, ...settings.flatMap((s) => ["--set", s]), "--ignore-hosts", "^127\\.0\\.0\\.1(:\\d+)?$"],
      caFile: ca.cert,
    };
  },
};
