// docs/commands.md: what `--help` of each command says, with its sub-commands.
import { Command } from "commander";
import { type CommandEntry, commandList } from "../src/cli/commands.ts";

const WIDTH = 100;

/** The text of docs/commands.md. */
export async function commandsMarkdown(): Promise<string> {
  const entries = commandList(() => "");
  const parts: string[] = [];
  for (const entry of entries) parts.push(await section(entry));
  return `# Commands

What \`sallyport COMMAND --help\` says, for all of them. Generated from \`src/cli\` by \`npm run docs\`.

| command | does |
|---|---|
${entries.map(([name, summary]) => `| [\`sallyport ${name}\`](#sallyport-${name}) | ${summary} |`).join("\n")}

Exit codes: 0 done, yes, or nothing found by a query; 1 no (\`policy explain\` says deny, \`audit show\` or \`find-body\` finds
nothing, \`verify\`, \`test\` or \`doctor\` fails); 2 wrong usage or configuration. \`run\` ends with the code of its command.
Folders: flags beat the environment (\`SALLYPORT_CONFIG\`, \`_LISTEN\`, \`_ADMIN\`, \`_DATA\`, \`_CA\`), which beats the file.
Colour only on a terminal, and not with \`NO_COLOR\`; \`SALLYPORT_DEBUG=1\` adds stacks to errors.

${parts.join("\n")}`;
}

async function section([name, , load]: CommandEntry): Promise<string> {
  const command = await load();
  new Command("sallyport").enablePositionalOptions().addCommand(command);
  const subs = command.commands.map((sub) => `### sallyport ${name} ${sub.name()}\n\n${helpOf(sub)}`);
  return [`## sallyport ${name}\n\n${helpOf(command)}`, ...subs].join("\n");
}

/** As on a terminal of 100 columns without colours. */
function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({
    writeOut: (piece) => {
      text += piece;
    },
    getOutHelpWidth: () => WIDTH,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return `\`\`\`\n${text.trim()}\n\`\`\`\n`;
}
