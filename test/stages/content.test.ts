import { createHash } from "node:crypto";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { firstValue } from "../../src/http/fields.ts";
import { ProxyError } from "../../src/shared/errors.ts";
import { bytewise, cut, drive, exchange, responseHead, type Setup, stage } from "./content-harness.ts";

const KEYWORD = "malicious_pattern";
const block = { block: { text: KEYWORD } };
const redact = { redact: { pattern: "\\b\\d{3}-\\d{2}-\\d{4}\\b", with: "***" } };

const refusal = (work: () => unknown): ProxyError => {
  try {
    work();
  } catch (error) {
    if (error instanceof ProxyError) return error;
    throw error;
  }
  throw new Error("it was not refused");
};

const request = (setup: Setup) => {
  const x = exchange(setup);
  void stage.onRequest?.(x);
  return x;
};

const sendRequest = (setup: Setup, chunks: readonly Uint8Array[]) => {
  const x = request(setup);
  return drive(stage.requestStep?.(x) ?? null, chunks).then((outcome) => ({ x, ...outcome }));
};

const sendResponse = (setup: Setup, fields: string[], chunks: readonly Uint8Array[], slow?: () => boolean) => {
  const x = request({ method: "GET", length: 0, ...setup });
  const response = responseHead(fields);
  x.response = response;
  void stage.onResponse?.(x, response);
  return drive(stage.responseStep?.(x, response) ?? null, chunks, slow ? { slow } : {}).then((outcome) => ({
    x,
    response,
    ...outcome,
  }));
};

/** Ways in which a request is signed: fields, path. */
const signed: [string, string[], string][] = [
  ["SigV4", ["Authorization", "AWS4-HMAC-SHA256 Credential=x"], "/"],
  ["SigV4 payload digest", ["x-amz-content-sha256", "abc"], "/"],
  ["SigV4 in the query", [], "/?X-Amz-Signature=1"],
  ["HTTP signatures", ["Signature-Input", "s=()"], "/"],
  ["a content digest", ["Content-Digest", "sha-256=:x:"], "/"],
  ["SigV2", ["Authorization", "AWS AKID:c2ln"], "/"],
  ["draft-cavage", ["Authorization", 'Signature keyId="a",signature="b"'], "/"],
  ["OAuth 1.0", ["Authorization", 'OAuth realm="a", oauth_signature="b"'], "/"],
  ["Azure's Shared Key", ["Authorization", "SharedKey account:c2ln"], "/"],
  ["Google's signature", ["Authorization", "GOOG4-RSA-SHA256 Credential=a"], "/"],
  ["Google's signature in the query", [], "/?x=1&X-Goog-Signature=1"],
];

