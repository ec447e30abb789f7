// `sallyport token`: signs and reads JSON Web Tokens (RFC 7519).
import { createPrivateKey, createPublicKey, createSecretKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { CommandError, EXIT, notice, print, printJson, safeText } from "./output.ts";

const ALGORITHMS = ["HS256", "RS256", "ES256", "EdDSA"] as const;
type Algorithm = (typeof ALGORITHMS)[number];
/** RFC 7518 section 3.2: the key of HS256 has at least as many bits as the hash. */
const STRONG_SECRET_BYTES = 32;
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

interface KeyOptions {
  readonly secret?: string;
  readonly secretEnv?: string;
  readonly key?: string;
  readonly passphraseEnv?: string;
  readonly alg?: Algorithm;
  readonly json?: boolean;
}
interface CreateOptions extends KeyOptions {
  readonly sub?: string;
  readonly username?: string;
  readonly scope?: string[];
  readonly exp: string;
  readonly iss?: string;
  readonly aud?: string[];
  readonly kid?: string;
}
interface InspectOptions extends KeyOptions {
  readonly iss?: string;
  readonly aud?: string[];
}

export function tokenCommand(): Command {
  const command = new Command("token")
    .summary("sign and read JSON Web Tokens")
    .description("Signs and reads JSON Web Tokens.");
  command.addCommand(createCommand()).addCommand(inspectCommand());
  return command.addHelpText(
    "after",
    "\nExample:\n  sallyport token create --sub admin --exp 7d --secret-env JWT_SECRET",
  );
}

function keyOptions(command: Command): Command {
  return command
    .option("--secret <text>", "the secret of HS256 (others on this machine may see it: prefer --secret-env)")
    .option("--secret-env <name>", "environment variable that holds the secret")
    .option("--key <file>", "key in PEM or JWK: private to sign, public to verify")
    .option("--passphrase-env <name>", "environment variable that holds the key's passphrase")
    .addOption(new Option("--alg <algorithm>", "algorithm (default: what fits the key)").choices(ALGORITHMS));
}

function createCommand(): Command {
  return keyOptions(new Command("create").description("Signs a token and prints it."))
    .option("--sub <name>", "whom the token speaks for")
    .addOption(new Option("--username <name>", "the same as --sub").hideHelp())
    .option("--scope <scope...>", "what it may be used for")
    .option("--exp <duration>", "valid for: 30s, 10m, 12h, 7d; a bare number is minutes", "7d")
    .option("--iss <issuer>", "issuer")
    .option("--aud <audience...>", "audience")
    .option("--kid <id>", "key id for the header")
    .option("--json", "print token and claims as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  sallyport token create --sub admin --exp 10080 --secret-env JWT_SECRET\n  sallyport token create --sub ci --scope mcp:call --key private.pem --alg RS256",
    )
    .action(create);
}

function inspectCommand(): Command {
  return keyOptions(
    new Command("inspect").description("Shows a token; with a key, says whether it is good (exit code 1: it is not)."),
  )
    .argument("[token]", "the token; - or nothing: standard input")
    .option("--iss <issuer>", "the issuer that it must name")
    .addOption(
      // Not several at once: that would take the token behind it as well.
      new Option("--aud <audience>", "an audience that it must name; of several, one").argParser(
        (audience, before: string[] | undefined) => [...(before ?? []), audience],
      ),
    )
    .option("--json", "print as JSON")
    .addHelpText("after", "\nExample:\n  sallyport token inspect eyJhbGciOi… --secret-env JWT_SECRET")
    .action(async (token: string | undefined, options: InspectOptions) => {
      process.exitCode = await inspect(token, options);
    });
}

async function create(options: CreateOptions): Promise<void> {
  const subject = options.sub ?? options.username;
  if (subject === undefined) throw new CommandError("--sub is needed: whom does the token speak for?");
  const key = readKey(options, "sign");
  if (key === null) throw new CommandError("a key is needed: --secret-env NAME, --secret TEXT or --key FILE");
  const alg = algorithmFor(key, options.alg);
  if (key.type === "secret") warnIfWeak(key);
  const issuedAt = Math.floor(Date.now() / 1000);
  const expires = issuedAt + durationSeconds(options.exp);
  const claims: JWTPayload = { ...(options.scope === undefined ? {} : { scope: options.scope.join(" ") }) };
  const jwt = new SignJWT(claims).setSubject(subject).setIssuedAt(issuedAt).setExpirationTime(expires);
  if (options.iss !== undefined) jwt.setIssuer(options.iss);
  if (options.aud !== undefined) jwt.setAudience(options.aud);
  jwt.setProtectedHeader({ alg, typ: "JWT", ...(options.kid === undefined ? {} : { kid: options.kid }) });
  const token = await jwt.sign(key);
  if (options.json) printJson({ token, header: decodeProtectedHeader(token), claims: decodeJwt(token) });
  else print(token);
}

async function inspect(given: string | undefined, options: InspectOptions): Promise<number> {
  const token = (given === undefined || given === "-" ? readFileSync(0, "utf8") : given)
    .trim()
    .replace(/^Bearer\s+/i, "");
  let header: Record<string, unknown>;
  let claims: JWTPayload;
  try {
    header = decodeProtectedHeader(token) as Record<string, unknown>;
    claims = decodeJwt(token);
  } catch {
    throw new CommandError(
      "this is not a signed JSON Web Token: three parts in base64url, with a JSON header",
      EXIT.no,
    );
  }
  const key = readKey(options, "verify");
  const problems = key === null ? timeProblems(claims) : await verifyProblems(token, key, options);
  const verified = key !== null && problems.length === 0;
  if (options.json) printJson({ header, claims, verified, problems });
  else printToken(header, claims, verified, key === null, problems);
  return problems.length === 0 ? EXIT.done : EXIT.no;
}

function printToken(
  header: object,
  claims: JWTPayload,
  verified: boolean,
  unchecked: boolean,
  problems: string[],
): void {
  for (const [name, value] of Object.entries(header)) print(`header  ${safeText(`${name}: ${JSON.stringify(value)}`)}`);
  for (const [name, value] of Object.entries(claims)) {
    const time = ["exp", "iat", "nbf"].includes(name) && typeof value === "number" ? `  ${timeText(value)}` : "";
    print(`claim   ${safeText(`${name}: ${JSON.stringify(value)}${time}`)}`);
  }
  for (const problem of problems) print(`wrong   ${safeText(problem)}`);
  if (verified) print("good    signature and times are right");
  else if (unchecked) print("        the signature was not checked: give --key, --secret or --secret-env");
}

function timeText(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "(not a time)" : date.toISOString();
}

function timeProblems(claims: JWTPayload): string[] {
  const now = Date.now() / 1000;
  const problems: string[] = [];
  if (typeof claims.exp === "number" && claims.exp <= now) problems.push(`it expired at ${timeText(claims.exp)}`);
  if (typeof claims.nbf === "number" && claims.nbf > now)
    problems.push(`it is not valid before ${timeText(claims.nbf)}`);
  if (claims.exp === undefined) problems.push("it never expires (no exp)");
  return problems;
}

async function verifyProblems(token: string, key: KeyObject, options: InspectOptions): Promise<string[]> {
  try {
    await jwtVerify(token, key, {
      algorithms: [algorithmFor(key, options.alg)],
      requiredClaims: ["exp"],
      ...(options.iss === undefined ? {} : { issuer: options.iss }),
      ...(options.aud === undefined ? {} : { audience: options.aud }),
    });
    return [];
  } catch (error) {
    return [explain(error, key, options)];
  }
}

function explain(error: unknown, key: KeyObject, options: KeyOptions): string {
  if (error instanceof errors.JWSSignatureVerificationFailed) return "the signature does not fit the key";
  if (error instanceof errors.JOSEAlgNotAllowed)
    return `its algorithm is not ${algorithmFor(key, options.alg)}, which fits the key`;
  if (error instanceof errors.JWTExpired) return `it expired at ${timeText(error.payload.exp as number)}`;
  return (error as Error).message;
}

/** Reads the one key that was given; null: none was. Throws CommandError for several, or one that cannot be read. */
function readKey(options: KeyOptions, purpose: "sign" | "verify"): KeyObject | null {
  const given = [options.secret, options.secretEnv, options.key].filter((x) => x !== undefined);
  if (given.length > 1) throw new CommandError("give one of --secret, --secret-env and --key");
  if (options.key !== undefined) return readKeyFile(options.key, options, purpose);
  const name = options.secretEnv;
  const secret = name === undefined ? options.secret : process.env[name];
  if (name !== undefined && (secret ?? "") === "")
    throw new CommandError(`the environment variable ${name} is empty or not set`);
  if (secret === "") throw new CommandError("the secret is empty");
  return secret === undefined ? null : createSecretKey(Buffer.from(secret, "utf8"));
}

function readKeyFile(file: string, options: KeyOptions, purpose: "sign" | "verify"): KeyObject {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  const passphrase = options.passphraseEnv === undefined ? undefined : process.env[options.passphraseEnv];
  const make = purpose === "sign" ? createPrivateKey : createPublicKey;
  try {
    if (text.startsWith("{")) return make({ key: JSON.parse(text), format: "jwk" });
    return make({ key: text, format: "pem", ...(passphrase === undefined ? {} : { passphrase }) });
  } catch {
    const kind = purpose === "sign" ? "private" : "public";
    throw new CommandError(`${file} holds no ${kind} key in PEM or JWK that can be read (is a passphrase needed?)`);
  }
}

function algorithmFor(key: KeyObject, wanted: Algorithm | undefined): Algorithm {
  const fitting: Readonly<Record<string, Algorithm>> = {
    rsa: "RS256",
    "rsa-pss": "RS256",
    ec: "ES256",
    ed25519: "EdDSA",
  };
  const own = key.type === "secret" ? "HS256" : fitting[key.asymmetricKeyType ?? ""];
  if (own === undefined) throw new CommandError(`keys of type ${key.asymmetricKeyType} are not supported`);
  if (own === "ES256" && key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw new CommandError("ES256 needs a key on the curve P-256");
  }
  if (wanted !== undefined && wanted !== own) throw new CommandError(`${wanted} does not fit this key: ${own} does`);
  return own;
}

function warnIfWeak(key: KeyObject): void {
  const bytes = key.symmetricKeySize ?? 0;
  if (bytes < STRONG_SECRET_BYTES) {
    notice(`the secret is weak: ${bytes} bytes, and HS256 wants ${STRONG_SECRET_BYTES} (openssl rand -base64 32)`);
    return;
  }
  if (new Set(key.export()).size < 10) notice("the secret is weak: it repeats a few characters");
}

/** Seconds of `30s 10m 12h 7d 2w`; a bare number is minutes. Throws CommandError. */
export function durationSeconds(text: string): number {
  const match = /^(\d{1,9})([smhdw]?)$/.exec(text.trim());
  const seconds = match === null ? 0 : Number(match[1]) * (UNITS[match[2] || "m"] as number);
  if (seconds <= 0)
    throw new CommandError(`--exp: ${JSON.stringify(text)} is not a duration such as 30s, 10m, 12h, 7d, or minutes`);
  return seconds;
}
