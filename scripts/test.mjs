// npm test: installs and builds what is missing, then runs every test, or those that are named: npm test -- test/policy.
import { join } from "node:path";
import { become, build, install, ROOT } from "./prepare.mjs";

install();
// Tests of the command line run the built program, as its users do.
build();
process.env.SALLYPORT_MAIN ??= join(ROOT, "dist", "main.js");
process.chdir(ROOT);
become([join(ROOT, "node_modules", "vitest", "vitest.mjs"), "run", ...process.argv.slice(2)]);
