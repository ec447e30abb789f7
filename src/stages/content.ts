// The content filters: decide by fields, path, query and body, in both directions; hold bodies back, replace in them, or stop
// them. The only stage that returns body steps.
import type { Exchange } from "../exchange/exchange.ts";
import type { BodyNext, Stage, StageResult, StepPlan } from "../exchange/stage.ts";
import type { Turns } from "../exchange/turns.ts";
import { charsetOf } from "../filters/charset.ts";
import type { ContentPlan } from "../filters/content-plan.ts";
import { codingsOf, type Decoders } from "../filters/decoder.ts";
import { matchesField, matchesText, nameIn, redactedValue } from "../filters/head-scan.ts";
import { mediaTypeOf } from "../filters/media-type.ts";
import { allValues, type Fields, firstValue, isNamed, removeField, sameName, setField } from "../http/fields.ts";
import type { ResponseHead } from "../http/messages.ts";
import { authorityText } from "../http/target.ts";
import { CodedStep } from "./content-coded-step.ts";
import { inspectionOf } from "./content-messages.ts";
import { PlainStep, type StepJob } from "./content-plain-step.ts";
import { ContentSide, signatureOf } from "./content-side.ts";
import { scanTarget } from "./content-target.ts";
import { TrailersStep } from "./content-trailers-step.ts";

export interface ContentStageOptions {
  readonly decoders: Decoders;
  readonly turns: Turns;
}

/** What is said about bytes that may have been changed (RFC 9110 section 8.8.3, RFC 9530, RFC 3230, RFC 9421). */
const ABOUT_BYTES = [
  "digest",
  "content-md5",
  "repr-digest",
  "content-digest",
  "x-goog-hash",
  "x-ms-blob-content-md5",
  "x-ms-content-crc64",
  "docker-content-digest",
];
const ABOUT_RESPONSE_BYTES = [...ABOUT_BYTES, "etag", "accept-ranges", "signature", "signature-input"];
/** Each checksum that S3 knows has a field of its own, and so has each of stores of artifacts. */
const CHECKSUM = /^x-(?:amz-)?checksum-/i;
/** gRPC-Web for browsers that read text alone: the whole content is in base64. */
const GRPC_IN_BASE64 = /^\s*application\/grpc-web-text(?:[+;\s]|$)/i;
/** Bytes that are searched at once: a few milliseconds, whatever they are. Of events and messages there may be thousands in fewer. */
const PIECE = 16 * 1024;
const SMALL_PIECE = 4 * 1024;
/** Calls and messages of these protocols are compressed one by one, inside the content. */
const INNER_CODINGS = ["grpc-encoding", "connect-content-encoding"];

/** The stage. It stands after the one that edits fields, whose values it does not look at: they are the operator's. */
export function contentStage(options: ContentStageOptions): Stage {
  const { decoders } = options;
  return {
    name: "content",
    onRequest(x: Exchange): StageResult {
      const plan = planOf(x);
      if (plan === null) return null;
      if (plan.onRequest) requestHead(new ContentSide(x, plan, "request"), decoders);
      if (plan.response.body.length > 0) askForReadable(x, decoders);
      return null;
    },
    onResponse(x: Exchange, response: ResponseHead): StageResult {
      const plan = planOf(x);
      if (plan !== null && response.status === 101 && x.webSocket === null) unseen(x, plan);
      if (plan === null || !plan.onResponse) return null;
      const side = new ContentSide(x, plan, "response");
      const { status } = response;
      const hasContent =
        x.responseLength !== 0 && x.received.method !== "HEAD" && status !== 101 && status !== 204 && status !== 304;
      for (const rule of plan.response.head)
        if (rule.matcher.matches({ path: x.received.path, fields: response.fields, hasContent }))
          side.matched(rule, "head");
      scanPhrase(side, response);
      scanFields(side, response.fields, "fields");
      return null;
    },
    onInterim(x: Exchange, interim: ResponseHead): void {
      const plan = planOf(x);
      if (plan === null || plan.response.fields.length === 0) return;
      const side = new ContentSide(x, plan, "response");
      scanPhrase(side, interim);
      scanFields(side, interim.fields, "fields");
    },
    requestStep(x: Exchange): StepPlan | null {
      const plan = planOf(x);
      if (plan === null || x.requestLength === 0) return null;
      const side = new ContentSide(x, plan, "request");
      if (plan.request.body.length > 0) return stepPlan(side, x.forward.fields, options);
      // With a length there are no trailers, but in HTTP/2.
      return x.requestLength < 0 || x.received.version === "2" ? trailersPlan(side) : null;
    },
    responseStep(x: Exchange, response: ResponseHead): StepPlan | null {
      const plan = planOf(x);
      if (plan === null || x.received.method === "HEAD") return null;
      const side = new ContentSide(x, plan, "response");
      if (plan.response.body.length === 0 || x.responseLength === 0) return trailersPlan(side);
      if (response.status === 206) side.unscannable("it is a part of something larger (206)");
      return stepPlan(side, response.fields, options);
    },
  };
}

