/** Waits for a database that is not up yet: started beside us, starting, or out of connections for a moment. */
import { type AnyDeployError, DeployError, describeCause, isDeployError } from "../errors.ts";
import type { Report } from "../events.ts";
import { pause } from "../system/pause.ts";

const POLL_MS = 500;
const REPORT_EVERY_MS = 10_000;

/** Codes that time can cure; a wrong password or a missing database are not among them. */
const TRANSIENT = ["DATABASE_UNREACHABLE", "DATABASE_STARTING", "DATABASE_REFUSED", "CONNECTION_LOST"];

/**
 * Tries until it works or the time is over; then the last error is thrown, with the time that was waited in it.
 *
 * @throws what the last try threw, or the signal's reason
 */
export async function retryWhileUnavailable<T>(
  attempt: () => Promise<T>,
  options: { readonly waitMs: number; readonly signal: AbortSignal; readonly tell: Report },
): Promise<T> {
  const startedMs = performance.now();
  let reportedMs = startedMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const waitedMs = performance.now() - startedMs;
      if (!isDeployError(error) || !TRANSIENT.includes(error.code)) throw error;
      if (waitedMs >= options.waitMs) throw withWaited(error, waitedMs);
      if (waitedMs === 0 || performance.now() - reportedMs >= REPORT_EVERY_MS || reportedMs === startedMs) {
        options.tell({ kind: "database-waiting", reason: reasonOf(error), waitedMs });
        reportedMs = performance.now();
      }
    }
    await pause(POLL_MS, options.signal);
  }
}

/** A try knows its own time only. */
function withWaited(error: AnyDeployError, waitedMs: number): AnyDeployError {
  switch (error.code) {
    case "DATABASE_UNREACHABLE":
      return new DeployError(error.code, { ...error.fields, waitedMs }, { cause: error });
    case "DATABASE_STARTING":
      return new DeployError(error.code, { ...error.fields, waitedMs }, { cause: error });
    default:
      return error;
  }
}

function reasonOf(error: AnyDeployError): string {
  if ("reason" in error.fields) return String(error.fields.reason);
  if ("server" in error.fields) return error.fields.server.message;
  return error.code === "DATABASE_STARTING" ? "the database system is starting up" : describeCause(error);
}
