// What next proxies do wrong, in clear text and over TLS, before and after they open a tunnel. Every case: the right status, one
// record that names the next proxy, and no connection to it that stays open.
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../support/certificates.ts";
import { PATIENCE } from "../support/patience.ts";
import { afterPause } from "../support/pause.ts";
import {
  connections,
  type FaultyOrigin,
  listening,
  type Meeting,
  Refused,
  type Rig,
  type Script,
  startOrigin,
  startRig,
} from "./rig.ts";

const OPENED = "HTTP/1.1 200 OK\r\n\r\n";
const ALERT = Buffer.from("15030100020228", "hex");

const says =
  (bytes: string | Buffer, act: (meeting: Meeting) => void = () => {}): Script =>
  (meeting) => {
    if (bytes.length > 0) meeting.socket.write(bytes);
    afterPause(40, () => act(meeting));
  };
const reset = ({ raw }: Meeting): unknown => raw.resetAndDestroy();
const close = ({ socket }: Meeting): unknown => socket.end();
/** Says it again and again until nobody listens. */
const forEver =
  (bytes: string): Script =>
  ({ socket, raw }) => {
    const timer = setInterval(() => socket.write(bytes), 5);
    raw.on("close", () => clearInterval(timer));
  };
/** Says it, and becomes the tunnel. */
const tunnels =
  (bytes: string): Script =>
  ({ socket }) => {
    socket.write(bytes);
    const far = net.connect(origin.port, "127.0.0.1");
    far.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.on("close", () => far.destroy());
    socket.pipe(far).pipe(socket);
  };

interface Fault {
  readonly name: string;
  readonly script: Script;
  readonly status: number;
  readonly reason: string | null;
  /** What a blind tunnel is answered, where that differs: the fault comes after the tunnel stands. */
  readonly blind?: { readonly status: number; readonly reason: string | null };
}

const stands = { status: 200, reason: null };
const late = { status: 504, reason: "origin-connect-timeout" };
const brokenOff = { status: 502, reason: "origin-incomplete" };
const noHttp = { status: 502, reason: "origin-protocol" };
const refused = { status: 502, reason: "next-proxy-refused" };
const noTls = { status: 502, reason: "origin-tls" };

const FAULTS: readonly Fault[] = [
  { name: "says nothing", script: says(""), ...late },
  { name: "resets", script: says("", reset), ...brokenOff },
  { name: "closes", script: says("", close), ...brokenOff },
  { name: "stalls in the middle of the head", script: says("HTTP/1.1 200 O"), ...late },
  { name: "resets in the middle of the head", script: says("HTTP/1.1 200 O", reset), ...brokenOff },
  { name: "closes in the middle of the head", script: says("HTTP/1.1 200 O", close), ...brokenOff },
  { name: "is no proxy", script: says("SSH-2.0-x\r\n\r\n"), ...noHttp },
  { name: "has a head that never ends", script: forEver(`X: ${"x".repeat(999)}\r\n`), ...noHttp },
  { name: "says 100 for ever", script: forEver("HTTP/1.1 100 Continue\r\n\r\n"), ...late },
  { name: "says 403", script: says("HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno"), ...refused },
  { name: "says 407", script: says("HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n"), ...refused },
  { name: "says 101", script: says("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"), ...late },
  { name: "says 100 and 200 at once", script: tunnels(`HTTP/1.1 100 Continue\r\n\r\n${OPENED}`), ...stands },
  { name: "speaks before TLS began", script: says(`${OPENED}hello`), ...noHttp, blind: stands },
  { name: "opens and closes", script: says(OPENED, close), ...noTls, blind: stands },
  { name: "opens and resets", script: says(OPENED, reset), ...noTls, blind: stands },
  { name: "opens and is silent", script: says(OPENED), ...late, blind: stands },
  {
    name: "opens to what speaks no TLS",
    script: says(OPENED, (m) => m.socket.write("HTTP/1.1 400 No\r\n\r\n")),
    ...noTls,
    blind: stands,
  },
  { name: "opens to a TLS alert", script: says(OPENED, (m) => m.socket.write(ALERT)), ...noTls, blind: stands },
];

/** A port that does this with the first bytes of each connection. */
const answering = (answer: (raw: net.Socket) => void) => (): Promise<FaultyOrigin> =>
  listening((raw) => raw.on("end", () => raw.end()).once("data", () => answer(raw)));

/** What stands at the port of a next proxy that is to be reached by TLS. */
interface TlsFault {
  readonly name: string;
  readonly start: () => Promise<FaultyOrigin>;
  readonly status: number;
  readonly reason: string;
  readonly message: RegExp;
}

