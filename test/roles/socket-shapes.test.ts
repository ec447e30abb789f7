// In a process of its own, which lets us ask V8 whether two objects have one shape, and which no other test has shown any.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

const program = `
const { Socket } = require("node:net");
const stream = require("node:stream");
const { shareSocketShapes } = require("./src/roles/socket-shapes.ts");
if (process.argv.at(-1) === "shared") shareSocketShapes();
const seen = [];
const { Duplex } = stream;
stream.Duplex = function (options) {
  seen.push(options);
  return Duplex.call(this, options);
};
// As node:net makes those that it accepts, node:tls its own, and we those that we dial.
const accepted = () => ({ handle: undefined, allowHalfOpen: true, pauseOnCreate: false, readable: true, writable: true });
const secured = () => ({ handle: undefined, allowHalfOpen: true, pauseOnCreate: false, manualStart: true, onread: null });
const dialled = () => ({ host: "127.0.0.1", port: 1, noDelay: true, allowHalfOpen: true, autoSelectFamily: false });
for (const options of [accepted, secured, dialled]) {
  seen.length = 0;
  for (let i = 0; i < 500; i++) new Socket(options()).destroy();
  console.log(seen.filter((copy, i) => i > 0 && %HaveSameMap(seen[i - 1], copy)).length);
}
`;

const sameAsTheOneBefore = (...args: string[]): number[] =>
  execFileSync(process.execPath, ["--allow-natives-syntax", "--import", "tsx", "-e", program, ...args], {
    encoding: "utf8",
  })
    .trim()
    .split("\n")
    .map(Number);

test("the options of all sockets of a kind share one shape, and without have one each", () => {
  expect(sameAsTheOneBefore("shared")).toEqual([499, 499, 499]);
  for (const same of sameAsTheOneBefore("alone")) expect(same).toBeLessThan(100);
});
