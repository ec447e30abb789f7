// squid with ssl_bump and its access log on (Debian: squid-openssl).
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { scenariosBut } from "../scenarios.ts";
import { findProgram, type Peer } from "./peer.ts";
import { output } from "./run.ts";
import { writeFromTemplate } from "./template.ts";

export const squid: Peer = {
  name: "squid",
  install: "apt-get install squid-openssl",
  scenarios: scenariosBut("h2"),
  version: async () => {
    const program = findProgram("squid");
    // Debian's package "squid" is built without OpenSSL and cannot intercept.
    if (program === null || findProgram("security_file_certgen") === null) return null;
    return /Version (\S+)/.exec(await output(program, ["-v"]))?.[1] ?? null;
  },
  prepare: async ({ dir, port, origin, originCa, ca }) => {
    const certgen = findProgram("security_file_certgen") as string;
    await output(certgen, ["-c", "-s", join(dir, "certificates"), "-M", "4MB"]);
    await output("chmod", ["-R", "a+rwX", join(dir, "certificates")]);
    chmodSync(ca.both, 0o644);
    const values = { PORT: `${port}`, OPAQUE: `${origin.opaque}`, CA: ca.both, ORIGIN_CA: originCa, DIR: dir };
    const file = writeFromTemplate("squid.conf", join(dir, "squid.conf"), { ...values, CERTGEN: certgen });
    return { command: findProgram("squid") as string, args: ["-N", "-f", file], caFile: ca.cert };
  },
};
