// The formats of providers' tokens, as the providers publish them. To add one: a row.
import { base62, crc32 } from "./crc32.ts";

export interface TokenFormat {
  readonly id: string;
  /** What it begins with: at least three bytes. */
  readonly anchor: string;
  /** The characters after the anchor, as the inside of a class of a regular expression. */
  readonly body: string;
  readonly min: number;
  /** Of a longer token so much is enough. */
  readonly max: number;
  /** What must stand after `min` characters of the body, and then some more of it: `SG.x.y`. */
  readonly rest?: { readonly text: string; readonly body: string; readonly length: number };
  /** What stands somewhere in the body. */
  readonly has?: string;
  /** True: so short that in encoded data it comes up by chance, so nothing of its kind may stand right before or after it. */
  readonly alone?: boolean;
  /** True: the same, but only before it: what follows a longer token does not hide it. */
  readonly first?: boolean;
  /** True: right before it stands a number of eight to ten digits. */
  readonly numbered?: boolean;
  /** True: one with EXAMPLE in it stands in the provider's documentation. Only where the length is fixed: others could be made longer. */
  readonly examples?: boolean;
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

/** A fixed length, after it a separator, and then a fixed length again. */
const twoParts = (
  id: string,
  anchor: string,
  body: string,
  length: number,
  rest: TokenFormat["rest"],
): TokenFormat => ({
  ...fixed(id, anchor, body, length),
  ...(rest === undefined ? {} : { rest }),
});

const alone = (format: TokenFormat): TokenFormat => ({ ...format, alone: true });

const BASE64 = "A-Za-z0-9+/";
const awsSecret = (anchor: string): TokenFormat => ({
  ...fixed("aws-secret-key", anchor, BASE64, 40),
  examples: true,
});
const first = (format: TokenFormat): TokenFormat => ({ ...format, first: true });
const slack = (id: string, anchor: string): TokenFormat => first(range(id, anchor, "A-Za-z0-9-", 34, 250));
const sourceHosting: readonly TokenFormat[] = [
  checked("github-personal", "ghp_"),
  checked("github-oauth", "gho_"),
  checked("github-user", "ghu_"),
  checked("github-server", "ghs_"),
  // Since 2026: ghs_, the number of the app, and a JWT.
  { ...range("github-installation", "ghs_", "A-Za-z0-9_.-", 100, 250), has: "_eyJ" },
  checked("github-refresh", "ghr_"),
  first(fixed("github-app-refresh", "ghr_", ALNUM, 76)),
  twoParts("github-fine-grained", "github_pat_", ALNUM, 22, { text: "_", body: ALNUM, length: 59 }),
  range("gitlab-personal", "glpat-", "A-Za-z0-9_.-", 20, 320),
  alone(range("gitlab-deploy", "gldt-", URL_SAFE, 20, 64)),
  alone(range("gitlab-runner", "glrt-", "A-Za-z0-9_.-", 20, 64)),
  range("gitlab-trigger", "glptt-", URL_SAFE, 40, 64),
  range("gitlab-job", "glcbt-", URL_SAFE, 20, 64),
  range("gitlab-oauth-secret", "gloas-", URL_SAFE, 64, 80),
  range("gitlab-agent", "glagent-", URL_SAFE, 50, 80),
  range("atlassian", "ATATT3xFfGF0", "A-Za-z0-9_=-", 100, 250),
  range("bitbucket", "ATCTT3xFfGN0", "A-Za-z0-9_=-", 100, 250),
];

const registries: readonly TokenFormat[] = [
  checked("npm", "npm_"),
  range("pypi", "pypi-AgEIcHlwaS5vcmc", URL_SAFE, 50, 250),
  fixed("rubygems", "rubygems_", HEX, 48),
  alone(fixed("crates-io", "cio", ALNUM, 32)),
  alone(fixed("nuget", "oy2", "a-z0-9", 43)),
  fixed("docker", "dckr_pat_", URL_SAFE, 27),
  fixed("docker", "dckr_oat_", URL_SAFE, 32),
];

const clouds: readonly TokenFormat[] = [
  { ...alone(fixed("aws-access-key", "AKIA", "A-Z2-7", 16)), examples: true },
  { ...alone(fixed("aws-temporary-key", "ASIA", "A-Z2-7", 16)), examples: true },
  ...["aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"].flatMap((name) =>
    [" = ", "=", ': "', ": ", ' = "', '="'].map((sign) => awsSecret(`${name}${sign}`)),
  ),
  ...["SecretAccessKey", "secretAccessKey"].flatMap((name) =>
    ['":"', '": "', ': "', ": '", ">"].map((sign) => awsSecret(`${name}${sign}`)),
  ),
  range("aws-bedrock", "ABSKQmVkcm9ja0FQSUtleS", BASE64, 60, 200),
  alone(fixed("google-api-key", "AIza", URL_SAFE, 35)),
  // Since 2026.
  alone(range("google-api-key", "AQ.Ab", URL_SAFE, 40, 80)),
  fixed("google-oauth-client", "GOCSPX-", URL_SAFE, 28),
  range("google-access", "ya29.", "A-Za-z0-9_.-", 60, 300),
  alone(range("google-refresh", "1//0", URL_SAFE, 60, 160)),
  fixed("azure-storage", "AccountKey=", BASE64, 86),
  fixed("azure-shared-access", "SharedAccessKey=", BASE64, 43),
  fixed("azure-client-secret", "7Q~", "A-Za-z0-9_.~-", 31),
  fixed("azure-client-secret", "8Q~", "A-Za-z0-9_.~-", 34),
  fixed("digitalocean", "dop_v1_", HEX, 64),
  fixed("digitalocean", "doo_v1_", HEX, 64),
  alone(range("cloudflare", "cfk_", ALNUM, 44, 56)),
  alone(range("cloudflare", "cfut_", ALNUM, 44, 56)),
  alone(range("cloudflare", "cfat_", ALNUM, 44, 56)),
  alone(fixed("alibaba", "LTAI", ALNUM, 20)),
  range("heroku", "HRKU-AA", URL_SAFE, 58, 64),
  alone(range("vercel", "vcp_", ALNUM, 24, 80)),
  alone(range("vercel", "vck_", ALNUM, 24, 80)),
  fixed("supabase", "sbp_", HEX, 40),
  range("supabase", "sb_secret_", URL_SAFE, 30, 60),
  range("planetscale", "pscale_tkn_", "A-Za-z0-9_=.-", 32, 64),
  range("planetscale", "pscale_pw_", "A-Za-z0-9_=.-", 32, 64),
  fixed("databricks", "dapi", HEX, 32),
  range("tailscale", "tskey-", "A-Za-z0-9-", 30, 80),
];

const models: readonly TokenFormat[] = [
  range("openai-project", "sk-proj-", URL_SAFE, 40, 220),
  range("openai-service", "sk-svcacct-", URL_SAFE, 40, 220),
  range("openai-admin", "sk-admin-", URL_SAFE, 40, 220),
  twoParts("openai", "sk-", ALNUM, 20, { text: "T3BlbkFJ", body: ALNUM, length: 20 }),
  range("anthropic", "sk-ant-api03-", URL_SAFE, 80, 120),
  range("anthropic-admin", "sk-ant-admin01-", URL_SAFE, 80, 120),
  range("anthropic-oauth", "sk-ant-oat01-", URL_SAFE, 80, 120),
  range("anthropic-oauth", "sk-ant-ort01-", URL_SAFE, 80, 120),
  fixed("openrouter", "sk-or-v1-", HEX, 64),
  // DeepSeek, DashScope and others; Stability AI, Moonshot and others.
  alone(fixed("model-api-key", "sk-", HEX, 32)),
  alone(fixed("model-api-key", "sk-", ALNUM, 48)),
  alone(fixed("hugging-face", "hf_", "A-Za-z", 34)),
  alone(fixed("groq", "gsk_", ALNUM, 52)),
  alone(range("xai", "xai-", ALNUM, 70, 100)),
  fixed("perplexity", "pplx-", ALNUM, 48),
  alone(fixed("replicate", "r8_", ALNUM, 37)),
  range("pinecone", "pcsk_", "A-Za-z0-9_", 60, 90),
  range("tavily", "tvly-", "A-Za-z0-9-", 30, 60),
  twoParts("langsmith", "lsv2_pt_", HEX, 32, { text: "_", body: HEX, length: 10 }),
  twoParts("langsmith", "lsv2_sk_", HEX, 32, { text: "_", body: HEX, length: 10 }),
  fixed("langfuse", "sk-lf-", "0-9a-f-", 36),
  fixed("e2b", "e2b_", HEX, 40),
];

const messages: readonly TokenFormat[] = [
  slack("slack-bot", "xoxb-"),
  slack("slack-user", "xoxp-"),
  slack("slack-legacy", "xoxa-"),
  slack("slack-legacy", "xoxr-"),
  slack("slack-legacy", "xoxs-"),
  slack("slack-browser", "xoxc-"),
  slack("slack-refresh", "xoxe-"),
  slack("slack-app", "xapp-1-"),
  range("slack-configuration", "xoxe.xox", "A-Za-z0-9.-", 40, 250),
  range("slack-webhook", "hooks.slack.com/services/T", "A-Za-z0-9/", 40, 60),
  range("discord-webhook", "discord.com/api/webhooks/", "A-Za-z0-9_/-", 78, 110),
  { ...fixed("telegram", ":AA", URL_SAFE, 33), numbered: true },
  twoParts("sendgrid", "SG.", URL_SAFE, 22, { text: ".", body: URL_SAFE, length: 43 }),
  alone(fixed("mailgun", "key-", HEX, 32)),
  alone(twoParts("resend", "re_", ALNUM, 8, { text: "_", body: ALNUM, length: 24 })),
];

const others: readonly TokenFormat[] = [
  range("stripe-secret", "sk_live_", ALNUM, 24, 250),
  range("stripe-restricted", "rk_live_", ALNUM, 24, 250),
  range("stripe-organization", "sk_org_live_", ALNUM, 24, 250),
  range("stripe-webhook", "whsec_", BASE64, 32, 64),
  ...["shpat_", "shpss_", "shpca_", "shppa_"].map((anchor) => fixed("shopify", anchor, "0-9a-fA-F", 32)),
  fixed("square", "sq0csp-", URL_SAFE, 43),
  range("vault", "hvs.", URL_SAFE, 24, 150),
  range("vault", "hvb.", URL_SAFE, 100, 250),
  fixed("age", "AGE-SECRET-KEY-1", "AC-HJ-NP-Z02-9", 58),
  range("1password", "ops_eyJ", BASE64, 200, 250),
  fixed("doppler", "dp.pt.", ALNUM, 43),
  fixed("pulumi", "pul-", HEX, 40),
  range("linear", "lin_api_", ALNUM, 40, 48),
  alone(fixed("notion", "ntn_", ALNUM, 46)),
  alone(range("figma", "figd_", URL_SAFE, 40, 48)),
  alone(twoParts("airtable", "pat", ALNUM, 14, { text: ".", body: HEX, length: 64 })),
  twoParts("postman", "PMAK-", HEX, 24, { text: "-", body: HEX, length: 34 }),
  twoParts("grafana", "glsa_", ALNUM, 32, { text: "_", body: "0-9a-fA-F", length: 8 }),
  range("grafana", "glc_eyJ", BASE64, 40, 250),
  fixed("sentry", "sntryu_", HEX, 64),
  range("sentry", "sntrys_eyJ", "A-Za-z0-9+/=_", 60, 250),
  fixed("new-relic", "NRAK-", "A-Z0-9", 27),
  twoParts("dynatrace", "dt0c01.", "A-Z2-7", 24, { text: ".", body: "A-Z2-7", length: 64 }),
  twoParts("circleci", "CCIPAT_", ALNUM, 22, { text: "_", body: HEX, length: 40 }),
  fixed("buildkite", "bkua_", HEX, 40),
  alone(range("posthog", "phx_", ALNUM, 40, 50)),
];

export const TOKEN_FORMATS: readonly TokenFormat[] = [
  ...sourceHosting,
  ...registries,
  ...clouds,
  ...models,
  ...messages,
  ...others,
];
