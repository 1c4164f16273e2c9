/** What is made of the server's rows about a backend. That the server has such rows is shown in tests/postgres/watch.test.ts. */
import { expect, test } from "bun:test";
import { makeLockWait, makeLongWork } from "../lib/migrations/activity.ts";

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
