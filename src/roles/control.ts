// The local control socket: by it commands ask and change a running house. Newline-delimited JSON, one object per request.
// Whoever may open the socket (0600, in the data folder) is the operator. A child port lives as long as the connection
// that asked for it, so that a killed `sallyport run` leaves nothing open.
import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { LineReader } from "./control-lines.ts";

/** What the control socket needs of a house. `roles/house.ts` has more. */
export interface ControlledHouse {
  readonly addresses: { readonly proxy: string; readonly admin: string | null };
  readonly facts: HouseFacts;
  /** Opens a loopback port whose traffic is this client's (null: anonymous). Rejects when the client is not acceptable. */
  openChildPort(client: string | null): Promise<{ readonly port: number; close(): Promise<void> }>;
  /** Rejects, and keeps the old policy, when the new one is bad. */
  reload(): Promise<void>;
  drain(): Promise<void>;
}

export interface HouseFacts {
  readonly policyFile: string;
  readonly caFile: string;
  readonly caFingerprint: string;
  readonly caCreated: boolean;
  readonly auditFile: string;
  readonly rootsFrom: string;
  /** Environment variables that hold secrets of the policy; a house of an earlier version does not say. */
  readonly secretVariables?: readonly string[];
  readonly warnings: readonly string[];
}

/** The answer to `status`. */
export interface HouseStatus {
  readonly pid: number;
  readonly addresses: ControlledHouse["addresses"];
  readonly facts: HouseFacts;
  readonly childPorts: number;
}

export interface ControlOptions {
  /** Called when the last connection that held a child port is gone. */
  readonly onIdle?: () => void;
  /** Called when a child port was opened. */
  readonly onHeld?: () => void;
  /** Called when somebody asks the house to close; it is expected to drain and exit. */
  readonly onClose?: () => void;
}

export interface ControlServer {
  readonly path: string;
  close(): Promise<void>;
}

const MAX_LINE = 64 * 1024;
const MAX_CONNECTIONS = 256;
const MAX_PORTS_EACH = 8;
const MAX_PENDING_EACH = 8;
const DEADLINE = 10_000;
/** sun_path holds 104 bytes on macOS and 108 on Linux, with the closing zero. */
const MAX_SOCKET_PATH = 100;
const SOCKET = "control.sock";

/** Where the control socket of a data folder is: `control.sock` in it; a named pipe on Windows. */
export function controlPath(data: string): string {
  const folder = resolve(data);
  const digest = createHash("sha256").update(folder).digest("hex").slice(0, 32);
  if (process.platform === "win32") return `\\\\.\\pipe\\sallyport-${digest}`;
  const path = join(folder, SOCKET);
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH) return path;
  // Too long for a socket's address: a private folder of this user's, under a name made from the data folder's.
  return join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), `sallyport-${process.getuid?.() ?? 0}`, `${digest}.sock`);
}

/** Serves a house on the control socket of its data folder. The caller holds the folder's lock, so an old socket is stale. */
export async function openControl(
  house: ControlledHouse,
  data: string,
  options: ControlOptions = {},
): Promise<ControlServer> {
  const path = controlPath(data);
  const connections = new Set<ControlConnection>();
  const holders = () => [...connections].filter((c) => c.ports > 0).length;
  const server = createServer((socket) => {
    if (connections.size >= MAX_CONNECTIONS) return void socket.destroy();
    const count = () => [...connections].reduce((sum, c) => sum + c.ports, 0);
    const connection = new ControlConnection(socket, house, options, count);
    connections.add(connection);
    socket.on("close", () => {
      connections.delete(connection);
      const held = connection.ports > 0;
      void connection.release().then(() => {
        if (held && holders() === 0) options.onIdle?.();
      });
    });
  });
  await listen(server, path);
  return {
    path,
    close: async () => {
      const closed = new Promise<void>((done) => server.close(() => done()));
      for (const c of connections) c.destroy();
      await closed;
    },
  };
}

