// What a refused client gets: the status of the table, Proxy-Status (RFC 9209), our own decision field, and a short body in
// the form it likes. Nothing of the request is echoed but its escaped URL without query; never an error's internals.
import { type Fields, firstValue } from "../http/fields.ts";
import { PHRASES } from "../http/serialise.ts";
import { originText } from "../http/target.ts";
import { type ProxyError, specOf } from "../shared/errors.ts";
import type { Exchange } from "./exchange.ts";
import type { LocalResponse } from "./stage.ts";

export interface RefusalOptions {
  /** `id-only`: neither rule names nor sentences of the policy reach the client. */
  readonly hints: "full" | "id-only";
  /** Challenges for 407 (RFC 9110 section 11.7.1). */
  readonly challenges: readonly string[];
  readonly name: string;
}

/** Sets `message` and `rule` of a refusal; what the table says when nobody said more. */
export interface RefusalFacts {
  readonly id: string;
  readonly accept: string | null;
  readonly rule: string | null;
  readonly message: string;
}

export function refuseExchange(x: Exchange, error: ProxyError, options: RefusalOptions): LocalResponse {
  const request = x.received;
  const url = `${originText(request)}${(x.shownTarget ?? request.path).split("?", 1)[0] ?? ""}`;
  const what = `${request.method} ${url}`;
  const decided =
    error.reason === "not-allowed" || error.reason === "unauthenticated" ? (x.decision?.message ?? "") : "";
  const why = decided !== "" && decided !== undefined ? decided : `${error.message}: ${what}`;
  if (isGrpc(x)) return grpcRefusal(x, error, options.hints === "full" ? why : error.reason, options.name);
  return refusal(
    error,
    { id: x.id, accept: firstValue(request.fields, "accept"), rule: x.decision?.rule ?? null, message: why },
    options,
  );
}

const isGrpc = (x: Exchange): boolean =>
  x.received.version === "2" &&
  /^application\/grpc(?:[+;]|$)/i.test(firstValue(x.received.fields, "content-type") ?? "");

/** Statuses of gRPC by ours; by who failed where none stands here. 7 is PERMISSION_DENIED, 14 UNAVAILABLE. */
const GRPC_STATUS: Readonly<Record<number, number>> = { 401: 16, 407: 16, 408: 4, 413: 8, 429: 8, 500: 13, 504: 4 };

/** gRPC clients read a status of their own, in a response that is nothing but a head ("trailers-only"). */
function grpcRefusal(x: Exchange, error: ProxyError, message: string, name: string): LocalResponse {
  const { party } = specOf(error.reason);
  const status = GRPC_STATUS[error.status ?? 0] ?? (party === "policy" || party === "client" ? 7 : 14);
  x.note(`grpc-status:${status}`);
  const text = `sallyport: ${message}`
    .replace(/\p{Surrogate}/gu, "?")
    .replace(/[^ -$&-~]/gu, (c) => encodeURIComponent(c));
  const fields: Fields = ["content-type", "application/grpc", "grpc-status", String(status), "grpc-message", text];
  return { status: 200, phrase: "OK", fields: [...fields, ...decisionFields(error, x.id, name)], content: NO_CONTENT };
}
const NO_CONTENT = new Uint8Array(0);

/** The response of a refusal. `error.status` must not be null. */
export function refusal(error: ProxyError, facts: RefusalFacts, options: RefusalOptions): LocalResponse {
  const spec = specOf(error.reason);
  const status = error.status ?? 502;
  const full = options.hints === "full";
  const who = spec.party === "origin" ? "could not complete this request" : "refused this request";
  const message = full ? `Sallyport ${who}: ${facts.message}.` : `Sallyport ${who}.`;
  const { type, text } = body(facts.accept, status, {
    error: error.reason,
    message: message.replace(/\.\.$/, "."),
    rule: full ? facts.rule : null,
    id: facts.id,
    explain: `sallyport audit show ${facts.id}`,
  });
  const content = Buffer.from(text);
  const fields: Fields = [
    "Content-Type",
    type,
    "Cache-Control",
    "no-store",
    ...decisionFields(error, facts.id, options.name),
  ];
  if (status === 407) for (const challenge of options.challenges) fields.push("Proxy-Authenticate", challenge);
  if (status === 405) fields.push("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
  return { status, phrase: PHRASES[status] ?? "Refused", fields, content };
}

/** The fields that name the decision, also on a refused CONNECT. */
export function decisionFields(error: ProxyError, id: string, name: string): Fields {
  const spec = specOf(error.reason);
  const outcome = spec.party === "origin" ? "allow" : "deny";
  const fields: Fields = ["X-Sallyport-Decision", `${outcome}; id=${id}; reason=${error.reason}`];
  if (spec.error !== null) fields.push("Proxy-Status", `${name}; error=${spec.error}; details="${error.reason}"`);
  return fields;
}

interface Refused {
  readonly error: string;
  readonly message: string;
  readonly rule: string | null;
  readonly id: string;
  readonly explain: string;
}

function body(accept: string | null, status: number, refused: Refused): { type: string; text: string } {
  const wanted = preferred(accept);
  if (wanted === "html") return { type: "text/html; charset=utf-8", text: page(status, refused) };
  if (wanted === "text") {
    return {
      type: "text/plain; charset=utf-8",
      text: `${refused.message}\nreason: ${refused.error}\nlook it up: ${refused.explain}\n`,
    };
  }
  return { type: "application/json", text: `${JSON.stringify(refused)}\n` };
}

/** JSON unless the client names HTML or text before it (browsers name text/html first). */
function preferred(accept: string | null): "json" | "html" | "text" {
  if (accept === null) return "json";
  for (const part of accept.toLowerCase().split(",")) {
    const type = (part.split(";", 1)[0] ?? "").trim();
    if (type === "application/json" || type === "*/*") return "json";
    if (type === "text/html" || type === "application/xhtml+xml") return "html";
    if (type === "text/plain" || type === "text/*") return "text";
  }
  return "json";
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => ESCAPES[c] as string);

function page(status: number, refused: Refused): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${status} ${escapeHtml(refused.error)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:4rem auto;padding:0 1rem}code{background:#eee;padding:.1em .3em}</style></head>
<body><h1>${escapeHtml(PHRASES[status] ?? String(status))}</h1><p>${escapeHtml(refused.message)}</p>
<p>Reason: <code>${escapeHtml(refused.error)}</code>${refused.rule === null ? "" : `, rule <code>${escapeHtml(refused.rule)}</code>`}</p>
<p>To look it up: <code>${escapeHtml(refused.explain)}</code></p></body></html>
`;
}
