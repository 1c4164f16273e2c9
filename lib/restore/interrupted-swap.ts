/**
 * A swap that another process has begun: waited for while that one is at work, and else finished or undone.
 *
 * Finished only where everything was proven, and nobody was let in since: where the restored copy is complete and checked,
 * the renames are all that is left to do, and else it is made anew from the backup. Undone in any other case: then the live
 * database is exactly what it was before the swap.
 */
import { readBackup } from "../backup/store.ts";
import { type AnyDeployError, DeployError, isDeployError, type LockHolder } from "../errors.ts";
import type { Report } from "../events.ts";
import type { Database } from "../postgres/database.ts";
import { readHolder } from "../postgres/lock-holder.ts";
import { openMaintenance } from "../postgres/maintenance.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import type { Trace } from "../postgres/swap-trace.ts";
import { findTool } from "../postgres/tools.ts";
import { pause } from "../system/pause.ts";
import { PLACE_QUERY, type Place, readRow } from "./evidence.ts";
import { readMarkFile } from "./mark-file.ts";
import { makeRestoreProgress } from "./progress.ts";
import {
  type DatabaseRow,
  finishSwap,
  readDatabase,
  swapLockOf,
  tryLockSwap,
  undoSwap,
  waitUntilEmpty,
} from "./swap-steps.ts";

export type SwapEnd =
  /** There is no such database. */
  | "absent"
  /** No maintenance database lets us in, so nothing is known. */
  | "unreachable"
  /** There is no trace of a swap, and the database admits whom it may. */
  | "open"
  /** Somebody else, who has left no trace of ours, lets nobody in. */
  | "shut-by-others"
  /** The one that was at work has ended, well or not: look again. */
  | "ended"
  | "finished"
  | "undone";

export interface InterruptedOptions {
  readonly maintenanceDatabase?: string | undefined;
  /** How long to wait for a swap that is at work. */
  readonly waitMs: number;
  /** Where the backup and its mark lie, by which a copy can be made anew. Undefined: then the swap is undone. */
  readonly backupDirectory?: string | undefined;
  readonly signal: AbortSignal;
  readonly tell: Report;
}

const POLL_MS = 500;
const REPORT_EVERY_MS = 10_000;

/**
 * Reads the traces of a swap from beside the database, and finishes or undoes what nobody is at work on.
 *
 * @throws LOCK_NOT_ACQUIRED after `waitMs`; SWAP_UNFINISHED where it could be neither finished nor undone
 */
export async function resolveSwap(database: Database, options: InterruptedOptions): Promise<SwapEnd> {
  const name = database.target.database;
  const session = await openMaintenance(database, "swap", options.maintenanceDatabase);
  if (session === undefined) return "unreachable";
  try {
    const seen = await readDatabase(session, name);
    if (seen === undefined) return "absent";
    if (seen.trace?.swap !== "started") return seen.isOpen ? "open" : "shut-by-others";
    await waitForLock(session, name, options);
    const row = await readDatabase(session, name);
    // Whoever was at work has come to his end meanwhile, and the database by this name may be another one.
    if (row?.trace?.swap !== "started") return "ended";
    return await resolve(session, database, row, options);
  } catch (error) {
    if (isDeployError(error) && isKnown(error)) throw error;
    const reason = error instanceof ServerError ? error.server.message : String(error);
    throw new DeployError("SWAP_UNFINISHED", { database: name, isAtWork: false, reason }, { cause: error });
  } finally {
    await session.close();
  }
}

/** Whether a swap has left a trace, and whether somebody is at work on it. Changes nothing. */
export async function inspectSwap(
  database: Database,
  maintenanceDatabase: string | undefined,
): Promise<"none" | "at-work" | "interrupted"> {
  const session = await openMaintenance(database, "look", maintenanceDatabase);
  if (session === undefined) return "none";
  try {
    const row = await readDatabase(session, database.target.database);
    if (row?.trace?.swap !== "started") return "none";
    return (await tryLockSwap(session, database.target.database)) ? "interrupted" : "at-work";
  } finally {
    await session.close();
  }
}

function isKnown({ code }: AnyDeployError): boolean {
  return !["RESTORE_NOT_PROVEN", "RESTORE_FAILED"].includes(code);
}

