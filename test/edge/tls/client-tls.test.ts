import { execFile } from "node:child_process";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { type ConnectionOptions, connect, createSecureContext, createServer, TLSSocket } from "node:tls";
import { describe, expect, test } from "vitest";
import { basicConstraints, leafKeyUsage, subjectAltName } from "../../../src/edge/tls/certificate-writer.ts";
import { type ClientCertificateFacts, clientCertificate, proxyPortTls } from "../../../src/edge/tls/client-tls.ts";
import { classifyClientTlsError, clientTlsHint } from "../../../src/edge/tls/tls-errors.ts";
import { clientAuth, DAY, ecKey, issue, issueCa, issueLeaf } from "./issue.ts";

const root = await issueCa("Root");
const leaf = await issueLeaf("a.example", root);

/** What the server side sees of a client's failed handshake. */
async function failure(client: (port: number) => void): Promise<Error> {
  const context = createSecureContext({ cert: leaf.pem, key: leaf.keyPem, minVersion: "TLSv1.2" });
  let seen: (error: Error) => void = () => {};
  const failed = new Promise<Error>((resolve) => {
    seen = resolve;
  });
  const server = createTcpServer((socket) => {
    const tls = new TLSSocket(socket, { isServer: true, secureContext: context, ALPNProtocols: ["http/1.1"] });
    tls.on("error", seen);
    tls.on("close", () => seen(Object.assign(new Error("closed"), { code: "ECONNRESET" })));
    tls.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  client((server.address() as AddressInfo).port);
  const error = await failed;
  server.close();
  return error;
}

const node = (options: ConnectionOptions) => (port: number) => {
  const socket = connect({ port, host: "127.0.0.1", servername: "a.example", ...options });
  socket.on("error", () => socket.destroy());
};
const openssl = (version: string) => (port: number) => {
  const args = [
    "s_client",
    "-connect",
    `127.0.0.1:${port}`,
    "-verify_return_error",
    "-no-CAfile",
    "-no-CApath",
    version,
  ];
  execFile("openssl", args, () => {}).stdin?.end();
};

describe("a client that fails the handshake (C8)", () => {
  test.each(["-tls1_2", "-tls1_3"])(
    "openssl %s: that does not trust our CA rejects, and the hint has the rule",
    async (v) => {
      const error = await failure(openssl(v));
      expect(classifyClientTlsError(error)).toBe("client-tls-rejected");
      const hint = clientTlsHint(error, "a.example");
      expect(hint).toContain('allow: ["https://a.example"], tunnel: { reason:');
      expect(hint).toContain("unknown ca");
    },
  );

  test("that hangs up without an alert (Node does, when it does not trust us): the hint says so", async () => {
    const error = await failure(node({}));
    expect(classifyClientTlsError(error)).toBe("client-tls-failed");
    expect(clientTlsHint(error, "2001:db8::1")).toMatch(/hung up.*does not trust.*https:\/\/\[2001:db8::1\]/);
  });

  test.each([
    [
      "speaks another version",
      { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" },
      /no TLS that we speak/,
    ],
    ["offers another protocol", { ALPNProtocols: ["spdy/9"], ca: root.pem }, /no application protocol/],
  ] as const)("that %s failed, and did not reject", async (_title, options, hint) => {
    const error = await failure(node(options as ConnectionOptions));
    expect(classifyClientTlsError(error)).toBe("client-tls-failed");
    expect(clientTlsHint(error, "a.example")).toMatch(hint);
  });

  test.each([
    ["BAD_CERTIFICATE", 42],
    ["UNSUPPORTED_CERTIFICATE", 43],
    ["CERTIFICATE_REVOKED", 44],
    ["CERTIFICATE_EXPIRED", 45],
    ["CERTIFICATE_UNKNOWN", 46],
    ["UNKNOWN_CA", 48],
  ])("alert %s (%i) is a rejection under either name that OpenSSL has for it", (name) => {
    for (const prefix of ["ERR_SSL_SSLV3_ALERT_", "ERR_SSL_TLSV1_ALERT_", "ERR_SSL_TLSV13_ALERT_"]) {
      expect(classifyClientTlsError(Object.assign(new Error(), { code: prefix + name }))).toBe("client-tls-rejected");
    }
  });

  test.each([undefined, null, "text", new Error("x")])("anything else (%s) failed", (thrown) => {
    expect(classifyClientTlsError(thrown)).toBe("client-tls-failed");
    expect(clientTlsHint(thrown, "a.example")).toContain("a.example");
  });
});

describe("the proxy port", () => {
  const clients = issueCa("Clients");
  const person = async (wish = {}) =>
    issue({
      commonName: "build",
      issuer: await clients,
      extensions: [basicConstraints(false), leafKeyUsage(), clientAuth(), subjectAltName("build.example", false)],
      ...wish,
    });

  async function who(options: ConnectionOptions): Promise<ClientCertificateFacts | null> {
    const server = createServer(
      proxyPortTls({
        cert: leaf,
        key: { pem: leaf.keyPem },
        passphrase: null,
        http2: true,
        clientCa: { pem: (await clients).pem },
      }),
    );
    const answer = new Promise<ClientCertificateFacts | null>((resolve, reject) => {
      server.on("tlsClientError", reject);
      server.on("secureConnection", (socket) => {
        socket.on("error", () => {});
        try {
          resolve(clientCertificate(socket));
        } catch (error) {
          reject(error);
        }
        socket.destroy();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const socket = connect({
      port: (server.address() as AddressInfo).port,
      host: "127.0.0.1",
      servername: "a.example",
      ca: root.pem,
      ...options,
    });
    socket.on("error", () => {});
    return await answer.finally(() => {
      socket.destroy();
      server.close();
    });
  }

  test("knows a client by its certificate", async () => {
    const one = await person();
    expect(await who({ cert: one.pem, key: one.keyPem })).toEqual({
      fingerprint: one.certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
      subject: "CN=build",
      names: ["build.example"],
    });
  });

  test("takes a client without one", async () => {
    expect(await who({})).toBeNull();
  });

  test.each([
    ["of another CA", async () => issueLeaf("build.example", await issueCa("Other"))],
    ["that has expired", () => person({ from: Date.now() - 9 * DAY, to: Date.now() - DAY })],
    ["that is for servers", async () => issueLeaf("build.example", await clients)],
  ])("refuses one %s: a wrong credential is never a fall-through", async (_title, make) => {
    const one = await make();
    await expect(who({ cert: one.pem, key: one.keyPem })).rejects.toMatchObject({ reason: "wrong-credential" });
  });

  test("refuses a key that does not fit at load, without showing it", () => {
    const key = { pem: ecKey().export({ type: "pkcs8", format: "pem" }) as string };
    const make = () => proxyPortTls({ cert: leaf, key, passphrase: null, http2: true, clientCa: null });
    expect(make).toThrow(/server\.tls/);
    expect(make).not.toThrow(/PRIVATE/);
  });
});
