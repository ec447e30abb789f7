// Secrets of the operator: an origin that sends them back must not bring them into the record.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestHouse, type TestHouse } from "../support/house.ts";
import { type HttpOrigin, startHttpOrigin } from "../support/origin.ts";
import { connectTo } from "../support/raw-client.ts";

const SECRET = "gh-t0ken-7f3a91c2";
let origin: HttpOrigin;
let house: TestHouse;
beforeAll(async () => {
  // Says in its fields and its body what it was sent, as httpbin does.
  origin = await startHttpOrigin((request, response) => {
    const said = request.headers.authorization ?? "";
    response.setHeader("x-echo", said);
    response.end(`${"-".repeat(Number(request.url?.slice(1)))}${said}`);
  });
  house = await startTestHouse({
    env: { THE_TOKEN: SECRET },
    policy: `network: { allow: [127.0.0.0/8] }
secrets: { github: { env: THE_TOKEN } }
rules:
  - id: echo
    allow: ["http://127.0.0.1:${origin.port}"]
    headers: { set: { authorization: "Bearer \${secret:github}" } }
    record: { fields: [x-echo, authorization], bodies: 64B }
`,
  });
});
afterAll(async () => {
  await house.close();
  await origin.close();
});

/** Offsets at which the secret stands whole in what is kept, is cut off by the end of it, or stands behind it. */
test.each([0, 20, 41, 45, 50, 56, 57, 60, 70])(
  "%i bytes before it: neither the body in the record nor a file of the log has the secret",
  async (before) => {
    const client = await connectTo(house.port);
    client.send(`GET http://127.0.0.1:${origin.port}/${before} HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\n\r\n`);
    expect((await client.response()).content).toContain(SECRET); // the client asked for the origin's words, and gets them
    client.destroy();
    const [record] = await house.recordsWhere((r) => r.path === `/${before}`);
    const kept = Buffer.from(record?.responseBody?.base64 ?? "", "base64").toString();
    expect(kept).not.toContain(SECRET.slice(0, 6));
    expect(kept).toContain("-".repeat(Math.min(before, 64)));
    expect(JSON.stringify(record)).not.toContain(SECRET);
    for (const file of filesUnder(join(house.dir, "data")))
      expect(readFileSync(file).includes(SECRET), file).toBe(false);
  },
);

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((file) => statSync(file).isFile());
}
