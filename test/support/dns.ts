// A real name server on loopback UDP, whose answers a test writes: dead, slow, rebinding, mixed.
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

export type DnsType = "A" | "AAAA" | "other";

export interface DnsReply {
  /** Addresses of the asked type; none: the name exists without any. */
  readonly addresses?: readonly string[];
  /** Seconds. */
  readonly ttl?: number;
  readonly code?: "ok" | "servfail" | "nxdomain" | "refused";
  /** Milliseconds to wait first. */
  readonly delay?: number;
}

/** What to answer; null: nothing, ever. `count`: how often this name and type were asked before. */
export type DnsAnswer = (name: string, type: DnsType, count: number) => DnsReply | null;

export interface TestDns {
  /** `address:port`, as the resolver's `servers` wants it. */
  readonly server: string;
  /** Every question, as "TYPE name". */
  readonly questions: readonly string[];
  close(): Promise<void>;
}

const TYPES: Readonly<Record<number, DnsType>> = { 1: "A", 28: "AAAA" };
const CODES = { ok: 0, servfail: 2, nxdomain: 3, refused: 5 };

/** Starts a name server. */
export async function startDns(answer: DnsAnswer): Promise<TestDns> {
  const socket = createSocket("udp4");
  const questions: string[] = [];
  let closed = false;
  socket.on("message", (query, from) => {
    const { name, type, end } = readQuestion(query);
    const count = questions.filter((question) => question === `${type} ${name}`).length;
    questions.push(`${type} ${name}`);
    const reply = answer(name, type, count);
    if (reply !== null) void send(socket, from, query.subarray(0, end), type, reply, () => closed);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    server: `127.0.0.1:${(socket.address() as AddressInfo).port}`,
    questions,
    close: async () => {
      closed = true;
      socket.close();
      await once(socket, "close");
    },
  };
}

/** Answers from a table: name to addresses (both families), everything else does not exist. */
export const zone =
  (table: Readonly<Record<string, readonly string[]>>): DnsAnswer =>
  (name, type) => {
    const addresses = table[name];
    if (addresses === undefined) return { code: "nxdomain" };
    return { addresses: addresses.filter((address) => (type === "AAAA") === address.includes(":")) };
  };

async function send(
  socket: Socket,
  to: RemoteInfo,
  question: Buffer,
  type: DnsType,
  reply: DnsReply,
  closed: () => boolean,
): Promise<void> {
  if (reply.delay !== undefined) await wait(reply.delay);
  if (closed()) return;
  const records = (reply.addresses ?? []).map((address) => record(address, type, reply.ttl ?? 60));
  const head = Buffer.from(question);
  head.writeUInt16BE(0x8180 | CODES[reply.code ?? "ok"], 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  head.writeUInt32BE(0, 8);
  socket.send(Buffer.concat([head, ...records]), to.port, to.address);
}

function readQuestion(query: Buffer): { name: string; type: DnsType; end: number } {
  const labels: string[] = [];
  let i = 12;
  for (let length = query[i] as number; length > 0; length = query[i] as number) {
    labels.push(query.toString("latin1", i + 1, i + 1 + length));
    i += length + 1;
  }
  return { name: labels.join(".").toLowerCase(), type: TYPES[query.readUInt16BE(i + 1)] ?? "other", end: i + 5 };
}

function record(address: string, type: DnsType, ttl: number): Buffer {
  const data = type === "A" ? Buffer.from(address.split(".").map(Number)) : ipv6Bytes(address);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0); // the name of the question
  head.writeUInt16BE(type === "A" ? 1 : 28, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

function ipv6Bytes(address: string): Buffer {
  const [before = "", after = ""] = address.split("::");
  const left = before === "" ? [] : before.split(":");
  const right = after === "" ? [] : after.split(":");
  const groups = [...left, ...new Array<string>(8 - left.length - right.length).fill("0"), ...right];
  return Buffer.concat(groups.map((group) => Buffer.from(group.padStart(4, "0"), "hex")));
}
