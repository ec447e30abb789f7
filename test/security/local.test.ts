// Attacks of a local user, and typos of the operator: files that others may read, sockets that others made, ports that are ours.
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { connectRecord } from "../../src/audit/build.ts";
import { openAuditSink } from "../../src/edge/audit/worker-sink.ts";
import { controlPath, joinHouse, openControl } from "../../src/roles/control.ts";
import { startHouse } from "../../src/roles/house.ts";
import { newId } from "../../src/shared/ids.ts";
import { OPEN_POLICY, startTestHouse, TestHouse } from "../support/house.ts";
import { connectTo } from "../support/raw-client.ts";

const folders: string[] = [];
afterEach(() => {
  vi.unstubAllEnvs();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), "sallyport-local-"));
  folders.push(made);
  return made;
};

test("in a data folder that others may read, no file of the house is theirs to read", async () => {
  const dir = folder();
  chmodSync(dir, 0o755);
  mkdirSync(join(dir, "data"), { mode: 0o755 });
  mkdirSync(join(dir, "ca"), { mode: 0o755 });
  writeFileSync(join(dir, "policy.yaml"), `version: 1\n${OPEN_POLICY}`);
  const umask = process.umask(0);
  const flags = {
    listen: "127.0.0.1:0",
    admin: "127.0.0.1:0",
    data: join(dir, "data"),
    ca: join(dir, "ca"),
    logLevel: "error",
  };
  const house = new TestHouse(
    dir,
    await startHouse({ configFiles: [join(dir, "policy.yaml")], flags, env: process.env }),
  );
  try {
    const client = await connectTo(house.port);
    client.send("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
    await client.response();
    await house.recordsWhere((r) => r.kind === "exchange");
    client.destroy();
    const open = ["data", "ca"].flatMap((name) =>
      readdirSync(join(dir, name), { recursive: true, encoding: "utf8" })
        .map((file) => join(dir, name, file))
        .filter((file) => statSync(file).isFile() && (statSync(file).mode & 0o077) !== 0),
    );
    expect(open.map((file) => file.slice(dir.length + 1))).toEqual(["ca/ca.pem"]);
  } finally {
    process.umask(umask);
    await house.house.drain();
  }
});

describe("the control socket", () => {
  const nobody = {
    addresses: { proxy: "", admin: null },
    facts: {} as never,
    openChildPort: () => Promise.reject(new Error()),
    reload: () => Promise.resolve(),
    drain: () => Promise.resolve(),
  };

  /** A data folder whose socket stands in the shared place, and the folder for it, made first by somebody else. */
  function squatted(change: (made: string) => void): { data: string; path: string } {
    vi.stubEnv("XDG_RUNTIME_DIR", folder());
    const data = join(folder(), "d".repeat(100));
    const path = controlPath(data);
    mkdirSync(join(path, ".."), { mode: 0o700 });
    change(join(path, ".."));
    return { data, path };
  }
  const OTHERS: [string, (made: string) => void, boolean][] = [
    ["others may write to", (made) => chmodSync(made, 0o777), true],
    ["belongs to another user", (made) => chownSync(made, 12345, 12345), process.getuid?.() === 0],
  ];

  test.each(OTHERS.filter(([, , possible]) => possible))("is not put into a folder that %s", async (_what, change) => {
    const { data } = squatted(change);
    await expect(openControl(nobody, data)).rejects.toThrow(/belongs to somebody else|others may write/);
  });

  test.each(OTHERS.filter(([, , possible]) => possible))(
    "is not joined in a folder that %s: it would name its own CA",
    async (_what, change) => {
      const { data, path } = squatted(change);
      const impostor = net.createServer((socket) => socket.resume());
      await new Promise<void>((done) => impostor.listen(path, done));
      try {
        await expect(joinHouse(data)).rejects.toThrow(/belongs to somebody else|others may write/);
      } finally {
        impostor.close();
      }
    },
  );

  test("takes no name that breaks a line", async () => {
    const data = folder();
    const control = await openControl(nobody, data);
    const client = await joinHouse(data);
    await expect(client?.openChildPort("a\nb")).rejects.toThrow("control characters");
    client?.end();
    await control.close();
  });
});

test("after a reload that names another admin address, the port that is open is still refused", async () => {
  const house = await startTestHouse();
  try {
    const ask = async (): Promise<number> => {
      const client = await connectTo(house.port);
      client.send(
        `GET http://127.0.0.1:${house.adminPort}/metrics HTTP/1.1\r\nHost: 127.0.0.1:${house.adminPort}\r\n\r\n`,
      );
      const { status } = await client.response();
      client.destroy();
      return status;
    };
    expect(await ask()).toBe(403);
    const from = { flags: (house.house as unknown as { options: { flags: { admin?: string } } }).options.flags };
    delete from.flags.admin; // as where the file alone says it
    writeFileSync(house.policyFile, `version: 1\nserver: { admin: "10.1.2.3:9090" }\n${OPEN_POLICY}`);
    await house.house.reload();
    expect(await ask()).toBe(403);
  } finally {
    await house.close();
  }
});

test("a bug in what waits for one record holds up no other, and does not end the process", async () => {
  const errors: unknown[] = [];
  const log = { debug() {}, info() {}, warn() {}, error: (...what: unknown[]) => errors.push(what) };
  const sink = await openAuditSink({
    dir: folder(),
    required: true,
    sync: "normal",
    keep: { age: null, size: null } as never,
    log: log as never,
    clock: { now: Date.now, tick: () => performance.now() },
  });
  const record = () =>
    connectRecord({
      id: newId(Date.now()),
      at: Date.now(),
      address: "127.0.0.1",
      decision: "allow",
      total: 1,
      authority: { host: "a.test", port: 443 },
    });
  const order: string[] = [];
  await new Promise<void>((done) => {
    sink.append(record(), () => {
      order.push("first");
      throw new Error("a bug");
    });
    sink.append(record(), (written) => {
      order.push(`second ${written}`);
      done();
    });
  });
  expect(order).toEqual(["first", "second true"]);
  expect(errors).toHaveLength(1);
  await sink.close();
});
