// http-mitm-proxy with its defaults: what it must do to pass traffic on, and nothing else. Arguments: port, folder of its CA,
// port of the origin that is tunnelled.
import net from "node:net";
import { Proxy as MitmProxy } from "http-mitm-proxy";

const [port = "", sslCaDir = "", opaque = ""] = process.argv.slice(2);
const proxy = new MitmProxy();
proxy.onError((_context, error) => {
  if (process.env.BENCH_VERBOSE) process.stderr.write(`${error?.message}\n`);
});
// A tunnel that is not opened, as its README shows it.
proxy.onConnect((request, socket, head, next) => {
  const [host = "", to = ""] = (request.url ?? "").split(":");
  if (to !== opaque) return next();
  const origin = net.connect(Number(to), host, () => {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    if (head.length > 0) origin.write(head);
    origin.pipe(socket);
    socket.pipe(origin);
  });
  origin.on("error", () => socket.destroy());
  socket.on("error", () => origin.destroy());
});
proxy.listen({ host: "127.0.0.1", port: Number(port), sslCaDir, keepAlive: true });
