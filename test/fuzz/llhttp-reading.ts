// How llhttp, by node:http and without sockets, reads the same streams.
import http, { type ClientRequest, type IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import type { ReadMessage } from "./our-reading.ts";

/** A connection from which nothing is read back. */
class Wire extends Duplex {
  readonly messages: (ReadMessage & { source: IncomingMessage | null })[] = [];
  status = "more";
  override _read(): void {}
  override _write(_chunk: Buffer, _coding: string, done: () => void): void {
    done();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const isParserError = (error: NodeJS.ErrnoException): boolean => error.code?.startsWith("HPE") === true;
const errorText = (error: NodeJS.ErrnoException & { reason?: string }): string =>
  `error ${error.code} ${error.reason ?? ""}`;

function keep(wire: Wire, source: IncomingMessage, line: string): void {
  const message = { line, fields: source.rawHeaders, body: "", complete: false, source };
  wire.messages.push(message);
  source.on("data", (chunk: Buffer) => {
    message.body += chunk.toString("latin1");
  });
  source.on("error", () => {});
}

/** Completeness is asked for at the end: a later error destroys the connection before 'end' comes. */
function settle(wire: Wire): { messages: ReadMessage[]; status: string } {
  const messages = wire.messages.map(({ source, ...message }) => {
    for (
      let rest = source?.read() as Buffer | null;
      rest !== null && rest !== undefined;
      rest = source?.read() as Buffer | null
    ) {
      message.body += rest.toString("latin1");
    }
    return { ...message, complete: source?.complete === true };
  });
  wire.destroy();
  return { messages, status: wire.status };
}

const server = http.createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0, maxHeaderSize: 65_536 });
const record = (request: IncomingMessage, response: http.ServerResponse | null): void => {
  keep(request.socket as unknown as Wire, request, `${request.method} ${request.url} ${request.httpVersion}`);
  response?.end();
};
server.on("request", record);
server.on("checkContinue", record);
server.on("checkExpectation", record);
server.on("connect", (request, socket) => {
  record(request, null);
  (socket as unknown as Wire).status = "connect";
  socket.destroy();
});
server.on("clientError", (error, socket) => {
  const wire = socket as unknown as Wire;
  if (wire.status === "more") wire.status = errorText(error);
});

/** Reads many streams of requests, each as one connection. */
export async function llhttpRequests(streams: readonly Buffer[]): Promise<ReturnType<typeof settle>[]> {
  const wires = streams.map((bytes) => {
    const wire = new Wire();
    wire.on("error", () => {});
    server.emit("connection", wire);
    wire.push(bytes);
    return wire;
  });
  for (let i = 0; i < 4; i++) await turn();
  return wires.map(settle);
}

/** Reads many responses to GET, each to the end of its connection. */
export async function llhttpResponses(streams: readonly Buffer[]): Promise<ReturnType<typeof settle>[]> {
  const asked = streams.map(() => askOver(new Wire()));
  await turn();
  asked.forEach(({ wire }, i) => {
    wire.push(streams[i] as Buffer);
  });
  for (let i = 0; i < 3; i++) await turn();
  for (const { wire } of asked) wire.push(null);
  for (let i = 0; i < 4; i++) await turn();
  return asked.map(({ wire, request }) => {
    const reading = settle(wire);
    request.destroy();
    return reading;
  });
}

function askOver(wire: Wire): { wire: Wire; request: ClientRequest } {
  const failed = (error: NodeJS.ErrnoException): void => {
    if (isParserError(error)) wire.status = errorText(error);
  };
  wire.on("error", () => {});
  const options = { createConnection: () => wire as never, maxHeaderSize: 65_536, headers: { host: "h" } };
  const request = http.request(options, (response) => {
    keep(wire, response, `${response.statusCode} ${response.statusMessage} ${response.httpVersion}`);
    response.on("error", failed);
  });
  request.on("error", failed);
  request.on("upgrade", () => {
    wire.status = "error 101";
  });
  request.end();
  return { wire, request };
}
