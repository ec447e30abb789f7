// One request through a child's port, hop by hop, as `doctor` shows it: to the proxy, CONNECT, TLS, the response.
import { once } from "node:events";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export type StepStatus = "ok" | "failed" | "warning";

export interface Step {
  readonly step: string;
  readonly status: StepStatus;
  readonly why: string;
  /** What to do; "" when nothing. */
  readonly todo: string;
}

export const ok = (step: string, why: string): Step => ({ step, status: "ok", why, todo: "" });
export const failed = (step: string, why: string, todo: string): Step => ({ step, status: "failed", why, todo });
export const warning = (step: string, why: string, todo: string): Step => ({ step, status: "warning", why, todo });

const DEADLINE = 20_000;
const MAX_HEAD = 64 * 1024;

/** The steps of a request for `url` through the proxy at 127.0.0.1:`port`. `roots`: PEM that the child trusts. */
export async function traceRequest(url: URL, port: number, roots: string): Promise<Step[]> {
  const steps: Step[] = [];
  const host = url.hostname.replace(/^\[|\]$/g, "");
  let socket: Socket | null = null;
  try {
    socket = await dial(port);
    steps.push(ok(`${url.host}: to the proxy`, `connected to 127.0.0.1:${port}`));
    let path = url.href;
    if (url.protocol === "https:") {
      const authority = `${url.hostname}:${url.port || 443}`;
      const head = await ask(socket, `CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n`);
      steps.push(response(`${url.host}: CONNECT`, head));
      if (!/^HTTP\/1\.[01] 2/.test(head)) return steps;
      const tls = connectTls({
        socket,
        ca: roots,
        ALPNProtocols: ["http/1.1"],
        ...(isIP(host) ? {} : { servername: host }),
      });
      socket = tls;
      await within(once(tls, "secureConnect"));
      const issuer = tls.getPeerCertificate().issuer;
      steps.push(ok(`${url.host}: TLS`, `${tls.getProtocol()}, certificate by ${issuer?.CN ?? issuer?.O ?? "?"}`));
      path = `${url.pathname}${url.search}`;
    }
    const request = `GET ${path} HTTP/1.1\r\nhost: ${url.host}\r\nuser-agent: sallyport-doctor\r\nconnection: close\r\n\r\n`;
    steps.push(response(`${url.host}: response`, await ask(socket, request)));
  } catch (error) {
    const why = (error as Error).message;
    steps.push(failed(`${url.host}: broken off`, why, "sallyport audit tail shows what the proxy recorded"));
  } finally {
    socket?.destroy();
  }
  return steps;
}

/** A response head as a step: who answered, and what. */
function response(step: string, head: string): Step {
  const line = head.slice(0, head.indexOf("\r\n"));
  const status = Number(line.split(" ")[1]);
  const said = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, "im").exec(head)?.[1]?.trim();
  const ours = said("x-sallyport-decision");
  const proxy = said("proxy-status");
  const why = [line.replace(/^HTTP\/1\.[01] /, ""), ours, proxy].filter(Boolean).join("; ");
  if (status < 400) return ok(step, why);
  if (ours !== undefined && /deny/.test(ours))
    return failed(step, why, "sallyport policy explain GET URL says which rule");
  if (proxy !== undefined) return failed(step, why, "the proxy could not reach the origin: is there a network?");
  return warning(step, why, "the origin itself answered so");
}

async function dial(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await within(once(socket, "connect"));
  socket.on("error", () => socket.destroy());
  return socket;
}

async function ask(socket: Socket, request: string): Promise<string> {
  socket.write(request);
  let head = Buffer.alloc(0);
  const read = async () => {
    while (head.indexOf("\r\n\r\n") < 0) {
      const bytes = socket.read() as Buffer | null;
      if (bytes !== null) head = Buffer.concat([head, bytes]);
      else if (socket.readableEnded || socket.destroyed)
        throw new Error("the connection was closed without a response");
      else await Promise.race([once(socket, "readable"), once(socket, "close"), once(socket, "end")]);
      if (head.length > MAX_HEAD) throw new Error("the answer is not HTTP");
    }
  };
  await within(read());
  return head.toString("latin1", 0, head.indexOf("\r\n\r\n") + 2);
}

/** Rejects when it takes too long. */
export function within<T>(promise: Promise<T>, milliseconds = DEADLINE): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`nothing came within ${milliseconds / 1000} s`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
