// Drives one exchange between a client's side and an origin's side through the line. No sockets and no timers in here:
// HTTP/1.1, HTTP/2 and the reference implementation of the tests all run this same file, so that the same request gets the
// same decision on every path (invariant 7).
import { type Fields, firstValue } from "../http/fields.ts";
import type { ResponseHead } from "../http/messages.ts";
import { asProxyError, ProxyError } from "../shared/errors.ts";
import { BodyGate } from "./body-gate.ts";
import type { Exchange } from "./exchange.ts";
import type { Taps } from "./pipeline.ts";
import type { RelayServices } from "./relay-services.ts";
import type { ClientEvents, ClientSide, OriginEvents, OriginSide, RawConnection } from "./sides.ts";
import type { LocalResponse, StageResult } from "./stage.ts";

/** How long a client that sent Expect waits for the origin's 100 before we send one (RFC 9110 section 10.1.1). */
const CONTINUE_AFTER = 1_000;
const NOTHING = new Uint8Array(0);

type Ending = (this: Relay, written: boolean) => void;

export class Relay implements ClientEvents, OriginEvents {
  ready = false;
  readonly x: Exchange;
  private readonly services: RelayServices;
  private readonly client: ClientSide;
  private readonly expects: boolean;
  /** What the origin switched to, once it has. */
  switchedTo: string | null = null;

  private origin: OriginSide | null = null;
  private opening: { abandon(): void } | null = null;
  private requestTaps: Taps | null = null;
  private responseTaps: Taps | null = null;
  private requestGate: BodyGate | null = null;
  private responseGate: BodyGate | null = null;
  /** Bytes of content the client was promised, or null; and how many it got. */
  private promised: number | null = null;
  private given = 0;
  private trailers: Fields | null = null;
  private pendingEnd: { trailers: Fields | null } | null = null;
  private continued = false;
  private completed = false;
  private headSeen = false;
  private clientBlocked = false;
  private lastActivity: number;
  private readonly began: number;

  constructor(services: RelayServices, client: ClientSide, x: Exchange, expects: boolean) {
    this.services = services;
    this.client = client;
    this.x = x;
    this.expects = expects;
    this.began = this.lastActivity = services.coarse.now;
  }

  /** Sends the exchange down the line. */
  start(): void {
    if (this.x.requestLength === 0) this.x.requestComplete = true;
    try {
      const result = this.services.pipeline.onRequest(this.x);
      if (result instanceof Promise) result.then((r) => this.passed(r)).catch((e) => this.fail(asProxyError(e)));
      else this.passed(result);
    } catch (error) {
      this.fail(asProxyError(error));
    }
  }

  /** Refuses an exchange that never reached the line (its head is at fault). */
  refuse(error: ProxyError): void {
    this.fail(error);
  }

  /** The owner's deadline came round. Ends what has waited too long. */
  poll(): void {
    if (this.completed) return;
    const now = this.services.coarse.now;
    const x = this.x;
    const limits = (x.decision?.plan ?? x.policy.defaults).limits;
    if (this.expects && !this.continued && !this.headSeen && !x.requestComplete) {
      // By the fine clock: the coarse one can lag behind and would then cut the origin's time short.
      if (this.services.clock.tick() - x.startedAt >= CONTINUE_AFTER) this.sendContinue();
    }
    if (now - this.began > limits.total) return this.fail(this.late("the exchange took longer than the limit"));
    if (now - this.lastActivity > limits.idle) this.fail(this.late("nothing moved for the idle limit"));
  }

  private late(detail: string): ProxyError {
    if (this.clientBlocked) return new ProxyError("client-gone", "the client stopped reading");
    if (!this.x.requestComplete && !this.headSeen) return new ProxyError("request-timeout", detail);
    return new ProxyError("origin-timeout", detail);
  }

  private passed(result: StageResult): void {
    if (this.completed) return;
    if (result !== null) return this.answer(result);
    try {
      this.openRequest();
    } catch (error) {
      this.fail(asProxyError(error));
    }
  }

  // ---- the request's content ------------------------------------------------------------------------------------------

