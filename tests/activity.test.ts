/** What is made of the server's rows about a backend. That the server has such rows is shown in tests/postgres/watch.test.ts. */
import { expect, test } from "bun:test";
import { makeHeldTables, makeLockWait, makeLongWork } from "../lib/migrations/activity.ts";

test.each([
  ["half of it", 50, 200, 25],
  ["almost all of it", 999_999, 1_000_000, 99],
  ["nothing yet", 0, 200, 0],
  ["all of it, as the server calls the first block", 200, 200, undefined],
  ["more than there was", 300, 200, undefined],
  ["of nothing", 0, 0, undefined],
  ["no measure", null, null, undefined],
  ["no total", 5, null, undefined],
])("progress: %s", (_, done, total, percent) => {
  const work = makeLongWork({ command: "VACUUM", table: null, phase: "scanning heap", done, total });
  expect(work).toEqual({ command: "VACUUM", table: undefined, phase: "scanning heap", percent });
});

test("who does not wait has nobody in the way", () => {
  expect(makeLockWait({ isWaiting: false, blockers: null }, 5_000)).toBeUndefined();
});

test("who waits may have nobody to name", () => {
  expect(makeLockWait({ isWaiting: true, blockers: null }, 5_000)).toEqual({ waitedMs: 5_000, blockers: [] });
});

test("a prepared transaction has no process", () => {
  const row = { pid: 0, applicationName: "", state: null, statement: null, sinceMs: null };
  const nothing = { state: undefined, statement: undefined, sinceMs: undefined };
  expect(makeLockWait({ isWaiting: true, blockers: [row] }, 1)?.blockers).toEqual([
    { pid: 0, applicationName: "", ...nothing },
  ]);
});

const T = { name: "t", sizeBytes: 1_000 };
const U = { name: "u", sizeBytes: 0 };

test.each([
  ["nothing is held and nothing is written", [], null, undefined, undefined],
  ["nothing is held, and what is new is empty", [], 7, 0, undefined],
  ["held, and nothing is written", [T], null, undefined, { tables: [T], grownBytes: undefined, percent: undefined }],
  ["half of the only one is written", [T], 7, 500, { tables: [T], grownBytes: 500, percent: 50 }],
  ["more is written than there was", [T], 7, 1_001, { tables: [T], grownBytes: 1_001, percent: undefined }],
  [
    "which of two is written can't be told",
    [T, U],
    7,
    500,
    { tables: [T, { name: "u", sizeBytes: undefined }], grownBytes: 500, percent: undefined },
  ],
  [
    "nobody has noted a size",
    [U],
    7,
    500,
    { tables: [{ name: "u", sizeBytes: undefined }], grownBytes: 500, percent: undefined },
  ],
  ["only what is new is written", [], 7, 500, { tables: [], grownBytes: 500, percent: undefined }],
])("tables: %s", (_, tables, unseen, grownBytes, held) => {
  expect(makeHeldTables({ tables, unseen }, grownBytes)).toEqual(held);
});
