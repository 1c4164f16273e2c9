/** Of the events that come every second, a log holds a heartbeat and the first sight of whoever is in the way. */
import { expect, test } from "bun:test";
import type { Event } from "../lib/events.ts";
import { makeProgressLog } from "../lib/report/progress-log.ts";

type Progress = Extract<Event, { kind: "migration-progress" }>;

function at(seconds: number, blockers?: readonly number[]): Progress {
  return {
    kind: "migration-progress",
    name: "a",
    number: 1,
    total: 1,
    runningMs: seconds * 1_000,
    elapsedMs: seconds * 1_000,
    work: undefined,
    held: undefined,
    waiting: blockers && {
      waitedMs: 1_000,
      blockers: blockers.map((pid) => ({
        pid,
        applicationName: "",
        state: undefined,
        statement: undefined,
        sinceMs: undefined,
      })),
    },
  };
}

function loggedSeconds(events: readonly Progress[], hasLiveLine = false): number[] {
  const isLogged = makeProgressLog();
  return events.filter((event) => isLogged(event, hasLiveLine)).map(({ elapsedMs }) => elapsedMs / 1_000);
}

const SECONDS = Array.from({ length: 35 }, (_, second) => second + 1);

test("a heartbeat every ten seconds, the first after ten", () => {
  expect(loggedSeconds(SECONDS.map((second) => at(second)))).toEqual([10, 20, 30]);
});

test("also where the events come a little early", () => {
  expect(loggedSeconds(SECONDS.map((second) => at(second * 0.99)))).toEqual([9.9, 19.8, 29.7]);
});

test("a wait at once, and then with the heartbeat", () => {
  const events = SECONDS.map((second) => at(second, second >= 3 ? [7] : undefined));
  expect(loggedSeconds(events)).toEqual([3, 13, 23, 33]);
});

test("somebody else in the way at once, the same one again not", () => {
  const events = [at(1, [7]), at(2), at(3, [7]), at(4, [8, 7]), at(5, [8]), at(6, [])];
  expect(loggedSeconds(events)).toEqual([1, 4, 6]);
});

test("beside a live line only who is in the way", () => {
  const events = SECONDS.map((second) => at(second, second >= 12 ? [7] : undefined));
  expect(loggedSeconds(events, true)).toEqual([12]);
});
