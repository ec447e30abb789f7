// The same request on every path: plain, intercepted, clear text inside CONNECT. One record each, bytes untouched.
import { createHash } from "node:crypto";
import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCa } from "../support/certificates.ts";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { origins, type RawOrigin, startRawOrigin } from "../support/origin.ts";
import { connectTo, type RawConnection, tlsThrough, tunnelThrough } from "../support/raw-client.ts";

const sha256 = (text: string): string => createHash("sha256").update(text, "latin1").digest("hex");

describe("a request and its response", () => {
  let house: TestHouse;
  let plain: RawOrigin;
  let secure: RawOrigin;
  const originCa = new TestCa();

  beforeAll(async () => {
    house = await startTestHouse({ roots: originCa.cert });
    const script = origins.text("hello", "X-Custom: A\r\nx-CUSTOM: b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n");
    plain = await startRawOrigin(script);
    secure = await startRawOrigin(script, { tls: originCa.leaf("localhost") });
  });
  afterAll(async () => {
    await house.close();
    await plain.close();
    await secure.close();
  });

  interface Path {
    readonly name: string;
    readonly scheme: "http" | "https";
    readonly origin: () => RawOrigin;
    readonly open: () => Promise<RawConnection>;
    readonly target: (path: string) => string;
  }
  const paths: Path[] = [
    {
      name: "plain",
      scheme: "http",
      origin: () => plain,
      open: () => connectTo(house.port),
      target: (path) => `http://localhost:${plain.port}${path}`,
    },
    {
      name: "intercepted",
      scheme: "https",
      origin: () => secure,
      open: () => tlsThrough(house.port, `localhost:${secure.port}`, { ca: house.ca }),
      target: (path) => path,
    },
    {
      name: "clear text inside CONNECT",
      scheme: "http",
      origin: () => plain,
      open: () => tunnelThrough(house.port, `localhost:${plain.port}`),
      target: (path) => path,
    },
  ];

  describe.each(paths)("$name", (path) => {
    test("fields keep order, case and duplicates; one record with digests", async () => {
      const mark = `/m-${path.name.replaceAll(" ", "-")}?q=secret`;
      const origin = path.origin();
      const before = origin.text().length;
      const client = await path.open();
      client.send(
        `POST ${path.target(mark)} HTTP/1.1\r\nhost: localhost:${origin.port}\r\nX-B: 2\r\nx-a: 1\r\nX-B: 3\r\nProxy-Connection: keep-alive\r\nContent-Length: 4\r\nAccept:  spaced  \r\n\r\nbody`,
      );
      const response = await client.response();
      expect(response.status).toBe(200);
      expect(response.content).toBe("hello");
      const names = response.lines.map((line) => line.split(":")[0]);
      expect(names).toEqual(["content-length", "X-Custom", "x-CUSTOM", "Set-Cookie", "Set-Cookie", "Via"]);
      const got = origin.text().slice(before);
      expect(got).toMatch(
        new RegExp(
          `^POST ${mark.replace("?", "\\?")} HTTP/1.1\r\nhost: localhost:${origin.port}\r\nX-B: 2\r\nx-a: 1\r\nX-B: 3\r\nContent-Length: 4\r\nAccept: spaced\r\nVia: 1.1 sallyport-[0-9a-f]+\r\n\r\nbody$`,
        ),
      );
      const [record] = await house.recordsWhere(
        (r) => r.kind === "exchange" && (r.path?.startsWith(mark.split("?")[0] as string) ?? false),
      );
      expect(record).toMatchObject({
        decision: "allow",
        method: "POST",
        scheme: path.scheme,
        host: "localhost",
        port: origin.port,
        status: 200,
        sent: { bytes: 4, sha256: sha256("body"), complete: true },
        received: { bytes: 5, sha256: sha256("hello"), complete: true },
      });
      expect(JSON.stringify(record)).not.toContain("secret");
      client.destroy();
    });

    test("keep-alive serves several requests on one connection", async () => {
      const client = await path.open();
      for (let i = 0; i < 3; i++) {
        client.send(`GET ${path.target(`/k${i}`)} HTTP/1.1\r\nHost: localhost:${path.origin().port}\r\n\r\n`);
        expect((await client.response()).content).toBe("hello");
      }
      client.destroy();
    });

    test("pipelined requests are answered in order", async () => {
      const client = await path.open();
      const one = (i: number): string =>
        `GET ${path.target(`/p${i}`)} HTTP/1.1\r\nHost: localhost:${path.origin().port}\r\n\r\n`;
      client.send(one(1) + one(2) + one(3));
      for (let i = 0; i < 3; i++) expect((await client.response()).status).toBe(200);
      client.destroy();
    });

    test("TRACE is answered 405 and nothing is forwarded", async () => {
      const client = await path.open();
      const before = path.origin().text().length;
      client.send(`TRACE ${path.target("/t")} HTTP/1.1\r\nHost: localhost:${path.origin().port}\r\n\r\n`);
      expect((await client.response()).status).toBe(405);
      expect(path.origin().text().length).toBe(before);
      client.destroy();
    });
  });

  test("names that do not agree inside CONNECT are answered 421, and the connection goes on", async () => {
    const client = await tlsThrough(house.port, `localhost:${secure.port}`, { ca: house.ca });
    client.send("GET /x HTTP/1.1\r\nHost: other.example\r\n\r\n");
    expect((await client.response()).status).toBe(421);
    client.send(`GET /y HTTP/1.1\r\nHost: LOCALHOST.:${secure.port}\r\n\r\n`);
    expect((await client.response()).status).toBe(200);
    client.destroy();
  });

  test("a host that differs from the target is replaced and noted", async () => {
    const client = await connectTo(house.port);
    client.send(`GET http://localhost:${plain.port}/replaced HTTP/1.1\r\nHost: other.example\r\n\r\n`);
    expect((await client.response()).status).toBe(200);
    expect(plain.text()).toContain(`GET /replaced HTTP/1.1\r\nHost: localhost:${plain.port}\r\n`);
    const [record] = await house.recordsWhere((r) => r.path === "/replaced");
    expect(record?.notes).toContain("host-replaced");
    client.destroy();
  });

  test("an origin-form request is told how to use a proxy", async () => {
    const client = await connectTo(house.port);
    client.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${house.port}\r\n\r\n`);
    const response = await client.response();
    expect(response.status).toBe(400);
    expect(response.content).toMatch(new RegExp(`HTTPS_PROXY .*http://127\\.0\\.0\\.1:${house.port}`));
    await house.recordsWhere((r) => r.reason === "not-a-proxy-request");
  });

  test("server-sent events leave as they come: each is here before the next is sent", async () => {
    let next = (): void => {};
    const server = http.createServer((_q, s) => {
      s.writeHead(200, { "content-type": "text/event-stream" });
      let n = 0;
      next = () => {
        if (n === 5) s.end();
        else s.write(`data: ${n++}\n\n`);
      };
      next();
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as { port: number };
    const seen: string[] = await new Promise((resolve, reject) => {
      const events: string[] = [];
      const request = http.get(
        {
          host: "127.0.0.1",
          port: house.port,
          path: `http://localhost:${port}/sse`,
          headers: { host: `localhost:${port}` },
        },
        (response) => {
          response.on("data", (b: Buffer) => {
            events.push(String(b));
            next();
          });
          response.on("end", () => resolve(events));
        },
      );
      request.on("error", reject);
    });
    expect(seen).toEqual([0, 1, 2, 3, 4].map((n) => `data: ${n}\n\n`));
    server.close();
  });
});
