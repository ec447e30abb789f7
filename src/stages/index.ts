// THE ORDER. Read this first. The list reads from client to origin: request hooks run in this order, response hooks in
// reverse. `audit`, nearest the client, digests what the client sent and got; each `limits` stands before `content` in its
// own direction, so that a filter never sees more than the limit.
import type { Stage } from "../exchange/stage.ts";
import { type AuditStageOptions, auditStage } from "./audit.ts";
import { type Authenticator, authenticateStage } from "./authenticate.ts";
import { connectionFieldsStage } from "./connection-fields.ts";
import { type ContentStageOptions, contentStage } from "./content.ts";
import { decideStage } from "./decide.ts";
import { injectStage } from "./inject.ts";
import { requestLimits, responseLimits } from "./limits.ts";
import { maxForwardsStage } from "./max-forwards.ts";
import { webSocketStage } from "./web-socket.ts";

export interface LineOptions {
  readonly audit: AuditStageOptions;
  readonly authenticator: () => Authenticator;
  /** Names this house in Via. */
  readonly pseudonym: string;
  readonly content: ContentStageOptions;
}

export const theLine = (options: LineOptions): readonly Stage[] => [
  auditStage(options.audit),
  authenticateStage(options.authenticator),
  decideStage,
  requestLimits,
  maxForwardsStage,
  connectionFieldsStage(options.pseudonym),
  injectStage,
  contentStage(options.content),
  responseLimits,
  webSocketStage,
];
