// The part of the schema that says how the proxy runs: its listeners, its log, its trust and its clients.
import { z } from "zod";
import { listOf, section } from "./section.ts";
import { age, size, until, wait } from "./units.ts";

const listen = z
  .string("an address is host:port")
  .regex(
    /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$/,
    "an address is host:port, such as 127.0.0.1:8080 or [::1]:8080",
  );

const count = () => z.int("a whole number").min(1, "at least 1").max(1_000_000, "at most 1000000");
const file = () => z.string("the path of a file").min(1);

export const serverSchema = section(
  {
    listen: listen
      .default("127.0.0.1:8080")
      .describe("Where the proxy listens. Beaten by --listen and SALLYPORT_LISTEN."),
    admin: z
      .union([z.literal("off"), listen])
      .default("127.0.0.1:9090")
      .describe("Where /healthz, /readyz and /metrics are; off: nowhere. Beaten by --admin and SALLYPORT_ADMIN."),
    data: z
      .string()
      .min(1)
      .default("./data")
      .describe("The folder of the audit log, seen from the working directory. Beaten by --data and SALLYPORT_DATA."),
    ca: z
      .string()
      .min(1)
      .default("./certs")
      .describe("The folder of the CA, seen from the working directory. Beaten by --ca and SALLYPORT_CA."),
    authentication: z
      .enum(["optional", "required"])
      .default("optional")
      .describe("required: every anonymous request is answered 407."),
    opaque: z
      .enum(["deny", "tunnel"])
      .default("deny")
      .describe(
        "What is neither TLS nor HTTP inside CONNECT. With tunnel it passes where a rule without methods, paths, redirect and blocking content (or the default) allows the host.",
      ),
    hints: z.enum(["full", "id-only"]).default("full").describe("id-only: refusals do not name the rule."),
    "strict-host": z
      .boolean()
      .default(false)
      .describe("A Host field that differs from an absolute-form target is refused, not replaced."),
    tls: section({
      cert: file().describe("PEM file: the certificate, and those between it and its root."),
      key: file().describe("PEM file: its private key."),
      passphrase: z.string().optional().describe("Of the private key; usually ${env:NAME}."),
      "client-ca": file().optional().describe("PEM file: clients may show a certificate of this CA."),
      http2: z
        .boolean()
        .default(false)
        .describe(
          "Offers HTTP/2 to clients by ALPN, for browsers and curl. Not where programs in Go ask for http:// URLs through this port: Go refuses to do that over it.",
        ),
    })
      .optional()
      .describe("TLS to the proxy itself."),
    "connections-per-client": count()
      .default(256)
      .describe("Connections of one source address at once; each CONNECT on an HTTP/2 connection is one more."),
    "header-timeout": wait().default(30_000).describe("Time for a whole request head. Default: 30s."),
    "idle-timeout": wait()
      .default(60_000)
      .describe("Time for which a client connection may wait for its next request. Default: 60s."),
    "connect-timeout": wait()
      .default(10_000)
      .describe("Time for a connection to an origin, TLS included. Default: 10s."),
    "drain-timeout": wait().default(10_000).describe("Time for which SIGTERM lets exchanges finish. Default: 10s."),
    "log-level": z
      .enum(["debug", "info", "warn", "error"])
      .default("info")
      .describe("Of the operational log. Beaten by --log-level."),
  },
  ["socks", "http2", "workers"],
).describe(
  "How the proxy runs; read once at start, but for authentication, hints and log-level, which a reload takes over.",
);

export const auditSchema = section(
  {
    required: z.boolean().default(true).describe("Traffic is refused when it cannot be recorded."),
    keep: section({
      age: age().optional().describe("How old a record may become. Default: no limit."),
      size: size().optional().describe("How large the log may become. Default: no limit."),
    })
      .prefault({})
      .describe("What is pruned; the chain stays verifiable."),
    sync: z
      .enum(["normal", "full"])
      .default("normal")
      .describe("full: also the loss of power loses nothing that was answered."),
  },
  ["ship", "collector"],
).describe("The audit log.");

