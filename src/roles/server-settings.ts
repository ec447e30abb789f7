// `server:` is read once at start: a reload keeps what runs, and names what waits. Three settings take effect at once, since
// nothing has to be opened anew for them.
import type { ServerConfig } from "../config/loaded.ts";

const LIVE: ReadonlySet<string> = new Set(["authentication", "hints", "logLevel"] satisfies (keyof ServerConfig)[]);

/** The section as it holds after a reload, and the settings (as the file spells them) that wait for the next start. */
export function afterReload(
  started: ServerConfig,
  wanted: ServerConfig,
): { readonly server: ServerConfig; readonly waiting: readonly string[] } {
  const { authentication, hints, logLevel } = wanted;
  const changed = (Object.keys(wanted) as (keyof ServerConfig)[]).filter(
    (name) => !LIVE.has(name) && JSON.stringify(started[name]) !== JSON.stringify(wanted[name]),
  );
  return {
    server: Object.freeze({ ...started, authentication, hints, logLevel }),
    waiting: changed.map((name) => `server.${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`),
  };
}
