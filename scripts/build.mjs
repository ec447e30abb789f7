// npm run build: installs what is missing and builds what is stale.
import { build, install } from "./prepare.mjs";

install();
build();
