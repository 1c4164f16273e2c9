/** However the network cuts the server's messages, each CommandComplete is counted once. */
import { expect, test } from "bun:test";
import { makeCommandCounter } from "../lib/postgres/command-counter.ts";

function message(type: string, body: Uint8Array | string): Uint8Array {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const whole = new Uint8Array(5 + bytes.length);
  whole[0] = type.charCodeAt(0);
  new DataView(whole.buffer).setUint32(1, 4 + bytes.length);
  whole.set(bytes, 5);
  return whole;
}

/** What a row holds is no message, even where it looks like one. */
const ROW = message("D", message("C", "a row that holds a message\0"));
const ANSWER = Buffer.concat([
  message("C", "BEGIN\0"),
  message("n", ""),
  ROW,
  message("C", "SELECT 1\0"),
  message("I", ""),
  message("D", new Uint8Array(70_000).fill(0x43)),
  message("C", "SELECT 1\0"),
  message("Z", "I"),
]);

test.each([1, 2, 3, 4, 5, 7, 64, 4_096, ANSWER.length])("in pieces of %d bytes", (size) => {
  const counter = makeCommandCounter();
  for (let at = 0; at < ANSWER.length; at += size) counter.read(ANSWER.subarray(at, at + size));
  expect(counter.count).toBe(3);
});

test("a reset between two bytes of a message loses no place", () => {
  const counter = makeCommandCounter();
  counter.read(ANSWER.subarray(0, ANSWER.length - 3));
  counter.reset();
  counter.read(ANSWER.subarray(ANSWER.length - 3));
  expect(counter.count).toBe(0);
  counter.read(message("C", "COMMIT\0"));
  expect(counter.count).toBe(1);
});
