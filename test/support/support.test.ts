// The tools of the tests are tested too: a tool that cannot fail would make every test that uses it worthless.
import { once } from "node:events";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { type AuditRecord, NO_BODY } from "../../src/audit/record.ts";
import { fingerprintOf, type KeyAndCertificate, selfSigned, TestCa } from "./certificates.ts";
import { CollectingSink } from "./collecting-sink.ts";
import { type OriginScript, origins, type RawOrigin, refusedPort, startHttpOrigin, startRawOrigin } from "./origin.ts";
import { connectTo, tlsThrough, tunnelThrough } from "./raw-client.ts";

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
async function origin(script: OriginScript, leaf?: KeyAndCertificate): Promise<RawOrigin> {
  const started = await startRawOrigin(script, leaf === undefined ? {} : { tls: leaf });
  cleanups.push(() => started.close());
  return started;
}

describe("the raw origin and client", () => {
  test("record exact bytes, and answer each request of a pipeline", async () => {
    const { port, text } = await origin(origins.text("hello", "x-a: 1\r\n"));
    const client = await connectTo(port);
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(await client.response()).toMatchObject({
      status: 200,
      phrase: "OK",
      content: "hello",
      fields: { "x-a": "1" },
    });
    expect(await client.response()).toMatchObject({ status: 200, content: "hello" });
    expect(text()).toBe("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    client.destroy();
  });

  const ask = async (script: OriginScript) => {
    const client = await connectTo((await origin(script)).port);
    cleanups.push(() => client.destroy());
    return client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  };
  test("chunks, events, interim responses", async () => {
    expect((await (await ask(origins.events(["a", "b"], 1))).response()).content).toBe("data: a\n\ndata: b\n\n");
    const client = await ask(origins.interim(2));
    expect((await client.response()).status).toBe(103);
    expect((await client.response()).status).toBe(103);
    expect((await client.response()).content).toBe("ok");
  });
  test("faults look like what they are", async () => {
    const reset = await ask(origins.resetAfter("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789", 40));
    expect(await reset.closed()).toBe("reset");
    expect(reset.text).toBe("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12");
    const lying = await ask(origins.lyingLength(10, "short"));
    expect(await lying.closed()).toBe("end");
    await expect(lying.response()).rejects.toThrow("got only");
    await expect((await ask(origins.stall())).response(100)).rejects.toThrow("got only");
    await (await ask(origins.twoLengths("abc"))).until((text) =>
      /length: 3\r\ncontent-length: 8\r\n\r\nabc$/.test(text),
    );
    const endless = await ask(origins.neverEnds(1));
    await endless.until((text) => text.split("more").length > 5);
    const extra = await ask(origins.extraBytes("ok", "HTTP/1.1 200 OK\r\n\r\n"));
    expect((await extra.response()).content).toBe("ok");
    await expect(connectTo(await refusedPort())).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });

  test("the ordinary origin echoes", async () => {
    const echo = await startHttpOrigin();
    cleanups.push(() => echo.close());
    const client = await connectTo(echo.port);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    expect((await client.response()).content).toBe("abc");
    expect(echo.requests[0]?.method).toBe("POST");
    client.destroy();
  });

  test("CONNECT and TLS through a proxy", async () => {
    const ca = new TestCa();
    const { port, text } = await origin(origins.text("inside"), ca.leaf("a.test"));
    const proxy = http.createServer();
    proxy.on("connect", (request, socket) => {
      if (request.url !== "a.test:443") return socket.end("HTTP/1.1 403 No\r\n\r\n");
      const outer = net.connect(port, "127.0.0.1");
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      return socket
        .pipe(outer)
        .pipe(socket)
        .on("error", () => {});
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    cleanups.push(() => proxy.close());
    const proxyPort = (proxy.address() as AddressInfo).port;
    const client = await tlsThrough(proxyPort, "a.test:443", { ca: ca.cert });
    cleanups.push(() => client.destroy());
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    expect((await client.response()).content).toBe("inside");
    expect(text()).toContain("host: a.test");
    await expect(tlsThrough(proxyPort, "a.test:443")).rejects.toMatchObject({
      code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    });
    await expect(tunnelThrough(proxyPort, "b.test:443")).rejects.toThrow("403");
  });
});

describe("certificates", () => {
  const ca = new TestCa();
  test.each([
    ["good", ca.leaf("a.test"), null],
    ["expired", ca.expired("a.test"), "CERT_HAS_EXPIRED"],
    ["not yet valid", ca.notYetValid("a.test"), "CERT_NOT_YET_VALID"],
    ["self-signed", selfSigned("a.test"), "DEPTH_ZERO_SELF_SIGNED_CERT"],
    ["wrong host", ca.leaf("b.test"), "ERR_TLS_CERT_ALTNAME_INVALID"],
    ["wrong usage", ca.leaf("a.test", { usage: "client" }), "INVALID_PURPOSE"],
    ["another CA", new TestCa("Other CA").leaf("a.test"), "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  ])("%s", async (_kind, leaf, code) => {
    const { port } = await origin(origins.stall(), leaf);
    const socket = tls.connect({ port, host: "127.0.0.1", servername: "a.test", ca: ca.cert });
    const outcome = await Promise.race([
      once(socket, "secureConnect").then(() => null),
      once(socket, "error").then(([error]) => (error as NodeJS.ErrnoException).code),
    ]).catch((error: NodeJS.ErrnoException) => error.code);
    socket.destroy();
    expect(outcome).toBe(code);
  });
  test("the name in the common name alone, addresses, fingerprints", () => {
    expect(fingerprintOf(ca.leaf("127.0.0.1").cert)).toMatch(/^[0-9a-f]{64}$/);
    expect(fingerprintOf(ca.commonNameOnly("a.test").cert)).not.toBe(fingerprintOf(ca.cert));
  });
});

test("the collecting sink keeps, holds, releases and fails", async () => {
  const sink = new CollectingSink();
  const record = { id: "1", kind: "exchange", sent: NO_BODY } as AuditRecord;
  const coming = sink.next((found) => found.id === "1");
  const written = await new Promise((resolve) => sink.append(record, resolve));
  expect(written).toBe(true);
  expect(await coming).toBe(record);
  sink.held = true;
  sink.writable = false;
  const answers: boolean[] = [];
  sink.append(record, (answer) => answers.push(answer));
  await new Promise(setImmediate);
  expect(answers).toEqual([]);
  sink.release();
  expect(answers).toEqual([false]);
  await expect(sink.next((found) => found.id === "2", 20)).rejects.toThrow("no such record");
});
