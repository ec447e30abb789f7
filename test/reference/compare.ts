// Sends a case through our engine and through the reference (node:http and undici around the same relay and line), and holds
// what the client got, what the origin got and what was recorded against each other.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { expect } from "vitest";
import type { AuditRecord } from "../../src/audit/record.ts";
import { TestCa } from "../support/certificates.ts";
import { type Engine, startEngine } from "../support/engine.ts";
import { type OriginScript, type RawOrigin, refusedPort, startRawOrigin } from "../support/origin.ts";
import { connectTo, type RawConnection, tlsThrough, tunnelThrough } from "../support/raw-client.ts";
import { type Message, messagesIn, type ResponseSeen, responseOf } from "./observed.ts";
import { ReferenceOrigins } from "./reference-origins.ts";
import { openReference } from "./reference-proxy.ts";

/** How a request comes: on the proxy port, inside CONNECT with TLS, or inside CONNECT in clear text. */
export type Way = "plain" | "intercepted" | "clear";
export const WAYS: readonly Way[] = ["plain", "intercepted", "clear"];

/** One request: its head without Host (which is put first), and its content as it goes over the wire. */
export interface CaseRequest {
  readonly method: string;
  readonly path: string;
  /** Field lines, each without CRLF. */
  readonly fields?: readonly string[];
  /** The content as framed: after the head, as latin1 text. */
  readonly body?: string;
  /** Pieces it is sent in; by default one. */
  readonly pieces?: number;
  /** Wait for the interim response before the content is sent. */
  readonly awaitContinue?: boolean;
}

export interface ReferenceCase {
  readonly name: string;
  /** Sent one after the other on one connection. */
  readonly requests: readonly CaseRequest[];
  readonly origin: OriginScript;
  /** The rest of the policy file, in which PORT stands for the origin's port; by default everything is allowed. */
  readonly policy?: string;
  readonly way?: Way;
}

/** What one implementation did with a case, without what may differ. */
export interface Observed {
  readonly client: readonly (ResponseSeen | "broken")[];
  readonly origin: readonly Message[];
  readonly records: readonly Partial<AuditRecord>[];
}

const OPEN = "defaults: { action: allow }\n";
/** Everything of one policy: both implementations. */
interface Pair {
  readonly ours: Engine;
  readonly reference: Engine;
}
const pairs = new Map<string, Promise<Pair>>();
const ca = new TestCa();
let folder: string | null = null;
/** Every origin has it, one after the other, so that one engine for each policy is enough. */
let port = 0;

async function pairFor(policy: string): Promise<Pair> {
  folder ??= mkdtempSync(join(tmpdir(), "reference-"));
  const roots = join(folder, "roots.pem");
  writeFileSync(roots, ca.cert);
  const text = `version: 1\nnetwork: { allow: [127.0.0.0/8] }\ntls: { roots: [${roots}] }\n${policy.replaceAll("PORT", String(port))}`;
  const instead = {
    origins: (route: ConstructorParameters<typeof ReferenceOrigins>[0]) => new ReferenceOrigins(route),
  };
  return {
    ours: await startEngine({ policy: text }),
    reference: await startEngine({ policy: text, instead: { ...instead, listen: openReference } }),
  };
}

/** Ends what comparisons have opened. Call it when a test file is done. */
export async function closeComparisons(): Promise<void> {
  for (const pair of await Promise.all(pairs.values())) {
    await pair.ours.close();
    await pair.reference.close();
  }
  pairs.clear();
  if (folder !== null) rmSync(folder, { recursive: true, force: true });
  folder = null;
}

/** What our engine and the reference did with the case. */
export async function observeBoth(c: ReferenceCase): Promise<{ ours: Observed; reference: Observed }> {
  const policy = c.policy ?? OPEN;
  if (port === 0) port = await refusedPort();
  let pair = pairs.get(policy);
  if (pair === undefined) {
    pair = pairFor(policy);
    pairs.set(policy, pair);
  }
  const { ours, reference } = await pair;
  const secure = c.way === "intercepted" ? { tls: ca.leaf("127.0.0.1") } : {};
  const origin = await startRawOrigin(c.origin, { ...secure, port });
  try {
    return { ours: await observe(c, ours, origin), reference: await observe(c, reference, origin) };
  } finally {
    await origin.close();
    await wait(5); // the engine notices that its idle connections have gone
  }
}