describe("requests are decided by their head before anything is dialled", () => {
  const cases: [string, Setup, boolean][] = [
    ["a keyword in the query", { rules: [block], path: `/a?x=${KEYWORD}` }, true],
    ["percent-encoded", { rules: [block], path: "/a?x=malicious%5Fpattern" }, true],
    ["percent-encoded twice", { rules: [block], path: "/a?x=malicious%255Fpattern" }, true],
    ["a plus for a space", { rules: [{ block: { text: "two words" } }], path: "/a?x=two+words" }, true],
    ["in the path", { rules: [block], path: `/${KEYWORD}/b` }, true],
    ["in the path, encoded", { rules: [block], path: "/m%61licious_pattern" }, true],
    ["in a field value", { rules: [block], fields: ["User-Agent", `x ${KEYWORD} y`] }, true],
    ["in a field name", { rules: [block], fields: [`X-${KEYWORD}`, "1"] }, true],
    ["in a cookie, encoded", { rules: [block], fields: ["Cookie", "a=malicious%5fpattern"] }, true],
    [
      "elsewhere than the rule looks",
      { rules: [{ block: { text: KEYWORD, in: "body" } }], path: `/${KEYWORD}` },
      false,
    ],
    ["in the other direction", { rules: [{ block: { text: KEYWORD, on: "response" } }], path: `/${KEYWORD}` }, false],
    ["another case", { rules: [block], path: "/MALICIOUS_PATTERN" }, false],
    [
      "another case, ignored",
      { rules: [{ block: { text: KEYWORD, "ignore-case": true } }], path: "/MALICIOUS_PATTERN" },
      true,
    ],
    [
      "a media type",
      { rules: [{ block: { "media-type": "image/*" } }], fields: ["Content-Type", "Image/PNG; q=1"] },
      true,
    ],
    [
      "another media type",
      { rules: [{ block: { "media-type": "image/*" } }], fields: ["content-type", "text/x"] },
      false,
    ],
    ["no media type is octet-stream", { rules: [{ block: { "media-type": "application/octet-stream" } }] }, true],
    [
      "no content, no media type",
      { rules: [{ block: { "media-type": "application/octet-stream" } }], length: 0 },
      false,
    ],
    ["two media types", { rules: [{ block: { "media-type": "a/b" } }], fields: ["content-type", "x/y, a/b"] }, true],
    ["an extension", { rules: [{ block: { extension: "exe" } }], path: "/d/Setup.EXE?x=1" }, true],
    ["an encoded extension", { rules: [{ block: { extension: ".exe" } }], path: "/d/setup.e%78e" }, true],
    ["an extension with a parameter", { rules: [{ block: { extension: "exe" } }], path: "/setup.exe;v=1" }, true],
    ["an extension of the query", { rules: [{ block: { extension: "exe" } }], path: "/x?f=a.exe" }, false],
    ["the end of a name without a dot", { rules: [{ block: { extension: "exe" } }], path: "/myexe" }, false],
    ["one of a list", { rules: [{ block: { text: ["a1", "b2"] } }], path: "/b2" }, true],
    ["a pattern", { rules: [{ block: { pattern: "id=\\d{4}", in: "query" } }], path: "/?id=1234" }, true],
    [
      "UTF-8 in a field",
      { rules: [{ block: { text: "grün" } }], fields: ["x", Buffer.from("grün").toString("latin1")] },
      true,
    ],
  ];
  it.each(cases)("%s", (_, setup, refused) => {
    if (refused) expect(refusal(() => request(setup)).reason).toBe("content-blocked");
    else request(setup);
  });

  it.each([
    [200, 5, true],
    [200, null, true],
    [302, 0, false],
    [101, 0, false],
    [204, 0, false],
  ])("a response %i with %s bytes and no media type", (status, length, refused) => {
    const rules = [{ block: { "media-type": "application/octet-stream", on: "response" } }];
    const x = request({ method: "GET", length: 0, rules });
    x.responseLength = length;
    const look = () => stage.onResponse?.(x, responseHead([], status));
    if (refused) expect(refusal(look).reason).toBe("content-blocked");
    else expect(look()).toBeNull();
  });

  it("uses the status and the words of the rule", () => {
    const rule = { block: { text: "x1", status: 400, message: "Request blocked by content filter" } };
    const error = refusal(() => request({ rules: [rule], path: "/x1" }));
    expect([error.status, error.message]).toEqual([400, "Request blocked by content filter"]);
  });

  it("does not look at values that the policy put in, and does look at the client's", () => {
    const setup: Setup = {
      rules: [{ block: { text: "tok-1" } }],
      requestEdits: [{ op: "set", name: "authorization", value: "Bearer tok-1" }],
    };
    const x = exchange(setup);
    x.forward.fields.push("authorization", "Bearer tok-1");
    expect(stage.onRequest?.(x)).toBe(null);
    x.forward.fields.push("x-copy", "Bearer tok-1");
    expect(refusal(() => stage.onRequest?.(x)).reason).toBe("content-blocked");
  });

  it("only notes in report mode, and for report rules", () => {
    const x = request({ rules: [block], mode: "report", path: `/${KEYWORD}` });
    expect([x.notes, x.reported]).toEqual([["content-reported:r1:content[0]:request"], "r1"]);
    const y = request({ rules: [{ report: { text: KEYWORD } }], path: `/${KEYWORD}` });
    expect([y.notes, y.reported]).toEqual([["content-reported:r1:content[0]:request"], null]);
  });

  it("replaces in fields, queries and (where asked) paths", () => {
    const rule = { redact: { ...redact.redact, in: ["fields", "query", "path"] } };
    const x = request({
      rules: [rule],
      path: "/u/123-45-6789/x?a=123-45-6789&b=1&c=123%2D45-6789",
      fields: ["Referer", "see 123-45-6789.", "X", "1"],
    });
    expect(x.forward.path).toBe("/u/***/x?a=***&b=1&c=***");
    expect(x.forward.fields).toEqual(["Referer", "see ***.", "X", "1"]);
    expect(x.received.path).toContain("123-45-6789");
  });

  it.each([
    ["with its escapes undone twice", "/a?123%252D45-6789", "\\d{3}-\\d{2}-\\d{4}"],
    ["across parts", "/a?x=1&y=2", "x=1&y"],
    ["with the question mark", "/a?x=1&y=2", "\\?x=1"],
    ["with the question mark, again and again", "/a?x=1x=1&y", "\\?x=1"],
  ])("leaves the query a query where a match shows %s", (_, path, pattern) => {
    const x = request({ rules: [{ redact: { pattern, in: "query", with: "" } }], path });
    expect(x.forward.path).toMatch(/^\/a\?/);
    expect(x.forward.path).not.toMatch(new RegExp(pattern));
  });

  it.each([
    ["in its value", "n123-45-6789.example", { pattern: "\\d{3}-\\d{2}-\\d{4}" }],
    ["in its name", "a.example", { text: "host", "ignore-case": true }],
  ])("blocks a match in Host %s, where nothing can be replaced", (_, host, what) => {
    // Without the field, as it comes by HTTP/2.
    for (const fields of [["Host", host], []]) {
      const error = refusal(() =>
        request({ rules: [{ redact: { ...what, in: "fields" } }], host, fields: [...fields] }),
      );
      expect([error.reason, error.message]).toEqual(["content-blocked", expect.stringContaining("Host says where")]);
      expect(
        request({ rules: [{ redact: { ...what, in: "body" } }], host, fields: [...fields] }).forward.fields,
      ).toEqual(fields);
    }
    const x = request({ rules: [{ redact: { ...what, in: "fields" } }], host, fields: ["Host", host], mode: "report" });
    expect(x.forward.fields).toEqual(["Host", host]);
  });

  it("looks at the Via of the CONNECT where a next proxy is told of it", () => {
    const next = { scheme: "http", host: "next.example", port: 8080, authorization: null, resolve: "both" } as const;
    const connectVia = `1.1 a (${KEYWORD})`;
    for (const rule of [block, { redact: { text: KEYWORD } }])
      expect(refusal(() => request({ rules: [rule], next, connectVia })).reason).toBe("content-blocked");
    request({ rules: [block], connectVia });
    request({ rules: [block], next, connectVia: "1.1 a" });
    request({ rules: [{ block: { text: KEYWORD, in: "body" } }], next, connectVia });
  });

  it("writes down a query as a query, and a path with its slash, where a secret shows with escapes undone twice", () => {
    const secrets = [{ name: "s", value: "hunter2-and-more" }];
    const late = "hunter2-and-more".replace(/[a-z]/g, (c) => `%25${c.charCodeAt(0).toString(16)}`);
    for (const [path, shown] of [
      [`/a?${late}`, "/a?(redacted)"],
      [`/${late}`, "/(redacted)"],
    ] as const) {
      const x = exchange({ rules: [{ block: "secrets" }], secrets, path });
      expect(refusal(() => stage.onRequest?.(x)).reason).toBe("content-blocked");
      expect(x.shownTarget).toBe(shown);
    }
  });

  it.each(signed)("refuses to change a request with %s", async (_, fields, path) => {
    const head = refusal(() => request({ rules: [redact], path, fields: [...fields, "x", "123-45-6789"] }));
    expect(head.message).toMatch(/must not be changed/);
    const body = await sendRequest({ rules: [redact], path, fields }, [Buffer.from("ssn 123-45-6789 ")]);
    expect(body.error?.reason).toBe("content-blocked");
    expect(body.out.length).toBe(0);
    const clean = await sendRequest({ rules: [redact], path, fields }, [Buffer.from("nothing")]);
    expect(clean.out.toString()).toBe("nothing");
    expect(clean.x.forward.fields).toEqual(fields);
  });

  it("finds what is partly escaped beside bytes that are not ASCII", () => {
    const raw = Buffer.from("grün_pattern").toString("latin1");
    for (const value of [raw, raw.replace("_", "%5F"), "gr\xfcn_pattern", "gr\xfcn%5Fpattern", "gr%C3%BCn%5fpattern"])
      expect(
        refusal(() => request({ rules: [{ block: { text: "grün_pattern" } }], fields: ["x", value] })).reason,
      ).toBe("content-blocked");
  });

  it.each([
    ["messages that gRPC compressed", ["content-type", "application/grpc", "grpc-encoding", "gzip"]],
    ["messages that Connect compressed", ["connect-content-encoding", "br"]],
    ["more codings than anybody stacks", ["content-encoding", "gzip, gzip, gzip", "Content-Encoding", "gzip, gzip"]],
    ["two charsets", ["content-type", "text/plain; charset=utf-8; charset=utf-16"]],
    ["a charset in a quoted text", ["content-type", 'text/plain; x="; charset=utf-8"; charset=utf-16le']],
    [
      "two charsets in two fields",
      ["content-type", "text/plain; charset=utf-8", "content-type", "a/b; charset=utf-16"],
    ],
  ])("refuses %s", async (_, fields) => {
    const body = Buffer.from("hello");
    const work = async () => sendRequest({ rules: [block], fields }, [body]);
    const outcome = await work().catch((error: unknown) => ({ error: error as ProxyError }));
    expect(outcome.error?.reason).toMatch(/^(undecodable-request|content-blocked)$/);
    const allowed = await sendRequest({ rules: [block], fields, onUnscannable: "allow" }, [body]);
    expect([allowed.error, allowed.out.toString()]).toEqual([null, "hello"]);
    expect(allowed.x.notes?.[0]).toMatch(/^content-unscanned:request:/);
  });

  it("refuses a body that nobody can read before the origin is asked", () => {
    const setup: Setup = { rules: [block], fields: ["content-encoding", "zip9"] };
    expect(refusal(() => request(setup)).reason).toBe("undecodable-request");
    expect(refusal(() => request({ rules: [block], length: 101, scanLimit: 100 })).reason).toBe("content-blocked");
    const x = request({ ...setup, onUnscannable: "allow" });
    expect(stage.requestStep?.(x)?.resizes).toBe(false);
    expect(x.notes).toEqual(["content-unscanned:request:its coding is unknown"]);
    request({ ...setup, rules: [{ report: { text: "x" } }] });
  });
});

