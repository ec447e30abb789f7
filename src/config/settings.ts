// Everything but the policy: names in camel case, paths absolute, files read, flags and environment over the file.
import { dirname, resolve } from "node:path";
import { canonicalHost } from "../http/target.ts";
import { type DocumentPath, type Findings, nearest } from "../policy/problems.ts";
import { readClients } from "./clients.ts";
import type {
  AuditConfig,
  ClientCertificate,
  Listen,
  LoadedConfig,
  PemFile,
  ServerConfig,
  ServerTlsConfig,
  TlsConfig,
} from "./loaded.ts";
import type { MergedDocument } from "./merge.ts";
import type { Environment, Outside } from "./outside.ts";
import type { ConfigDocument } from "./schema.ts";
import type { SecretValues } from "./secrets.ts";

export interface Flags {
  readonly listen?: string | undefined;
  readonly admin?: string | undefined;
  readonly data?: string | undefined;
  readonly ca?: string | undefined;
  readonly logLevel?: string | undefined;
}

export type Settings = Pick<LoadedConfig, "server" | "audit" | "tls" | "network" | "clients">;

interface Context {
  readonly options: { readonly flags: Flags; readonly env: Environment };
  readonly cwd: string;
  readonly merged: MergedDocument;
  readonly outside: Outside;
  readonly secrets: SecretValues;
  readonly lenient: boolean;
}

/** The settings, ready to use. Problems go to `findings`. */
export async function finishSettings(
  document: ConfigDocument,
  context: Context,
  findings: Findings,
): Promise<Settings> {
  const files = new PemReader(context, findings);
  const [tls, serverTls] = await Promise.all([
    readTls(document, context, files, findings),
    readServerTls(document, files),
  ]);
  return {
    server: readServer(document, context, serverTls, findings),
    audit: readAudit(document),
    tls,
    network: Object.freeze({ allow: Object.freeze([...document.network.allow]) }),
    clients: Object.freeze(readClients(document, findings)),
  };
}

function readServer(
  document: ConfigDocument,
  context: Context,
  tls: ServerTlsConfig | null,
  findings: Findings,
): ServerConfig {
  const { server } = document;
  const { flags, env } = context.options;
  const folder = (flag: string | undefined, variable: string, own: string) =>
    resolve(context.cwd, flag ?? (env[variable] || own));
  const listen = firstOf(["--listen", flags.listen], ["SALLYPORT_LISTEN", env.SALLYPORT_LISTEN], server.listen);
  const admin = firstOf(["--admin", flags.admin], ["SALLYPORT_ADMIN", env.SALLYPORT_ADMIN], server.admin);
  return Object.freeze({
    listen: readListen(listen, ["server", "listen"], findings),
    admin: admin.text === "off" ? null : readListen(admin, ["server", "admin"], findings),
    data: folder(flags.data, "SALLYPORT_DATA", server.data),
    ca: folder(flags.ca, "SALLYPORT_CA", server.ca),
    authentication: server.authentication,
    opaque: server.opaque,
    hints: server.hints,
    strictHost: server["strict-host"],
    tls,
    connectionsPerClient: server["connections-per-client"],
    headerTimeout: server["header-timeout"],
    idleTimeout: server["idle-timeout"],
    connectTimeout: server["connect-timeout"],
    drainTimeout: server["drain-timeout"],
    logLevel: readLevel(firstOf(["--log-level", flags.logLevel], ["", undefined], server["log-level"]), findings),
  });
}

/** A setting, and where it was said when not in the file. */
interface Said {
  readonly text: string;
  readonly from: string;
}

type Source = readonly [name: string, text: string | undefined];

/** The flag beats the variable, which beats the file; an empty variable says nothing. */
function firstOf(flag: Source, variable: Source, own: string): Said {
  if (flag[1] !== undefined) return { text: flag[1], from: `${flag[0]}: ` };
  return variable[1] ? { text: variable[1], from: `${variable[0]}: ` } : { text: own, from: "" };
}

/** `host:port`; port 0 lets the system choose. `localhost` is 127.0.0.1, so that nothing is resolved. */
function readListen({ text, from }: Said, at: DocumentPath, findings: Findings): Listen {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const named = match?.[1] ?? match?.[2];
  const host = named === "localhost" ? "127.0.0.1" : canonicalHost(named ?? "");
  if (match === null || host === null || port > 65535) {
    findings.problem(at, `${from}${JSON.stringify(text)} is not host:port, such as 127.0.0.1:8080 or [::1]:8080`);
  }
  return Object.freeze({ host: host ?? "127.0.0.1", port });
}

const LEVELS = ["debug", "info", "warn", "error"] as const;