/** Fails where our engine and the reference differ. Returns what both did. */
export async function compareWithReference(c: ReferenceCase): Promise<Observed> {
  const { ours, reference } = await observeBoth(c);
  expect(ours, c.name).toEqual(reference);
  return ours;
}

async function observe(c: ReferenceCase, engine: Engine, origin: RawOrigin): Promise<Observed> {
  const before = origin.conversations.length;
  const recordsBefore = engine.sink.records.length;
  const client: (ResponseSeen | "broken")[] = [];
  let connection: RawConnection | null = null;
  try {
    for (const request of c.requests) {
      if (connection === null || connection.ending !== "open")
        connection = await open(c.way ?? "plain", engine, origin);
      const seen = await send(request, c.way ?? "plain", connection, origin);
      client.push(seen);
      if (seen === "broken" || seen.closes) {
        connection.destroy();
        connection = null;
      }
    }
    const exchanges = () => engine.sink.records.slice(recordsBefore).filter((r) => r.kind === "exchange");
    for (let i = 0; i < 200 && exchanges().length < c.requests.length; i++) await wait(5);
    await settled(origin);
    return {
      client,
      origin: origin.conversations.slice(before).flatMap(({ bytes }) => messagesIn(bytes.toString("latin1"))),
      records: exchanges().map(comparable),
    };
  } finally {
    connection?.destroy();
  }
}

/** Waits until the origin gets no more bytes. */
async function settled(origin: RawOrigin): Promise<void> {
  for (let last = -1, now = origin.text().length; now !== last; now = origin.text().length) {
    last = now;
    await wait(10);
  }
}

async function open(way: Way, engine: Engine, origin: RawOrigin): Promise<RawConnection> {
  const authority = `127.0.0.1:${origin.port}`;
  if (way === "plain") return connectTo(engine.port);
  if (way === "clear") return tunnelThrough(engine.port, authority);
  return tlsThrough(engine.port, authority, { ca: engine.ca });
}

async function send(
  request: CaseRequest,
  way: Way,
  connection: RawConnection,
  origin: RawOrigin,
): Promise<ResponseSeen | "broken"> {
  const authority = `127.0.0.1:${origin.port}`;
  const target = way === "plain" ? `http://${authority}${request.path}` : request.path;
  const lines = [`Host: ${authority}`, ...(request.fields ?? [])].map((line) => `${line}\r\n`).join("");
  connection.send(`${request.method} ${target} HTTP/1.1\r\n${lines}\r\n`);
  const interims: ResponseSeen["interims"][number][] = [];
  try {
    if (request.awaitContinue) {
      const first = await connection.response();
      if (first.status >= 200) return responseOf(first, request.method, interims);
      interims.push(responseOf(first, request.method, []));
    }
    await sendBody(connection, request);
    for (;;) {
      const response = await connection.response(5000, request.method);
      if (response.status >= 200) return responseOf(response, request.method, interims);
      interims.push(responseOf(response, request.method, []));
    }
  } catch (error) {
    if (connection.ending === "open") throw error;
    return "broken";
  }
}

async function sendBody(connection: RawConnection, { body = "", pieces = 1 }: CaseRequest): Promise<void> {
  const size = Math.max(1, Math.ceil(body.length / pieces));
  for (let i = 0; i < body.length; i += size) {
    connection.send(body.slice(i, i + size));
    if (i + size < body.length) await wait(3);
  }
}

/** A record without ids and times, and without what belongs to a connection of its own. */
function comparable(record: AuditRecord): Partial<AuditRecord> {
  const { id: _id, at: _at, parent, timings: _timings, origin, error: _error, received, ...rest } = record;
  // A response of our own holds the id of its record.
  const own = record.reason !== null && record.reason !== "client-gone" && record.status !== null;
  return {
    ...rest,
    received: own ? { ...received, bytes: 0, sha256: "" } : received,
    ...(parent === null ? {} : { parent: "connect" }),
    origin: origin === null ? null : { ...origin, fingerprint: origin.fingerprint === null ? null : "some" },
  };
}
