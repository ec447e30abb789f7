// Offers and answers of the WebSocket handshake, in tables.
import { describe, expect, test } from "vitest";
import {
  acceptOf,
  agreedDeflate,
  extensionsOf,
  readableOffers,
  upgradeTokens,
  webSocketKey,
} from "../../src/http/web-socket.ts";
import { cpuTime } from "../support/cpu.ts";

test("the accept of RFC 6455 section 1.3", () => {
  expect(acceptOf("dGhlIHNhbXBsZSBub25jZQ==")).toBe("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
});

test.each([
  [["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="], "dGhlIHNhbXBsZSBub25jZQ=="],
  [["Sec-WebSocket-Key", "short=="], null],
  [["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="], null],
  [[], null],
])("the key of %j is %j", (fields, key) => {
  expect(webSocketKey(fields)).toBe(key);
});

test("upgrade tokens", () => {
  expect(upgradeTokens(["Upgrade", "h2c, WebSocket", "upgrade", " ,x"])).toEqual(["h2c", "websocket", "x"]);
});

describe("the list of extensions", () => {
  test.each([
    ["a", [{ name: "a", parameters: [] }]],
    [
      'a; b=1; c; d="x" , E',
      [
        {
          name: "a",
          parameters: [
            ["b", "1"],
            ["c", true],
            ["d", "x"],
          ],
        },
        { name: "e", parameters: [] },
      ],
    ],
    ["", []],
    [" , ,\t", []],
    [
      ", a,, b ,",
      [
        { name: "a", parameters: [] },
        { name: "b", parameters: [] },
      ],
    ],
  ])("%j", (text, extensions) => {
    expect(extensionsOf([text])).toEqual(extensions);
  });

  test.each(["a b", "a;", ";a", "a;b=", 'a;b="x', 'a;b="x y"', "a,,=", "a\u0000", "a;=b"])(
    "%j is malformed",
    (text) => {
      expect(extensionsOf([text])).toBeNull();
    },
  );

  test("is read in linear time", () => {
    const text = `a${" ;b=1".repeat(6_000)}${" ".repeat(4_000)}!@`;
    expect(cpuTime(() => extensionsOf([text]))).toBeLessThan(600);
    const empty = `${" ,".repeat(10_000)}${" ".repeat(20_000)}!@`;
    expect(cpuTime(() => extensionsOf([empty]))).toBeLessThan(600);
  });
});

describe("offers", () => {
  test.each([
    [["permessage-deflate"], "permessage-deflate", true],
    [["permessage-deflate; client_max_window_bits"], "permessage-deflate; client_max_window_bits", true],
    [
      ["foo, permessage-deflate; server_max_window_bits=10; server_no_context_takeover"],
      "permessage-deflate; server_max_window_bits=10; server_no_context_takeover",
      false,
    ],
    [["permessage-deflate; unknown", "permessage-deflate"], "permessage-deflate", false],
    [["permessage-deflate; server_max_window_bits"], null, false],
    [["permessage-deflate; server_max_window_bits=7"], null, false],
    [["permessage-deflate; server_max_window_bits=16"], null, false],
    [["permessage-deflate; server_max_window_bits=010"], null, false],
    [["permessage-deflate; client_no_context_takeover=1"], null, false],
    [["permessage-deflate; client_max_window_bits; client_max_window_bits"], null, false],
    [["permessage-bzip2"], null, false],
    [["permessage-deflate; ="], null, false],
  ])("%j: %j goes on", (values, text, all) => {
    expect(readableOffers(values)).toEqual(text === null ? null : { text, all });
  });
});

describe("answers", () => {
  const plain = "permessage-deflate";
  const bits = "permessage-deflate; client_max_window_bits";
  const terms = (over: object) => ({
    serverNoContextTakeover: false,
    clientNoContextTakeover: false,
    serverWindowBits: 15,
    clientWindowBits: 15,
    ...over,
  });
  test.each([
    [[plain], [], null],
    [[plain], [plain], terms({})],
    [[plain], ["permessage-deflate; server_no_context_takeover"], terms({ serverNoContextTakeover: true })],
    [[plain], ["permessage-deflate; client_no_context_takeover"], terms({ clientNoContextTakeover: true })],
    [[plain], ["permessage-deflate; server_max_window_bits=9"], terms({ serverWindowBits: 9 })],
    [[bits], ["permessage-deflate; client_max_window_bits=10"], terms({ clientWindowBits: 10 })],
    [[`${plain}; server_max_window_bits=9, ${plain}`], [plain], terms({})],
  ])("to %j: %j", (offers, answers, agreed) => {
    expect(agreedDeflate(offers, answers)).toEqual(agreed);
  });

  test.each([
    [[], [plain]],
    [["foo"], ["foo"]],
    [[plain], ["permessage-deflate; client_max_window_bits=10"]],
    [[bits], ["permessage-deflate; client_max_window_bits"]],
    [["permessage-deflate; client_max_window_bits=9"], ["permessage-deflate; client_max_window_bits=10"]],
    [["permessage-deflate; server_max_window_bits=9"], [plain]],
    [["permessage-deflate; server_max_window_bits=9"], ["permessage-deflate; server_max_window_bits=10"]],
    [["permessage-deflate; server_no_context_takeover"], [plain]],
    [[plain], [plain, plain]],
    [[plain], [`${plain}, ${plain}`]],
    [[plain], ["permessage-deflate; x"]],
    [[plain], ["permessage-deflate;"]],
  ])("to %j: %j is refused", (offers, answers) => {
    expect(() => agreedDeflate(offers, answers)).toThrow();
  });
});
