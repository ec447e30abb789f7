// tinyproxy: the lightest of those that open nothing.
import { join } from "node:path";
import { findProgram, type Peer } from "./peer.ts";
import { output } from "./run.ts";
import { writeFromTemplate } from "./template.ts";

export const tinyproxy: Peer = {
  name: "tinyproxy",
  install: "apt-get install tinyproxy",
  scenarios: ["plain", "tunnel-down", "tunnel-up", "tunnel-connections"],
  version: async () => {
    const program = findProgram("tinyproxy");
    return program === null ? null : (/tinyproxy (\S+)/i.exec(await output(program, ["-v"]))?.[1] ?? null);
  },
  prepare: async ({ dir, port, ca }) => {
    const file = writeFromTemplate("tinyproxy.conf", join(dir, "tinyproxy.conf"), { PORT: `${port}`, DIR: dir });
    return { command: findProgram("tinyproxy") as string, args: ["-d", "-c", file], caFile: ca.cert };
  },
};
