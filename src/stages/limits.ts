// Sizes: by declared length before anything is dialled, and by counting while content streams. Listed once per direction.
// A limit refuses, it never truncates (invariant 5).
import type { Exchange } from "../exchange/exchange.ts";
import type { BodyTap, Stage } from "../exchange/stage.ts";
import { type Fields, firstValue } from "../http/fields.ts";
import type { Limits } from "../policy/types.ts";
import { ProxyError, type Reason } from "../shared/errors.ts";

const limitsOf = (x: Exchange): Limits => (x.decision?.plan ?? x.policy.defaults).limits;

class Counter implements BodyTap {
  private seen = 0;
  private readonly limit: number;
  private readonly reason: Reason;
  constructor(limit: number, reason: Reason) {
    this.limit = limit;
    this.reason = reason;
  }
  push(chunk: Uint8Array): void {
    this.seen += chunk.length;
    if (this.seen > this.limit) throw new ProxyError(this.reason, `more than ${this.limit} bytes of content`);
  }
  end(): void {}
}

export const requestLimits: Stage = {
  name: "limits (request)",
  onRequest(x) {
    const limits = limitsOf(x);
    if (x.requestLength > limits.request)
      throw new ProxyError("request-too-large", `${x.requestLength} bytes of content, the limit is ${limits.request}`);
    if (x.received.path.length > limits.url)
      throw new ProxyError("target-too-long", `the limit is ${limits.url} bytes`);
    if (limits.headers < x.policy.defaults.limits.headers && sizeOf(x.received.fields) > limits.headers) {
      throw new ProxyError("fields-too-large", `the limit is ${limits.headers} bytes`);
    }
    return null;
  },
  requestTap(x) {
    const { request } = limitsOf(x);
    // A declared length within the limit is kept by the framing itself.
    return request === Number.POSITIVE_INFINITY || x.requestLength >= 0
      ? null
      : new Counter(request, "request-too-large");
  },
};

export const responseLimits: Stage = {
  name: "limits (response)",
  onResponse(x, response) {
    const { response: limit } = limitsOf(x);
    if (limit === Number.POSITIVE_INFINITY) return null;
    const declared =
      x.forward.method === "HEAD" || response.status === 304 ? null : firstValue(response.fields, "content-length");
    if (declared !== null && Number(declared) > limit)
      throw new ProxyError("response-too-large", `${declared} bytes of content, the limit is ${limit}`);
    return null;
  },
  responseTap(x) {
    const { response } = limitsOf(x);
    return response === Number.POSITIVE_INFINITY ? null : new Counter(response, "response-too-large");
  },
};

/** Bytes of a field section on the wire (RFC 9112 section 5). */
function sizeOf(fields: Fields): number {
  let size = 2;
  for (const text of fields) size += text.length + 2;
  return size;
}
