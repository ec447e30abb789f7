// One request and its one final response, on their way through the line.
import type { BodyRecord, OriginRecord, RecordedBody, Timings } from "../audit/record.ts";
import { NO_BODY } from "../audit/record.ts";
import type { Fields } from "../http/fields.ts";
import type { Authority, ForwardHead, RequestHead, ResponseHead } from "../http/messages.ts";
import type { WebSocketAgreement } from "../http/web-socket.ts";
import type { Decision, Policy } from "../policy/types.ts";
import type { ProxyError } from "../shared/errors.ts";

/** What is known of the client's connection; shared by all exchanges on it. */
export interface ConnectionFacts {
  readonly clientAddress: string;
  readonly clientPort: number;
  /** The loopback port of a `sallyport run` child carries its identity: the client's name, or null. */
  readonly assignedClient: string | null;
  /** True on such a port: who speaks is settled, and credentials are not asked for. */
  readonly trusted: boolean;
  /** Name of the client by its certificate (TLS to the proxy itself): the SHA-256 fingerprint and subject, or null. */
  readonly clientCertificate: {
    readonly fingerprint: string;
    readonly subject: string;
    readonly names: readonly string[];
  } | null;
  /** Set inside CONNECT. */
  readonly connect: ConnectContext | null;
}

export interface ConnectContext {
  /** The id of the CONNECT's record. */
  readonly record: string;
  readonly authority: Authority;
  /** Who authenticated at CONNECT. */
  readonly client: string | null;
  /** What the policy wanted of that client then (`Authenticator.standing`). Absent: not compared. */
  readonly standing?: string;
  /** Until when the credential of the CONNECT is good, in milliseconds since 1970. Absent: without an end. */
  readonly expiresAt?: number;
  /** The proxies that the CONNECT came through: the value of its Via. Absent or "": none. */
  readonly via?: string;
  /** True: TLS was ended here. False: clear-text HTTP inside CONNECT. */
  readonly intercepted: boolean;
  readonly sni: string | null;
  /** True: SNI named another host than CONNECT; every request is answered 421. */
  readonly sniMismatch: boolean;
  /** CONNECT named an address and SNI a name: both must be allowed, and the name stands for the address inside. */
  readonly alias: string | null;
}

export class Exchange {
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly receivedAt: number;
  /** Monotonic milliseconds at the request head. */
  readonly startedAt: number;
  readonly connection: ConnectionFacts;
  /** The snapshot this exchange started with: a reload does not touch it. */
  readonly policy: Policy;
  readonly received: RequestHead;
  readonly forward: ForwardHead;
  /** Content length the client declared: 0 no content, -1 chunked (unknown). */
  readonly requestLength: number;

  /** The value of Host towards the origin; null: as the client sent it. */
  hostText: string | null = null;
  /** Path and query for the record and for refusals, where those that came hold something that must not be written; else null. */
  shownTarget: string | null = null;
  /** The protocols that the client wants to switch to, as the origin will be asked for them, or null. */
  upgrade: string | null = null;
  principal: string | null = null;
  decision: Decision | null = null;
  /** The final response that the client gets (origin's or ours). */
  response: ResponseHead | null = null;
  /** Length of the origin's content as its head says: 0 no content, null unknown. */
  responseLength: number | null = null;
  failure: ProxyError | null = null;
  /** Set when a 101 agreed on a WebSocket; null: another protocol follows, or none. */
  webSocket: WebSocketAgreement | null = null;
  /** True once a status line went to the client. */
  responseStarted = false;
  /** True: the request's content arrived whole; the response's content was sent whole. */
  requestComplete = false;
  responseComplete = false;

  // What the record will say; the stages and the edge fill it in.
  sent: BodyRecord = NO_BODY;
  receivedBody: BodyRecord = NO_BODY;
  /** Made by the content stage where a body was decoded. */
  sentDecoded: { bytes: number; sha256: string } | null = null;
  receivedDecoded: { bytes: number; sha256: string } | null = null;
  readonly timings: Timings = { wait: null, dns: null, connect: null, tls: null, firstByte: null, total: 0 };
  origin: OriginRecord | null = null;
  originProtocol: string | null = null;
  notes: string[] | null = null;
  /** `would-deny` by content in report mode, and by which rule. */
  reported: string | null = null;
  requestBody: RecordedBody | null = null;
  responseBody: RecordedBody | null = null;
  responseFields: Fields | null = null;
  /**
   * Set by the driver before the line completes: called once, when the record is with the operating system (true) or could
   * not be written (false). The last byte of the response waits for it.
   */
  onRecorded: ((written: boolean) => void) | null = null;

  constructor(
    id: string,
    receivedAt: number,
    startedAt: number,
    connection: ConnectionFacts,
    policy: Policy,
    received: RequestHead,
    requestLength: number,
  ) {
    this.id = id;
    this.receivedAt = receivedAt;
    this.startedAt = startedAt;
    this.connection = connection;
    this.policy = policy;
    this.received = received;
    this.requestLength = requestLength;
    this.forward = {
      method: received.method,
      scheme: received.scheme,
      host: received.host,
      port: received.port,
      path: received.path,
      fields: received.fields.slice(),
    };
  }

  /** Adds a remark to the record. */
  note(text: string): void {
    this.notes ??= [];
    if (this.notes.length < 32) this.notes.push(text);
  }
}
