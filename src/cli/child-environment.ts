// The one table of variables that a child gets, so that whatever runs in it finds the proxy and trusts the CA. `run` sets
// them, `env` prints them, the documents list them.
import { TRUST_STORE_PASSWORD } from "./java-trust-store.ts";
import { javaNonProxyHosts, type NoProxyEntry, noProxyText } from "./no-proxy.ts";

/** The files on disk that the variables point at; absolute paths. */
export interface TrustFiles {
  /** Our CA alone (and its predecessor during a rotation), PEM. */
  readonly ca: string;
  /** The system's roots and ours, PEM. */
  readonly bundle: string;
  /** The same for Java. */
  readonly java: string;
  /** For wget, which reads no variable for it. */
  readonly wgetrc: string;
  /** The Node preload. */
  readonly preload: string;
}

export interface ChildSettings {
  /** Where it is; `tls`: it wants TLS itself. */
  readonly proxy: { readonly host: string; readonly port: number; readonly tls?: boolean };
  readonly noProxy: readonly NoProxyEntry[];
  readonly files: TrustFiles;
}

type Value = (s: ChildSettings, inherited: NodeJS.ProcessEnv) => string;

const url: Value = ({ proxy: { host, port, tls } }) =>
  `${tls ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
const noProxy: Value = (s) => noProxyText(s.noProxy);
const bundle: Value = (s) => s.files.bundle;

/** Name, value, and who reads it. */
export const CHILD_VARIABLES: readonly (readonly [name: string, value: Value, readBy: string])[] = [
  ["HTTP_PROXY", url, "most programs"],
  ["http_proxy", url, "curl (which reads this one in lower case only), wget, Python, Ruby, Go"],
  ["HTTPS_PROXY", url, "most programs"],
  ["https_proxy", url, "most programs"],
  ["ALL_PROXY", url, "curl, httpx, Rust's reqwest"],
  ["all_proxy", url, "the same"],
  ["NO_PROXY", noProxy, "most programs"],
  ["no_proxy", noProxy, "most programs"],
  ["GRPC_PROXY", url, "gRPC"],
  ["grpc_proxy", url, "gRPC"],
  ["SSL_CERT_FILE", bundle, "OpenSSL, Go, Ruby, Python's ssl, httpx, uv, rustls-native-certs"],
  ["NIX_SSL_CERT_FILE", bundle, "programs built with Nix"],
  ["CURL_CA_BUNDLE", bundle, "curl"],
  ["GIT_SSL_CAINFO", bundle, "git"],
  ["WGETRC", (s) => s.files.wgetrc, "wget"],
  ["REQUESTS_CA_BUNDLE", bundle, "Python requests"],
  ["HTTPLIB2_CA_CERTS", bundle, "Python httplib2"],
  ["PIP_CERT", bundle, "pip"],
  ["PIP_PROXY", url, "pip"],
  ["NODE_EXTRA_CA_CERTS", (s) => s.files.ca, "Node.js"],
  ["NODE_USE_ENV_PROXY", () => "1", "Node.js 22.21, 24.5 and later"],
  ["NODE_OPTIONS", nodeOptions, "Node.js: the preload, for versions that read no proxy variable"],
  ["npm_config_cafile", bundle, "npm"],
  ["npm_config_proxy", url, "npm"],
  ["npm_config_https_proxy", url, "npm"],
  ["npm_config_noproxy", noProxy, "npm"],
  ["YARN_HTTP_PROXY", url, "Yarn"],
  ["YARN_HTTPS_PROXY", url, "Yarn"],
  ["YARN_HTTPS_CA_FILE_PATH", bundle, "Yarn"],
  ["DENO_CERT", (s) => s.files.ca, "Deno"],
  ["DENO_TLS_CA_STORE", () => "system,mozilla", "Deno"],
  ["CARGO_HTTP_CAINFO", bundle, "cargo"],
  ["CARGO_HTTP_PROXY", url, "cargo"],
  ["AWS_CA_BUNDLE", bundle, "AWS tools"],
  ["CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", bundle, "gcloud"],
  ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", bundle, "gRPC"],
  ["PERL_LWP_SSL_CA_FILE", bundle, "Perl LWP"],
  ["PERL_LWP_ENV_PROXY", () => "1", "Perl LWP"],
  ["BUNDLE_SSL_CA_CERT", bundle, "Ruby bundler"],
  ["HEX_CACERTS_PATH", bundle, "Elixir's hex"],
  ["JAVA_TOOL_OPTIONS", javaOptions, "Java"],
];

/** The variables with their values, in the order of the table. `inherited`: what options are added to. */
export function childVariables(settings: ChildSettings, inherited: NodeJS.ProcessEnv): [string, string][] {
  return CHILD_VARIABLES.map(([name, value]) => [name, value(settings, inherited)]);
}

/** The environment of a child: the inherited one with ours on top. */
export function childEnvironment(settings: ChildSettings, inherited: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const env = { ...inherited };
  const ours = childVariables(settings, inherited);
  if (process.platform === "win32") dropOtherSpellings(env, ours);
  for (const [name, value] of ours) env[name] = value;
  return env;
}

/** What a child may inherit: not the variables that the policy reads secrets from. Tells each with `dropped`. */
export function withoutSecrets(
  inherited: NodeJS.ProcessEnv,
  secretVariables: readonly string[],
  dropped: (message: string) => void,
): NodeJS.ProcessEnv {
  const env = { ...inherited };
  for (const name of secretVariables) {
    if (env[name] === undefined) continue;
    delete env[name];
    dropped(`${name} is not passed on: the policy reads a secret from it`);
  }
  return env;
}

/** Names of inherited variables that a child will not see as they were, for a notice. `NO_PROXY` above all. */
export function droppedNoProxy(settings: ChildSettings, inherited: NodeJS.ProcessEnv): string[] {
  const ours = noProxyText(settings.noProxy);
  return ["NO_PROXY", "no_proxy"].filter((name) => {
    const value = inherited[name];
    return value !== undefined && value !== "" && value !== ours;
  });
}

function nodeOptions(s: ChildSettings, inherited: NodeJS.ProcessEnv): string {
  const path = s.files.preload.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  const ours = `--require "${path}"`;
  const others = inherited.NODE_OPTIONS?.trim() ?? "";
  if (others.includes(ours)) return others;
  return others === "" ? ours : `${others} ${ours}`;
}

function javaOptions(s: ChildSettings, inherited: NodeJS.ProcessEnv): string {
  const { text } = javaNonProxyHosts(s.noProxy);
  const properties = [
    ["http.proxyHost", s.proxy.host],
    ["http.proxyPort", String(s.proxy.port)],
    ["https.proxyHost", s.proxy.host],
    ["https.proxyPort", String(s.proxy.port)],
    ["http.nonProxyHosts", text],
    ["javax.net.ssl.trustStore", s.files.java],
    ["javax.net.ssl.trustStoreType", "JKS"],
    ["javax.net.ssl.trustStorePassword", TRUST_STORE_PASSWORD],
  ];
  const ours = properties.map(([name, value]) => javaWord(`-D${name}=${value}`));
  // Later options win, and inherited ones of the same name would only be in the way (and grow with each `run` inside a `run`).
  const names = new Set(properties.map(([name]) => `-D${name}=`));
  const others = javaWords(inherited.JAVA_TOOL_OPTIONS ?? "").filter((w) => ![...names].some((n) => w.startsWith(n)));
  return [...others.map(javaWord), ...ours].join(" ");
}

/** The JVM cuts at blanks; quotes of either kind keep a word together, and there is no escape. */
function javaWord(word: string): string {
  if (!/[\s"']/.test(word)) return word;
  return word.includes('"') ? `'${word}'` : `"${word}"`;
}

function javaWords(text: string): string[] {
  const words: string[] = [];
  let word = "";
  let quote = "";
  let inside = false;
  for (const c of text) {
    if (quote !== "") {
      if (c === quote) quote = "";
      else word += c;
    } else if (c === '"' || c === "'") {
      quote = c;
      inside = true;
    } else if (/\s/.test(c)) {
      if (inside || word !== "") words.push(word);
      word = "";
      inside = false;
    } else {
      word += c;
    }
  }
  if (inside || word !== "") words.push(word);
  return words;
}

function dropOtherSpellings(env: NodeJS.ProcessEnv, ours: readonly [string, string][]): void {
  const names = new Set(ours.map(([name]) => name.toUpperCase()));
  for (const name of Object.keys(env)) if (names.has(name.toUpperCase())) delete env[name];
}
