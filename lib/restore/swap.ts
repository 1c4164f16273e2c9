/**
 * Restores a backup beside the live database and puts it in the live one's place, which is kept. Only the last step, two
 * renames in one transaction, changes what an app sees: at every moment the live database is the failed one, whole, or
 * the restored one, whole.
 *
 * No write of anybody else is lost. Where that has to be proven, the door is shut before anything else: the database
 * admits nobody, everybody else in it is ended, and when the last one is gone the proof is repeated. From then on nobody
 * can have written as long as the database's row in pg_database is the one that we have written, which is checked by the
 * transaction that renames. So the restore may take its time, and nobody who arrives meanwhile makes the proof void.
 * Where both databases are to be kept whoever wrote, the door is shut for the last moment only.
 *
 * It can be cut off anywhere: the live database's comment says so (`postgres/swap-trace.ts`), and the next start finishes
 * it or undoes it (`interrupted-swap.ts`).
 */
import type { Manifest } from "../backup/manifest.ts";
import { DeployError, hasCode, isDeployError, type RestoreReason } from "../errors.ts";
import { retryWhileUnavailable } from "../postgres/availability.ts";
import type { Database } from "../postgres/database.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import { openMaintenance } from "../postgres/maintenance.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { type AsideOptions, restoreAside } from "./aside.ts";
import { makeAsideName, stampOf } from "./aside-name.ts";
import { isWorthAnotherTry } from "./attempts.ts";
import { type ClusterDigests, listClusterChanges, readClusterDigests } from "./cluster.ts";
import { readRow } from "./evidence.ts";
import { readRestoreFacts } from "./facts.ts";
import type { MarkedContent } from "./mark.ts";
import type { RestoreProgress } from "./progress.ts";
import { judgeProof, type MarkedEvidence, readEvidence } from "./proof.ts";
import { PROPERTIES_QUERY } from "./properties.ts";
import {
  beginSwap,
  type DatabaseRow,
  dropScratch,
  endBackends,
  finishSwap,
  noteProof,
  readDatabase,
  requireUnchanged,
  shutDatabase,
  tryLockSwap,
  undoSwap,
  waitUntilEmpty,
} from "./swap-steps.ts";

