// The program as tests of its commands start it.
import { fileURLToPath } from "node:url";

const here = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const { SALLYPORT_MAIN: built } = process.env;

/** Arguments of Node: what `npm test` has built, which starts in half the time, or the source for who runs a test by itself. */
export const PROGRAM: readonly string[] =
  built === undefined ? ["--import", here("node_modules/tsx/dist/loader.mjs"), here("src/main.ts")] : [built];
