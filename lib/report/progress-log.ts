/** Which of the many progress events of a migration a log holds: one every ten seconds, and whom it begins to wait for. Pure. */
import type { Event } from "../events.ts";

type Progress = Extract<Event, { kind: "migration-progress" }>;

const EVERY_MS = 10_000;
/** Events come about once a second, so one that is as good as due is not left for the next. */
const TOLERANCE_MS = 500;

/** @returns whether to log an event, to be asked for each of them in turn. A live line shows all but whom we waited for. */
export function makeProgressLog(): (event: Progress, hasLiveLine: boolean) => boolean {
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