  private openRequest(): void {
    const x = this.x;
    const pipeline = this.services.pipeline;
    if (x.requestLength === 0) return this.openOrigin(0);
    this.requestTaps = pipeline.openRequestTaps(x);
    const plan = pipeline.requestStep(x);
    if (plan === null) return this.openOrigin(x.requestLength < 0 ? null : x.requestLength);
    const gate = new BodyGate(plan, {
      open: (length) => this.openOrigin(plan.resizes || x.requestLength < 0 ? length : x.requestLength),
      write: (chunk) => this.toOrigin(chunk),
      end: (trailers) => this.endOrigin(trailers),
      fail: (error) => this.fail(error),
      drained: () => this.client.resumeRequest(),
    });
    this.requestGate = gate;
    if (this.expects) this.sendContinue(); // the filters want the content before the origin is asked
    this.ready = true;
    if (!gate.holdsHead) gate.openNow();
    this.client.resumeRequest();
  }

  private openOrigin(length: number | null): void {
    if (this.completed) return;
    const x = this.x;
    x.timings.wait = this.services.clock.tick() - x.startedAt;
    this.opening = this.services.origins.open(
      { exchange: x, length, expectContinue: this.expects && !this.continued, upgrade: x.upgrade },
      this,
    );
  }

  originOpened(side: OriginSide): void {
    if (this.completed) return side.abort();
    this.origin = side;
    this.touch();
    if (this.requestGate !== null) return this.requestGate.opened();
    if (this.x.requestLength === 0) return;
    this.ready = true;
    this.client.resumeRequest();
  }

  requestData(chunk: Uint8Array, whole: boolean): boolean {
    if (this.completed) return true;
    this.touch();
    try {
      this.requestTaps?.clientSide?.push(chunk, whole);
      return this.requestGate !== null ? this.requestGate.step.write(chunk) : this.toOrigin(chunk, whole);
    } catch (error) {
      this.fail(asProxyError(error));
      return true;
    }
  }

  private toOrigin(chunk: Uint8Array, whole = false): boolean {
    this.requestTaps?.originSide?.push(chunk, whole);
    return this.origin?.data(chunk) ?? true;
  }

  requestEnd(trailers: Fields | null): void {
    if (this.completed) return;
    this.touch();
    try {
      this.requestTaps?.clientSide?.end();
      this.x.requestComplete = true;
      if (this.requestGate !== null) this.requestGate.step.end(trailers);
      else this.endOrigin(trailers);
    } catch (error) {
      this.fail(asProxyError(error));
    }
  }

  private endOrigin(trailers: Fields | null): void {
    this.requestTaps?.originSide?.end();
    this.origin?.end(trailers);
  }

  requestFailed(error: ProxyError): void {
    this.fail(error);
  }

  originDrained(): void {
    this.touch();
    if (this.requestGate !== null) this.requestGate.step.resume();
    else this.client.resumeRequest();
  }

  // ---- the response ---------------------------------------------------------------------------------------------------

  responseInterim(status: number, phrase: string, fields: Fields): void {
    if (this.completed || this.headSeen) return;
    this.touch();
    if (status === 100) {
      if (this.expects) this.sendContinue();
    } else if (this.client.version !== "1.0") this.passInterim({ status, phrase, fields });
  }

  private passInterim(interim: ResponseHead): void {
    try {
      const passes = this.services.pipeline.onInterim(this.x, interim);
      if (passes) this.client.interim(interim.status, interim.phrase, interim.fields);
    } catch (error) {
      this.fail(asProxyError(error));
    }
  }

  private sendContinue(): void {
    if (this.continued || this.client.version === "1.0") return;
    this.continued = true;
    this.client.interim(100, "Continue", []);
  }

  responseHead(response: ResponseHead, length: number | null, open = false): void {
    if (this.completed) return;
    this.touch();
    this.headSeen = true;
    this.x.response = response;
    this.x.responseLength = length;
    try {
      const result = this.services.pipeline.onResponse(this.x, response);
      if (result instanceof Promise) {
        this.origin?.pauseResponse();
        this.waitForLine(result, response, length, open);
      } else this.openResponse(result, response, length, open);
    } catch (error) {
      this.fail(asProxyError(error));
    }
  }

