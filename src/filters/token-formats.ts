// The formats of providers' tokens, as the providers publish them. To add one: a row.
import { base62, crc32 } from "./crc32.ts";

export interface TokenFormat {
  readonly id: string;
  /** What it begins with: at least three bytes, no two formats the same. */
  readonly anchor: string;
  /** The characters after the anchor, as the inside of a class of a regular expression. */
  readonly body: string;
  readonly min: number;
  readonly max: number;
  /** What must stand after `min` characters of the body, and then some more of it: `SG.x.y`. */
  readonly rest?: { readonly text: string; readonly body: string; readonly length: number };
  /** True: so short that in encoded data it comes up by chance, so nothing of its kind may stand right before or after it. */
  readonly alone?: boolean;
  /** True where the checksum in it is right. */
  readonly check?: (token: string) => boolean;
}

const ALNUM = "A-Za-z0-9";
const URL_SAFE = "A-Za-z0-9_-";
const HEX = "0-9a-f";

/** 30 random characters and the CRC-32 of them in six digits of base 62 (github.blog, 2021-04-05). */
const checksum62 = (token: string): boolean => {
  const body = token.slice(-36);
  return base62(crc32(Buffer.from(body.slice(0, 30), "latin1")), 6) === body.slice(30);
};

const fixed = (id: string, anchor: string, body: string, length: number): TokenFormat => ({
  id,
  anchor,
  body,
  min: length,
  max: length,
});

const range = (id: string, anchor: string, body: string, min: number, max: number): TokenFormat => ({
  id,
  anchor,
  body,
  min,
  max,
});

const checked = (id: string, anchor: string): TokenFormat => ({ ...fixed(id, anchor, ALNUM, 36), check: checksum62 });

export const TOKEN_FORMATS: readonly TokenFormat[] = [
  checked("github-personal", "ghp_"),
  checked("github-oauth", "gho_"),
  checked("github-user", "ghu_"),
  checked("github-server", "ghs_"),
  checked("github-refresh", "ghr_"),
  { ...fixed("github-fine-grained", "github_pat_", ALNUM, 22), rest: { text: "_", body: ALNUM, length: 59 } },
  checked("npm", "npm_"),
  fixed("aws-access-key", "AKIA", "A-Z2-7", 16),
  fixed("aws-temporary-key", "ASIA", "A-Z2-7", 16),
  fixed("aws-secret-key", 'aws_secret_access_key = "', "A-Za-z0-9/+", 40),
  fixed("aws-secret-key", "aws_secret_access_key = ", "A-Za-z0-9/+", 40),
  fixed("aws-secret-key", "aws_secret_access_key=", "A-Za-z0-9/+", 40),
  fixed("aws-secret-key", "AWS_SECRET_ACCESS_KEY=", "A-Za-z0-9/+", 40),
  fixed("aws-secret-key", '"SecretAccessKey":"', "A-Za-z0-9/+", 40),
  fixed("aws-secret-key", '"SecretAccessKey": "', "A-Za-z0-9/+", 40),
  range("slack-bot", "xoxb-", "A-Za-z0-9-", 40, 120),
  range("slack-user", "xoxp-", "A-Za-z0-9-", 40, 120),
  range("slack-app", "xapp-1-", "A-Za-z0-9-", 40, 140),
  range("slack-configuration", "xoxe.xox", "A-Za-z0-9.-", 40, 250),
  range("slack-webhook", "hooks.slack.com/services/T", "A-Za-z0-9/", 40, 60),
  range("stripe-secret", "sk_live_", ALNUM, 24, 250),
  range("stripe-restricted", "rk_live_", ALNUM, 24, 250),
  range("stripe-webhook", "whsec_", "A-Za-z0-9+/", 32, 64),
  { ...fixed("google-api-key", "AIza", URL_SAFE, 35), alone: true },
  fixed("google-oauth-client", "GOCSPX-", URL_SAFE, 28),
  range("google-access", "ya29.", "A-Za-z0-9_.-", 60, 300),
  { ...fixed("openai-project", "sk-proj-", URL_SAFE, 40), max: 220 },
  { ...fixed("openai-service", "sk-svcacct-", URL_SAFE, 40), max: 220 },
  { ...fixed("openai-admin", "sk-admin-", URL_SAFE, 40), max: 220 },
  { ...fixed("openai", "sk-", ALNUM, 20), rest: { text: "T3BlbkFJ", body: ALNUM, length: 20 } },
  range("anthropic", "sk-ant-api03-", URL_SAFE, 80, 120),
  range("anthropic-admin", "sk-ant-admin01-", URL_SAFE, 80, 120),
  range("anthropic-oauth", "sk-ant-oat01-", URL_SAFE, 80, 120),
  fixed("openrouter", "sk-or-v1-", HEX, 64),
  range("gitlab-personal", "glpat-", "A-Za-z0-9_.-", 20, 320),
  range("gitlab-deploy", "gldt-", URL_SAFE, 20, 64),
  range("gitlab-runner", "glrt-", "A-Za-z0-9_.-", 20, 64),
  range("gitlab-trigger", "glptt-", URL_SAFE, 40, 64),
  range("gitlab-job", "glcbt-", URL_SAFE, 20, 64),
  { ...fixed("hugging-face", "hf_", "A-Za-z", 34), alone: true },
  { ...fixed("sendgrid", "SG.", URL_SAFE, 22), rest: { text: ".", body: URL_SAFE, length: 43 } },
  range("pypi", "pypi-AgEIcHlwaS5vcmc", URL_SAFE, 50, 250),
  fixed("digitalocean", "dop_v1_", HEX, 64),
  fixed("shopify", "shpat_", "0-9a-fA-F", 32),
  fixed("databricks", "dapi", HEX, 32),
  range("vault", "hvs.", URL_SAFE, 24, 150),
  fixed("groq", "gsk_", ALNUM, 52),
  range("xai", "xai-", ALNUM, 70, 100),
  range("atlassian", "ATATT3xFfGF0", "A-Za-z0-9_=-", 100, 250),
  range("linear", "lin_api_", ALNUM, 40, 48),
  fixed("age", "AGE-SECRET-KEY-1", "AC-HJ-NP-Z02-9", 58),
  fixed("azure-storage", "AccountKey=", "A-Za-z0-9+/", 86),
];
