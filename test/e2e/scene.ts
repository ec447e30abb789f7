// A stage for tables of cases: one house, a name server, a plain and a TLS origin whose scripts are chosen by the path.
// Every case runs on every way into the house, from a source address of its own, so that its records can be told apart;
// all cases run at once, and each is judged when the log has settled.
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import tls from "node:tls";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { type DnsAnswer, startDns, type TestDns } from "../support/dns.ts";
import { OPEN_POLICY, startTestHouse, type TestHouse } from "../support/house.ts";
import { type OriginScript, origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { PATIENCE } from "../support/patience.ts";
import { type Ending, RawConnection, type RawResponse } from "../support/raw-client.ts";

export const HOST = "o.test";
/** What the certificate of the TLS origin is for. */
const TLS_NAMES = [
  HOST,
  "next-plain.test",
  "next-tls.test",
  "here.test",
  "six.test",
  "mute.test",
  "firm.test",
  "127.0.0.1",
];
const HEAD = /([A-Z]+) (\S+) HTTP\/1\.1\r\n/g;

export interface SceneOptions {
  /** After `version: 1` and `tls:`; may name the ports of origins that were started before. */
  readonly policy?: string;
  /** Beside `*.test`, which is 127.0.0.1. undefined: that; null: no answer, ever. */
  readonly dns?: (...question: Parameters<DnsAnswer>) => ReturnType<DnsAnswer> | undefined;
  readonly env?: Record<string, string>;
}

/** Where a case happens. */
export interface At {
  readonly scheme: "http" | "https";
  readonly port: number;
  /** The path that marks this case, and the request-target for it. */
  readonly path: string;
  readonly target: string;
  /** A target for another path on this way. */
  to(path: string): string;
  /** The value of Host. */
  readonly host: string;
  /** Source address of the case. */
  readonly address: string;
}

export class Scene {
  readonly house: TestHouse;
  readonly dns: TestDns;
  readonly plain: RawOrigin;
  readonly secure: RawOrigin;
  readonly originCa: TestCa;
  readonly scripts: Map<string, OriginScript>;
  private addresses = 0;

  constructor(
    house: TestHouse,
    dns: TestDns,
    plain: RawOrigin,
    secure: RawOrigin,
    originCa: TestCa,
    scripts: Map<string, OriginScript>,
  ) {
    this.house = house;
    this.dns = dns;
    this.plain = plain;
    this.secure = secure;
    this.originCa = originCa;
    this.scripts = scripts;
  }

  /** A source address that no other case has. */
  newAddress(): string {
    const n = ++this.addresses;
    return `127.77.${n >> 8}.${n & 255}`;
  }

  /** A connection to the proxy. */
  async open(address = this.newAddress(), port = this.house.port): Promise<RawConnection> {
    return openSocket(port, address);
  }

  /** CONNECT, without TLS inside. Throws when the answer is not 200. */
  async connect(authority: string, address = this.newAddress(), fields = ""): Promise<RawConnection> {
    const connection = await this.open(address);
    connection.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\n`);
    const { status, phrase } = await connection.response();
    if (status !== 200) throw new Error(`CONNECT was answered ${status} ${phrase}`);
    return connection;
  }

  /** CONNECT and TLS inside. */
  async secured(authority: string, address = this.newAddress(), options: tls.ConnectionOptions = {}) {
    const outer = await this.connect(authority, address);
    outer.socket.removeAllListeners("data");
    return startTls(outer.socket, { ca: this.house.ca, servername: HOST, ...options });
  }

  /** Everything that is recorded, when nothing more is coming. */
  async settled(): Promise<AuditRecord[]> {
    let records = this.house.records();
    for (let still = 0; still < 4; ) {
      await wait(100);
      const now = this.house.records();
      still = now.length === records.length && !(await this.recordsWait()) ? still + 1 : 0;
      records = now;
    }
    return records;
  }

  /** True: some are on their way to the database, which a busy machine may take a while to open. */
  private async recordsWait(): Promise<boolean> {
    const metrics = await (await fetch(`http://127.0.0.1:${this.house.adminPort}/metrics`)).text();
    return !/^sallyport_audit_lag_records 0$/m.test(metrics);
  }

  /** What both origins got for this path: from its request line to the next one on that connection. */
  got(path: string): string {
    return [...this.plain.conversations, ...this.secure.conversations]
      .flatMap((conversation) => requestsIn(conversation.bytes.toString("latin1")))
      .filter((request) => request.path === path)
      .map((request) => request.text)
      .join("");
  }

  async close(): Promise<void> {
    await this.house.close();
    await Promise.all([this.plain.close(), this.secure.close(), this.dns.close()]);
  }
}

function requestsIn(text: string): { path: string; text: string }[] {
  const heads = [...text.matchAll(HEAD)];
  return heads.map((head, i) => ({ path: head[2] as string, text: text.slice(head.index, heads[i + 1]?.index) }));
}

export async function openSocket(port: number, localAddress: string): Promise<RawConnection> {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress, allowHalfOpen: true, noDelay: true });
  await settled(socket, "connect");
  return new RawConnection(socket);
}

