/** What a deploy is at, derived from the events that it tells anyway, so that probes and people see the same. Pure. */
import type { DeployStep, Event } from "../events.ts";

export interface DeployProgress {
  readonly step: DeployStep;
  /** When the step began, ISO 8601. */
  readonly since: string;
  /** The last thing that was told within the step: a migration's name, whom it waits for. Undefined where nothing was. */
  readonly detail: string | undefined;
}

export function makeProgress(now: Date): DeployProgress {
  return { step: "connect", since: now.toISOString(), detail: undefined };
}

/** The progress after an event. The same object where the event changes nothing. */
export function advanceProgress(progress: DeployProgress, event: Event, now: Date): DeployProgress {
  const step = stepOf(event) ?? progress.step;
  const detail = detailOf(event);
  if (step !== progress.step) return { step, since: now.toISOString(), detail };
  return detail === undefined ? progress : { ...progress, detail };
}

function stepOf(event: Event): DeployStep | undefined {
  switch (event.kind) {
    case "database-waiting":
      return "connect";
    case "work-found":
    case "lock-waiting":
      return "lock";
    case "pending-found":
      return "prepare";
    case "backup-started":
      return "backup";
    case "migration-started":
      return "migrate";
    case "migration-failed":
    case "restore-started":
      return "restore";
    case "prune-started":
      return "prune";
    case "up-to-date":
    case "app-starting":
    case "deploy-failed":
      return "finish";
    default:
      return undefined;
  }
}

/** Never what a server or a statement said: a probe's answer may be public. */
function detailOf(event: Event): string | undefined {
  switch (event.kind) {
    case "migration-running":
    case "migration-applied":
      return event.name;
    case "migration-progress":
      return event.waiting === undefined ? event.name : `${event.name}, pid ${event.waiting.blockers[0]?.pid ?? "?"}`;
    case "lock-waiting":
      return event.holder === undefined ? undefined : `pid ${event.holder.pid}`;
    case "segment-retrying":
      return `attempt ${event.attempt}, ${event.sqlState}`;
    default:
      return undefined;
  }
}
