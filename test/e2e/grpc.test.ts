// Real gRPC (grpc-js on both sides) through CONNECT and interception, found by `grpc_proxy` as people set it: all four kinds
// of calls, deadlines, cancellation, compression, large messages, and a refusal that the client's own code understands.
import grpc, { type Client, type Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { PATIENCE } from "../support/patience.ts";

const MB4 = 4 * 1024 * 1024;
const same = (b: Buffer): Buffer => b;
const codec = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/echo.Echo/${name}`,
  requestStream,
  responseStream,
  ...codec,
});
const ECHO = {
  unary: method("Unary", false, false),
  hang: method("Hang", false, false),
  fail: method("Fail", false, false),
  gather: method("Gather", true, false),
  many: method("Many", false, true),
  chat: method("Chat", true, true),
  endless: method("Endless", false, true),
  secret: method("Secret", false, false),
};

const policy = (): string => `defaults: { action: allow }
network: { allow: [127.0.0.0/8] }
rules:
  - { id: no-secrets, deny: ['https://127.0.0.1:${port}/echo.Echo/Secret'], reason: ask the owner for secrets }
`;

const testCa = new TestCa();
let house: TestHouse;
let server: grpc.Server;
let port = 0;
/** What the server saw end, by method: "cancelled" when the client gave up. */
const cancelled: string[] = [];
let lastMetadata: Metadata | null = null;
/** Tells the server of `many` that its last message is here. */
let arrived = (): void => {};

const echo: grpc.UntypedServiceImplementation = {
  unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
    lastMetadata = call.metadata;
    const trailers = new grpc.Metadata();
    trailers.set("x-after", "seen");
    done(null, call.request, trailers);
  },
  hang: (call: grpc.ServerUnaryCall<Buffer, Buffer>) => {
    call.on("cancelled", () => cancelled.push("hang"));
  },
  fail: (_call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
    const metadata = new grpc.Metadata();
    metadata.set("x-why-bin", Buffer.from([0, 1, 255]));
    done({ code: grpc.status.RESOURCE_EXHAUSTED, details: "no more é here", metadata });
  },
  gather: (call: grpc.ServerReadableStream<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
    const pieces: Buffer[] = [];
    call.on("data", (b: Buffer) => pieces.push(b));
    call.on("end", () => done(null, Buffer.concat(pieces)));
  },
  many: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
    let n = 0;
    arrived = (): void => {
      if (n === 10) call.end();
      else call.write(Buffer.from(`${n++}`));
    };
    arrived();
  },
  chat: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
    call.on("data", (b: Buffer) => call.write(b));
    call.on("end", () => call.end());
  },
  endless: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
    const timer = setInterval(() => call.write(Buffer.from("tick")), 10);
    call.on("cancelled", () => {
      clearInterval(timer);
      cancelled.push("endless");
    });
  },
  secret: (_call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) =>
    done(null, Buffer.from("secret")),
};

const LARGE = { "grpc.max_receive_message_length": 2 * MB4, "grpc.max_send_message_length": 2 * MB4 };
const ENV = ["grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"];
const before = ENV.map((name) => [name, process.env[name]] as const);

beforeAll(async () => {
  const leaf = testCa.leaf("127.0.0.1");
  server = new grpc.Server(LARGE);
  server.addService(ECHO, echo);
  const pair = { private_key: Buffer.from(leaf.key), cert_chain: Buffer.from(leaf.cert) };
  const credentials = grpc.ServerCredentials.createSsl(null, [pair], false);
  port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error === null ? resolve(bound) : reject(error))),
  );
  house = await startTestHouse({ roots: testCa.cert, policy: policy() });
});
afterAll(async () => {
  server.forceShutdown();
  await house.close();
  for (const [name, value] of before) if (value !== undefined) process.env[name] = value;
});
beforeEach(() => {
  cancelled.length = 0;
});

/** A client whose only way out is the variable. */
function clientOf(options: grpc.ClientOptions = {}, variable: "grpc_proxy" | "https_proxy" = "grpc_proxy"): Client {
  for (const name of ENV) delete process.env[name];
  process.env[variable] = `http://127.0.0.1:${house.port}`;
  return new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createSsl(Buffer.from(house.ca)), {
    ...LARGE,
    // Its own connection: what one test does to a channel is not to be seen by another.
    "grpc.use_local_subchannel_pool": 1,
    ...options,
  });
}