const strangers = new TestCa("Strangers");
const TLS_FAULTS: readonly TlsFault[] = [
  {
    name: "its certificate is nobody's",
    start: () => startOrigin(() => says(OPENED), strangers.leaf("next.test")),
    ...{ status: 502, reason: "origin-certificate", message: /next\.test/ },
  },
  {
    name: "its certificate is another's",
    start: () => startOrigin(() => says(OPENED), ca.leaf("other.test")),
    ...{ status: 502, reason: "origin-certificate", message: /next\.test/ },
  },
  {
    name: "it answers in clear text",
    start: answering((raw) => raw.write("HTTP/1.1 400 No\r\n\r\n")),
    ...{ ...noTls, message: /next\.test/ },
  },
  {
    name: "it answers with an alert",
    start: answering((raw) => raw.write(ALERT)),
    ...{ ...noTls, message: /next\.test/ },
  },
  {
    name: "it resets in the handshake",
    start: answering((raw) => raw.resetAndDestroy()),
    ...{ ...noTls, message: /next\.test/ },
  },
  {
    name: "it closes in the handshake",
    start: answering((raw) => raw.end()),
    ...{ ...noTls, message: /./ },
  },
  {
    name: "it is silent in the handshake",
    start: answering(() => {}),
    ...{ ...late, message: /./ },
  },
];

const ca = new TestCa();
const WAYS = ["intercepted", "blind tunnel"] as const;
const SCHEMES = ["http", "https"] as const;

interface Case {
  readonly title: string;
  readonly way: (typeof WAYS)[number];
  readonly host: string;
  readonly url: () => string;
  readonly proxy: () => FaultyOrigin;
  readonly status: number;
  readonly reason: string | null;
  readonly message: RegExp;
}

let rig: Rig;
let origin: FaultyOrigin;
let before = 0;
const proxies = new Map<string, FaultyOrigin>();

const cases: Case[] = WAYS.flatMap((way) => [
  ...SCHEMES.flatMap((scheme) =>
    FAULTS.map((fault, i): Case => {
      const proxy = () => proxies.get(`${scheme} ${fault.name}`) as FaultyOrigin;
      const expected = way === "intercepted" ? fault : (fault.blind ?? fault);
      return {
        title: `${fault.name} (${scheme}, ${way})`,
        ...{ way, proxy, status: expected.status, reason: expected.reason, message: /./ },
        host: `${way === "intercepted" ? "i" : "b"}${i}-${scheme}.test`,
        url: () => `${scheme}://next.test:${proxy().port}`,
      };
    }),
  ),
  ...TLS_FAULTS.map((fault, i): Case => {
    const proxy = () => proxies.get(fault.name) as FaultyOrigin;
    return {
      title: `${fault.name} (${way})`,
      ...{ way, proxy, status: fault.status, reason: fault.reason, message: fault.message },
      host: `${way === "intercepted" ? "i" : "b"}${i}-tls.test`,
      url: () => `https://next.test:${proxy().port}`,
    };
  }),
]);

beforeAll(async () => {
  origin = await startOrigin(
    () => says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"),
    ca.leaf("o.test", { names: cases.map(({ host }) => host) }),
  );
  const leaf = ca.leaf("next.test");
  for (const fault of FAULTS) {
    proxies.set(`http ${fault.name}`, await startOrigin(() => fault.script, null));
    proxies.set(`https ${fault.name}`, await startOrigin(() => fault.script, leaf));
  }
  for (const fault of TLS_FAULTS) proxies.set(fault.name, await fault.start());
  const rules = cases.map(({ way, host, url }, i) => {
    const tunnel = way === "intercepted" ? "" : ", tunnel: { reason: test, idle: 2s }";
    return `  - { id: rule-${i}, allow: ["https://${host}:${origin.port}"], via: "${url()}"${tunnel} }`;
  });
  rig = await startRig({
    originCa: ca,
    policy: `server: { connect-timeout: 3s, header-timeout: 5s }
defaults: { action: deny, limits: { idle: 3s } }
network: { allow: [127.0.0.0/8] }
rules:
${rules.join("\n")}
`,
  });
  before = connections();
});

afterAll(async () => {
  await rig.close();
  for (const proxy of [origin, ...proxies.values()]) await proxy.close();
});

/** The status that the client gets: that of the CONNECT of a blind tunnel, that of the request inside otherwise. */
async function statusOf({ way, host }: Case, address: string): Promise<number> {
  try {
    const authority = `${host}:${origin.port}`;
    const client =
      way === "intercepted" ? await rig.enter(way, host, origin.port, address) : await rig.connect(authority, address);
    if (way === "blind tunnel") {
      client.destroy();
      return 200;
    }
    client.send(`GET / HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
    const { status } = await client.response();
    client.destroy();
    return status;
  } catch (error) {
    if (error instanceof Refused) return error.status;
    throw error;
  }
}

describe("next proxies that fail", () => {
  test.concurrent.each(cases)("$title", async (one) => {
    const address = rig.newAddress();
    expect(await statusOf(one, address)).toBe(one.status);
    const kind = one.way === "intercepted" ? "exchange" : "connect";
    const records = await rig.house.recordsWhere((r) => r.address === address && r.kind === kind);
    expect(records).toHaveLength(1);
    expect(records[0]).toMatchObject({ status: one.status, decision: "allow", origin: { via: one.url() } });
    if (one.status !== 200) {
      expect(records[0]?.reason).toBe(one.reason);
      expect(records[0]?.error).toMatch(one.message);
    }
  });
});

test("nothing is left open", async () => {
  for (const end = Date.now() + PATIENCE; connections() > before && Date.now() < end; ) await wait(50);
  expect(connections()).toBeLessThanOrEqual(before);
  for (const proxy of proxies.values()) for (const meeting of proxy.meetings) expect(meeting.closed).toBe(true);
});