describe("responses", () => {
  it("are asked for whole and in codings that can be undone", () => {
    const x = request({
      rules: [block],
      fields: ["Accept-Encoding", "gzip, dcb;q=1, br", "Range", "bytes=0-", "If-Range", "x"],
      length: 0,
    });
    expect(x.forward.fields).toEqual(["Accept-Encoding", "gzip, br"]);
    const y = request({
      rules: [{ block: { text: "absent", on: "request" } }],
      fields: ["Range", "bytes=0-"],
      length: 0,
    });
    expect(y.forward.fields).toEqual(["Range", "bytes=0-"]);
  });

  it.each(signed)("are asked for as they were where the request has %s, since it is signed", (_, fields, path) => {
    const asked = [...fields, "Accept-Encoding", "gzip, dcb", "Range", "bytes=0-9", "If-Range", "x"];
    const x = request({ rules: [block], fields: asked, path, length: 0 });
    expect(x.forward.fields).toEqual(asked);
    const part = refusal(() => stage.responseStep?.(x, responseHead([], 206)));
    expect([part.reason, part.message]).toEqual(["content-blocked", expect.stringContaining("206")]);
  });

  it("are decided by the words beside their status", () => {
    const head = { status: 200, phrase: `OK ${KEYWORD}`, fields: [] };
    const fields = request({ rules: [{ block: { text: KEYWORD, in: "fields" } }], length: 0 });
    expect(refusal(() => stage.onResponse?.(fields, head)).reason).toBe("content-blocked");
    expect(refusal(() => stage.onInterim?.(fields, { ...head, status: 103 })).reason).toBe("content-blocked");
    const body = request({ rules: [{ block: { text: KEYWORD, in: "body" } }], length: 0 });
    expect(stage.onResponse?.(body, head)).toBe(null);
  });

  it("are refused when they come in part", () => {
    const x = request({ rules: [block], length: 0 });
    expect(refusal(() => stage.responseStep?.(x, responseHead([], 206))).reason).toBe("content-blocked");
  });

  const heads: [string, unknown, string[], boolean][] = [
    ["a field", block, ["X", KEYWORD], true],
    [
      "a media type",
      { block: { "media-type": "application/x-msdownload" } },
      ["Content-Type", "application/x-msdownload"],
      true,
    ],
    [
      "an attachment's name",
      { block: { extension: "exe" } },
      ["Content-Disposition", 'attachment; filename="a b.exe"'],
      true,
    ],
    [
      "an encoded name",
      { block: { extension: "exe" } },
      ["Content-Disposition", "attachment; filename*=UTF-8''a%2Eexe"],
      true,
    ],
    ...[
      `attachment; filename="=?UTF-8?B?${Buffer.from("a.exe").toString("base64")}?="`,
      "attachment; filename==?utf-8?q?a=2Eexe?=",
      'attachment; filename*0="a.e"; filename*1="xe"',
      "attachment; filename*0*=UTF-8''a%2E; filename*1=exe",
      "attachment; filename*=UTF-8'en'a.e%78e",
      'ATTACHMENT; FileName="a.EXE "',
    ].map((name): [string, unknown, string[], boolean] => [
      `the name in ${name}`,
      { block: { extension: "exe" } },
      ["Content-Disposition", name],
      true,
    ]),
    [
      "an innocent name",
      { block: { extension: "exe" } },
      ["Content-Disposition", 'attachment; filename="exe.txt"'],
      false,
    ],
  ];
  it.each(heads)("are decided by %s", (_, rule, fields, refused) => {
    const x = request({ rules: [rule], length: 0 });
    if (refused) expect(refusal(() => stage.onResponse?.(x, responseHead(fields))).reason).toBe("content-blocked");
    else expect(stage.onResponse?.(x, responseHead(fields))).toBe(null);
  });
});

const CODINGS: [string, (b: Buffer) => Buffer][] = [
  ["identity", (b) => b],
  ["gzip", (b) => gzipSync(b)],
  ["x-gzip", (b) => gzipSync(b)],
  ["deflate", (b) => deflateSync(b)],
  ["deflate", (b) => deflateRawSync(b)],
  ["br", (b) => brotliCompressSync(b)],
  ["gzip, br", (b) => brotliCompressSync(gzipSync(b))],
  ["gzip, gzip", (b) => gzipSync(gzipSync(b))],
];
const noise = (length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  for (let i = 0, s = 7; i < length; i++) {
    s = (s * 1103515245 + 12345) & 0x7fffffff;
    bytes[i] = 97 + ((s >> 16) % 26);
  }
  return bytes;
};

