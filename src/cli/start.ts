// `sallyport start`: the house, until a signal ends it.
import { dirname, isAbsolute, relative } from "node:path";
import { Command } from "commander";
import { openControl } from "../roles/control.ts";
import type { House, HouseOptions } from "../roles/house.ts";
import { keepHeapSmall } from "../roles/small-heap.ts";
import { shareSocketShapes } from "../roles/socket-shapes.ts";
import { colours, EXIT, notice, print, safeText } from "./output.ts";
import { configOption } from "./places.ts";
import { dropProxyVariables } from "./proxy-variables.ts";

export interface StartOptions {
  readonly config?: string[];
  readonly listen?: string;
  readonly admin?: string;
  readonly data?: string;
  readonly ca?: string;
  readonly logLevel?: string;
  readonly forChildren?: boolean;
}

/** A house started for children ends so many milliseconds after the last one went, or when none came. */
const LINGER = 1000;
const FIRST_CHILD = 30_000;
const ONE_WISH = 1000;

export function startCommand(version: string): Command {
  return new Command("start")
    .summary("run the proxy")
    .description("Runs the proxy. SIGHUP, or a changed policy file, reloads the policy; SIGTERM drains and ends.")
    .addOption(configOption("policy file (SALLYPORT_CONFIG; default: policies/observe.yaml)"))
    .option("--listen <host:port>", "address of the proxy (SALLYPORT_LISTEN)")
    .option("--admin <host:port>", "address of /healthz, /readyz, /metrics (SALLYPORT_ADMIN)")
    .option("--data <dir>", "data folder: audit log, control socket (SALLYPORT_DATA)")
    .option("--ca <dir>", "folder of the CA (SALLYPORT_CA)")
    .option("--log-level <level>", "debug, info, warn or error")
    .addOption(new Command().createOption("--for-children", "end when no `run` needs this house").hideHelp())
    .addHelpText("after", "\nExample:\n  sallyport start -c policies/strict.yaml --listen 127.0.0.1:8080")
    .action(async (options: StartOptions) => start(options, version));
}

/** Starts the house and returns; signals end the process. */
export async function start(options: StartOptions, version: string): Promise<void> {
  // Nobody may read what is said here, or the disk behind it may be full: that is no reason to stop serving.
  process.stdout.removeAllListeners("error").on("error", () => {});
  const ignored = dropProxyVariables(process.env);
  if (ignored.length > 0) {
    notice(`${ignored.join(", ")} in the environment ignored: the way out is set in the policy file (via)`);
  }
  keepHeapSmall(); // from the start: what has grown does not shrink again
  shareSocketShapes();
  const { startHouse } = await import("../roles/house.ts");
  const house = await startHouse(houseOptions(options));
  let ending: number | null = null;
  const end = (why: string) => {
    if (ending !== null) {
      // A signal to the whole process group reaches us twice (npm passes its own on): that is no second wish.
      if (performance.now() - ending > ONE_WISH) process.exit(EXIT.no);
      return;
    }
    ending = performance.now();
    void shutDown(house, control, why);
  };
  let alone = options.forChildren ? setTimeout(() => end("no child came"), FIRST_CHILD) : undefined;
  const control = await openControl(house, dirname(house.facts.auditFile), {
    onClose: () => end("asked to close"),
    onHeld: () => clearTimeout(alone),
    onIdle: () => {
      if (options.forChildren) alone = setTimeout(() => end("the last child went"), LINGER);
    },
  });
  process.on("SIGTERM", () => end("SIGTERM"));
  process.on("SIGINT", () => end("SIGINT"));
  process.on("SIGHUP", () => void reload(house));
  // A bug that nobody caught: nothing can be said of what the process would do next, so it ends (fail closed). What was
  // answered is in the journal.
  process.on("uncaughtException", (error) => {
    notice(`an error of the proxy itself, which ends it: ${house.withoutSecrets(error.stack ?? error.message)}`);
    process.exit(EXIT.no);
  });
  if (!options.forChildren) print(banner(house, version));
}

function houseOptions(options: StartOptions): HouseOptions {
  const env = process.env;
  const flags: HouseOptions["flags"] = {
    ...(options.listen === undefined ? {} : { listen: options.listen }),
    ...(options.admin === undefined ? {} : { admin: options.admin }),
    ...(options.data === undefined ? {} : { data: options.data }),
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.logLevel === undefined ? {} : { logLevel: options.logLevel }),
  };
  const configFiles = options.config ?? [];
  if (!options.forChildren) return { configFiles, flags, env };
  // Its children come through ports of their own; a fixed port might be taken, and nobody would know of it.
  return { configFiles, flags: { listen: "127.0.0.1:0", logLevel: "warn", ...flags }, env, ephemeral: true };
}

async function reload(house: House): Promise<void> {
  try {
    await house.reload();
  } catch (error) {
    notice(`the new configuration is not used, the old one stays:\n${(error as Error).message}`);
  }
}

async function shutDown(house: House, control: { close(): Promise<void> }, why: string): Promise<void> {
  if (process.stderr.isTTY) notice(`${why}: finishing what is under way (once more to stop at once)`);
  try {
    await control.close();
    await house.drain();
    process.exit(EXIT.done);
  } catch (error) {
    notice(`not everything ended well: ${(error as Error).message}`);
    process.exit(EXIT.no);
  }
}

/** What `start` prints: where everything is. */
export function banner(house: Pick<House, "addresses" | "facts">, version: string): string {
  const { addresses, facts } = house;
  const rows: [string, string, string][] = [
    ["proxy", addresses.proxy, ""],
    ["admin", addresses.admin ?? "off", addresses.admin === null ? "" : "/healthz /readyz /metrics"],
    ["policy", seen(facts.policyFile), policyRemark(facts.policyFile)],
    [
      "CA",
      seen(facts.caFile),
      `SHA-256 ${facts.caFingerprint}${facts.caCreated ? "  (created now; the key is readable by you alone)" : ""}`,
    ],
    ["audit", seen(facts.auditFile), "npx sallyport audit tail"],
    ["roots", facts.rootsFrom, ""],
    ["try", "npx sallyport run -- curl -sS https://example.com", ""],
  ];
  const width = Math.max(...rows.slice(0, -1).map(([, value]) => value.length));
  const lines = rows.map(([name, value, remark]) => {
    const left = remark === "" ? safeText(value) : safeText(value).padEnd(width);
    return `  ${colours.dim(name.padEnd(7))}  ${left}${remark === "" ? "" : `  ${colours.dim(safeText(remark))}`}`;
  });
  const warnings = facts.warnings.map((w) => `  ${colours.yellow("warning")}  ${safeText(w)}`);
  return [colours.bold(`sallyport ${version}`), ...lines, ...warnings].join("\n");
}

/** A path as one would type it here: below the working directory it is relative. */
function seen(path: string): string {
  const here = relative(process.cwd(), path);
  return here === "" || here.startsWith("..") || isAbsolute(here) ? path : here;
}

const policyRemark = (file: string): string =>
  /(^|[\\/])observe\.yaml$/.test(file) ? "public hosts allowed and recorded, private networks refused" : "";
