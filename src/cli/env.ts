// `sallyport env`: the variables that `run` sets, for shells and files. They lead to the proxy's own port.
import { Command, Option } from "commander";
import { joinHouse } from "../roles/control.ts";
import { type ChildSettings, childVariables } from "./child-environment.ts";
import { prepareTrust } from "./child-trust.ts";
import { DEFAULT_NO_PROXY } from "./no-proxy.ts";
import { CommandError, EXIT, notice, print, printJson } from "./output.ts";
import { configOption, findPlaces, type PlaceOptions } from "./places.ts";
import { noProxyEntries } from "./run.ts";

const SHELLS = ["sh", "fish", "powershell", "dotenv", "docker"] as const;
export type Shell = (typeof SHELLS)[number];

interface EnvOptions extends PlaceOptions {
  readonly shell: Shell;
  readonly proxy?: string | boolean;
  readonly json?: boolean;
}

export function envCommand(): Command {
  return new Command("env")
    .summary("print the variables that `run` sets")
    .description(
      "Prints the proxy and CA variables of a running house. Prefer `run`, which gives a command its own identity.",
    )
    .addOption(new Option("--shell <shell>", "how to print them").choices(SHELLS).default("sh"))
    .option("--no-proxy <list>", `hosts that are reached without the proxy (default: ${DEFAULT_NO_PROXY})`)
    .addOption(configOption("policy file of the house"))
    .option("--data <dir>", "data folder of the house")
    .option("--json", "print them as a JSON object")
    .addHelpText("after", '\nExamples:\n  eval "$(sallyport env)"\n  sallyport env --shell docker > proxy.env')
    .action(async (options: EnvOptions) => printEnvironment(options));
}

async function printEnvironment(options: EnvOptions): Promise<void> {
  const noProxy = noProxyEntries(options);
  const places = findPlaces(options, process.env);
  const house = await joinHouse(places.data);
  if (house === null) {
    throw new CommandError(`no house holds ${places.data}: start one (sallyport start), or use sallyport run`, EXIT.no);
  }
  try {
    const { addresses, facts } = await house.status();
    const files = await prepareTrust(facts.caFile, places.data, process.env);
    const settings: ChildSettings = { proxy: addressOf(addresses.proxy), noProxy, files };
    if (settings.proxy.tls)
      notice(
        "the proxy's own port wants TLS, which Java and some others do not speak there: use sallyport run for them",
      );
    const variables = childVariables(settings, process.env);
    if (options.json) printJson(Object.fromEntries(variables));
    else for (const [name, value] of variables) print(assignment(options.shell, name, value));
    if (options.shell === "docker") notice("the files named here must be mounted at the same paths in the container");
  } finally {
    house.end();
  }
}

/** What `http://host:port` says; an address that means "all of them" becomes the loopback one. */
function addressOf(text: string): ChildSettings["proxy"] {
  const url = new URL(text);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const tls = url.protocol === "https:";
  const port = Number(url.port) || (tls ? 443 : 80);
  return { host: host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host, port, tls };
}

/** One assignment in the language of the shell. */
export function assignment(shell: Shell, name: string, value: string): string {
  switch (shell) {
    case "sh":
      return `export ${name}='${value.replaceAll("'", "'\\''")}'`;
    case "fish":
      return `set -gx ${name} '${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
    case "powershell":
      return `$env:${name} = '${value.replaceAll("'", "''")}'`;
    case "dotenv":
      // Single quotes: the usual readers then take everything as it stands.
      return value.includes("'")
        ? `${name}="${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`
        : `${name}='${value}'`;
    case "docker":
      // Docker takes the rest of the line as it stands: there are no quotes to take away.
      return `${name}=${value}`;
  }
}