const exceptions = section({
  host: z.string().min(1).describe("The origin's name, or *.suffix; *.com and the like are warned of."),
  allow: listOf(z.enum(["self-signed", "expired", "hostname", "untrusted"])).describe(
    "What is overlooked, and nothing else.",
  ),
  reason: z.string("an exception wants a reason").min(1).describe("Why. Recorded."),
  until: until().describe("Its last day (UTC)."),
});

export const tlsSchema = section({
  roots: z.array(file()).default([]).describe("PEM files with CAs trusted for origins beside the system's."),
  exceptions: z
    .array(exceptions)
    .default([])
    .describe(
      "Origins whose certificate is not in order, each with a reason and an end. Not where a client asked for an address and named the origin in SNI alone.",
    ),
  "client-certificates": z
    .array(
      section({
        host: z.string().min(1).describe("The origin that wants it, or *.suffix."),
        cert: file().describe("PEM file."),
        key: file().describe("PEM file."),
        passphrase: z.string().optional().describe("Of the private key; usually ${env:NAME}."),
      }),
    )
    .default([])
    .describe(
      "Certificates that we show to origins; not where a client asked for an address and named the origin in SNI alone.",
    ),
  "ca-passphrase": z
    .string()
    .min(1)
    .optional()
    .describe("Of the CA's private key; usually ${env:NAME} or ${file:NAME}. Beaten by SALLYPORT_CA_PASSPHRASE."),
}).describe("Trust in origins, and our own CA.");

export const networkSchema = section({
  allow: z
    .array(z.string("an address, a range or a name"))
    .default([])
    .describe("Private ranges that are open on purpose; metadata addresses only as an exact /32 or /128."),
}).describe("Which addresses may be reached beside public ones.");

const ALGORITHMS = [
  "HS256",
  "HS384",
  "HS512",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;

export const clientSchema = section({
  password: z
    .string()
    .min(1)
    .optional()
    .describe("Basic: the password (usually ${env:NAME}), or scrypt:N:r:p:SALT:HASH with salt and hash in base64."),
  bearer: section({
    secret: z.string().optional().describe("Shared secret of HS256, HS384 and HS512."),
    "public-key": z.string().optional().describe("PEM text of the issuer's public key, usually ${file:NAME}."),
    jwks: z.string().optional().describe("URL of the issuer's key set."),
    issuer: z.string().optional().describe("The iss that a token must have."),
    audience: listOf(z.string()).optional().describe("One of which must be in a token's aud."),
    subject: z.string().optional().describe("The sub that a token must have."),
    algorithms: z
      .array(z.enum(ALGORITHMS))
      .min(1)
      .optional()
      .describe("Default: HS256 for a secret, RS256, ES256 and EdDSA for keys."),
  })
    .optional()
    .describe("A JWT in Proxy-Authorization: Bearer."),
  addresses: z.array(z.string()).min(1).optional().describe("Source addresses or ranges."),
  certificate: section({
    fingerprint: z.string().optional().describe("SHA-256 of the certificate, in hexadecimal."),
    name: z.string().optional().describe("A subject alternative name of the certificate."),
  })
    .optional()
    .describe("A client certificate, where server.tls has a client-ca."),
}).describe(
  "How this client is recognised: by password or bearer (either is enough), by addresses, by certificate. Where several of these three are given, all of them must hold.",
);

export const secretSchema = section({
  env: z.string().min(1).optional().describe("The environment variable that holds it."),
  file: file().optional().describe("The file that holds it; a line break at its end is dropped."),
  command: z
    .union([z.string().min(1), z.array(z.string()).min(1)])
    .optional()
    .describe("The command that prints it (a list: program and arguments; no shell), within 10s."),
}).describe("Where a secret comes from: exactly one of env, file and command.");
