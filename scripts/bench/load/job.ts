// What main.ts asks of the load generator, and what it gets back. Everything is plain data: it goes through a pipe.
import type { OriginPorts } from "../payload.ts";
import type { Portion } from "./run.ts";

export interface Job {
  readonly kind: "requests" | "h2" | "websocket" | "idle";
  /** Port of the proxy, on 127.0.0.1. */
  readonly proxy: number;
  /** PEM of the CA that the client must see, and nothing else. */
  readonly ca: string;
  readonly origin: OriginPorts;
  /** How the origin is asked: in plain HTTP, intercepted, or through a tunnel that the proxy does not open. */
  readonly way: "plain" | "intercepted" | "tunnel";
  readonly content: "small" | "down" | "up";
  /** A new connection for each request. */
  readonly fresh: boolean;
  /** Connections at once; for idle, connections in all. */
  readonly connections: number;
  /** Streams at once on each (HTTP/2). */
  readonly streams: number;
  /** Before anything is measured, and then. */
  readonly warm: Portion;
  readonly measured: Portion;
}

export interface Outcome {
  /** Requests, messages or connections, each checked. */
  readonly count: number;
  /** Bytes of content. */
  readonly bytes: number;
  readonly seconds: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Connections that the proxy closed between two responses, and that were opened again. */
  readonly reopened: number;
}

/** Load generator to main: warm, and waiting for `go`; done; or something that was not right. */
export type Report = { readonly ready: true } | { readonly outcome: Outcome } | { readonly failed: string };

/** Main to load generator: a job, then `go`, then `release` (close all connections). */
export type Order = { readonly job: Job } | { readonly go: true } | { readonly release: true };
