// The differential fuzz: our reading of HTTP/1.1 against llhttp's, and against itself when the bytes come in other pieces.
import { randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";
import { difference } from "./compare.ts";
import { KNOWN_REQUESTS, KNOWN_RESPONSES, type KnownStream } from "./corpus.ts";
import { llhttpRequests, llhttpResponses } from "./llhttp-reading.ts";
import { readRequests, readResponse } from "./our-reading.ts";
import { Random } from "./random.ts";
import { Streams } from "./streams.ts";

const REQUESTS = 35_000;
const RESPONSES = 15_000;
const BATCH = 250;

/** The only differences that may be found, with the reason. */
const EXPLAINED: readonly RegExp[] = [
  /^strict: /, // we refuse what llhttp takes
  /^wait: /, // the stream breaks off in the middle of something wrong
];
const EXPLAINED_IN_RESPONSES: readonly RegExp[] = [
  ...EXPLAINED,
  // RFC 9112 section 6.3: equal duplicates may be taken as one.
  /^WE ACCEPT, llhttp: error HPE_UNEXPECTED_CONTENT_LENGTH Duplicate Content-Length$/,
  // llhttp takes `Connection: close` of an informational response for the end; ours is the final response's.
  /^WE ACCEPT, llhttp: error HPE_CLOSED_CONNECTION Data after `Connection: close`$/,
];

class Findings {
  readonly unexplained = new Map<string, string[]>();
  /** How many streams both took to their end, so that a run that tests nothing is seen. */
  agreed = 0;

  note(found: string | null, bytes: Buffer, explained: readonly RegExp[]): void {
    if (found === null) this.agreed++;
    else if (!explained.some((pattern) => pattern.test(found))) {
      const samples = this.unexplained.get(found) ?? [];
      if (samples.length < 3) samples.push(JSON.stringify(bytes.toString("latin1")));
      this.unexplained.set(found, samples);
    }
  }
}

async function inBatches(count: number, make: () => string, look: (batch: Buffer[]) => Promise<void>): Promise<void> {
  for (let done = 0; done < count; done += BATCH) {
    await look(Array.from({ length: BATCH }, () => Buffer.from(make(), "latin1")));
  }
}

/** Some cuts; now and then all of them, so that every byte comes alone. */
function cutsOf(bytes: Buffer, random: Random): number[] {
  if (random.chance(0.02)) return [...bytes.keys()].slice(1);
  const cuts = new Set(Array.from({ length: 1 + random.below(4) }, () => random.below(bytes.length + 1)));
  return [...cuts].sort((a, b) => a - b);
}

async function fuzzRequests(random: Random, findings: Findings): Promise<void> {
  const streams = new Streams(random);
  await inBatches(
    REQUESTS,
    () => streams.requests(),
    async (batch) => {
      const theirs = await llhttpRequests(batch);
      batch.forEach((bytes, i) => {
        const ours = readRequests(bytes);
        findings.note(difference(ours, theirs[i] as (typeof theirs)[number]), bytes, EXPLAINED);
        const split = readRequests(bytes, cutsOf(bytes, random));
        if (JSON.stringify(split) !== JSON.stringify(ours)) findings.note("A SPLIT CHANGES THE READING", bytes, []);
      });
    },
  );
}

async function fuzzResponses(random: Random, findings: Findings): Promise<void> {
  const streams = new Streams(random);
  await inBatches(
    RESPONSES,
    () => streams.response(),
    async (batch) => {
      const theirs = await llhttpResponses(batch);
      batch.forEach((bytes, i) => {
        findings.note(
          difference(readResponse(bytes), theirs[i] as (typeof theirs)[number]),
          bytes,
          EXPLAINED_IN_RESPONSES,
        );
      });
    },
  );
}

const chosen = Number(process.env.FUZZ_SEED ?? randomInt(2 ** 31));
describe.each([
  ["fixed", 1],
  ["random (FUZZ_SEED makes it again)", chosen],
])("seed %s: %i", (_kind, seed) => {
  test("requests", { timeout: 120_000 }, async () => {
    const findings = new Findings();
    await fuzzRequests(new Random(seed), findings);
    expect(Object.fromEntries(findings.unexplained)).toEqual({});
    expect(findings.agreed).toBeGreaterThan(REQUESTS / 2);
  });
  test("responses", { timeout: 120_000 }, async () => {
    const findings = new Findings();
    await fuzzResponses(new Random(seed + 1), findings);
    expect(Object.fromEntries(findings.unexplained)).toEqual({});
    expect(findings.agreed).toBeGreaterThan(RESPONSES / 2);
  });
});
console.log(`fuzz: seeds 1 and ${chosen}`);

describe("the corpus of past differences", () => {
  const check = (known: KnownStream, reading: ReturnType<typeof readRequests>): void => {
    expect(reading.messages.filter((message) => message.complete)).toHaveLength(known.complete);
    expect(reading.status).toMatch(known.status);
  };
  test.each(KNOWN_REQUESTS)("request: $why", (known) => {
    const bytes = Buffer.from(known.bytes, "latin1");
    check(known, readRequests(bytes));
    check(known, readRequests(bytes, [...bytes.keys()].slice(1)));
  });
  test.each(KNOWN_RESPONSES)("response: $why", (known) => {
    check(known, readResponse(Buffer.from(known.bytes, "latin1")));
  });
});

test("the comparison sees a difference when there is one", () => {
  const one = readRequests(Buffer.from("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na"));
  const other = readRequests(Buffer.from("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nb"));
  const none = { messages: [], status: "error x" };
  expect(difference(one, one)).toBeNull();
  expect(difference(one, other)).toBe("BODIES DIFFER");
  expect(difference(one, none)).toBe("WE ACCEPT, llhttp: error x");
  expect(difference(none, one)).toBe("strict: error x");
});