/** What a swap needs, whoever has begun it. */
export interface SwapWork {
  readonly database: Database;
  /** Empty or undefined: postgres, else template1. */
  readonly maintenanceDatabase?: string | undefined;
  readonly tools: { readonly psql: ClientTool; readonly pgRestore: ClientTool | undefined };
  readonly backup: { readonly path: string; readonly manifest: Manifest };
  /** The state to come back to. Undefined: what the backup says, with the properties that the live database has now. */
  readonly content: MarkedContent | undefined;
  readonly progress?: RestoreProgress | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SwapOptions extends SwapWork {
  /** What has to be proven before the live database is replaced. Undefined: nothing, since both are kept. */
  readonly proof:
    | {
        readonly cluster: ClusterDigests;
        /** What the proof begins from: the mark, or what was confirmed later. */
        readonly base: MarkedEvidence;
        /** Ours are added. */
        readonly transactionIds: string[];
      }
    | undefined;
  /** Ours in the live database, outside of any transaction; the first one is needed. All of them are closed. */
  readonly sessions: readonly [Session, ...Session[]];
}

export interface Swapped {
  /** Name of the database that was replaced. It admits nobody. */
  readonly failed: string;
  readonly failedSizeBytes: number;
}

/** One that another process has begun, as its trace tells. */
export interface ResumedSwap extends SwapWork {
  readonly content: MarkedContent;
  readonly scratch: string;
  readonly failed: string;
}

interface Swap {
  readonly work: SwapWork;
  readonly live: string;
  readonly scratch: string;
  readonly failed: string;
  readonly backup: string;
  /** Statements that set what belongs to the database as a whole. */
  readonly properties: readonly string[];
}

const RESTORING = { swap: "restoring" } as const;

/** A server that crashed is back by then. */
const RECONNECT_MS = 120_000;
const POLL_MS = 200;

/**
 * Puts what the backup holds in the live database's place.
 *
 * @throws RESTORE_NOT_PROVEN, RESTORE_FAILED, RESTORE_DIFFERS, BACKUP_NOT_VERIFIED, LOCK_NOT_ACQUIRED: the live database
 * is as it was and admits again whom it did. SWAP_UNFINISHED: it may admit nobody, and the next start goes on.
 */
export async function swapIn(options: SwapOptions): Promise<Swapped> {
  const { database, backup } = options;
  const live = database.target.database;
  const properties = options.content?.properties ?? (await readProperties(options.sessions[0]));
  const maintenance = await openLocked(options);
  const stamp = await findFreeStamp(maintenance, live, stampOf(backup.manifest.id));
  const swap: Swap = {
    work: options,
    live,
    scratch: makeAsideName(live, "restore", stamp),
    failed: makeAsideName(live, "failed", stamp),
    backup: backup.manifest.id,
    properties: JSON.parse(properties) as string[],
  };
  return await runSteps(swap, maintenance, async (session) => {
    await requireVerified(options);
    await requireNoFollowers(options.sessions[0]);
    return await (options.proof === undefined ? shutAtTheEnd : shutAtOnce)(swap, options, session);
  });
}

/**
 * Goes on with a swap whose process has ended, where everything was proven before: while the database is shut and its row is
 * the one of the proof, nobody can have written. So nothing is proven here, and the restored copy is made anew.
 *
 * @param session holds the lock of the swap; it is closed
 * @param live shut, its row being the one that its trace names
 * @throws the same as `swapIn`
 */
export async function resumeSwap(session: Session, live: DatabaseRow, options: ResumedSwap): Promise<Swapped> {
  const { scratch, failed, content } = options;
  const properties = JSON.parse(content.properties) as string[];
  const swap = { work: options, live: live.name, scratch, failed, backup: options.backup.manifest.id, properties };
  return await runSteps(swap, session, async (maintenance) => {
    await requireVerified(options);
    // Its client is gone, and it may not know that yet.
    await endBackends(await maintenance(), live, []);
    await dropScratch(await maintenance(), scratch);
    await restoreThroughCrashes(swap, live, maintenance);
    return await replace(swap, live, await maintenance());
  });
}

/** A session in a maintenance database with the lock of the swap: where the server has crashed meanwhile, a new one. */
type Maintenance = () => Promise<Session>;

async function runSteps(
  swap: Swap,
  first: Session,
  steps: (session: Maintenance) => Promise<Swapped>,
): Promise<Swapped> {
  let session = first;
  try {
    return await steps(async () => {
      if (!session.isOpen) session = await reopenLocked(swap.work);
      return session;
    });
  } catch (error) {
    return await recoverFrom(error, swap, session);
  } finally {
    await session.close();
  }
}

async function shutAtOnce(swap: Swap, options: SwapOptions, maintenance: Maintenance): Promise<Swapped> {
  const { sessions, proof } = options;
  const record = (id: string) => void proof?.transactionIds.push(id);
  const shut = await beginSwap(await maintenance(), swap, { isShut: true }, record);
  await endBackends(await maintenance(), shut, await pidsOf(sessions));
  await prove(options);
  await noteProof(await maintenance(), swap, shut);
  await restoreThroughCrashes(swap, shut, maintenance);
  // Only now, since they hold the deploy lock, and another rung needs them where this one has failed.
  for (const session of sessions) await session.close();
  await waitUntilEmpty(await maintenance(), shut);
  return await replace(swap, shut, await maintenance());
}

async function shutAtTheEnd(swap: Swap, { sessions }: SwapOptions, maintenance: Maintenance): Promise<Swapped> {
  await beginSwap(await maintenance(), swap, { isShut: false });
  await restore(swap, { restoring: RESTORING, ready: RESTORING }, await maintenance());
  const shut = await shutDatabase(await maintenance(), swap.live);
  await endBackends(await maintenance(), shut, await pidsOf(sessions));
  for (const session of sessions) await session.close();
  await waitUntilEmpty(await maintenance(), shut);
  return await replace(swap, shut, await maintenance());
}

/**
 * A server that has crashed meanwhile, with everybody's sessions, still admits nobody: what was proven before holds as long
 * as the database's row is the one that we have written. So the restore beside it, which is lost, is begun anew.
 */
async function restoreThroughCrashes(swap: Swap, shut: DatabaseRow, maintenance: Maintenance): Promise<void> {
  const ready = { swap: "ready", live: shut.oid, row: shut.row } as const;
  for (let attempt = 1; ; attempt += 1) {
    const session = await maintenance();
    try {
      if (attempt > 1) await beginAnew(session, swap, shut);
      return await restore(swap, { restoring: RESTORING, ready }, session);
    } catch (error) {
      // One that was killed is listed until the server has noticed, and then all sessions are lost.
      await waitUntilLeft(session, swap.scratch).catch(() => {});
      if (!(await isWorthAnotherTry(error, session, attempt))) throw error;
    }
  }
}

async function waitUntilLeft(session: Session, scratch: string): Promise<void> {
  const row = await readDatabase(session, scratch);
  if (row !== undefined) await waitUntilEmpty(session, row);
}

async function beginAnew(session: Session, { scratch }: Swap, shut: DatabaseRow): Promise<void> {
  await requireUnchanged(session, shut);
  await dropScratch(session, scratch);
}

/** As the server knows them: behind a pooler a session has another number. */
async function pidsOf(sessions: readonly Session[]): Promise<number[]> {
  const open = sessions.filter(({ isOpen }) => isOpen);
  return await Promise.all(
    open.map(async (session) => (await readRow<{ pid: number }>(session, `SELECT pg_backend_pid() AS "pid"`)).pid),
  );
}

async function requireVerified({ backup, tools, signal, progress }: SwapWork): Promise<void> {
  const { rereadBackup } = await import("../backup/reread.ts");
  await rereadBackup(backup, {
    pgRestore: tools.pgRestore,
    signal,
    progress: (bytes) => progress?.("verify", bytes),
  });
}

/** They belong to the database itself, and would follow the failed one. */
async function requireNoFollowers(session: Session): Promise<void> {
  const { replicationSlots, subscriptions } = await readRestoreFacts(session);
  const reasons: RestoreReason[] = [
    ...(replicationSlots.length > 0 ? (["replication-slots"] as const) : []),
    ...(subscriptions > 0 ? (["subscriptions"] as const) : []),
  ];
  if (reasons.length > 0) throw new DeployError("RESTORE_NOT_PROVEN", { reasons });
}

/** In a session of ours, the only one that is left: nobody else can have begun anything since. */
async function prove({ proof, sessions, database }: SwapOptions): Promise<void> {
  if (proof === undefined) return;
  const [session] = sessions;
  const changes = listClusterChanges(proof.cluster, await readClusterDigests(session));
  const reasons: RestoreReason[] = changes.map((kind) => `cluster-${kind}` as const);
  const own = { transactionIds: proof.transactionIds, sessions, sessionsOpened: database.sessionsOpened };
  const verdict = judgeProof(proof.base, await readEvidence(session, proof.base, own), own);
  if (verdict.proven === undefined) reasons.push(...verdict.reasons);
  if (reasons.length > 0) throw new DeployError("RESTORE_NOT_PROVEN", { reasons });
}

/** @param trace without a proof nothing is known of the time between, and nobody else may ever finish it: never ready */
async function restore(swap: Swap, trace: AsideOptions["trace"], maintenance: Session): Promise<void> {
  const { work, scratch: name, properties } = swap;
  const progress = (bytes: number) => work.progress?.("restore", bytes);
  await restoreAside({ ...work, maintenance, name, properties, trace, progress });
}

async function replace(swap: Swap, live: DatabaseRow, maintenance: Session): Promise<Swapped> {
  const { failed, scratch, backup, work } = swap;
  const { size } = await readRow<{ size: number }>(
    maintenance,
    `SELECT pg_catalog.pg_database_size(${live.oid}::oid)::float8 AS "size"`,
  );
  const observer = await openSession(work);
  try {
    await finishSwap(maintenance, observer, { live, scratch, failed, backup });
  } finally {
    await observer.close();
  }
  return { failed, failedSizeBytes: size };
}

/** Whatever failed: the renames may have happened all the same, or else everything is as it was. */
async function recoverFrom(cause: unknown, swap: Swap, session: Session): Promise<Swapped> {
  const deadline = performance.now() + RECONNECT_MS;
  let maintenance = session;
  for (;;) {
    try {
      if (!maintenance.isOpen) maintenance = await reopenLocked(swap.work);
      const kept = await readDatabase(maintenance, swap.failed);
      // Only the transaction of the renames says so: by that name alone there can be a database of somebody else.
      if (kept?.trace?.swap === "replaced") return { failed: swap.failed, failedSizeBytes: kept.sizeBytes };
      await undoSwap(maintenance, swap.live);
      break;
    } catch (second) {
      // A session that a crash has ended may not know it yet.
      if (!maintenance.isOpen && performance.now() < deadline) {
        // Where too many are let in before us, it is refused at once.
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        continue;
      }
      const reason = describe(second);
      throw new DeployError("SWAP_UNFINISHED", { database: swap.live, isAtWork: false, reason }, { cause });
    } finally {
      if (maintenance !== session) await maintenance.close();
    }
  }
  throw cause;
}

function describe(error: unknown): string {
  if (error instanceof ServerError) return error.server.message;
  return isDeployError(error) && "reason" in error.fields ? String(error.fields.reason) : String(error);
}

async function openSession({ database, maintenanceDatabase }: SwapWork): Promise<Session> {
  const session = await openMaintenance(database, "swap", maintenanceDatabase);
  if (session !== undefined) return session;
  throw new DeployError("RESTORE_FAILED", { tool: "SQL", exitCode: undefined, output: "no maintenance database" });
}

async function openLocked(options: SwapWork): Promise<Session> {
  const session = await openSession(options);
  if (await tryLockSwap(session, options.database.target.database)) return session;
  await session.close();
  throw new DeployError("LOCK_NOT_ACQUIRED", { holder: undefined, waitedMs: 0 });
}

/** Our own backend may hold the lock for a while after we have lost it. */
async function reopenLocked(options: SwapWork): Promise<Session> {
  const { signal } = new AbortController();
  const deadline = performance.now() + RECONNECT_MS;
  for (;;) {
    try {
      return await retryWhileUnavailable(() => openLocked(options), { waitMs: RECONNECT_MS, signal, tell: () => {} });
    } catch (error) {
      if (!hasCode(error, "LOCK_NOT_ACQUIRED") || performance.now() >= deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** That a backup was restored from before is no obstacle. */
async function findFreeStamp(session: Session, live: string, stamp: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const free = number === 1 ? stamp : `${stamp}_${number}`;
    const names = (["restore", "failed"] as const).map((kind) => quoteLiteral(makeAsideName(live, kind, free)));
    const { taken } = await readRow<{ taken: boolean }>(
      session,
      `SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname IN (${names.join(", ")})) AS "taken"`,
    );
    if (!taken) return free;
  }
}

async function readProperties(session: Session): Promise<string> {
  return (
    await readRow<{ text: string }>(session, `SELECT "properties"::text AS "text" FROM (${PROPERTIES_QUERY}) AS x`)
  ).text;
}