async function resolve(
  session: Session,
  database: Database,
  live: DatabaseRow,
  options: InterruptedOptions,
): Promise<SwapEnd> {
  if (live.trace?.swap !== "started") return "open";
  const { scratch, failed, backup, row } = live.trace;
  const ready = (await readDatabase(session, scratch))?.trace;
  const isReady = ready?.swap === "ready" && ready.live === live.oid && ready.row === live.row && !live.isOpen;
  const isProven = row === live.row && !live.isOpen;
  let how: "finished" | "undone" = "finished";
  if (isReady) {
    await waitUntilEmpty(session, live);
    await withObserver(database, options.maintenanceDatabase, async (observer) => {
      await finishSwap(session, observer, { live, scratch, failed, backup });
    });
  } else if (!isProven || !(await resume(session, database, live, live.trace, options))) {
    how = "undone";
    if (session.isOpen) await undoSwap(session, live.name);
  }
  options.tell({ kind: "swap-resolved", how, database: live.name, failed: how === "finished" ? failed : undefined });
  return how;
}

/** @returns false where it can't be done from here; then it is undone, or is to be */
async function resume(
  session: Session,
  database: Database,
  live: DatabaseRow,
  { scratch, failed, backup: id }: Extract<Trace, { swap: "started" }>,
  { backupDirectory, maintenanceDatabase, tell }: InterruptedOptions,
): Promise<boolean> {
  const found = backupDirectory === undefined ? undefined : await findResumable(session, live, backupDirectory, id);
  if (found === undefined) return false;
  const { resumeSwap } = await import("./swap.ts");
  const { databaseSizeBytes, serverVersionNumber } = found.mark.facts;
  tell({ kind: "restore-started", backupPath: found.backup.path });
  try {
    await resumeSwap(session, live, {
      database,
      maintenanceDatabase,
      tools: {
        psql: await findTool("psql", serverVersionNumber),
        pgRestore: await findTool("pg_restore", serverVersionNumber),
      },
      backup: found.backup,
      content: found.mark.content,
      scratch,
      failed,
      progress: makeRestoreProgress(tell, undefined, databaseSizeBytes),
    });
    return true;
  } catch (error) {
    if (!isDeployError(error) || error.code === "SWAP_UNFINISHED") throw error;
    tell({ kind: "rung-failed", rung: "swap", error, next: undefined });
    return false;
  }
}

/** Of this very database: an id is a time, and in another folder a backup of another database can have it. */
async function findResumable(session: Session, live: DatabaseRow, directory: string, id: string) {
  const backup = await readBackup(directory, id);
  const mark = (await readMarkFile(directory, id))?.mark;
  if (backup?.state !== "present" || mark === undefined) return undefined;
  const { systemIdentifier } = await readRow<Place>(session, PLACE_QUERY);
  const isOurs =
    backup.manifest.systemIdentifier === systemIdentifier &&
    mark.place.systemIdentifier === systemIdentifier &&
    mark.place.databaseOid === live.oid &&
    backup.manifest.database === live.name;
  return isOurs ? { backup, mark } : undefined;
}

async function withObserver(
  database: Database,
  maintenanceDatabase: string | undefined,
  work: (observer: Session) => Promise<void>,
): Promise<void> {
  const observer = await openMaintenance(database, "swap", maintenanceDatabase);
  if (observer === undefined) throw new Error("no maintenance database lets us in any more");
  try {
    await work(observer);
  } finally {
    await observer.close();
  }
}

async function waitForLock(session: Session, name: string, options: InterruptedOptions): Promise<void> {
  const startedMs = performance.now();
  let reportedMs = Number.NEGATIVE_INFINITY;
  while (!(await tryLockSwap(session, name))) {
    const waitedMs = performance.now() - startedMs;
    const holder = await readSwapHolder(session, name);
    if (waitedMs >= options.waitMs) throw new DeployError("LOCK_NOT_ACQUIRED", { holder, waitedMs });
    if (performance.now() - reportedMs >= REPORT_EVERY_MS) {
      options.tell({ kind: "lock-waiting", holder, waitedMs });
      reportedMs = performance.now();
    }
    await pause(POLL_MS, options.signal);
  }
}

/** As `tryLockSwap` takes it. What its holder runs is about other databases, and says nothing. */
async function readSwapHolder(session: Session, name: string): Promise<LockHolder | undefined> {
  const holder = await readHolder(session, swapLockOf(name));
  return holder && { ...holder, statement: undefined };
}
