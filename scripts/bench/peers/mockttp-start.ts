// mockttp as a proxy that passes everything on. Arguments: port, PEM files of its CA's key and certificate, of the origin's CA.
import { getLocal } from "mockttp";

const [port = "", keyPath = "", certPath = "", originCa = ""] = process.argv.slice(2);
const server = getLocal({
  https: { keyPath, certPath, tlsPassthrough: [{ hostname: "127.0.0.1" }] },
  http2: true,
  recordTraffic: false,
});
await server.start(Number(port));
const through = { additionalTrustedCAs: [{ certPath: originCa }] };
await server.forAnyRequest().thenPassThrough(through);
await server.forAnyWebSocket().thenPassThrough(through);
