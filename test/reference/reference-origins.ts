// The origin's side of an exchange, a second time: undici, and node:http's client where undici cannot (Expect, trailers of a
// request, the asterisk, a 304 that says a length). The way to the origin (addresses checked, TLS verified) is the house's own; each exchange has a
// connection of its own.
import http from "node:http";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { Client, type Dispatcher } from "undici";
import { chainOf } from "../../src/edge/proxy/origin-pool.ts";
import { openRoute, type Route, type RouteServices } from "../../src/edge/proxy/origin-route.ts";
import type { OpenRequest, OriginEvents, OriginSide, Origins } from "../../src/exchange/sides.ts";
import { allValues, type Fields, firstValue } from "../../src/http/fields.ts";
import { PHRASES } from "../../src/http/serialise.ts";
import { authorityText, originText } from "../../src/http/target.ts";
import { asProxyError, ProxyError } from "../../src/shared/errors.ts";
import { withoutFraming } from "./node-http-client-side.ts";

export class ReferenceOrigins implements Origins {
  private readonly route: RouteServices;

  constructor(route: RouteServices) {
    this.route = route;
  }

  open(request: OpenRequest, events: OriginEvents): { abandon(): void } {
    const x = request.exchange;
    const opening = openRoute(this.route, {
      destination: x.forward,
      serverName: x.connection.connect?.alias ?? null,
      via: x.decision?.plan.via ?? null,
      chain: chainOf(x, "sallyport-test"),
      clientKey: x.principal ?? "",
      alpn: ["http/1.1"],
      onread: null,
    });
    let abandoned = false;
    opening.route.then(
      (route) => {
        if (abandoned) return void route.socket.destroy();
        describe(request, route);
        const side = wantsNodeHttp(request)
          ? new NodeHttpOrigin(request, events, route)
          : new UndiciOrigin(request, events, route);
        events.originOpened(side);
      },
      (error: unknown) => {
        if (!abandoned) events.originFailed(asProxyError(error));
      },
    );
    return {
      abandon: () => {
        abandoned = true;
        opening.abandon();
      },
    };
  }
}

const wantsNodeHttp = ({ exchange: { forward }, expectContinue }: OpenRequest): boolean =>
  expectContinue ||
  !forward.path.startsWith("/") ||
  firstValue(forward.fields, "trailer") !== null ||
  firstValue(forward.fields, "if-none-match") !== null;

function describe({ exchange: x }: OpenRequest, route: Route): void {
  const { received, forward } = x;
  const moved = forward.host !== received.host || forward.port !== received.port || forward.scheme !== received.scheme;
  x.origin = { ...route.record, to: moved ? originText(forward) : null };
  x.timings.dns = route.timings.dns;
  x.timings.connect = route.timings.connect;
  if (route.note !== null) x.note(route.note);
}

/** The fields that the origin gets, with the framing of the request's content. */
function fieldsFor({ exchange: x, length }: OpenRequest): Fields {
  const fields = withoutFraming(x.forward.fields);
  const host = x.hostText ?? firstValue(fields, "host") ?? authorityText(x.forward, x.forward.scheme);
  const others = fields.filter((_, i) => (fields[i - (i % 2)] as string).toLowerCase() !== "host");
  const declared = length === 0 && firstValue(x.received.fields, "content-length") === null;
  return ["Host", host, ...others, ...(length === null || declared ? [] : ["Content-Length", String(length)])];
}

/** Whose answer it is, seen from the relay: the same meaning of a response for both clients. */
class Answer {
  protected readonly request: OpenRequest;
  protected readonly events: OriginEvents;
  protected over = false;
  private left: number | null = null;

  constructor(request: OpenRequest, events: OriginEvents) {
    this.request = request;
    this.events = events;
  }

  protected begin(status: number, phrase: string, fields: Fields, version: string | null): void {
    const x = this.request.exchange;
    x.originProtocol = version;
    const none = x.forward.method === "HEAD" || status === 204 || status === 304;
    const chunked = allValues(fields, "transfer-encoding").length > 0;
    const declared = firstValue(fields, "content-length");
    this.left = none ? 0 : chunked || declared === null ? null : Number(declared);
    this.events.responseHead({ status, phrase: phrase || (PHRASES[status] ?? ""), fields }, this.left);
  }

  /** False: pause. */
  protected content(chunk: Buffer): boolean {
    if (this.over) return true;
    if (this.left !== null) this.left -= chunk.length;
    return this.events.responseData(chunk, this.left === 0);
  }

  protected complete(trailers: Fields): void {
    if (this.over) return;
    this.over = true;
    this.events.responseEnd(trailers.length === 0 ? null : trailers);
  }

  protected broke(error: Error): void {
    if (this.over) return;
    this.over = true;
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (error instanceof ProxyError) this.events.originFailed(error);
    else if (error.name === "HTTPParserError" || /^HPE_(?!INVALID_EOF)|UND_ERR_(?:HEADERS_OVERFLOW|RES)/.test(code))
      this.events.originFailed(new ProxyError("origin-protocol", undefined, { cause: error }));
    else this.events.originFailed(new ProxyError("origin-incomplete", undefined, { cause: error }));
  }
}

