// Proxy variables in the environment of the proxy itself would make it its own client, or somebody else's: they are ignored.

const NAMES = [
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "ALL_PROXY",
  "NO_PROXY",
  "http_proxy",
  "https_proxy",
  "all_proxy",
  "no_proxy",
];

/** Removes proxy variables from `env`, in place; returns the names that were set. */
export function dropProxyVariables(env: NodeJS.ProcessEnv): string[] {
  const set = NAMES.filter((name) => (env[name] ?? "") !== "");
  for (const name of NAMES) delete env[name];
  return set;
}
