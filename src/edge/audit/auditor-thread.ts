// Starts the auditor's thread, and starts it again when it dies.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import type { AuditorData, FromAuditor, ToAuditor } from "./messages.ts";

const RESTART_MS = 1_000;

export interface AuditorEvents {
  message(message: FromAuditor): void;
  /** A thread runs: its heap has been set up. */
  online?(): void;
  /** The thread died on its own; it is started again in a second. */
  died(error: Error): void;
  /** What the thread must know after a restart: the data, how far the journal is written, and what it was asked and never answered. */
  restart(): { readonly data: AuditorData; readonly messages: readonly ToAuditor[] };
}

/** A running thread, or one that is about to run again. */
export class AuditorThread {
  readonly #events: AuditorEvents;
  #worker: Worker;
  #ended = false;
  #exited: Promise<void>;
  #restart: NodeJS.Timeout | null = null;

  constructor(data: AuditorData, events: AuditorEvents) {
    this.#events = events;
    [this.#worker, this.#exited] = this.#start(data);
  }

  send(message: ToAuditor): void {
    this.#worker.postMessage(message);
  }

  /** Asks the thread to end; resolves when it has, or after `patience` milliseconds by force. */
  async end(patience: number): Promise<void> {
    this.#ended = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    this.#worker.postMessage({ type: "close" } satisfies ToAuditor);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, patience, "late");
    });
    if ((await Promise.race([this.#exited, late])) === "late") await this.#worker.terminate();
    clearTimeout(timer);
  }

  #start(data: AuditorData): [Worker, Promise<void>] {
    const worker = new Worker(...auditorProgram(data));
    worker.once("online", () => this.#events.online?.());
    worker.on("message", (message: FromAuditor) => this.#events.message(message));
    let cause: Error | null = null;
    worker.on("error", (error) => {
      cause = error as Error;
    });
    const exited = new Promise<void>((resolve) => {
      worker.once("exit", (code) => {
        resolve();
        if (!this.#ended) this.#died(cause ?? new Error(`the auditor's thread ended (${code})`));
      });
    });
    return [worker, exited];
  }

  #died(error: Error): void {
    this.#events.died(error);
    this.#restart = setTimeout(() => {
      const { data, messages } = this.#events.restart();
      [this.#worker, this.#exited] = this.#start(data);
      for (const message of messages) this.send(message);
    }, RESTART_MS);
  }
}

/** The built program runs JavaScript; from the sources (tests, tsx) the thread loads a TypeScript loader first. */
function auditorProgram(data: AuditorData): ConstructorParameters<typeof Worker> {
  const common = { workerData: data, name: "auditor" };
  if (!import.meta.url.endsWith(".ts")) return [new URL("../../roles/auditor.js", import.meta.url), common];
  // The CommonJS file of that name cannot register in a thread; its twin beside it can.
  const loader = pathToFileURL(
    createRequire(import.meta.url)
      .resolve("tsx/esm/api")
      .replace(/cjs$/, "mjs"),
  ).href;
  const file = new URL("../../roles/auditor.ts", import.meta.url).href;
  const program = `import("${loader}").then(({ register }) => { register(); return import("${file}"); })`;
  return [program, { ...common, eval: true, execArgv: [] }];
}