const planOf = (x: Exchange): ContentPlan | null => (x.decision?.allowed ? x.decision.plan.content : null);

/** Another protocol follows, which passes unseen (WebSocket does not). Throws where a filter wants to see it. */
function unseen(x: Exchange, plan: ContentPlan): void {
  for (const direction of ["request", "response"] as const)
    if (plan[direction].body.length > 0)
      new ContentSide(x, plan, direction).unscannable("another protocol follows the 101");
}

/** Everything that can be known before the origin is asked. */
function requestHead(side: ContentSide, decoders: Decoders): void {
  const { x, rules, plan } = side;
  const { forward } = x;
  const hasContent = x.requestLength !== 0;
  for (const rule of rules.head)
    if (rule.matcher.matches({ path: forward.path, fields: forward.fields, hasContent })) side.matched(rule, "head");
  scanHost(side);
  scanTarget(side);
  // HTTP/2 names the host elsewhere; towards the origin it may stand in this field all the same.
  if (firstValue(forward.fields, "host") === null)
    scanFields(side, ["Host", authorityText(x.received, x.received.scheme)], "fields");
  scanFields(side, forward.fields, "fields");
  scanBeside(side);
  if (!hasContent || rules.body.length === 0) return;
  const codings = codingsOf(allValues(forward.fields, "content-encoding"));
  // Refused before the origin is asked; what may pass is noted when the body begins.
  if (side.strict) {
    const why = unreadable(codings, forward.fields, decoders);
    if (why !== null) side.unscannable(why, side.undecodable);
    if (codings.length === 0 && x.requestLength > plan.scanLimit)
      side.unscannable(`it has more than ${plan.scanLimit} bytes, the scan limit`);
  }
}

/** The name that the client asked for, before it is asked for in the DNS; also with its labels joined. */
function scanHost(side: ContentSide): void {
  const { host } = side.x.received;
  const joined = host.replaceAll(".", "");
  for (const rule of side.rules.host)
    if (matchesText(rule, host, false) || matchesText(rule, joined, false)) {
      // A name cannot be replaced: it is blocked.
      const name = nameIn(rule, host);
      if (side.matched(rule, "host", name)) throw side.blocked(rule, "host", name);
    }
}

/**
 * What leaves beside the fields: the protocols of Upgrade, which the connection writes anew, and the Via of the CONNECT, of which a
 * next proxy is told. Neither is a text to replace something in.
 */
function scanBeside(side: ContentSide): void {
  const { upgrade, connection, decision } = side.x;
  const next = decision?.plan.via ?? null;
  const via = next === null ? null : connection.connect?.via;
  for (const text of [upgrade, via]) {
    if (text === null || text === undefined || text === "") continue;
    for (const rule of side.rules.fields)
      if (matchesText(rule, text, false) && side.matched(rule, "fields", nameIn(rule, text)))
        throw side.blocked(rule, "fields", nameIn(rule, text));
  }
}

/**
 * Looks at every name and value, but not at values that the policy itself put in. A field whose name is to be replaced is removed.
 * Host says where the request goes: nothing is replaced there.
 */
function scanFields(side: ContentSide, fields: Fields, place: string): void {
  const edits = side.direction === "request" ? side.x.decision?.plan.requestEdits : side.x.decision?.plan.responseEdits;
  for (const rule of side.rules.fields) {
    for (let i = 0; i < fields.length; ) {
      const name = fields[i] as string;
      const value = fields[i + 1] as string;
      const ours = edits?.some((e) => e.op !== "remove" && sameName(e.name, name) && e.value === value) ?? false;
      if (ours || !matchesField(rule, fields, i) || !side.matched(rule, place, nameIn(rule, value))) {
        i += 2;
        continue;
      }
      if (side.direction === "request" && isNamed(name, "host"))
        throw side.blocked(rule, place, nameIn(rule, value), "Host says where the request goes");
      if (matchesText(rule, name, false)) fields.splice(i, 2);
      else {
        fields[i + 1] = redactedValue(rule, value);
        i += 2;
      }
    }
  }
}