  private waitForLine(
    pending: Promise<StageResult>,
    response: ResponseHead,
    length: number | null,
    open: boolean,
  ): void {
    const held: Uint8Array[] = [];
    this.early = held;
    pending
      .then((result) => {
        this.early = null;
        if (this.completed) return;
        this.openResponse(result, response, length, open);
        for (const chunk of held) this.responseData(chunk, false);
        const end = this.pendingEnd;
        this.pendingEnd = null;
        if (end) this.responseEnd(end.trailers);
        else this.origin?.resumeResponse();
      })
      .catch((error) => this.fail(asProxyError(error)));
  }
  /** Content that came while a response hook was waited for (at most one read, since the origin is paused). */
  private early: Uint8Array[] | null = null;

  private openResponse(result: StageResult, response: ResponseHead, length: number | null, open: boolean): void {
    if (this.completed) return;
    if (result !== null) return this.replaceResponse(result);
    this.responseTaps = this.services.pipeline.openResponseTaps(this.x, response);
    const plan = length === 0 && !open ? null : this.services.pipeline.responseStep(this.x, response);
    if (plan === null) return this.sendHead(response, length);
    const gate = new BodyGate(plan, {
      open: (known) => {
        this.sendHead(response, plan.resizes || length === null ? known : length);
        gate.opened();
      },
      write: (chunk) => this.toClient(chunk, false),
      end: (trailers) => this.finish(trailers),
      fail: (error) => this.fail(error),
      drained: () => this.origin?.resumeResponse(),
    });
    this.responseGate = gate;
    if (!gate.holdsHead) gate.openNow();
  }

  private sendHead(response: ResponseHead, length: number | null): void {
    // An answer that says no makes the rest of the request pointless; any other may go on beside it (F7).
    if (!this.x.requestComplete && response.status >= 300) this.client.stopRequest();
    this.x.responseStarted = true;
    this.promised = length;
    this.client.head(response, length);
  }

  responseData(chunk: Uint8Array, last: boolean): boolean {
    if (this.completed) return true;
    this.touch();
    if (this.early !== null) {
      this.early.push(new Uint8Array(chunk)); // a copy: `slice` of a Buffer is none
      return false;
    }
    try {
      const whole = last && this.given === 0;
      this.responseTaps?.originSide?.push(chunk, whole);
      if (this.responseGate !== null) return this.responseGate.step.write(chunk);
      return this.toClient(chunk, whole);
    } catch (error) {
      this.fail(asProxyError(error));
      return true;
    }
  }

  private toClient(chunk: Uint8Array, whole: boolean): boolean {
    this.responseTaps?.clientSide?.push(chunk, whole);
    this.given += chunk.length;
    const room = this.client.data(chunk, this.given === this.promised);
    if (!room) this.clientBlocked = true;
    return room;
  }

  clientDrained(): void {
    this.touch();
    this.clientBlocked = false;
    if (this.completed) return;
    if (this.responseGate !== null) this.responseGate.step.resume();
    else this.origin?.resumeResponse();
  }

  responseEnd(trailers: Fields | null): void {
    if (this.completed) return;
    this.touch();
    // Its connection may serve another exchange from now on: whatever happens to this one, that is none of its business.
    this.origin = null;
    this.opening = null;
    if (this.early !== null) {
      this.pendingEnd = { trailers };
      return;
    }
    try {
      this.responseTaps?.originSide?.end();
      if (this.responseGate !== null) this.responseGate.step.end(trailers);
      else this.finish(trailers);
    } catch (error) {
      this.fail(asProxyError(error));
    }
  }

  private finish(trailers: Fields | null): void {
    if (this.completed) return;
    this.responseTaps?.clientSide?.end();
    this.x.responseComplete = true;
    this.trailers = trailers;
    if (trailers !== null && trailers.length > 0) this.noteDropped();
    this.complete(this.release);
  }

  /** HTTP/1.0 has no trailers, and HTTP/1.1 has them behind chunks alone. */
  private noteDropped(): void {
    const { version } = this.client;
    if (version === "2" || (version === "1.1" && this.promised === null)) return;
    const note = "response-trailers-dropped";
    if (!this.x.notes?.includes(note)) this.x.note(note);
  }