describe("bodies", () => {
  it.each(CODINGS)("in %s: any cut gives the same bytes and the same decision", async (coding, encode) => {
    const whole = Buffer.concat([noise(9000), Buffer.from(KEYWORD), noise(700)]);
    const clean = noise(9700);
    const setup = { rules: [block], hold: 2000, ratioLimit: 10 };
    const fields = ["content-encoding", coding];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(), { maxLength: 6 }), fc.boolean(), async (places, slow) => {
        let turn = 0;
        const pause = slow ? () => turn++ % 2 === 0 : undefined;
        const bad = await sendResponse(setup, [...fields], cut(encode(whole), places), pause);
        expect(bad.error?.reason).toBe("content-blocked");
        expect(bad.out.length).toBeLessThan(encode(whole).length);
        const good = await sendResponse(setup, [...fields], cut(encode(clean), places), pause);
        expect(good.error).toBe(null);
        expect(good.out.equals(encode(clean))).toBe(true);
        expect(good.response.fields).toEqual(fields);
        if (coding !== "identity") {
          const sha256 = createHash("sha256").update(clean).digest("hex");
          expect(good.x.receivedDecoded).toEqual({ bytes: clean.length, sha256 });
        }
      }),
      { numRuns: 15 },
    );
  });

  it.each(CODINGS)("in %s: a blocked one up to `hold` sends nothing, byte by byte too", async (coding, encode) => {
    const body = encode(Buffer.from(`${"x".repeat(300)}${KEYWORD}${"y".repeat(300)}`));
    for (const chunks of [[body], bytewise(body)]) {
      const sent = await sendRequest({ rules: [block], fields: ["content-encoding", coding] }, chunks);
      expect(sent.error?.reason).toBe("content-blocked");
      expect(sent.out.length).toBe(0);
    }
  });

  it.each(CODINGS)("in %s: replacements", async (coding, encode) => {
    const text = (n: number, ssn: string) => `${noise(n)} ${ssn} ${noise(n)} ${ssn} end`;
    for (const n of [20, 3000]) {
      const digests = [
        "Digest",
        "x",
        "X-Checksum-Sha1",
        "x",
        "Docker-Content-Digest",
        "x",
        "x-amz-checksum-crc32",
        "x",
      ];
      const fields = ["ETag", '"1"', "Content-Encoding", coding, ...digests, "X", "y"];
      const body = encode(Buffer.from(text(n, "123-45-6789")));
      for (const chunks of [[body], bytewise(body)]) {
        const got = await sendResponse({ rules: [redact], hold: 1000 }, [...fields], chunks);
        expect(got.error).toBe(null);
        expect(got.out.toString()).toBe(text(n, "***"));
        expect(got.response.fields).toEqual(
          coding === "identity" ? ["Content-Encoding", coding, "X", "y"] : ["X", "y"],
        );
        expect(got.x.notes).toEqual(["content-redacted:r1:content[0]:response"]);
      }
    }
  });

  it("that could have been replaced but were not, and fit, leave as they came", async () => {
    const fields = ["ETag", '"1"', "Content-Encoding", "gzip"];
    const body = gzipSync("nothing to see");
    const got = await sendResponse({ rules: [redact] }, [...fields], bytewise(body));
    expect(got.out.equals(body)).toBe(true);
    expect(got.response.fields).toEqual(fields);
  });

  it("wait whole up to `hold`, and then stream behind the longest match", async () => {
    const chunks = Array.from({ length: 50 }, () => noise(100));
    const x = exchange({ rules: [block], hold: 1000 });
    const { after } = await drive(stage.requestStep?.(x) ?? null, chunks);
    expect(after[9]).toBe(0);
    expect(after[10]).toBeGreaterThanOrEqual(1100 - KEYWORD.length);
    for (let i = 10; i < 50; i++) expect((i + 1) * 100 - (after[i] as number)).toBeLessThanOrEqual(KEYWORD.length);
  });

  it("exactly at the scan limit are scanned, one above follows on-unscannable", async () => {
    for (const [n, reason] of [
      [100, null],
      [101, "content-blocked"],
    ] as const) {
      const got = await sendRequest({ rules: [block], scanLimit: 100 }, [noise(n)]);
      expect(got.error?.reason ?? null).toBe(reason);
    }
    const found = await sendRequest({ rules: [block], scanLimit: 100 }, [noise(83), Buffer.from(KEYWORD)]);
    expect(found.error?.message).toMatch(/matches content\[0\]/);
    const passed = await sendRequest({ rules: [block], scanLimit: 100, onUnscannable: "allow", hold: 10 }, [
      noise(50),
      noise(90),
    ]);
    expect(passed.out.length).toBe(140);
    expect(passed.x.notes).toEqual(["content-unscanned:request:it has more than 100 bytes, the scan limit"]);
  });

  it("in report mode pass at once and are noted", async () => {
    const x = exchange({ rules: [block, redact], mode: "report" });
    const plan = stage.requestStep?.(x) ?? null;
    const { out, after } = await drive(plan, [Buffer.from("malicious_"), Buffer.from("pattern 123-45-6789 ")]);
    expect(after[0]).toBe(10);
    expect(out.toString()).toBe("malicious_pattern 123-45-6789 ");
    expect(x.notes).toHaveLength(2);
    expect(x.reported).toBe("r1");
  });

  it("of GET requests are scanned", async () => {
    const got = await sendRequest({ rules: [block], method: "GET", length: KEYWORD.length }, [Buffer.from(KEYWORD)]);
    expect(got.error?.reason).toBe("content-blocked");
  });

  it("have their trailers scanned", async () => {
    const plan = () => stage.requestStep?.(exchange({ rules: [block] })) ?? null;
    expect((await drive(plan(), [noise(5)], { trailers: ["x", KEYWORD] })).error?.reason).toBe("content-blocked");
    expect((await drive(plan(), [noise(5)], { trailers: ["x", "y"] })).trailers).toEqual(["x", "y"]);
  });

  it.each([
    ["no rule looks at the body", { rules: [{ block: { text: KEYWORD, in: "fields" } }] }],
    ["nobody can read it", { rules: [block], fields: ["content-encoding", "zip9"], onUnscannable: "allow" }],
  ] as [string, Setup][])("have their trailers scanned where %s", async (_, setup) => {
    const x = exchange(setup);
    const sent = () => stage.requestStep?.(x) ?? null;
    const head = responseHead(setup.fields ?? []);
    const got = () => stage.responseStep?.(exchange({ ...setup, method: "GET", length: 0 }), head) ?? null;
    for (const plan of [sent, got]) {
      expect((await drive(plan(), [noise(5)], { trailers: ["x", KEYWORD] })).error?.reason).toBe("content-blocked");
      const slow = await drive(plan(), [noise(5), noise(6)], { trailers: ["x", "y"], slow: () => true });
      expect([slow.error, slow.out.length, slow.trailers]).toEqual([null, 11, ["x", "y"]]);
    }
  });

  it("lose the digests in their trailers when they are changed, and keep them when not", async () => {
    const trailers = ["Content-Digest", "sha-256=:x:", "x-amz-checksum-crc32", "x", "X", "y"];
    for (const [text, kept] of [
      ["ssn 123-45-6789 ", ["X", "y"]],
      ["nothing", trailers],
    ] as const)
      for (const encode of [(b: Buffer) => b, (b: Buffer) => gzipSync(b)]) {
        const fields = encode(Buffer.from("x")).length === 1 ? [] : ["content-encoding", "gzip"];
        const plan = stage.requestStep?.(exchange({ rules: [redact], fields })) ?? null;
        expect((await drive(plan, [encode(Buffer.from(text))], { trailers })).trailers).toEqual(kept);
      }
  });
});

