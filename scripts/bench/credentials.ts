// The certificates of a run: the origin's and its CA, and the CA that peers sign with. RSA, which every peer can load.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TestCa } from "../../test/support/certificates.ts";

export interface Credentials {
  readonly origin: { readonly key: string; readonly cert: string; readonly ca: string };
  readonly peers: { readonly cert: string; readonly key: string; readonly both: string };
}

/** Writes all of them into this folder, as PEM files. */
export function writeCredentials(dir: string): Credentials {
  const write = (name: string, text: string): string => {
    const path = join(dir, name);
    writeFileSync(path, text);
    chmodSync(path, 0o644);
    return path;
  };
  const originCa = new TestCa("Benchmark origin CA");
  const leaf = originCa.leaf("localhost", { names: ["localhost", "127.0.0.1"] });
  const peerCa = new TestCa("Benchmark peer CA");
  return {
    origin: {
      key: write("origin.key", leaf.key),
      cert: write("origin.pem", leaf.cert),
      ca: write("origin-ca.pem", originCa.cert),
    },
    peers: {
      cert: write("peer-ca.pem", peerCa.cert),
      key: write("peer-ca.key", peerCa.key),
      both: write("peer-ca-both.pem", `${peerCa.key}${peerCa.cert}`),
    },
  };
}