  responseUpgrade(response: ResponseHead, origin: RawConnection): void {
    if (this.completed) {
      origin.socket.destroy();
      return;
    }
    this.headSeen = true;
    const x = this.x;
    this.switchedTo = firstValue(response.fields, "upgrade");
    try {
      if (!this.mayBecome(this.switchedTo))
        throw new ProxyError("origin-protocol", "the origin switched to a protocol that nobody asked for");
      if (!x.requestComplete)
        throw new ProxyError("origin-protocol", "the origin switched protocols inside the request");
      x.response = response;
      x.responseLength = 0;
      const result = this.services.pipeline.onResponse(x, response);
      if (result !== null) throw new ProxyError("internal", "a response stage cannot answer for a 101");
    } catch (error) {
      origin.socket.destroy();
      return this.fail(asProxyError(error));
    }
    x.responseStarted = true;
    x.responseComplete = true;
    this.client.head(response, 0);
    this.complete((written) => {
      const client = written ? this.client.takeSocket() : null;
      if (client !== null) return this.services.upgraded(x, client, origin);
      origin.socket.destroy();
      this.client.abort();
    });
  }

  private mayBecome(protocol: string | null): boolean {
    const wanted = this.x.upgrade?.toLowerCase().split(", ") ?? [];
    return protocol !== null && wanted.includes(protocol.toLowerCase());
  }

  originFailed(error: ProxyError): void {
    this.origin = null;
    this.fail(error);
  }

  // ---- endings --------------------------------------------------------------------------------------------------------

  /** A stage answers in place of the origin, before anything was dialled. */
  private answer(local: LocalResponse): void {
    if (this.completed) return;
    this.responseTaps = null;
    this.x.response = local;
    if (!this.x.requestComplete) this.client.stopRequest();
    const content = this.x.received.method === "HEAD" ? NOTHING : local.content;
    this.x.responseStarted = true;
    try {
      const taps = this.services.pipeline.openResponseTaps(this.x, local);
      if (content.length > 0) taps.clientSide?.push(content, true);
      taps.clientSide?.end();
    } catch (error) {
      this.services.log.error({ err: error, id: this.x.id }, "a stage failed on a local response");
    }
    this.x.responseComplete = true;
    this.client.head(local, content.length);
    if (content.length > 0) this.client.data(content, true);
    this.complete(this.release);
  }

  /** A response stage answers in place of the origin's response. */
  private replaceResponse(local: LocalResponse): void {
    this.giveUpOrigin();
    this.answer(local);
  }

  private fail(error: ProxyError): void {
    if (this.completed) return;
    this.x.failure = error;
    if (error.reason === "internal")
      this.services.log.error({ err: error.cause ?? error, id: this.x.id }, "an exchange failed inside the proxy");
    this.giveUpOrigin();
    this.requestGate?.abort();
    this.responseGate?.abort();
    if (this.x.responseStarted || error.status === null) {
      this.client.abort();
      this.complete(null);
    } else this.answer(this.services.refusal(this.x, error));
  }

  private giveUpOrigin(): void {
    const { opening, origin } = this;
    this.opening = null;
    this.origin = null;
    if (origin !== null) origin.abort();
    else opening?.abandon();
  }

  /** `end`: what is to be done when the record is with the operating system, or could not be written; null: nothing. */
  private complete(end: Ending | null): void {
    if (this.completed) return;
    this.completed = true;
    this.ready = false;
    const x = this.x;
    x.timings.total = this.services.clock.tick() - x.startedAt;
    x.onRecorded = end === null ? null : (written) => this.recorded(end, written);
    const failures = this.services.pipeline.onComplete(x);
    if (failures !== null) this.unrecorded(failures);
    this.services.done(x);
  }

  /** Without a record nothing is released (invariant 2). */
  private unrecorded(failures: readonly unknown[]): void {
    const x = this.x;
    for (const error of failures)
      this.services.log.error({ err: error, id: x.id }, "a stage failed at the end of an exchange");
    const waiting = x.onRecorded;
    x.onRecorded = null;
    waiting?.(false);
  }

  private recorded(end: Ending, written: boolean): void {
    try {
      end.call(this, written);
    } catch (error) {
      this.services.log.error({ err: error, id: this.x.id }, "an exchange failed at its end");
      this.client.abort();
    }
  }

  /** The rest of the response leaves, or breaks off. */
  private release(written: boolean): void {
    // A refusal is sent even when it could not be recorded: nothing was forwarded, and silence would explain nothing.
    if (written || this.x.failure !== null) this.client.end(this.trailers);
    else this.client.abort();
  }

  private touch(): void {
    this.lastActivity = this.services.coarse.now;
  }
}