/** The words beside the status, which are the origin's. They cannot be replaced. */
function scanPhrase(side: ContentSide, { phrase }: ResponseHead): void {
  for (const rule of side.rules.fields)
    if (matchesText(rule, phrase, false) && side.matched(rule, "status line")) throw side.blocked(rule, "status line");
}

/**
 * A response that will be inspected must come whole and in a coding that can be undone (RFC 9110 sections 12.5.3, 14.2). What is signed
 * is asked for as it is, since signatures cover these fields too: a response that cannot be read is judged when it comes.
 */
function askForReadable(x: Exchange, decoders: Decoders): void {
  const fields = x.forward.fields;
  if (signatureOf(fields, x.forward.path) !== null) return;
  if (removeField(fields, "range") > 0) x.note("range-removed");
  removeField(fields, "if-range");
  const accepted = allValues(fields, "accept-encoding");
  if (accepted.length === 0) return;
  const items = accepted.flatMap((value) => value.split(",")).map((item) => item.trim());
  const kept = items.filter((item) => {
    const coding = mediaTypeOf(item);
    return coding === "identity" || coding === "x-gzip" || decoders.knows(coding);
  });
  if (kept.length < items.length) setField(fields, "accept-encoding", kept.length > 0 ? kept.join(", ") : "identity");
}

/** Why content with these codings and fields cannot be looked at, or null. */
function unreadable(codings: readonly string[], fields: Fields, decoders: Decoders): string | null {
  if (codings.length > decoders.most) return "it has too many codings";
  if (!codings.every((c) => decoders.knows(c))) return "its coding is unknown";
  const inner = INNER_CODINGS.flatMap((name) => codingsOf(allValues(fields, name)));
  if (inner.length > 0) return "its messages are compressed";
  return allValues(fields, "content-type").some((type) => GRPC_IN_BASE64.test(type)) ? "it is in base64" : null;
}

/** Nothing but trailers is looked at. */
function trailersPlan(side: ContentSide): StepPlan | null {
  if (side.rules.fields.length === 0) return null;
  return { resizes: false, open: (next) => new TrailersStep(next, (trailers) => scannedTrailers(side, trailers)) };
}

function scannedTrailers(side: ContentSide, trailers: Fields): Fields {
  const edited = trailers.slice();
  scanFields(side, edited, "trailers");
  return edited;
}

function stepPlan(side: ContentSide, fields: Fields, services: ContentStageOptions): StepPlan | null {
  const { rules } = side;
  const codings = codingsOf(allValues(fields, "content-encoding"));
  const why = unreadable(codings, fields, services.decoders);
  if (why !== null) {
    side.unscannable(why, side.undecodable);
    return trailersPlan(side);
  }
  const type = firstValue(fields, "content-type");
  const charset = charsetOf(allValues(fields, "content-type"));
  const events = side.direction === "response" && type !== null && mediaTypeOf(type) === "text/event-stream";
  side.framed = type !== null && /^application\/grpc(?:[+;]|$)/i.test(type.trim());
  const actions = rules.body.map((rule) => side.actOnBody(rule));
  const edits = actions.includes("redact");
  const holdsHead = !events && actions.some((action) => action !== "report");
  let changed = edits && !holdsHead;
  if (changed) dropChanged(side, fields, codings.length > 0);
  return {
    resizes: edits,
    open(next: BodyNext) {
      const job: StepJob = {
        side,
        inspection: inspectionOf(side, events ? "event" : side.framed ? "message" : "body", charset),
        holdsHead,
        edits,
        piece: events || side.framed ? SMALL_PIECE : PIECE,
        adapt: (decoded) => {
          changed = true;
          if (holdsHead) dropChanged(side, fields, decoded);
        },
        trailers: (trailers) => {
          const edited = scannedTrailers(side, trailers);
          if (changed || job.inspection.changed) dropChanged(side, edited, false);
          return edited;
        },
      };
      return codings.length === 0
        ? new PlainStep(job, next, services.turns)
        : new CodedStep(job, next, services, codings);
    },
  };
}

/** Removes what is not true of changed bytes. */
function dropChanged(side: ContentSide, fields: Fields, decoded: boolean): void {
  if (decoded) removeField(fields, "content-encoding");
  for (const name of side.direction === "request" ? ABOUT_BYTES : ABOUT_RESPONSE_BYTES) removeField(fields, name);
  for (let i = fields.length - 2; i >= 0; i -= 2) if (CHECKSUM.test(fields[i] as string)) fields.splice(i, 2);
}