async function listen(server: Server, path: string): Promise<void> {
  const windows = process.platform === "win32";
  if (!windows) clearTheWay(path);
  const umask = windows ? 0 : process.umask(0o177);
  try {
    await new Promise<void>((done, failed) => {
      server.once("error", failed);
      server.listen(path, () => {
        server.off("error", failed);
        done();
      });
      // A pipe is bound by the time `listen` returns; the mask has done its work.
      if (!windows) process.umask(umask);
    });
  } finally {
    if (!windows) process.umask(umask);
  }
  if (!windows) chmodSync(path, 0o600);
}

function clearTheWay(path: string): void {
  const folder = join(path, "..");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  refuseForeign(path);
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/**
 * Who can put a socket where we look for one decides where the traffic of `run` goes and which CA it trusts. Root may use
 * the data folder of somebody else; the folder of private sockets stands where anybody may make it first (in /tmp).
 */
function refuseForeign(path: string): void {
  const folder = join(path, "..");
  const me = process.getuid?.();
  const shared = basename(path) !== SOCKET;
  const owner = lstatSync(folder);
  if (!owner.isDirectory() || (owner.uid !== me && (shared || me !== 0)))
    throw new Error(`${folder} belongs to somebody else`);
  if (shared && (owner.mode & 0o022) !== 0) throw new Error(`others may write to ${folder}: run chmod 700 ${folder}`);
}

/** Before a socket is used: nobody else made it. Throws. */
function refuseForeignSocket(path: string): void {
  if (process.platform === "win32") return;
  try {
    const me = process.getuid?.();
    const { uid } = lstatSync(path);
    if (uid !== me && me !== 0) throw new Error(`${path} belongs to somebody else`);
    if (basename(path) !== SOCKET) refuseForeign(path);
  } catch (error) {
    if (!["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

interface Request {
  readonly id: number;
  readonly method: string;
  readonly client?: string | null;
}

class ControlConnection {
  readonly #socket: Socket;
  readonly #house: ControlledHouse;
  readonly #options: ControlOptions;
  readonly #countPorts: () => number;
  readonly #ports: { close(): Promise<void> }[] = [];
  #opening = 0;
  #pending = 0;
  #gone = false;

  constructor(socket: Socket, house: ControlledHouse, options: ControlOptions, countPorts: () => number) {
    this.#socket = socket;
    this.#house = house;
    this.#options = options;
    this.#countPorts = countPorts;
    const reader = new LineReader(MAX_LINE);
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes) => {
      const lines = reader.push(bytes);
      if (lines === null) return void socket.destroy();
      for (const line of lines) void this.#answer(line);
    });
  }

  /** Ports that are open for this connection, or being opened. */
  get ports(): number {
    return this.#ports.length + this.#opening;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async release(): Promise<void> {
    this.#gone = true;
    await Promise.allSettled(this.#ports.splice(0).map((p) => p.close()));
  }

  async #answer(line: string): Promise<void> {
    let request: Request;
    try {
      request = JSON.parse(line) as Request;
      if (typeof request !== "object" || request === null || !Number.isSafeInteger(request.id)) throw new Error();
    } catch {
      return void this.#socket.destroy();
    }
    if (this.#pending >= MAX_PENDING_EACH) return void this.#socket.destroy();
    this.#pending++;
    let answer: object;
    try {
      answer = { id: request.id, result: await withDeadline(this.#do(request), DEADLINE) };
    } catch (error) {
      answer = { id: request.id, error: error instanceof Error ? error.message : String(error) };
    }
    this.#pending--;
    if (!this.#socket.destroyed) this.#socket.write(`${JSON.stringify(answer)}\n`);
  }

  async #do(request: Request): Promise<unknown> {
    switch (request.method) {
      case "status": {
        const { addresses, facts } = this.#house;
        return { pid: process.pid, addresses, facts, childPorts: this.#countPorts() } satisfies HouseStatus;
      }
      case "open-child-port":
        return { port: await this.#openPort(request.client) };
      case "reload":
        await this.#house.reload();
        return {};
      case "close":
        if (this.#options.onClose === undefined) throw new Error("this house cannot be closed from here");
        this.#options.onClose();
        return {};
      default:
        throw new Error("the house does not know this request; is it of another version?");
    }
  }

  async #openPort(client: unknown): Promise<number> {
    if (client !== null && (typeof client !== "string" || client === "" || client.length > 200)) {
      throw new Error("the name of a client is a text of at most 200 characters");
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (client !== null && /[\u0000-\u001f\u007f]/.test(client))
      throw new Error("the name of a client has no control characters");
    if (this.ports >= MAX_PORTS_EACH) throw new Error("too many ports for one connection");
    this.#opening++;
    try {
      const opened = await this.#house.openChildPort(client);
      if (this.#gone) {
        await opened.close();
        throw new Error("the connection ended");
      }
      this.#ports.push(opened);
      this.#options.onHeld?.();
      return opened.port;
    } finally {
      this.#opening--;
    }
  }
}

/** A command's connection to a running house. */
export interface ControlClient {
  status(): Promise<HouseStatus>;
  /** A port on 127.0.0.1, open until `end` (or the death of this process). */
  openChildPort(client: string | null): Promise<number>;
  reload(): Promise<void>;
  closeHouse(): Promise<void>;
  /** Resolves when the house went away. */
  readonly gone: Promise<void>;
  end(): void;
}

/** Connects to the house that holds the data folder; null: none does. */
export async function joinHouse(data: string): Promise<ControlClient | null> {
  const path = controlPath(data);
  refuseForeignSocket(path);
  const socket = await new Promise<Socket | null>((done, failed) => {
    const attempt = connect(path, () => done(attempt));
    attempt.once("error", (error: NodeJS.ErrnoException) => {
      const absent = ["ENOENT", "ECONNREFUSED", "ENOTDIR"].includes(error.code ?? "");
      if (absent) done(null);
      else failed(new Error(`the control socket ${path} cannot be used: ${error.code ?? error.message}`));
    });
  });
  return socket === null ? null : controlClient(socket);
}

function controlClient(socket: Socket): ControlClient {
  const waiting = new Map<number, { done(value: unknown): void; failed(error: Error): void }>();
  const reader = new LineReader(MAX_LINE * 4);
  let next = 1;
  const gone = new Promise<void>((done) => socket.once("close", () => done()));
  socket.on("error", () => socket.destroy());
  socket.on("close", () => {
    for (const w of waiting.values()) w.failed(new Error("the house went away"));
    waiting.clear();
  });
  socket.on("data", (bytes) => {
    const lines = reader.push(bytes);
    if (lines === null) return void socket.destroy();
    for (const line of lines) {
      const answer = JSON.parse(line) as { id: number; result?: unknown; error?: string };
      const w = waiting.get(answer.id);
      waiting.delete(answer.id);
      if (answer.error !== undefined) w?.failed(new Error(answer.error));
      else w?.done(answer.result);
    }
  });
  const ask = (method: string, more: object = {}): Promise<unknown> => {
    const id = next++;
    const answered = new Promise<unknown>((done, failed) => {
      if (socket.destroyed) return failed(new Error("the house went away"));
      waiting.set(id, { done, failed });
      socket.write(`${JSON.stringify({ id, method, ...more })}\n`);
    });
    return withDeadline(answered, DEADLINE + 2000).finally(() => waiting.delete(id));
  };
  return {
    status: () => ask("status") as Promise<HouseStatus>,
    openChildPort: async (client) => ((await ask("open-child-port", { client })) as { port: number }).port,
    reload: async () => void (await ask("reload")),
    closeHouse: async () => void (await ask("close")),
    gone,
    end: () => socket.destroy(),
  };
}

function withDeadline<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, failed) => {
    timer = setTimeout(() => failed(new Error("no answer in time")), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