function readLevel({ text, from }: Said, findings: Findings): ServerConfig["logLevel"] {
  const level = LEVELS.find((l) => l === text);
  if (level !== undefined) return level;
  const meant = nearest(text, LEVELS);
  const hint = meant === null ? LEVELS.join(", ") : `did you mean ${meant}?`;
  findings.problem(["server", "log-level"], `${from}${JSON.stringify(text)} is not a log level: ${hint}`);
  return "info";
}

const readAudit = ({ audit }: ConfigDocument): AuditConfig =>
  Object.freeze({
    required: audit.required,
    keep: Object.freeze({
      age: audit.keep.age ?? Number.POSITIVE_INFINITY,
      size: audit.keep.size ?? Number.POSITIVE_INFINITY,
    }),
    sync: audit.sync,
  });

/** The passphrase of the CA's key, for `ca` and `start` alike; beats `tls.ca-passphrase`. */
const CA_PASSPHRASE = "SALLYPORT_CA_PASSPHRASE";

async function readTls(
  { tls }: ConfigDocument,
  { options, secrets }: Context,
  files: PemReader,
  findings: Findings,
): Promise<TlsConfig> {
  const passphrase = options.env[CA_PASSPHRASE];
  if (passphrase) secrets.add(passphrase);
  secrets.heldBy(CA_PASSPHRASE);
  const roots = await Promise.all(tls.roots.map((file, i) => files.read(file, ["tls", "roots", i], "CERTIFICATE")));
  const certificates = await Promise.all(
    tls["client-certificates"].map(async (c, i): Promise<ClientCertificate> => {
      const at: DocumentPath = ["tls", "client-certificates", i];
      return Object.freeze({
        host: tlsHost(c.host, [...at, "host"], findings),
        cert: await files.read(c.cert, [...at, "cert"], "CERTIFICATE"),
        key: await files.read(c.key, [...at, "key"], "PRIVATE KEY"),
        passphrase: c.passphrase ?? null,
      });
    }),
  );
  return Object.freeze({
    roots: Object.freeze(roots),
    exceptions: Object.freeze(
      tls.exceptions.map((e, i) =>
        Object.freeze({ ...e, host: exceptionHost(e.host, ["tls", "exceptions", i, "host"], findings) }),
      ),
    ),
    clientCertificates: Object.freeze(certificates),
    caPassphrase: passphrase || (tls["ca-passphrase"] ?? null),
  });
}

async function readServerTls({ server }: ConfigDocument, files: PemReader): Promise<ServerTlsConfig | null> {
  const { tls } = server;
  if (tls === undefined) return null;
  const at: DocumentPath = ["server", "tls"];
  return Object.freeze({
    cert: await files.read(tls.cert, [...at, "cert"], "CERTIFICATE"),
    key: await files.read(tls.key, [...at, "key"], "PRIVATE KEY"),
    passphrase: tls.passphrase ?? null,
    clientCa:
      tls["client-ca"] === undefined ? null : await files.read(tls["client-ca"], [...at, "client-ca"], "CERTIFICATE"),
    http2: tls.http2,
  });
}

/** A name or `*.suffix`, canonical. */
function tlsHost(text: string, at: DocumentPath, findings: Findings): string {
  const wild = text.startsWith("*.");
  const host = canonicalHost((wild ? text.slice(2) : text).replace(/^\[(.*)\]$/, "$1"));
  if (host === null) findings.problem(at, `${JSON.stringify(text)} is not a host or *.suffix`);
  return wild ? `*.${host}` : (host ?? "");
}

/** Of one label, or of two where the first usually stands for many owners. */
const MANY_OWNERS = /^\*\.(?:[^.]+|(?:ac|co|com|edu|gov|net|or|org)\.[a-z]{2})$/;

/** The host of an exception, which is meant for one site and not for all that a registry has. */
function exceptionHost(text: string, at: DocumentPath, findings: Findings): string {
  const host = tlsHost(text, at, findings);
  if (MANY_OWNERS.test(host))
    findings.warn(at, `${host} overlooks this for every site under ${host.slice(2)}: name the sites that need it`);
  return host;
}

/** Reads PEM files, seen from the folder of the file that names them. */
class PemReader {
  readonly #context: Context;
  readonly #findings: Findings;

  constructor(context: Context, findings: Findings) {
    this.#context = context;
    this.#findings = findings;
  }

  async read(name: string, at: DocumentPath, label: string): Promise<PemFile> {
    const { merged, outside, lenient } = this.#context;
    const file = resolve(dirname(merged.origin(at).source.file), name);
    try {
      const { text } = await outside.file(file);
      if (new RegExp(`-----BEGIN [A-Z ]*${label}-----`).test(text)) return Object.freeze({ file, pem: text });
      this.#findings.problem(at, `${file} holds no ${label.toLowerCase()} in PEM form`);
    } catch (error) {
      if (lenient) this.#findings.warn(at, (error as Error).message);
      else this.#findings.problem(at, (error as Error).message);
    }
    return Object.freeze({ file, pem: "" });
  }
}
