// A process that appends records as fast as it may, and prints the id of each that was released (and what it was told).
import { openAuditSink } from "../../../src/edge/audit/worker-sink.ts";
import { newId } from "../../../src/shared/ids.ts";

const quiet = () => {};
const sink = await openAuditSink({
  dir: process.argv[2] as string,
  required: true,
  sync: "normal",
  keep: { age: null, size: null },
  rotateAt: 200_000,
  log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
  clock: { now: () => Date.now(), tick: () => performance.now() },
});
const nothing = {
  bytes: 0,
  sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  complete: true,
};

function one(): void {
  const at = Date.now();
  const id = newId(at);
  const none = { parent: null, rule: null, reason: null, origin: null, sni: null, error: null };
  const timings = { wait: null, dns: null, connect: null, tls: null, firstByte: null, total: 1 };
  sink.append(
    {
      ...none,
      id,
      at,
      kind: "exchange",
      client: "c",
      address: "::1",
      decision: "allow",
      method: "GET",
      scheme: "https",
      host: "a.example",
      port: 443,
      path: "/",
      status: 200,
      sent: nothing,
      received: nothing,
      timings,
      clientProtocol: "1.1",
      originProtocol: "1.1",
      uninspected: false,
      notes: [],
    },
    (written) => process.stdout.write(`${written ? "yes" : "no"} ${id} ${sink.unavailable ?? "-"}\n`),
  );
}

const pause = Number(process.argv[3]);
setInterval(() => {
  for (let i = 0; i < 5; i++) one();
}, pause);