export async function startTls(socket: net.Socket, options: tls.ConnectionOptions): Promise<RawConnection> {
  const secured = tls.connect({ socket, ...options });
  await settled(secured, "secureConnect");
  return new RawConnection(secured);
}

function settled(socket: net.Socket, event: "connect" | "secureConnect"): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed")));
    socket.once(event, () => {
      socket.off("error", reject);
      resolve();
    });
  });
}

/** Starts a scene. Origins answer "hello" where no script says otherwise. */
export async function startScene(
  options: SceneOptions | ((ports: { plain: number; secure: number }) => SceneOptions) = {},
): Promise<Scene> {
  const scripts = new Map<string, OriginScript>();
  const script: OriginScript = (conversation, request) => {
    const path = requestsIn(conversation.bytes.toString("latin1"))[request]?.path ?? "";
    return (scripts.get(path) ?? origins.text("hello"))(conversation, request);
  };
  const originCa = new TestCa();
  const plain = await startRawOrigin(script);
  const secure = await startRawOrigin(script, { tls: originCa.leaf(HOST, { names: TLS_NAMES }) });
  const made = typeof options === "function" ? options({ plain: plain.port, secure: secure.port }) : options;
  const dns = await startDns((name, type, count) => {
    const own = made.dns?.(name, type, count);
    if (own !== undefined) return own;
    if (!name.endsWith(".test")) return { code: "nxdomain" };
    return { addresses: type === "A" ? ["127.0.0.1"] : [] };
  });
  const house = await startSceneHouse(made, originCa, dns);
  return new Scene(house, dns, plain, secure, originCa, scripts);
}

export const startSceneHouse = (made: SceneOptions, originCa: TestCa, dns: TestDns): Promise<TestHouse> =>
  startTestHouse({
    policy: made.policy ?? OPEN_POLICY,
    roots: originCa.cert,
    env: made.env ?? {},
    resolver: { servers: [dns.server], deadline: 3_000 },
  });

// ---- tables -----------------------------------------------------------------------------------------------------------

export const WAYS = ["plain", "intercepted", "clear text inside CONNECT"] as const;
export type Way = (typeof WAYS)[number];

export interface Case {
  readonly name: string;
  /** Default: all. */
  readonly ways?: readonly Way[];
  /** What the client sends; or what it does. */
  readonly send: string | ((at: At) => string | Buffer);
  readonly act?: (client: RawConnection, at: At) => Promise<void>;
  readonly origin?: OriginScript;
  /** Before the path that marks the case, for rules that speak of it. */
  readonly prefix?: string;
  /** Of the request, for reading responses. */
  readonly method?: string;
  /** Status lines in order, informational ones too. [] : none. */
  readonly statuses: readonly number[];
  /** `open`: another request on the connection is answered. Default. `broken`: reset, or ended by one seen late. */
  readonly ending?: Ending | "broken";
  /** The reason that the last response names; null: none. Default: not looked at. */
  readonly reason?: string | null;
  /** What the origin got: null: nothing; text: contains; a pattern. Default: not looked at. */
  readonly got?: string | RegExp | null;
  /** The case's records beside those of CONNECTs and of `/again`, in order. Default: one exchange. */
  readonly records?: readonly Readonly<Record<string, unknown>>[];
  readonly content?: string;
  /** Looks at the rest. Throws when it is wrong. */
  readonly check?: (outcome: Outcome, at: At) => void;
}

