// `sallyport ca`: make, show, export and rotate the CA. The key is never printed and never exported.
import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Command, Option } from "commander";
import { openCa, readRoot, rotateCa } from "../edge/tls/ca.ts";
import { certificateFile, GRACE_MS, keyFile } from "../edge/tls/ca-files.ts";
import { EXPORT_FORMATS, type ExportFormat, exportRoot, TRUST_STORE_PASSWORD } from "../edge/tls/export.ts";
import { systemRoots, trustBundle } from "../edge/tls/roots.ts";
import { ProxyError } from "../shared/errors.ts";
import { CommandError, errorText, notice, print, printJson, safeText } from "./output.ts";
import { findPlaces } from "./places.ts";

interface CaFlags {
  readonly ca?: string;
  readonly config?: string;
  readonly json?: boolean;
  readonly passphraseFile?: string;
}
interface ExportFlags extends CaFlags {
  readonly format: ExportFormat | "bundle";
  readonly out?: string;
}

const EXAMPLES = `
Examples:
  sallyport ca init                                   make the CA, if there is none yet
  sallyport ca show --json
  sallyport ca export --out sallyport-ca.pem          for browsers and systems
  sallyport ca export --format bundle --out all.pem   with the system's roots, for SSL_CERT_FILE
  sallyport ca export --format p12 --out trust.p12    for Java (password: ${TRUST_STORE_PASSWORD})
  sallyport ca rotate                                 then reload or restart the house`;

/** The `ca` command with its sub-commands. */
export function caCommand(): Command {
  const command = new Command("ca").description("the local CA").addHelpText("after", EXAMPLES);
  sub(command, "init", "make the CA unless there is one").action((flags: CaFlags) => guarded(() => init(flags)));
  sub(command, "show", "what clients have to trust").action((flags: CaFlags) => guarded(() => show(flags)));
  sub(command, "export", "write the CA's certificate (never the key)")
    .addOption(
      new Option("--format <format>", "which form").choices([...EXPORT_FORMATS, "bundle"] as const).default("pem"),
    )
    .option("--out <file>", "a file instead of standard output")
    .action((flags: ExportFlags) => guarded(() => exportCa(flags)));
  sub(command, "rotate", "make a new CA; the old root stays trusted for 30 days").action((flags: CaFlags) =>
    guarded(() => rotate(flags)),
  );
  return command;
}

const sub = (parent: Command, name: string, description: string): Command =>
  parent
    .command(name)
    .description(description)
    .option("--ca <dir>", "the folder with ca.pem and ca.key (default: ./certs)")
    .option("-c, --config <file>", "the policy file that names the folder")
    .option("--passphrase-file <file>", "holds the passphrase of the key (or SALLYPORT_CA_PASSPHRASE)")
    .option("--json", "print JSON")
    .addHelpText("after", exampleOf(name));

/** The lines of the examples that are about one sub-command. */
function exampleOf(name: string): string {
  const lines = EXAMPLES.split("\n").filter((line) => line.startsWith(`  sallyport ca ${name}`));
  return `\n${lines.length > 1 ? "Examples" : "Example"}:\n${lines.join("\n")}`;
}

/** A CA that cannot be used is wrong configuration, told without a stack. */
async function guarded(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof ProxyError) throw new CommandError(error.message, undefined, { cause: error });
    throw error;
  }
}

const folderOf = (flags: CaFlags): string =>
  findPlaces(
    {
      ...(flags.config === undefined ? {} : { config: [flags.config] }),
      ...(flags.ca === undefined ? {} : { ca: flags.ca }),
    },
    process.env,
  ).ca;

async function passphraseOf(flags: CaFlags): Promise<string | null> {
  if (flags.passphraseFile === undefined) return process.env.SALLYPORT_CA_PASSPHRASE ?? null;
  try {
    return (await readFile(flags.passphraseFile, "utf8")).replace(/\r?\n$/, "");
  } catch (error) {
    throw new CommandError(errorText(error as Error));
  }
}

async function init(flags: CaFlags): Promise<void> {
  const dir = folderOf(flags);
  const ca = await openCa({ dir, passphrase: await passphraseOf(flags), now: Date.now });
  for (const warning of ca.warnings) notice(safeText(warning));
  if (flags.json === true) {
    printJson({ created: ca.created, certificate: ca.file, key: keyFile(dir), fingerprint: ca.fingerprint });
    return;
  }
  print(`${ca.created ? "created" : "there already"}: ${ca.file}  SHA-256 ${ca.fingerprint}`);
}

async function rootOf(flags: CaFlags) {
  const dir = folderOf(flags);
  const found = await readRoot(dir, Date.now());
  if (found === null) throw new CommandError(`there is no CA in ${dir} yet: sallyport ca init`);
  return { dir, ...found };
}

async function show(flags: CaFlags): Promise<void> {
  const { dir, root, previous } = await rootOf(flags);
  const key = root.publicKey;
  const facts = {
    certificate: certificateFile(dir),
    subject: root.subject.replaceAll("\n", ", "),
    fingerprint: root.fingerprint256,
    serial: root.serialNumber,
    notBefore: new Date(root.validFrom).toISOString(),
    notAfter: new Date(root.validTo).toISOString(),
    key: `${key.asymmetricKeyType} ${key.asymmetricKeyDetails?.modulusLength ?? key.asymmetricKeyDetails?.namedCurve ?? ""}`.trim(),
    previous: previous.length,
  };
  if (flags.json === true) {
    printJson(facts);
    return;
  }
  for (const [name, value] of Object.entries(facts)) print(`${name.padEnd(12)} ${safeText(String(value))}`);
}

async function exportCa(flags: ExportFlags): Promise<void> {
  const { dir, root, previous } = await rootOf(flags);
  const content =
    flags.format === "bundle"
      ? Buffer.from(
          trustBundle(await systemRoots({ env: process.env }), {
            certificatePem: exportRoot(root, "pem").toString(),
            previous,
          }),
        )
      : exportRoot(root, flags.format);
  if (flags.out !== undefined) {
    if (resolve(flags.out) === resolve(keyFile(dir))) throw new CommandError("that is the CA's key: say another file");
    await writeOut(flags.out, content);
    if (flags.json === true) printJson({ out: flags.out, format: flags.format, fingerprint: root.fingerprint256 });
    else notice(`wrote ${safeText(flags.out)}`);
    return;
  }
  const binary = flags.format === "der" || flags.format === "p12";
  if (binary && process.stdout.isTTY) throw new CommandError(`${flags.format} is binary: say where with --out FILE`);
  if (flags.json === true) {
    const body = binary ? { base64: content.toString("base64") } : { pem: content.toString() };
    printJson({ format: flags.format, fingerprint: root.fingerprint256, ...body });
    return;
  }
  process.stdout.write(content);
}

async function writeOut(path: string, content: Buffer): Promise<void> {
  try {
    await writeFile(path, content, { mode: 0o644 });
  } catch (error) {
    throw new CommandError(errorText(error as Error), undefined, { cause: error });
  }
}

async function rotate(flags: CaFlags): Promise<void> {
  const dir = folderOf(flags);
  const { ca, kept } = await rotateCa({ dir, passphrase: await passphraseOf(flags), now: Date.now });
  if (flags.json === true) {
    printJson({ certificate: ca.file, fingerprint: ca.fingerprint, previous: kept });
    return;
  }
  print(`new CA       ${ca.file}  SHA-256 ${ca.fingerprint}`);
  print(`old root     ${kept}  (in the bundles for ${GRACE_MS / 86_400_000} days)`);
  print("next         reload the house (SIGHUP), and give clients the new certificate: sallyport ca export");
}