class UndiciOrigin extends Answer implements OriginSide {
  private readonly client: Client;
  private readonly body: Readable | null;
  private controller: Dispatcher.DispatchController | null = null;

  constructor(request: OpenRequest, events: OriginEvents, route: Route) {
    super(request, events);
    const { forward } = request.exchange;
    this.client = new Client(originText(forward), {
      connect: (_options, done) => queueMicrotask(() => done(null, route.socket as Socket)),
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: 131_072,
    });
    this.body = request.length === 0 ? null : new Readable({ read: () => events.originDrained() });
    this.body?.on("error", () => {});
    this.dispatch(route);
  }

  private dispatch(route: Route): void {
    const { forward } = this.request.exchange;
    const headers = fieldsFor(this.request);
    if (route.absolute) headers.push("Proxy-Authorization", route.absolute);
    const options: Dispatcher.DispatchOptions = {
      path: route.absolute === null ? forward.path : originText(forward) + forward.path,
      method: forward.method as Dispatcher.HttpMethod,
      headers,
      body: this.body,
      reset: true,
    };
    this.client.dispatch(options, {
      onRequestStart: (controller) => {
        this.controller = controller;
      },
      onResponseStart: (controller, status, _headers, phrase = "") => {
        const fields = texts(controller.rawHeaders);
        if (status < 200) this.events.responseInterim(status, phrase, fields);
        else this.begin(status, phrase, fields, "1.1");
      },
      onResponseData: (controller, chunk) => {
        if (!this.content(chunk)) controller.pause();
      },
      onResponseEnd: (controller) => this.complete(texts(controller.rawTrailers)),
      onResponseError: (_controller, error) => this.broke(error),
    });
  }

  data(chunk: Uint8Array): boolean {
    return this.body?.push(Buffer.from(chunk)) ?? true;
  }

  end(): void {
    this.body?.push(null);
  }

  abort(): void {
    this.over = true;
    this.body?.destroy();
    void this.client.destroy();
  }

  pauseResponse(): void {
    this.controller?.pause();
  }

  resumeResponse(): void {
    this.controller?.resume();
  }
}

class NodeHttpOrigin extends Answer implements OriginSide {
  private readonly outgoing: http.ClientRequest;
  private incoming: http.IncomingMessage | null = null;

  constructor(request: OpenRequest, events: OriginEvents, route: Route) {
    super(request, events);
    const { forward } = request.exchange;
    const headers = fieldsFor(request);
    if (request.length === null) headers.push("Transfer-Encoding", "chunked");
    if (request.expectContinue) headers.push("Expect", "100-continue");
    headers.push("Connection", "close");
    this.outgoing = http.request({
      createConnection: () => route.socket,
      path: forward.path,
      method: forward.method,
      // A flat list, as rawHeaders are: written as it stands.
      headers: headers as unknown as http.OutgoingHttpHeaders,
      setHost: false,
    });
    this.outgoing.on("information", ({ statusCode, statusMessage, rawHeaders }) =>
      events.responseInterim(statusCode, statusMessage, rawHeaders.slice()),
    );
    this.outgoing.on("continue", () => events.responseInterim(100, "Continue", []));
    this.outgoing.on("response", (incoming) => this.read(incoming));
    this.outgoing.on("drain", () => events.originDrained());
    this.outgoing.on("error", (error) => this.broke(error));
    if (request.length === 0) this.outgoing.end();
    else this.outgoing.flushHeaders();
  }

  private read(incoming: http.IncomingMessage): void {
    this.incoming = incoming;
    this.begin(incoming.statusCode ?? 0, incoming.statusMessage ?? "", incoming.rawHeaders, incoming.httpVersion);
    incoming.on("data", (chunk: Buffer) => {
      if (!this.content(chunk)) incoming.pause();
    });
    incoming.on("end", () => this.complete(incoming.rawTrailers));
    incoming.on("error", (error) => this.broke(error));
  }

  data(chunk: Uint8Array): boolean {
    return this.outgoing.write(Buffer.from(chunk));
  }

  end(trailers: Fields | null): void {
    if (trailers !== null) {
      const pairs: [string, string][] = [];
      for (let i = 0; i < trailers.length; i += 2) pairs.push([trailers[i] as string, trailers[i + 1] as string]);
      this.outgoing.addTrailers(pairs);
    }
    this.outgoing.end();
  }

  abort(): void {
    this.over = true;
    this.outgoing.destroy();
  }

  pauseResponse(): void {
    this.incoming?.pause();
  }

  resumeResponse(): void {
    this.incoming?.resume();
  }
}

const texts = (raw: unknown): Fields =>
  ((raw ?? []) as (Buffer | string)[]).map((part) => (typeof part === "string" ? part : part.toString("latin1")));
