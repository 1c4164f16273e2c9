/**
 * Which of the many progress events a log holds: one every ten seconds, and whom a migration begins to wait for. Data
 * that are moved for longer than a moment are in it at once. Pure.
 */
import type { DataWork, Event } from "../events.ts";

export type ProgressEvent = Extract<Event, { kind: "migration-progress" | "data-progress" }>;

type MigrationProgress = Extract<ProgressEvent, { kind: "migration-progress" }>;
type DataProgress = Extract<ProgressEvent, { kind: "data-progress" }>;

const EVERY_MS = 10_000;
/** Events come about once a second, so one that is as good as due is not left for the next. */
const TOLERANCE_MS = 500;

export function isProgress(event: Event): event is ProgressEvent {
  return event.kind === "migration-progress" || event.kind === "data-progress";
}

/** @returns whether to log an event, to be asked for each of them in turn. A live line shows all but whom we waited for. */
export function makeProgressLog(): (event: ProgressEvent, hasLiveLine: boolean) => boolean {
  const ofMigration = makeMigrationLog();
  const ofData = makeDataLog();
  return (event, hasLiveLine) =>
    event.kind === "migration-progress" ? ofMigration(event, hasLiveLine) : ofData(event) && !hasLiveLine;
}

function makeMigrationLog(): (event: MigrationProgress, hasLiveLine: boolean) => boolean {
  let loggedMs = 0;
  let blocker: number | "nobody" | undefined;
  return ({ elapsedMs, waiting }, hasLiveLine) => {
    const now = waiting && (waiting.blockers[0]?.pid ?? "nobody");
    const isOther = now !== undefined && now !== blocker;
    const isDue = !hasLiveLine && elapsedMs - loggedMs >= EVERY_MS - TOLERANCE_MS;
    if (!isOther && !isDue) return false;
    loggedMs = elapsedMs;
    blocker = now ?? blocker;
    return true;
  };
}

function makeDataLog(): (event: DataProgress) => boolean {
  let work: DataWork | undefined;
  let loggedMs = 0;
  return (event) => {
    const isNew = event.work !== work || event.elapsedMs < loggedMs;
    if (!isNew && event.elapsedMs - loggedMs < EVERY_MS - TOLERANCE_MS) return false;
    work = event.work;
    loggedMs = event.elapsedMs;
    return true;
  };
}
