// A port for a server that must be named before it listens.
import { once } from "node:events";
import net from "node:net";

/** Below what systems give to outgoing connections (Linux: from 32768): nobody else takes it before the server does. */
const [FIRST, COUNT] = [15_000, 16_000];
const ATTEMPTS = 50;

/** A TCP port of 127.0.0.1 that nobody listens at. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    const server = net.createServer();
    const free = once(server, "listening").then(
      () => true,
      () => false,
    );
    server.listen(port, "127.0.0.1");
    if (!(await free)) continue;
    await new Promise((done) => server.close(done));
    return port;
  }
  throw new Error("no free port");
}