describe("decoding is bounded and exact", () => {
  const gz = gzipSync("hello");
  const broken: [string, string, Buffer, string | null][] = [
    ["a truncated body", "gzip", gz.subarray(0, -3), "undecodable-request"],
    ["not the coding at all", "gzip", Buffer.from("plain text"), "undecodable-request"],
    ["garbage after the end", "gzip", Buffer.concat([gz, Buffer.from("garbage")]), "undecodable-request"],
    ["zeros and more after the end", "gzip", Buffer.concat([gz, Buffer.from("\0secret")]), "undecodable-request"],
    ["two members", "gzip", Buffer.concat([gz, gz]), null],
    ["garbage after br", "br", Buffer.concat([brotliCompressSync("x"), Buffer.from("y")]), "undecodable-request"],
    ["garbage after zlib", "deflate", Buffer.concat([deflateSync("x"), Buffer.from("y")]), "undecodable-request"],
    [
      "garbage after raw deflate",
      "deflate",
      Buffer.concat([deflateRawSync("x"), Buffer.from("y")]),
      "undecodable-request",
    ],
    ["one byte of deflate", "deflate", Buffer.of(0x78), "undecodable-request"],
    ["nothing", "gzip", Buffer.alloc(0), null],
    ["nothing in deflate", "deflate", Buffer.alloc(0), null],
    ["a broken inner coding", "gzip, br", brotliCompressSync("no gzip"), "undecodable-request"],
    [
      "garbage after the inner coding",
      "gzip, br",
      brotliCompressSync(Buffer.concat([gz, Buffer.from("x")])),
      "undecodable-request",
    ],
    ["too small a size limit", "gzip", gzipSync(noise(2000)), "decode-limit"],
  ];
  it.each(broken)("%s", async (_, coding, body, reason) => {
    for (const chunks of [[body], bytewise(body)]) {
      const setup: Setup = { rules: [block], fields: ["content-encoding", coding], limits: { request: 1000 } };
      const got = await sendRequest(setup, chunks);
      expect(got.error?.reason ?? null).toBe(reason);
      expect(got.out.equals(reason === null ? body : Buffer.alloc(0))).toBe(true);
      if (reason !== "undecodable-request") continue;
      const allowed = await sendRequest({ ...setup, onUnscannable: "allow" }, chunks);
      expect(allowed.error).toBe(null);
      expect(allowed.out.equals(body)).toBe(true);
      expect(allowed.x.notes?.[0]).toMatch(/^content-unscanned:request:its coding is broken/);
    }
  });

  it.each([
    ["gzip", (b: Buffer) => gzipSync(b)],
    ["br", (b: Buffer) => brotliCompressSync(b)],
    ["gzip, gzip", (b: Buffer) => gzipSync(gzipSync(b))],
  ] as const)("a bomb in %s is stopped by its ratio", async (coding, encode) => {
    const body = encode(Buffer.alloc(64 * 1024 * 1024));
    for (const rule of [block, redact]) {
      const got = await sendRequest({ rules: [rule], fields: ["content-encoding", coding] }, [body]);
      expect(got.error?.reason).toBe("decode-limit");
      expect(got.x.sentDecoded?.bytes).toBeLessThan(16 * 1024 * 1024);
    }
  });

  it("coded bytes that never yield content are not held for ever", async () => {
    const empty = Buffer.from("000000ffff".repeat(100000), "hex");
    const got = await sendRequest({ rules: [block], fields: ["content-encoding", "deflate"] }, [empty, empty, empty]);
    expect(got.error?.reason).toBe("decode-limit");
  });
});