interface Outcome {
  readonly error: ServiceError | null;
  readonly answer: Buffer | null;
  readonly status: grpc.StatusObject;
}

function unary(client: Client, name: keyof typeof ECHO, message: Buffer, options: grpc.CallOptions = {}) {
  return new Promise<Outcome>((resolve) => {
    let error: ServiceError | null = null;
    let answer: Buffer | null = null;
    const metadata = new grpc.Metadata();
    metadata.set("x-before", "value");
    const call = client.makeUnaryRequest(ECHO[name].path, same, same, message, metadata, options, (e, a) => {
      error = e;
      answer = a ?? null;
      if (status !== null) resolve({ error, answer, status });
    });
    let status: grpc.StatusObject | null = null;
    call.on("status", (s) => {
      status = s;
      if (error !== null || answer !== null) resolve({ error, answer, status: s });
    });
  });
}

/** The record of a method's last call. */
async function recordOf(name: string, fits: (r: AuditRecord) => boolean = () => true): Promise<AuditRecord> {
  const path = `/echo.Echo/${name}`;
  for (const end = Date.now() + PATIENCE; Date.now() < end; await new Promise((done) => setTimeout(done, 20))) {
    const found = house.records().filter((r) => r.kind === "exchange" && r.path === path && fits(r));
    if (found.length > 0) return found.at(-1) as AuditRecord;
  }
  throw new Error(`no record of ${path}: ${JSON.stringify(house.records(), null, 1)}`);
}

describe.each(["grpc_proxy", "https_proxy"] as const)("found by %s", (variable) => {
  test("a unary call: message, metadata, trailers, and a record that is complete", async () => {
    const client = clientOf({}, variable);
    const { answer, status } = await unary(client, "unary", Buffer.from(`hello by ${variable}`));
    client.close();
    expect(answer?.toString()).toBe(`hello by ${variable}`);
    expect([status.code, status.metadata.get("x-after")]).toEqual([0, ["seen"]]);
    expect(lastMetadata?.get("x-before")).toEqual(["value"]);
    const record = await recordOf("Unary", (r) => r.sent.bytes === `hello by ${variable}`.length + 5);
    expect(record).toMatchObject({
      decision: "allow",
      status: 200,
      clientProtocol: "2",
      originProtocol: "2",
      reason: null,
    });
    expect(record.notes).toContain("grpc-status:0");
    expect([record.sent.complete, record.received.complete]).toEqual([true, true]);
    expect(record.sent.sha256).toBe(record.received.sha256);
  });
});

test("a client's stream", async () => {
  const client = clientOf();
  const answer = await new Promise<Buffer>((resolve, reject) => {
    const call = client.makeClientStreamRequest(ECHO.gather.path, same, same, (error, value) =>
      error === null ? resolve(value as Buffer) : reject(error),
    );
    for (let i = 0; i < 100; i++) call.write(Buffer.from(`${i};`));
    call.end();
  });
  client.close();
  expect(answer.toString()).toBe(Array.from({ length: 100 }, (_, i) => `${i};`).join(""));
  expect((await recordOf("Gather")).notes).toContain("grpc-status:0");
});

test("a server's stream: each message is here before the next is sent", async () => {
  const client = clientOf();
  const call = client.makeServerStreamRequest(ECHO.many.path, same, same, Buffer.from("go"));
  const seen: string[] = [];
  call.on("data", (b: Buffer) => {
    seen.push(b.toString());
    arrived();
  });
  const status = await new Promise<grpc.StatusObject>((resolve) => call.on("status", resolve));
  client.close();
  expect(status.code).toBe(0);
  expect(seen).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
});