export interface Outcome {
  readonly responses: readonly RawResponse[];
  /** What came behind the last complete response. */
  readonly rest: string;
  readonly ending: Ending;
  readonly again: number | null;
  readonly error: Error | null;
  got: string;
  records: readonly AuditRecord[];
}

export interface Played {
  readonly title: string;
  readonly row: Case;
  readonly way: Way;
  readonly at: At;
  outcome: Outcome;
}

export const request = (at: At, fields = "", method = "GET", body = ""): string =>
  `${method} ${at.target} HTTP/1.1\r\nHost: ${at.host}\r\n${fields}\r\n${body}`;

/** Plays every case on every way it applies to, at once, and gives each what the log and the origins say of it. */
export async function playAll(scene: Scene, cases: readonly Case[], together = 24): Promise<Played[]> {
  const played: Played[] = [];
  const todo = cases.flatMap((row, n) => (row.ways ?? WAYS).map((way) => ({ row, way, n })));
  const worker = async (): Promise<void> => {
    for (let next = todo.shift(); next !== undefined; next = todo.shift()) {
      played.push(
        await play(scene, next.row, next.way, `${next.row.prefix ?? ""}/case-${next.n}-${WAYS.indexOf(next.way)}`),
      );
    }
  };
  await Promise.all(Array.from({ length: together }, worker));
  const records = await scene.settled();
  for (const each of played) {
    each.outcome.got = scene.got(each.at.path);
    each.outcome.records = records.filter(
      (r) => r.address === each.at.address && r.path !== "/again" && (r.kind !== "connect" || r.status !== 200),
    );
  }
  return played;
}

async function play(scene: Scene, row: Case, way: Way, path: string): Promise<Played> {
  const at = placeOf(scene, way, path);
  if (row.origin !== undefined) scene.scripts.set(path, row.origin);
  const result = { responses: [] as RawResponse[], rest: "", ending: "open" as Ending, again: null as number | null };
  let error: Error | null = null;
  try {
    const client = await enter(scene, way, at);
    await perform(client, row, at, result);
    client.destroy();
  } catch (thrown) {
    error = thrown as Error;
  }
  const outcome: Outcome = { ...result, error, got: "", records: [] };
  return { title: `${row.name} (${way})`, row, way, at, outcome };
}

function placeOf(scene: Scene, way: Way, path: string): At {
  const scheme = way === "intercepted" ? "https" : "http";
  const port = way === "intercepted" ? scene.secure.port : scene.plain.port;
  const host = `${HOST}:${port}`;
  const to = (p: string): string => (way === "plain" ? `http://${host}${p}` : p);
  return { scheme, port, path, target: to(path), to, host, address: scene.newAddress() };
}

function enter(scene: Scene, way: Way, at: At): Promise<RawConnection> {
  if (way === "plain") return scene.open(at.address);
  return way === "intercepted" ? scene.secured(at.host, at.address) : scene.connect(at.host, at.address);
}

interface Result {
  responses: RawResponse[];
  rest: string;
  ending: Ending;
  again: number | null;
}

async function perform(client: RawConnection, row: Case, at: At, result: Result): Promise<void> {
  let taken = client.text.length;
  if (row.act !== undefined) await row.act(client, at);
  else client.send(typeof row.send === "string" ? row.send : row.send(at));
  try {
    for (const _ of row.statuses) {
      const response = await client.response(PATIENCE, row.method);
      taken += response.raw.length;
      result.responses.push(response);
    }
  } catch (error) {
    if (client.ending === "open") throw error;
  }
  if ((row.ending ?? "open") !== "open") result.ending = await client.closed();
  else {
    client.send(`GET ${at.to("/again")} HTTP/1.1\r\nHost: ${at.host}\r\n\r\n`);
    result.again = (await client.response()).status;
    result.ending = client.ending;
    return;
  }
  result.rest = client.text.slice(taken);
}