describe("event streams", () => {
  const EVENTS = ["text/event-stream"];
  const events = (chunks: Buffer[], setup: Partial<Setup> = {}, fields: string[] = []) =>
    sendResponse({ rules: [block], ...setup }, ["Content-Type", ...EVENTS, ...fields], chunks);

  it.each(["\n", "\r\n", "\r"])(
    "with %j: any cut, the same bytes and decision, and each event at once",
    async (eol) => {
      const one = `data: one${eol}${eol}`;
      const bad = `data: a ${KEYWORD}${eol}${eol}`;
      const stream = Buffer.from(`\ufeff${one}${one}${bad}${one}`);
      const expected = `\ufeff${one}${one}`;
      for (const chunks of [[stream], bytewise(stream)]) {
        const got = await events(chunks);
        expect(got.error?.reason).toBe("content-blocked");
        expect(got.out.toString()).toBe(expected);
      }
      const timely = await events([Buffer.from(one), Buffer.from(one)]);
      expect(timely.after).toEqual([one.length, one.length * 2]);
    },
  );

  it("a heartbeat is not delayed, even without a blank line", async () => {
    const got = await events([Buffer.from(":\n"), Buffer.from(": ping\n\n"), Buffer.from("data: x\n")]);
    expect(got.after).toEqual([2, 10, 10]);
    expect(got.out.toString()).toBe(":\n: ping\n\ndata: x\n");
  });

  it("a match across two events stops at the second, and the record says what was out", async () => {
    const got = await events([Buffer.from("data: ab\n\n"), Buffer.from("data: cd\n\n")], {
      rules: [{ block: { pattern: "ab\\n\\ndata: cd" } }],
    });
    expect(got.error?.reason).toBe("content-blocked");
    expect(got.out.toString()).toBe("data: ab\n\n");
    expect(got.x.notes).toEqual(["content-cut:response:10 bytes were out"]);
  });

  it("the head does not wait", () => {
    const x = exchange({ rules: [block] });
    const plan = stage.responseStep?.(x, responseHead(["content-type", "text/event-stream; charset=utf-8"]));
    const step = plan?.open({ write: () => true, end() {}, fail() {}, drained() {} });
    expect(step?.holdsHead).toBe(false);
  });

  it("an event longer than `hold` streams like a long body", async () => {
    const got = await events([Buffer.from(`data: ${noise(500)}`), Buffer.from(KEYWORD)], { hold: 100 });
    expect(got.error?.reason).toBe("content-blocked");
    expect(got.after[0]).toBeGreaterThan(400);
    expect(got.out.toString()).not.toContain("mali");
  });

  it("one longer than the scan limit passes unsearched where it may, and the next ones are searched", async () => {
    const long = `data: ${"x".repeat(60)} ${KEYWORD}\n\n`;
    const setup: Partial<Setup> = { scanLimit: 30, onUnscannable: "allow" };
    const stream = Buffer.from(`${long}data: 1\n\n${long}data: ${KEYWORD}\n\n`);
    const passed = stream.subarray(0, stream.lastIndexOf("data:")).toString();
    for (const rules of [[block], [block, redact]])
      for (const chunks of [[stream], bytewise(stream), cut(stream, [40, 95, 200])]) {
        const got = await events(chunks, { ...setup, rules });
        expect([got.error?.reason, got.out.toString()]).toEqual(["content-blocked", passed]);
        expect(got.x.notes?.[0]).toBe("content-unscanned:response:it has more than 30 bytes, the scan limit");
        expect(got.x.notes?.length).toBe(2);
        const coded = await flushed("gzip", [long, "data: 1\n\n", `data: ${KEYWORD}\n\n`]);
        const zipped = await events(coded, { ...setup, rules }, ["Content-Encoding", "gzip"]);
        expect(zipped.error?.reason).toBe("content-blocked");
        expect((await events(chunks, { scanLimit: 30, rules })).error?.message).toContain("the scan limit");
      }
    const after = await events([Buffer.from(long), Buffer.from("data: 123-45-6789\n\n")], {
      ...setup,
      rules: [redact],
    });
    expect([after.error, after.out.toString()]).toEqual([null, `${long}data: ***\n\n`]);
  });

  it("one that passes unsearched is not kept", async () => {
    const chunk = noise(64 * 1024);
    const x = request({ method: "GET", length: 0, rules: [block], scanLimit: 30, onUnscannable: "allow" });
    const plan = stage.responseStep?.(x, responseHead(["Content-Type", "text/event-stream"]));
    const step = plan?.open({ write: () => true, end() {}, fail() {}, drained() {} });
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1000; i++) {
      step?.write(chunk);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
  });

  it.each([
    ["gzip", (parts: string[]) => flushed("gzip", parts)],
    ["br", (parts: string[]) => flushed("br", parts)],
  ] as const)("in %s leave at the end of each event, as they came", async (coding, encode) => {
    const parts = await encode(["data: one\n\n", "data: two\n\n", `data: ${KEYWORD}\n\n`, "data: four\n\n"]);
    const got = await events(parts, {}, ["Content-Encoding", coding]);
    expect(got.error?.reason).toBe("content-blocked");
    expect(got.out.equals(Buffer.concat(parts.slice(0, 2)))).toBe(true);
    const redacted = await events(
      await encode(["data: 1\n\n", "data: 123-45-6789\n\n", "data: 3\n\n"]),
      { rules: [redact] },
      ["Content-Encoding", coding],
    );
    expect(redacted.out.toString()).toBe("data: 1\n\ndata: ***\n\ndata: 3\n\n");
    expect(firstValue(redacted.response.fields, "content-encoding")).toBe(null);
  });
});

it("what stands in a block that is not whole does not leave with what came before it", async () => {
  const raw = (text: string): Buffer => {
    const header = Buffer.alloc(3);
    header.writeUIntLE(text.length << 3, 0, 3);
    return Buffer.concat([header, Buffer.from(text)]);
  };
  const one = Buffer.concat([Buffer.from("28b52ffd0068", "hex"), raw("data: one\n\n")]);
  const two = raw(`data: ${KEYWORD}\n\n`);
  const fields = ["Content-Type", "text/event-stream", "Content-Encoding", "zstd"];
  for (const split of [2, 9, 25]) {
    const chunks = [one, two.subarray(0, split), two.subarray(split)];
    const got = await sendResponse({ rules: [block] }, [...fields], chunks);
    expect(got.error?.reason).toBe("content-blocked");
    expect(got.out.equals(one)).toBe(true);
    const clean = await sendResponse({ rules: [{ block: { text: "absent" } }] }, [...fields], chunks.slice(0, 2));
    expect(clean.error?.reason).toBe("undecodable-response");
    expect(clean.out.equals(one)).toBe(true);
  }
});

describe("gRPC messages", () => {
  const GRPC = ["content-type", "application/grpc+proto"];
  const message = (text: string): Buffer => {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(text.length, 1);
    return Buffer.concat([prefix, Buffer.from(text)]);
  };
  const long = message("x".repeat(70_000));

  it("leave as soon as they are whole, in both directions, however they are cut", async () => {
    const stream = [message("one"), message(""), long, message("two")];
    for (const chunks of [stream, bytewise(Buffer.concat(stream)), [Buffer.concat(stream)]]) {
      const sent = await sendRequest({ rules: [block], fields: GRPC, hold: 100_000 }, chunks);
      expect([sent.error, sent.out.equals(Buffer.concat(stream))]).toEqual([null, true]);
    }
    const x = exchange({ rules: [block], fields: GRPC });
    const { after } = await drive(stage.requestStep?.(x) ?? null, [message("one"), message("two").subarray(0, 6)]);
    expect(after).toEqual([8, 8]);
    const got = await sendResponse({ rules: [block] }, [...GRPC], [message("one"), message("two")]);
    expect(got.after).toEqual([8, 16]);
  });

  it("are blocked whole, at the message that holds it", async () => {
    const chunks = [message("one"), message(`a ${KEYWORD} b`), message("two")];
    for (const cuts of [chunks, bytewise(Buffer.concat(chunks))]) {
      const sent = await sendRequest({ rules: [block], fields: GRPC }, cuts);
      expect([sent.error?.reason, sent.out.toString()]).toEqual(["content-blocked", message("one").toString()]);
    }
    const first = await sendRequest({ rules: [block], fields: GRPC }, chunks.slice(1));
    expect([first.error?.reason, first.out.length]).toEqual(["content-blocked", 0]);
  });

  it("longer than the scan limit pass unsearched where they may, and the next ones are searched", async () => {
    const setup: Setup = { rules: [block], fields: GRPC, scanLimit: 30, onUnscannable: "allow" };
    const passed = Buffer.concat([message("x".repeat(90)), message("one")]);
    const whole = Buffer.concat([passed, message(KEYWORD)]);
    for (const chunks of [[whole], bytewise(whole)]) {
      const sent = await sendRequest(setup, chunks);
      expect([sent.error?.reason, sent.out.equals(passed)]).toEqual(["content-blocked", true]);
    }
  });

  it("are blocked where something would have to be replaced, since they say how long they are", async () => {
    const sent = await sendRequest({ rules: [redact], fields: GRPC }, [message("1 123-45-6789 2")]);
    expect(sent.error?.message).toMatch(/must not be changed: it is of gRPC/);
    const clean = await sendRequest({ rules: [redact], fields: [...GRPC, "x", "123-45-6789."] }, [message("nothing")]);
    expect([clean.out.equals(message("nothing")), clean.x.forward.fields.at(-1)]).toEqual([true, "***."]);
  });
});

