// privoxy with HTTPS inspection.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { scenariosBut } from "../scenarios.ts";
import { findProgram, type Peer } from "./peer.ts";
import { output } from "./run.ts";
import { writeFromTemplate } from "./template.ts";

export const privoxy: Peer = {
  name: "privoxy",
  install: "apt-get install privoxy",
  scenarios: scenariosBut("h2", "websocket"),
  version: async () => {
    const program = findProgram("privoxy");
    return program === null ? null : (/version (\S+)/i.exec(await output(program, ["--version"]))?.[1] ?? null);
  },
  prepare: async ({ dir, port, originCa, ca }) => {
    mkdirSync(join(dir, "certificates"));
    writeFromTemplate("privoxy.action", join(dir, "bench.action"), {});
    const file = writeFromTemplate("privoxy.conf", join(dir, "config"), {
      PORT: `${port}`,
      CONFDIR: "/etc/privoxy",
      DIR: dir,
      CA_CERT: ca.cert,
      CA_KEY: ca.key,
      ORIGIN_CA: originCa,
    });
    return { command: findProgram("privoxy") as string, args: ["--no-daemon", file], caFile: ca.cert };
  },
};
