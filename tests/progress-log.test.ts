/** Of the events that come every second, a log holds a heartbeat and the first sight of whoever is in the way. */
import { expect, test } from "bun:test";
import type { Event } from "../lib/events.ts";
import { makeProgressLog } from "../lib/report/progress-log.ts";

type Progress = Extract<Event, { kind: "migration-progress" }>;
type DataProgress = Extract<Event, { kind: "data-progress" }>;

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

function moved(seconds: number, work: DataProgress["work"] = "backup"): DataProgress {
  const elapsedMs = seconds * 1_000;
  return { kind: "data-progress", work, bytes: 1, totalBytes: undefined, bytesPerSecond: 1, elapsedMs };
}

test("data that are moved: at once, as they are told of only when it takes long, and every ten seconds", () => {
  const events = [2, 3, 4, 11, 12, 13, 21.6, 22].map((seconds) => moved(seconds));
  const isLogged = makeProgressLog();
  expect(events.filter((event) => isLogged(event, false)).map(({ elapsedMs }) => elapsedMs / 1_000)).toEqual([
    2, 12, 21.6,
  ]);
});

test("each work of its own at once, also the same again", () => {
  const events = [moved(2), moved(3, "verify"), moved(4, "verify"), moved(2, "restore"), moved(2), moved(30), moved(2)];
  const isLogged = makeProgressLog();
  expect(events.map((event) => isLogged(event, false))).toEqual([true, true, false, true, true, true, true]);
});

test("beside a live line they are not logged", () => {
  const isLogged = makeProgressLog();
  expect([moved(2), moved(20)].map((event) => isLogged(event, true))).toEqual([false, false]);
});