async function flushed(coding: "gzip" | "br", parts: string[]): Promise<Buffer[]> {
  const zlib = await import("node:zlib");
  const stream = coding === "gzip" ? zlib.createGzip() : zlib.createBrotliCompress();
  const out: Buffer[] = [];
  let current: Buffer[] = [];
  stream.on("data", (b: Buffer) => current.push(b));
  for (const part of parts) {
    stream.write(part);
    await new Promise<void>((resolve) => stream.flush(resolve));
    out.push(Buffer.concat(current));
    current = [];
  }
  await new Promise<void>((resolve) => stream.on("end", resolve).end());
  out.push(Buffer.concat(current));
  return out;
}

describe("charsets", () => {
  const utf16 = (text: string) => Buffer.from(text, "utf16le");
  const swapped = (text: string) => utf16(text).swap16();
  const utf32 = (text: string) => Buffer.from(Uint32Array.from([...text], (c) => c.codePointAt(0) ?? 0).buffer);
  const marked = (text: Buffer) => Buffer.concat([Buffer.from("fffe", "hex"), text]);
  const cases: [string, string, Buffer, boolean][] = [
    ["utf-16le by label", "text/plain; charset=utf-16le", utf16(`a ${KEYWORD}`), true],
    ["utf-16be by label", 'text/plain; charset="UTF-16BE"', swapped(`a ${KEYWORD}`), true],
    ["utf-16 by its mark", "text/plain", utf16(`\ufeffa ${KEYWORD}`), true],
    ["utf-16be by its mark", "text/plain", swapped(`\ufeffa ${KEYWORD}`), true],
    ["a label that lies", "text/plain; charset=utf-16", Buffer.from(`a ${KEYWORD}`), true],
    ["latin1", "text/plain; charset=iso-8859-1", Buffer.from("grün", "latin1"), true],
    ["utf-8", "text/plain; charset=utf-8", Buffer.from("grün"), true],
    ["no media type", "", Buffer.from("grün"), true],
    ["shift_jis", "text/plain; charset=shift_jis", Buffer.from([0x93, 0xfa, 0x96, 0x7b]), true],
    ["an unknown charset", "text/plain; charset=utf-7", Buffer.from("x"), true],
    ["nothing bad", "text/plain; charset=utf-16", utf16("hello"), false],
    ["utf-16 without an order, big-endian", "text/plain; charset=utf-16", swapped(`a ${KEYWORD}`), true],
    ["utf-16 without an order, little-endian", "text/plain; charset=UCS-2", utf16(`é ${KEYWORD}`), true],
    ["JSON in utf-16le, which nobody says", "application/json", utf16(`{"日":"${KEYWORD}"}`), true],
    ["JSON in utf-16be, which nobody says", "application/json", swapped(`{"日":"${KEYWORD}"}`), true],
    ["JSON in utf-32le, which nobody says", "application/json", utf32(`{"\u{1f511}":"${KEYWORD}"}`), true],
    ["JSON in utf-32be, which nobody says", "application/json", utf32(`{"日":"${KEYWORD}"}`).swap32(), true],
    ["utf-32 by its mark", "text/plain", utf32(`\ufeffé ${KEYWORD}`), true],
    ["utf-32be by its mark", "text/plain", utf32(`\ufeffé ${KEYWORD}`).swap32(), true],
    ["utf-32 by label", "text/plain; charset=utf-32", utf32(`é ${KEYWORD}`).swap32(), true],
    ["a mark of utf-32 or utf-16", "text/plain", utf16(`\ufeff\0${KEYWORD}`), true],
    ["a label that the mark denies", "text/plain; charset=utf-16be", marked(swapped(KEYWORD)), true],
    ["a mark that the label denies", "text/plain; charset=utf-16be", marked(utf16(KEYWORD)), true],
    ["an unknown charset with a mark", "text/plain; charset=utf-7", Buffer.from("fffe4100", "hex"), true],
    ["nothing bad with a mark", "text/plain; charset=utf-16be", marked(utf16("hello")), false],
    ["nothing bad in utf-32", "application/json", utf32('{"a":"hello"}'), false],
    ["numbers", "application/octet-stream", Buffer.from([0, 0, 0, 24, 0, 0, 0, 1, 255, 255, 255, 255, 0]), false],
  ];
  it.each(cases)("%s", async (_, type, body, refused) => {
    const rules = [{ block: { text: [KEYWORD, "grün", "日本"] } }];
    const fields = type === "" ? [] : ["content-type", type];
    for (const hold of [0, 65536])
      for (const chunks of [[body], bytewise(body)]) {
        const got = await sendRequest({ rules, fields, hold }, chunks);
        expect(got.error?.reason ?? null).toBe(refused ? "content-blocked" : null);
        if (!refused) expect(got.out.equals(body)).toBe(true);
      }
  });

  it("an unknown one is searched as it is where that may pass", async () => {
    const fields = ["content-type", "text/plain; charset=utf-7"];
    const setup: Setup = { rules: [block], fields, onUnscannable: "allow" };
    expect((await sendRequest(setup, [Buffer.from("x")])).out.toString()).toBe("x");
    expect((await sendRequest(setup, [Buffer.from(KEYWORD)])).error?.reason).toBe("content-blocked");
  });

  it("what would have to be replaced in another charset is blocked", async () => {
    const fields = ["content-type", "text/plain; charset=utf-16le"];
    const got = await sendRequest({ rules: [redact], fields }, [utf16("n 123-45-6789 ")]);
    expect(got.error?.message).toMatch(/not in UTF-8/);
  });
});

