// The configuration as the rest of the program sees it: validated, paths absolute, secrets put in, the policy compiled.
import type { ClientConfig } from "../policy/clients.ts";
import type { CompiledPolicy } from "../policy/decide.ts";

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** A PEM file that was read when the configuration was loaded. */
export interface PemFile {
  readonly file: string;
  readonly pem: string;
}

export interface ServerConfig {
  readonly listen: Listen;
  /** null: no admin port. */
  readonly admin: Listen | null;
  /** Absolute folders. */
  readonly data: string;
  readonly ca: string;
  readonly authentication: "optional" | "required";
  readonly opaque: "deny" | "tunnel";
  readonly hints: "full" | "id-only";
  readonly strictHost: boolean;
  /** TLS to the proxy itself. */
  readonly tls: ServerTlsConfig | null;
  readonly connectionsPerClient: number;
  /** Milliseconds. */
  readonly headerTimeout: number;
  readonly idleTimeout: number;
  readonly connectTimeout: number;
  readonly drainTimeout: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

export interface ServerTlsConfig {
  readonly cert: PemFile;
  /** The private key: secret. */
  readonly key: PemFile;
  readonly passphrase: string | null;
  readonly clientCa: PemFile | null;
  /** HTTP/2 is offered on the proxy port. */
  readonly http2: boolean;
}

export interface AuditConfig {
  readonly required: boolean;
  /** `age` in milliseconds, `size` in bytes; Infinity: kept for ever. */
  readonly keep: { readonly age: number; readonly size: number };
  readonly sync: "normal" | "full";
}

export interface TlsException {
  /** Canonical host name, or `*.suffix`. */
  readonly host: string;
  readonly allow: readonly ("self-signed" | "expired" | "hostname" | "untrusted")[];
  readonly reason: string;
  /** Milliseconds since 1970; from then on the exception is over. */
  readonly until: number;
}

export interface ClientCertificate {
  readonly host: string;
  readonly cert: PemFile;
  readonly key: PemFile;
  readonly passphrase: string | null;
}

export interface TlsConfig {
  readonly roots: readonly PemFile[];
  readonly exceptions: readonly TlsException[];
  readonly clientCertificates: readonly ClientCertificate[];
  readonly caPassphrase: string | null;
}

/** One entry of `tests`. */
export interface PolicyTest {
  readonly as: string | null;
  readonly request: string;
  readonly expect: "allow" | "deny" | "would-deny" | "tunnel" | "intercept";
  /** The rule that must have decided; null: the default; undefined: not compared. */
  readonly rule: string | null | undefined;
  readonly place: Place;
}

/** A place in a source, counted from 1. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface ConfigProblem extends Place {
  readonly message: string;
}

export interface Source {
  readonly file: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

export interface LoadedConfig {
  readonly server: ServerConfig;
  readonly audit: AuditConfig;
  readonly tls: TlsConfig;
  /** `allow` as compileNetwork of `src/policy/addresses.ts` takes it. */
  readonly network: { readonly allow: readonly string[] };
  readonly clients: readonly ClientConfig[];
  readonly policy: CompiledPolicy;
  readonly tests: readonly PolicyTest[];
  /** Every file that was read, the first one named first: watch these. */
  readonly sources: readonly Source[];
  /** For scrubbing and for known-secret filters. Never printed. */
  readonly secretValues: readonly string[];
  /** The environment variables that secrets were read from: children are not given them. */
  readonly secretVariables: readonly string[];
  readonly warnings: readonly ConfigProblem[];
}

/** The configuration cannot be used. Holds every problem with its place; nothing was applied. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly ConfigProblem[];
  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(problemText).join("\n"));
    this.problems = problems;
  }
}

/** `file:line:column: message`. */
export const problemText = (p: ConfigProblem): string => `${p.file}:${p.line}:${p.column}: ${p.message}`;