test("both streams: every message is answered before the next is sent", async () => {
  const client = clientOf();
  const call = client.makeBidiStreamRequest(ECHO.chat.path, same, same);
  for (let i = 0; i < 20; i++) {
    const got = new Promise<Buffer>((resolve, reject) => {
      call.once("data", resolve);
      call.once("error", reject);
    });
    call.write(Buffer.from(`message ${i}`));
    expect((await got).toString()).toBe(`message ${i}`);
    call.removeAllListeners("error");
  }
  const status = new Promise<grpc.StatusObject>((resolve) => call.on("status", resolve));
  call.resume();
  call.end();
  expect((await status).code).toBe(0);
  client.close();
  const record = await recordOf("Chat");
  expect(record.notes).toContain("grpc-status:0");
  expect(record.sent.sha256).toBe(record.received.sha256);
});

test("a deadline that passes: the client says so, and the server stops", async () => {
  const client = clientOf();
  const { error } = await unary(client, "hang", Buffer.from("x"), { deadline: Date.now() + 300 });
  expect(error?.code).toBe(grpc.status.DEADLINE_EXCEEDED);
  await until(() => cancelled.includes("hang"));
  client.close();
  expect((await recordOf("Hang")).decision).toBe("allow");
});

test("a cancelled call is cancelled at the server, and its record is not complete", async () => {
  const client = clientOf();
  const call = client.makeServerStreamRequest(ECHO.endless.path, same, same, Buffer.from("go"));
  const error = new Promise<ServiceError>((resolve) => call.on("error", (e) => resolve(e as ServiceError)));
  await new Promise((resolve) => call.once("data", resolve));
  call.cancel();
  expect((await error).code).toBe(grpc.status.CANCELLED);
  await until(() => cancelled.includes("endless"));
  client.close();
  const record = await recordOf("Endless");
  expect([record.reason, record.received.complete]).toEqual(["client-gone", false]);
});

test("the server's error: status, message and binary metadata arrive as they are", async () => {
  const client = clientOf();
  const { error } = await unary(client, "fail", Buffer.from("x"));
  client.close();
  expect(error).toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED, details: "no more é here" });
  expect(error?.metadata.get("x-why-bin")).toEqual([Buffer.from([0, 1, 255])]);
  expect((await recordOf("Fail")).notes).toContain("grpc-status:8");
});

test.each([
  ["deflate", 1],
  ["gzip", 2],
] as const)("compressed messages (%s)", async (name, algorithm) => {
  const client = clientOf({ "grpc.default_compression_algorithm": algorithm });
  const message = Buffer.alloc(100_000, `compress ${name}`);
  const { answer } = await unary(client, "unary", message);
  client.close();
  expect(answer?.equals(message)).toBe(true);
  expect(lastMetadata?.get("x-before")).toEqual(["value"]);
  const record = await recordOf("Unary", (r) => r.sent.bytes > 50 && r.sent.bytes < 5_000);
  expect(record.sent.complete).toBe(true);
});

test("4 MB each way, several at once", async () => {
  const client = clientOf();
  const message = Buffer.alloc(MB4, "0123456789abcdef");
  const outcomes = await Promise.all([1, 2, 3].map(() => unary(client, "unary", message)));
  client.close();
  for (const { answer } of outcomes) expect(answer?.equals(message)).toBe(true);
  const record = await recordOf("Unary", (r) => r.sent.bytes === MB4 + 5);
  expect([record.received.bytes, record.sent.sha256]).toEqual([MB4 + 5, record.received.sha256]);
});

test("a refusal is PERMISSION_DENIED with the rule's words, and the connection goes on", async () => {
  const client = clientOf();
  const { error } = await unary(client, "secret", Buffer.from("give"));
  expect(error?.code).toBe(grpc.status.PERMISSION_DENIED);
  expect(error?.details).toContain("ask the owner for secrets");
  expect((await unary(client, "unary", Buffer.from("goes on"))).answer?.toString()).toBe("goes on");
  client.close();
  const record = await recordOf("Secret");
  expect(record).toMatchObject({ decision: "deny", reason: "not-allowed", rule: "no-secrets" });
  expect(record.notes).toContain("grpc-status:7");
});

async function until(fits: () => boolean): Promise<void> {
  for (const end = Date.now() + PATIENCE; !fits(); await new Promise((done) => setTimeout(done, 10)))
    if (Date.now() > end) throw new Error("it did not happen in time");
}