it("frees a decoder that is given up", async () => {
  const x = exchange({ rules: [block], fields: ["content-encoding", "gzip"] });
  const plan = stage.requestStep?.(x);
  const never = () => {
    throw new Error("called after abort");
  };
  const step = plan?.open({ write: never, end: never, fail: never, drained: never });
  step?.write(gzipSync(noise(100000)));
  step?.abort();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(x.sentDecoded?.bytes).toBe(0);
});

describe("secrets", () => {
  const SECRET = "hunter2-and-more/";
  const secrets = [{ name: "s", value: SECRET }];
  const base: Setup = { rules: [{ block: "secrets" }], secrets };

  it("are looked for in a body of single bytes without searching what came before for each of them", async () => {
    const body = Buffer.from(`${"%6x".repeat(7_000)}${"word ".repeat(1_000)}`);
    const begun = process.cpuUsage();
    const passed = await sendRequest({ ...base, hold: 0 }, bytewise(body));
    const { user } = process.cpuUsage(begun);
    expect(passed.error).toBe(null);
    expect(passed.out.equals(body)).toBe(true);
    expect(user / body.length).toBeLessThan(40);
    const blocked = await sendRequest({ ...base, hold: 0 }, bytewise(Buffer.concat([body, Buffer.from(SECRET), body])));
    expect(blocked.error?.reason).toBe("content-blocked");
    expect(blocked.out.includes(SECRET)).toBe(false);
  });

  it("with a question mark are found where the query begins inside them", () => {
    const setup: Setup = { rules: base.rules, secrets: [{ name: "q", value: "abcd?efgh?ijkl+mnop" }], length: 0 };
    for (const path of ["/abcd?efgh?ijkl+mnop", "/x/abcd?%65fgh%3Fijkl%2Bmnop&x=1"]) {
      const x = exchange({ ...setup, path });
      expect(refusal(() => stage.onRequest?.(x)).reason).toBe("content-blocked");
      expect(x.shownTarget).toBe("/(redacted)");
    }
    expect(request({ ...setup, path: "/abcd?efgh" }).notes ?? []).toEqual([]);
  });
  const base64 = Buffer.from(`x:${SECRET}`).toString("base64");
  const label = Buffer.from(SECRET).toString("hex");

  it.each([
    ["a query", { path: `/?q=${encodeURIComponent(SECRET)}` }],
    ["a query, encoded twice", { path: `/?q=${encodeURIComponent(encodeURIComponent(SECRET))}` }],
    ["a path", { path: `/${base64}` }],
    ["a field", { fields: ["Cookie", `a=${SECRET}`] }],
    ["Basic authentication", { fields: ["Authorization", `Basic ${base64}`] }],
    ["the User-Agent", { fields: ["User-Agent", label] }],
    ["a field's name", { fields: [`x-${label}`, "1"] }],
    ["a host name", { host: `${label}.evil.example` }],
    ["a host name, over several labels", { host: `${label.slice(0, 9)}.${label.slice(9)}.evil.example` }],
  ] as [string, Partial<Setup>][])("are blocked in %s, before the origin is asked", (_, where) => {
    const error = refusal(() => request({ ...base, ...where }));
    expect(error.reason).toBe("content-blocked");
    expect(error.message).toContain("known-secret");
    expect(error.message).not.toContain(SECRET);
  });

  it("do not stop what has none", () => {
    request({ ...base, path: "/a?b=c", fields: ["Cookie", "d=e"], host: "api.github.com" });
  });

  it.each(CODINGS)("are found in bodies in %s, however they are cut", async (coding, encode) => {
    const body = encode(Buffer.from(`{"a":"${noise(50)}","b":"${SECRET.replace("/", "\\/")}"}`));
    for (const chunks of [[body], bytewise(body)]) {
      const sent = await sendRequest({ ...base, fields: ["content-encoding", coding] }, chunks);
      expect([sent.error?.reason, sent.out.length]).toEqual(["content-blocked", 0]);
    }
  });

  it("are found in responses and event streams where a rule says so, split over two events as well", async () => {
    const rules = [{ block: { secrets: true, on: "response" } }];
    const type = ["content-type", "text/event-stream"];
    const one = await sendResponse({ rules, secrets }, type, bytewise(Buffer.from(`data: a\n\ndata: ${SECRET}\n\n`)));
    expect([one.error?.reason, one.out.toString()]).toEqual(["content-blocked", "data: a\n\n"]);
    const left = await sendResponse(base, type, [Buffer.from(`data: ${SECRET}\n\n`)]);
    expect(left.error).toBe(null);
  });

  it("are only noted by report, and never written down", () => {
    const x = request({ ...base, rules: [{ report: "secrets" }], path: `/${SECRET}` });
    expect(x.notes).toEqual(["content-reported:r1:content[0] (known-secret):request"]);
    expect(x.decision?.plan.content?.describe.join()).not.toContain(SECRET);
  });
});

it("zstd bodies are decoded like the others", async () => {
  // "x" 300 times, the keyword, "y" 300 times: zstd -19.
  const body = Buffer.from("KLUv/QRo7QAAmHhtYWxpY2lvdXNfcGF0dGVybnkCAFCAGlBUIAS9lhM5", "base64");
  for (const chunks of [[body], bytewise(body)]) {
    const sent = await sendRequest({ rules: [block], fields: ["content-encoding", "zstd"] }, chunks);
    expect([sent.error?.reason, sent.out.length]).toEqual(["content-blocked", 0]);
    const clean = await sendRequest({ rules: [redact], fields: ["content-encoding", "zstd"] }, chunks);
    expect(clean.out.equals(body)).toBe(true);
    const changed = await sendRequest(
      { rules: [{ redact: { text: KEYWORD, with: "-" } }], fields: ["content-encoding", "gzip, zstd", "x", "y"] },
      chunks,
    );
    expect(changed.error?.reason).toBe("undecodable-request");
  }
});

it("a bomb in zstd is stopped by its ratio", async () => {
  const block4 = Buffer.from([0x02, 0x00, 0x10, 0x00]);
  const body = Buffer.concat([Buffer.from("28b52ffd0068", "hex"), ...Array.from({ length: 4000 }, () => block4)]);
  const got = await sendRequest({ rules: [block], fields: ["content-encoding", "zstd"] }, [body]);
  expect(got.error?.reason).toBe("decode-limit");
  expect(got.x.sentDecoded?.bytes).toBeLessThan(8 * 1024 * 1024);
});
