import { createServer, connect as netConnect } from "node:net";
import { connect } from "node:tls";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ClientHelloReader, MAX_HELLO_BYTES } from "../../../src/edge/tls/client-hello.ts";

const u16 = (n: number): Buffer => Buffer.of(n >> 8, n & 255);
const vector = (size: 1 | 2, body: Buffer): Buffer =>
  Buffer.concat([size === 1 ? Buffer.of(body.length) : u16(body.length), body]);
const extension = (type: number, body: Buffer): Buffer => Buffer.concat([u16(type), vector(2, body)]);
const serverName = (...names: (string | Buffer)[]): Buffer =>
  extension(
    0,
    vector(2, Buffer.concat(names.map((name) => Buffer.concat([Buffer.of(0), vector(2, Buffer.from(name))])))),
  );
const alpn = (...names: string[]): Buffer =>
  extension(16, vector(2, Buffer.concat(names.map((name) => vector(1, Buffer.from(name))))));
const grease = extension(0x0a0a, Buffer.of(0));

function message(extensions: Buffer[] | null): Buffer {
  const body = Buffer.concat([
    Buffer.of(3, 3),
    Buffer.alloc(32, 7),
    vector(1, Buffer.alloc(32, 9)),
    vector(2, Buffer.from("0a0a13011302c02b", "hex")),
    vector(1, Buffer.of(0)),
    ...(extensions === null ? [] : [vector(2, Buffer.concat(extensions))]),
  ]);
  return Buffer.concat([Buffer.of(1, 0), u16(body.length), body]);
}

/** The message in records of at most `size` bytes. */
function records(bytes: Buffer, size = 16_384): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    parts.push(Buffer.of(22, 3, 1), u16(part.length), part);
  }
  return Buffer.concat(parts);
}

const read = (bytes: Buffer) => new ClientHelloReader().push(bytes);
const usual = message([grease, serverName("api.example.com"), alpn("h2", "http/1.1")]);
const USUAL = { done: true, sni: "api.example.com", alpn: ["h2", "http/1.1"], ech: false };

describe("a ClientHello", () => {
  test.each([
    ["with GREASE in suites and extensions", records(usual), USUAL],
    ["cut into records of one byte", records(usual, 1), USUAL],
    ["without extensions", records(message(null)), { ...USUAL, sni: null, alpn: [] }],
    ["with an empty list of extensions", records(message([])), { ...USUAL, sni: null, alpn: [] }],
    [
      "with upper case and a dot in the name (C12)",
      records(message([serverName("API.Example.COM.")])),
      { ...USUAL, alpn: [] },
    ],
    [
      "with an address for a name (C12)",
      records(message([serverName("192.0.2.1")])),
      { ...USUAL, sni: "192.0.2.1", alpn: [] },
    ],
    [
      "with an odd address for a name (C12)",
      records(message([serverName("0x7f000001")])),
      { ...USUAL, sni: "127.0.0.1", alpn: [] },
    ],
    [
      "with encrypted_client_hello (B11)",
      records(message([extension(0xfe0d, Buffer.alloc(200)), serverName("outer.example")])),
      { ...USUAL, sni: "outer.example", alpn: [], ech: true },
    ],
    [
      "of 20 KB (post-quantum keys and padding)",
      records(message([extension(21, Buffer.alloc(20_000)), serverName("a.example")])),
      { ...USUAL, sni: "a.example", alpn: [] },
    ],
    ["followed by early data", Buffer.concat([records(usual), Buffer.alloc(60_000, 1)]), USUAL],
  ])("%s", (_title, bytes, expected) => {
    expect(read(bytes)).toEqual(expected);
  });

  test.each([
    ["an SSLv2 hello", Buffer.from("802e0100020015000000100100800200800600400400800700c00800", "hex"), /SSLv2/],
    ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\n"), /not a TLS handshake/],
    ["SSH", Buffer.from("SSH-2.0-x\r\n"), /not a TLS handshake/],
    ["another record version", Buffer.of(22, 9, 1, 0, 5), /record version/],
    ["an empty record", Buffer.of(22, 3, 1, 0, 0), /empty/],
    ["a record that is too long", Buffer.of(22, 3, 1, 0xff, 0xff), /longer than/],
    ["another handshake message", records(Buffer.of(2, 0, 0, 0)), /not a ClientHello/],
    ["a length beyond the bound", records(Buffer.of(1, 0xff, 0xff, 0xff)), /too long/],
    ["two server names", records(message([serverName("a.example", "b.example")])), /two server names/],
    ["the extension twice", records(message([serverName("a.example"), serverName("b.example")])), /stands twice/],
    ["a name with NUL", records(message([serverName("a\0.example")])), /not a host name/],
    ["a name with a space", records(message([serverName("a b")])), /not a host name/],
    ["an empty name", records(message([serverName("")])), /not a host name/],
    ["a name that is not ASCII", records(message([serverName("bücher.example")])), /not a host name/],
    ["two dots at the end", records(message([serverName("a.example..")])), /not a host name/],
    ["an empty list of names", records(message([extension(0, vector(2, Buffer.alloc(0)))])), /empty server name/],
    [
      "a vector past the end",
      records(Buffer.concat([Buffer.of(1, 0, 0, 40), Buffer.alloc(35), Buffer.alloc(5, 255)])),
      /too long|cut short/,
    ],
  ])("is refused: %s", (_title, bytes, why) => {
    expect(read(bytes)).toEqual({ error: expect.stringMatching(why) });
  });

  test("that never ends is given up after 32 KiB", () => {
    const reader = new ClientHelloReader();
    const start = records(Buffer.concat([Buffer.of(1, 0, 0x80, 0), Buffer.alloc(100)]));
    let result = reader.push(start);
    let pushed = start.length;
    while ("done" in result && !result.done && pushed < 2 * MAX_HELLO_BYTES) {
      const more = records(Buffer.alloc(1000), 50);
      result = reader.push(more);
      pushed += more.length;
    }
    expect(result).toEqual({ error: expect.stringMatching(/too long/) });
    expect(pushed).toBeLessThan(MAX_HELLO_BYTES + 2100);
  });

  test("says the same however it is cut", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
        (size, cuts) => {
          const bytes = records(usual, size);
          const reader = new ClientHelloReader();
          let result = reader.push(Buffer.alloc(0));
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const step = cuts[i % cuts.length] as number;
            result = reader.push(bytes.subarray(at, at + step));
            at += step;
          }
          expect(result).toEqual(USUAL);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("never throws, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(usual.length - 1), fc.nat(255), (junk, at, byte) => {
        const broken = Buffer.from(usual);
        broken[at] = byte;
        for (const bytes of [Buffer.from(junk), records(Buffer.from(junk)), records(broken)]) {
          const result = read(bytes);
          expect("error" in result || typeof result.done === "boolean").toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("of Node itself is read from a real connection", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const seen = new Promise((resolve) => {
      server.once("connection", (socket) => {
        const reader = new ClientHelloReader();
        socket.on("error", () => {});
        socket.on("data", (bytes) => {
          const result = reader.push(bytes);
          if ("error" in result || result.done) {
            socket.destroy();
            resolve(result);
          }
        });
      });
    });
    const { port } = server.address() as { port: number };
    const client = connect({
      socket: netConnect(port, "127.0.0.1"),
      servername: "Node.Example",
      ALPNProtocols: ["h2"],
    });
    client.on("error", () => {});
    expect(await seen).toEqual({ done: true, sni: "node.example", alpn: ["h2"], ech: false });
    server.close();
  });
});
