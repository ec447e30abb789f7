// A reload that denies what is open: requests are decided by the new policy at once, also inside connections that were open;
// what has been let through as a whole (a blind tunnel, an upgraded connection) goes on until it ends.
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { OriginScript } from "../support/origin.ts";
import type { RawConnection } from "../support/raw-client.ts";
import { type Scene, startScene, startTls } from "./scene.ts";

let scene: Scene;
let denying: string;
beforeAll(async () => {
  scene = await startScene(({ plain, secure }) => {
    denying = `  - { id: no, deny: ["pin.test:${secure}", "o.test:${secure}", "http://o.test:${plain}"] }\n`;
    return {
      policy: `network: { allow: [127.0.0.0/8] }
rules:
  - { id: blind, allow: ["pin.test:${secure}"], tunnel: { reason: pins } }
  - { id: opened, allow: ["o.test:${secure}", "http://o.test:${plain}"] }
`,
    };
  });
});
afterAll(() => scene.close());

const get = (host: string, path: string): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const status = async (client: RawConnection): Promise<number> => (await client.response()).status;

/** Answers 101 and echoes. */
const echo: OriginScript = ({ socket }) => {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n");
  socket.on("data", (b: Buffer) => socket.write(b));
};

test("what is open when the policy denies it", async () => {
  const { house } = scene;
  const blindAddress = scene.newAddress();
  const outer = await scene.connect(`pin.test:${scene.secure.port}`, blindAddress);
  outer.socket.removeAllListeners("data");
  const blind = await startTls(outer.socket, {
    ca: scene.originCa.cert,
    servername: "pin.test",
    checkServerIdentity: () => undefined,
  });
  blind.send(get("pin.test", "/one"));
  expect(await status(blind)).toBe(200);

  scene.scripts.set("/upgrade", echo);
  const upgradeAddress = scene.newAddress();
  const upgraded = await scene.open(upgradeAddress);
  const origin = `o.test:${scene.plain.port}`;
  upgraded.send(
    `GET http://${origin}/upgrade HTTP/1.1\r\nHost: ${origin}\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n`,
  );
  await upgraded.until((text) => text.endsWith("\r\n\r\n"));
  upgraded.send("ping");
  await upgraded.until((text) => text.endsWith("ping"));

  const plain = await scene.open();
  plain.send(get(origin, `http://${origin}/one`));
  expect(await status(plain)).toBe(200);
  const opened = await scene.secured(`o.test:${scene.secure.port}`);
  opened.send(get(`o.test:${scene.secure.port}`, "/one"));
  expect(await status(opened)).toBe(200);

  writeFileSync(house.policyFile, readFileSync(house.policyFile, "utf8") + denying);
  await house.house.reload();

  plain.send(get(origin, `http://${origin}/two`));
  expect(await status(plain)).toBe(403);
  opened.send(get(`o.test:${scene.secure.port}`, "/two"));
  expect(await status(opened)).toBe(403);
  blind.send(get("pin.test", "/two"));
  expect(await status(blind)).toBe(200);
  upgraded.send("pong");
  await upgraded.until((text) => text.endsWith("pong"));
  // Nothing new comes of either.
  await expect(scene.connect(`pin.test:${scene.secure.port}`)).rejects.toThrow(/403/);

  for (const client of [blind, upgraded]) client.socket.end();
  const [tunnel] = await house.recordsWhere((r) => r.address === blindAddress);
  expect(tunnel).toMatchObject({ decision: "allow", rule: "blind", reason: null });
  const [after] = await house.recordsWhere((r) => r.address === upgradeAddress && r.kind === "upgrade");
  expect(after).toMatchObject({ decision: "allow", reason: null, sent: { bytes: 8 } });
  plain.destroy();
  opened.destroy();
});
