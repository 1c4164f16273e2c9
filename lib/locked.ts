/** Work by hand that keeps out of a deploy's way: it holds the deploy lock from its first look to its end. */
import { DeployError } from "./errors.ts";
import type { OperationContext } from "./operations.ts";
import { retryWhileUnavailable } from "./postgres/availability.ts";
import { isShut } from "./postgres/connection-error.ts";
import { type Database, makeDatabase } from "./postgres/database.ts";
import { acquireDeployLock, releaseDeployLock } from "./postgres/deploy-lock.ts";
import { openBeside } from "./postgres/maintenance.ts";
import type { Session } from "./postgres/session.ts";

const LOOK_DEADLINE_MS = 30_000;

/**
 * @param purpose shown in `pg_stat_activity` behind our name
 * @throws LOCK_NOT_ACQUIRED, SWAP_UNFINISHED, what connecting can meet, or what `act` throws
 */
export async function withDeployLock<Result>(
  { settings, signal, tell }: Pick<OperationContext, "settings" | "signal" | "tell">,
  purpose: string,
  act: (session: Session, database: Database) => Promise<Result>,
): Promise<Result> {
  const database = makeDatabase(settings.target, tell);
  const session = await retryWhileUnavailable(
    () =>
      acquireDeployLock(database, () => database.open(purpose, { isMigrating: true }), {
        waitMs: settings.deployLockWaitMs,
        signal,
        tell,
        openBeside: async () => await openBeside(database, settings.maintenanceDatabase),
        onShut: async () => await refuseInterrupted(database, settings.maintenanceDatabase),
      }),
    { waitMs: settings.databaseWaitMs, signal, tell },
  );
  try {
    return await act(session, database);
  } finally {
    await releaseDeployLock(session).catch((cause: unknown) =>
      tell({ kind: "warning", warning: { about: "unlock", reason: String(cause) } }),
    );
    await session.close();
  }
}

/** A swap that is at work is waited for; one that was cut off is the deploy's to finish. */
async function refuseInterrupted(database: Database, maintenanceDatabase: string): Promise<void> {
  const { inspectSwap } = await import("./restore/interrupted-swap.ts");
  const state = await inspectSwap(database, maintenanceDatabase);
  if (state === "at-work") return;
  if (state === "none") return await requireOpen(database);
  const fields = { database: database.target.database, isAtWork: false, reason: undefined };
  throw new DeployError("SWAP_UNFINISHED", fields);
}

/** Nobody is at work on it: a database that still lets nobody in, or is not there, will not be there later either. */
async function requireOpen(database: Database): Promise<void> {
  const session = await database.open("look");
  try {
    await session.query("SELECT 1", { during: "look for the database", deadlineMs: LOOK_DEADLINE_MS });
  } catch (error) {
    if (isShut(error)) throw error;
  } finally {
    await session.close();
  }
}
