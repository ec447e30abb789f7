// The control socket: real sockets, a house that counts its ports.
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ControlledHouse,
  type ControlOptions,
  type ControlServer,
  controlPath,
  joinHouse,
  openControl,
} from "../../src/roles/control.ts";

let data: string;
let ports: Map<number, string | null>;
let reloads: number;
let control: ControlServer | null;
const house: ControlledHouse = {
  addresses: { proxy: "http://127.0.0.1:1", admin: null },
  facts: {
    policyFile: "p",
    caFile: "c",
    caFingerprint: "f",
    caCreated: false,
    auditFile: "a",
    rootsFrom: "r",
    warnings: [],
  },
  openChildPort: async (client) => {
    if (client === "stranger") throw new Error("no such client");
    const server: Server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    ports.set(port, client);
    return {
      port,
      close: async () => {
        ports.delete(port);
        server.close();
      },
    };
  },
  reload: async () => {
    if (++reloads > 1) throw new Error("policy.yaml:1:1: bad");
  },
  drain: async () => {},
};
const serve = async (options: ControlOptions = {}, folder = data) => {
  control = await openControl(house, folder, options);
};
const join_ = async (folder = data) => {
  const client = await joinHouse(folder);
  if (client === null) throw new Error("nobody there");
  return client;
};
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), "sallyport-control-"));
  ports = new Map();
  reloads = 0;
  control = null;
});
afterEach(async () => {
  await control?.close();
  rmSync(data, { recursive: true, force: true });
});

describe("the control socket", () => {
  test("nobody there: null", async () => {
    expect(await joinHouse(data)).toBeNull();
    expect(await joinHouse(join(data, "none"))).toBeNull();
  });
  test("is the owner's alone, and gone when it is closed", async () => {
    await serve();
    expect(statSync(controlPath(data)).mode & 0o777).toBe(0o600);
    await control?.close();
    expect(await joinHouse(data)).toBeNull();
    control = null;
  });
  test("takes the place of what a dead house left", async () => {
    writeFileSync(controlPath(data), "");
    await serve();
    expect((await (await join_()).status()).pid).toBe(process.pid);
  });
  test("also in a folder whose name is too long for a socket", async () => {
    const deep = join(data, "x".repeat(120));
    await serve({}, deep);
    expect((await (await join_(deep)).status()).addresses).toEqual(house.addresses);
  });
  test("says what the house is", async () => {
    await serve();
    const client = await join_();
    expect(await client.status()).toMatchObject({ pid: process.pid, facts: house.facts, childPorts: 0 });
    client.end();
  });
  test("reloads, and passes on why not", async () => {
    await serve();
    const client = await join_();
    await client.reload();
    await expect(client.reload()).rejects.toThrow("policy.yaml:1:1: bad");
    client.end();
  });
  test("closes the house only where it may be closed", async () => {
    let closed = 0;
    await serve();
    await expect((await join_()).closeHouse()).rejects.toThrow("cannot be closed");
    await control?.close();
    await serve({ onClose: () => closed++ });
    await (await join_()).closeHouse();
    expect(closed).toBe(1);
  });
});

describe("child ports", () => {
  test("live as long as the connection that asked for them", async () => {
    let idle = 0;
    await serve({ onIdle: () => idle++ });
    const [a, b] = [await join_(), await join_()];
    const port = await a.openChildPort("kid");
    await b.openChildPort(null);
    expect([...ports.values()].sort()).toEqual(["kid", null]);
    expect(ports.has(port)).toBe(true);
    a.end();
    await expect.poll(() => [...ports.values()]).toEqual([null]);
    expect(idle).toBe(0);
    b.end();
    await expect.poll(() => [ports.size, idle]).toEqual([0, 1]);
  });
  test("the house's refusal is passed on, and holds nothing", async () => {
    await serve();
    const client = await join_();
    await expect(client.openChildPort("stranger")).rejects.toThrow("no such client");
    expect((await client.status()).childPorts).toBe(0);
    client.end();
  });
  test("are bounded for each connection", async () => {
    await serve();
    const client = await join_();
    for (let i = 0; i < 8; i++) await client.openChildPort(null);
    await expect(client.openChildPort(null)).rejects.toThrow("too many");
    client.end();
    await expect.poll(() => ports.size).toBe(0);
  });
  test("a client learns that the house went away", async () => {
    await serve();
    const client = await join_();
    await control?.close();
    control = null;
    await client.gone;
    await expect(client.status()).rejects.toThrow("went away");
  });
});

describe("what is not a request closes the connection, and the house goes on", () => {
  test.each([
    ["not JSON", "hello\n"],
    ["no id", '{"method":"status"}\n'],
    ["null", "null\n"],
    ["an endless line", "x".repeat(70_000)],
    ["too many at once", `${'{"id":1,"method":"open-child-port","client":null}\n'.repeat(40)}`],
  ])("%s", async (_name, text) => {
    await serve();
    const socket = connect(controlPath(data));
    socket.on("error", () => {});
    socket.write(text);
    socket.resume();
    await once(socket, "close");
    expect((await (await join_()).status()).pid).toBe(process.pid);
    await expect.poll(() => ports.size).toBe(0);
  });
  test.each([[42], [""], ["x".repeat(300)], [{}]])("a client's name that is none: %j", async (name) => {
    await serve();
    const client = await join_();
    await expect(client.openChildPort(name as string)).rejects.toThrow("at most 200 characters");
    client.end();
  });
});
