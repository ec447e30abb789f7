// npm start: installs and builds what is missing, then runs the proxy with the arguments that were given.
import { join } from "node:path";
import { become, build, install, ROOT } from "./prepare.mjs";

install();
build();
become([join(ROOT, "dist", "main.js"), "start", ...process.argv.slice(2)]);
