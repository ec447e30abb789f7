// The Dockerfile and compose.yaml keep their promises: no root, a health check, and one way out.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DockerfileParser } from "dockerfile-ast";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

describe("the Dockerfile", () => {
  const dockerfile = DockerfileParser.parse(read("Dockerfile"));
  const all = dockerfile.getInstructions().map((instruction) => ({
    keyword: instruction.getKeyword(),
    text: instruction.getArgumentsContent() ?? "",
    line: instruction.getRange().start.line,
  }));
  const lastFrom = Math.max(...all.filter(({ keyword }) => keyword === "FROM").map(({ line }) => line));
  const final = all.filter(({ line }) => line >= lastFrom);
  const only = (keyword: string): string => {
    const found = final.filter((instruction) => instruction.keyword === keyword);
    expect(found).toHaveLength(1);
    return (found[0] as (typeof found)[number]).text;
  };

  test("builds in one stage and runs in another, both of a named version", () => {
    const stages = all.filter(({ keyword }) => keyword === "FROM").map(({ text }) => text);
    expect(stages).toHaveLength(2);
    for (const stage of stages) expect(stage).toMatch(/^node:\d+-\w+/);
    expect(stages.at(-1)).toMatch(/-slim$/);
  });

  test("runs as a numeric user that is not root", () => {
    expect(only("USER")).toMatch(/^[1-9]\d{2,}:[1-9]\d{2,}$/);
    const at = final.findIndex(({ keyword }) => keyword === "USER");
    expect(final.slice(at + 1).map(({ keyword }) => keyword)).not.toContain("RUN");
  });

  test("has a health check by Node itself, on the admin port", () => {
    const check = only("HEALTHCHECK");
    expect(check).toContain("/healthz");
    const command = JSON.parse(check.slice(check.indexOf("[")));
    expect(command.slice(0, 2)).toEqual(["node", "-e"]);
    expect(() => new Function(command[2])).not.toThrow();
  });

  test("starts Node directly, so that signals reach it", () => {
    expect(JSON.parse(only("ENTRYPOINT"))).toEqual(["node", "/app/dist/main.js"]);
    expect(JSON.parse(only("CMD"))).toEqual(["start"]);
  });

  test("keeps what changes in volumes, and opens no admin port to the network", () => {
    expect(JSON.parse(only("VOLUME"))).toEqual(["/data", "/certs"]);
    expect(only("EXPOSE")).toBe("8080");
    expect(only("ENV")).toMatch(/SALLYPORT_ADMIN=127\.0\.0\.1:/);
  });

  test("copies only files that are there and that .dockerignore lets in", () => {
    const ignored = read(".dockerignore").split("\n");
    expect(ignored).toContain("*");
    const copied = dockerfile
      .getCOPYs()
      .filter((copy) => !copy.getFlags().some((flag) => flag.getName() === "from"))
      .flatMap((copy) => (copy.getArgumentsContent() ?? "").split(/\s+/).slice(0, -1));
    expect(copied.length).toBeGreaterThan(4);
    for (const path of copied) {
      expect({ path, there: existsSync(join(ROOT, path)) }).toEqual({ path, there: true });
      expect(ignored).toContain(`!${path.replace(/^\.\//, "")}`);
    }
    expect(copied).not.toContain("certs");
  });

  test("puts no secret into the image", () => {
    for (const { keyword, text } of all) {
      if (keyword === "ENV" || keyword === "ARG") expect(text).not.toMatch(/PASSW|TOKEN|SECRET|PASSPHRASE/i);
    }
  });
});

describe("compose.yaml", () => {
  const { services, networks, volumes } = parse(read("compose.yaml"), { merge: true });

  test("the MCP server is on an internal network alone", () => {
    const own = services["mcp-server"];
    expect(own.networks).toHaveLength(1);
    expect(networks[own.networks[0]]).toEqual({ internal: true });
    expect(own.network_mode).toBeUndefined();
    expect(own.ports).toBeUndefined();
    expect(own.extra_hosts).toBeUndefined();
    expect(own.dns).toEqual(["127.0.0.1"]);
  });

  test("the proxy is on that network and on one with a way out", () => {
    const joined: string[] = services.sallyport.networks;
    expect(joined).toContain(services["mcp-server"].networks[0]);
    expect(joined.some((name) => networks[name].internal !== true)).toBe(true);
  });

  test.each(Object.keys(services))("%s: read-only, no capabilities, no new privileges, no host access", (name) => {
    const service = services[name];
    expect(service.read_only).toBe(true);
    expect(service.cap_drop).toEqual(["ALL"]);
    expect(service.cap_add).toBeUndefined();
    expect(service.security_opt).toContain("no-new-privileges:true");
    expect(service.privileged).toBeUndefined();
    expect(JSON.stringify(service.volumes ?? [])).not.toContain("docker.sock");
    for (const mount of service.volumes ?? []) expect(volumes).toHaveProperty(mount.split(":")[0]);
  });

  test("clients see the bundle, read-only, and never the folder with the key", () => {
    const mounts: string[] = services["mcp-server"].volumes;
    expect(mounts).toEqual(["trust:/trust:ro"]);
    const { environment } = services["mcp-server"];
    for (const name of ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]) {
      expect(environment[name]).toBe("/trust/bundle.pem");
    }
    expect(environment.HTTPS_PROXY).toBe("http://sallyport:8080");
    expect(environment.https_proxy).toBe("http://sallyport:8080");
    expect(environment.no_proxy).not.toContain("*");
  });

  test("nobody starts before what it needs: healthy proxy, then the bundle, then the server", () => {
    expect(services.trust.depends_on.sallyport.condition).toBe("service_healthy");
    expect(services["mcp-server"].depends_on.trust.condition).toBe("service_completed_successfully");
  });
});
