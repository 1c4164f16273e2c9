/**
 * The way back: found out after a failure, proven, and undone by the first rung that works. The point that it leads to is
 * in `recovery-point.ts`.
 */
import type { KeptDatabase, MigrateFailure, Remains } from "./deploy.ts";
import { type AnyDeployError, DeployError, isDeployError, type RestoreReason } from "./errors.ts";
import type { Report, Warning } from "./events.ts";
import { DEFAULT_SCHEMA, type History, type MigrationRow, readHistory } from "./migrations/history.ts";
import { judgePrismaRun } from "./migrations/prisma-verdict.ts";
import type { OperationContext, OperationSettings } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import type { Session } from "./postgres/session.ts";
import type { Tools } from "./preflight.ts";
import { allReasons, type RecoveryPoint } from "./recovery-point.ts";
import { isWorthAnotherTry } from "./restore/attempts.ts";
import type { PresentFacts } from "./restore/choices.ts";
import { listClusterChanges, readClusterDigests } from "./restore/cluster.ts";
import { confirmProof } from "./restore/confirmation.ts";
import { isContentOf, readInvalidIndexes } from "./restore/mark.ts";
import { makeRestoreProgress, type RestoreProgress } from "./restore/progress.ts";
import type { MarkedEvidence, OwnWork } from "./restore/proof.ts";

const QUERY_DEADLINE_MS = 60_000;

/** What there is to go by when a migration has failed. */
export interface FailureFacts {
  readonly failure: MigrateFailure;
  /** As it was before. */
  readonly history: Pick<History, "rows" | "schema">;
  /** Names that were to be applied. */
  readonly pending: readonly string[];
  readonly point: RecoveryPoint;
}

/**
 * Decided by the rows, since a script and its row are either in one transaction or the row comes first. The session holds
 * the deploy lock, so that the backend that failed, and whatever it was doing, has ended.
 */
export async function settle(session: Session, facts: FailureFacts, context: OperationContext): Promise<Remains> {
  const { failure, history, pending, point } = facts;
  if (failure.hasUnsettledSessions) return { kind: "changes" };
  const undone = await cleanUpConcurrent(session, facts, context);
  if (undone === "left-invalid") return { kind: "changes" };
  const after = await readRows(session, context.settings);
  const rows = after.filter((row) => row.id !== undone);
  const verdict = judgePrismaRun(history.rows, rows, pending, { lingering: [] });
  if (verdict.kind === "failed" || verdict.kind === "unknown") return { kind: "changes" };
  const applied = verdict.kind === "nothing" ? [] : verdict.applied;
  if (applied.length === 0 && undone === undefined) await tellOtherChanges(session, point, context);
  return { kind: "nothing", applied };
}

/** @returns the row that is marked rolled back now; `left-invalid` where an index that was valid before is not any more */
async function cleanUpConcurrent(
  session: Session,
  { failure, history, point }: FailureFacts,
  { settings, tell }: OperationContext,
): Promise<string | "left-invalid" | undefined> {
  if (failure.concurrent === undefined) return undefined;
  const { cleanUpConcurrently } = await import("./migrations/native-engine.ts");
  const cleaned = await cleanUpConcurrently(
    {
      session,
      schema: history.schema ?? settings.target.schema ?? DEFAULT_SCHEMA,
      hasTable: true,
      lockTimeoutMs: settings.lockTimeoutMs,
      lockRetryMs: settings.lockRetryMs,
      signal: new AbortController().signal,
      tell,
      now: () => performance.timeOrigin + performance.now(),
    },
    failure.concurrent,
  );
  point.ownTransactionIds.push(...cleaned.transactionIds);
  return cleaned.left.length > 0 ? "left-invalid" : failure.concurrent.rowId;
}

/** Our transaction was rolled back; where the schema is another one all the same, somebody else has changed it. */
async function tellOtherChanges(session: Session, point: RecoveryPoint, { tell }: OperationContext): Promise<void> {
  const { readFingerprint } = await import("./postgres/fingerprint.ts");
  if ((await readFingerprint(session)) === point.mark.fingerprint) return;
  tell({ kind: "warning", warning: { about: "schema-changed-by-others" } });
}

/**
 * Where a restore is wanted in any case, what is not proven is a warning: a swap keeps both databases.
 *
 * @throws RESTORE_NOT_PROVEN
 */
export async function proveAlone(
  database: Database,
  session: Session,
  point: RecoveryPoint,
  { settings, tell }: OperationContext,
): Promise<void> {
  const { mark, restorePlan } = point;
  if (restorePlan.rungs.length === 0) throw new DeployError("RESTORE_NOT_PROVEN", { reasons: allReasons(restorePlan) });
  const clusterChanges = listClusterChanges(mark.cluster, await readClusterDigests(session));
  if (clusterChanges.length > 0) {
    throw new DeployError("RESTORE_NOT_PROVEN", { reasons: clusterChanges.map((kind) => `cluster-${kind}` as const) });
  }
  const reasons = await prove(database, session, point);
  if (reasons === undefined) return;
  if (settings.restore !== "always" || !restorePlan.rungs.includes("swap")) {
    throw new DeployError("RESTORE_NOT_PROVEN", { reasons });
  }
  tell({ kind: "warning", warning: { about: "restore-unproven", reasons } });
}

/** From now on the proof begins at what is found here, also for whoever finishes this deploy. @returns why it fails */
async function prove(
  database: Database,
  session: Session,
  point: RecoveryPoint,
): Promise<readonly RestoreReason[] | undefined> {
  let reasons: readonly RestoreReason[] = [];
  for (const base of listBases(point)) {
    const own = () => ownWork(database, [session], point, base);
    const { evidence, reasons: against } = await confirmProof(session, base, database, own);
    point.proven = evidence;
    if (evidence?.durableTransactionId !== undefined) {
      // The earlier ones have ended by then, and what a crash has lost of them is given out to others.
      point.ownTransactionIds.splice(0, Infinity, evidence.durableTransactionId);
      point.journal.note({ step: "proven", evidence });
      return undefined;
    }
    reasons = against;
  }
  return reasons;
}

function listBases({ mark, confirmed, proven }: RecoveryPoint): readonly MarkedEvidence[] {
  if (proven !== undefined) return [proven];
  return confirmed === undefined ? [mark] : [mark, confirmed];
}

/** Sessions are counted when they are open, so this is asked for anew each time. */
function ownWork(
  database: Database,
  sessions: readonly Session[],
  point: RecoveryPoint,
  base: MarkedEvidence,
): OwnWork {
  const { ownTransactionIds: transactionIds } = point;
  const sessionsOpened = isCountedFrom(base, point) ? database.sessionsOpened : undefined;
  return { transactionIds, sessions, sessionsOpened };
}

/** Whether it is sure how many sessions of ours there were since then: since what we have proven ourselves, it always is. */
function isCountedFrom(base: MarkedEvidence, { mark, proven, areSessionsCounted }: RecoveryPoint): boolean {
  return base === proven || (base === mark && areSessionsCounted);
}

/** What a restore needs. */
export interface RestoreAccess {
  readonly database: Database;
  readonly tools: Tools;
  /** The session that holds the deploy lock. Where it was ended on purpose, a new one. */
  readonly lockedSession: () => Promise<Session>;
}

/**
 * Puts the marked state back, by the first rung that works. Each repeats the proof when nobody else can write any more,
 * and where it fails, it has left everything as it was.
 *
 * @returns the failed database, where it is kept
 * @throws what the last rung throws
 */
export async function restore(
  access: RestoreAccess,
  facts: Pick<FailureFacts, "point" | "history">,
  context: OperationContext,
): Promise<KeptDatabase | undefined> {
  const { point } = facts;
  // In place nothing is kept, so there it must be proven.
  const rungs = point.restorePlan.rungs.filter((rung) => rung === "swap" || point.proven !== undefined);
  for (const [index, rung] of rungs.entries()) {
    const next = rungs[index + 1];
    try {
      if (rung === "swap") return await swapDatabases(access, facts, context);
      return await restoreThroughCrashes(access, facts, context);
    } catch (error) {
      if (next === undefined || !isDeployError(error) || !hasLeftEverything(error)) throw error;
      context.tell({ kind: "rung-failed", rung, error, next });
    }
  }
  throw new DeployError("RESTORE_NOT_PROVEN", { reasons: allReasons(point.restorePlan) });
}

/** And another rung may get further: it was not the proof that has failed. */
function hasLeftEverything(error: AnyDeployError): boolean {
  if (error.code === "RESTORE_NOT_PROVEN")
    return error.fields.reasons.every((reason) => reason === "sessions-not-ended");
  return ["RESTORE_FAILED", "RESTORE_DIFFERS", "LOCK_NOT_ACQUIRED"].includes(error.code);
}

async function swapDatabases(
  { database, tools, lockedSession }: RestoreAccess,
  { point }: Pick<FailureFacts, "point">,
  { settings, tell }: OperationContext,
): Promise<KeptDatabase> {
  const { swapIn } = await import("./restore/swap.ts");
  const { makeRemovalCommand } = await import("./restore/instructions.ts");
  const { mark, backup, ownTransactionIds: transactionIds, proven } = point;
  point.journal.note({ step: "restoring", rung: "swap" });
  const { failed, failedSizeBytes } = await swapIn({
    database,
    maintenanceDatabase: settings.maintenanceDatabase,
    tools,
    backup,
    content: mark.content,
    proof: proven && { cluster: mark.cluster, base: proven, transactionIds },
    sessions: [await lockedSession()],
    progress: makeProgress(point, tell),
  });
  return { database: failed, sizeBytes: failedSizeBytes, command: makeRemovalCommand(failed, database.target) };
}

function makeProgress({ mark, backup }: RecoveryPoint, tell: Report): RestoreProgress {
  return makeRestoreProgress(tell, backup.manifest, mark.facts.databaseSizeBytes);
}

/** A server that has crashed under it is back with what was there before, and what was confirmed is still proven. */
async function restoreThroughCrashes(
  access: RestoreAccess,
  facts: Pick<FailureFacts, "point" | "history">,
  context: OperationContext,
): Promise<undefined> {
  for (let attempt = 1; ; attempt += 1) {
    const session = await access.lockedSession();
    try {
      return await restoreDatabase(session, access, facts, context);
    } catch (error) {
      if (!isDeployError(error) || !(await isWorthAnotherTry(error, session, attempt))) throw error;
      // What was lost may be the answer to the COMMIT.
      if (await isContentOf(await access.lockedSession(), facts.point.mark)) return undefined;
      context.tell({ kind: "rung-failed", rung: "in-place", error, next: "in-place" });
    }
  }
}

async function restoreDatabase(
  session: Session,
  { database, tools }: RestoreAccess,
  { point, history }: Pick<FailureFacts, "point" | "history">,
  { settings, tell }: OperationContext,
): Promise<undefined> {
  const { restoreInPlace } = await import("./restore/in-place.ts");
  const { proven: base = point.mark } = point;
  point.journal.note({ step: "restoring", rung: "in-place" });
  const { transactionId } = await restoreInPlace({
    database,
    tools,
    backup: point.backup,
    mark: point.mark,
    own: {
      transactionIds: point.ownTransactionIds,
      sessions: [session],
      areSessionsCounted: isCountedFrom(base, point),
      base,
    },
    progress: makeProgress(point, tell),
    onTransaction: (transaction) => {
      // Its own session is certain by now, and counted again when it has ended well.
      const opened = database.sessionsOpened + 1;
      point.journal.note({ step: "sessions", opened, isExact: point.areSessionsCounted });
      point.journal.note({ step: "restore-transaction", transaction });
    },
  });
  point.ownTransactionIds.push(transactionId);
  const rows = await readRows(session, settings);
  const differences = history.rows.filter((row) => !rows.some((other) => other.id === row.id)).map(({ name }) => name);
  if (rows.length !== history.rows.length || differences.length > 0) {
    throw new DeployError("RESTORE_DIFFERS", { differences: ["_prisma_migrations", ...differences] });
  }
  const { renewMark } = await import("./reuse.ts");
  const own = ownWork(database, [session], point, base);
  // It only saves the next try a backup.
  await renewMark(session, settings.backupDirectory, { base, backup: point.backup }, own).catch(() => {});
  return undefined;
}

/**
 * Every migration of the deploy is recorded as applied. Reads only.
 *
 * @throws VERIFY_FAILED, or what reading meets
 */
export async function verifyApplied(
  session: Session,
  applied: readonly string[],
  point: RecoveryPoint,
  settings: OperationSettings,
): Promise<readonly Warning[]> {
  const rows = await readRows(session, settings);
  const finished = new Set(rows.filter((row) => row.finishedAt && !row.rolledBackAt).map(({ name }) => name));
  const unrecorded = applied.filter((name) => !finished.has(name));
  if (unrecorded.length > 0) throw new DeployError("VERIFY_FAILED", { migrations: unrecorded });
  const before = new Set(point.mark.invalidIndexes);
  const invalid = (await readInvalidIndexes(session)).filter((index) => !before.has(index));
  return invalid.length > 0 ? [{ about: "invalid-index", indexes: invalid }] : [];
}

/**
 * Asked in a session of its own: that of the deploy may be gone, or not be what it was before a script.
 *
 * @throws what reading the rows meets
 */
export async function readPresent(
  database: Database,
  { mark }: Pick<RecoveryPoint, "mark">,
  settings: OperationSettings,
): Promise<PresentFacts> {
  const { readRestoreFacts } = await import("./restore/facts.ts");
  const { hasLastingSessions, readSwapFacts } = await import("./restore/swap-facts.ts");
  const { readRowChanges } = await import("./restore/row-changes.ts");
  const session = await database.open("look");
  const readFacts = async () => ({
    ...(await readRestoreFacts(session)),
    swap: await readSwapFacts(database, session, settings.maintenanceDatabase),
  });
  try {
    const changes = mark.rowCounters === undefined ? undefined : await readRowChanges(session, mark.rowCounters);
    const open = (await readRows(session, settings)).filter((row) => !row.finishedAt && !row.rolledBackAt);
    const unfinished = open.map(({ name }) => name);
    const isHeld = await hasLastingSessions(session);
    return { changes, unfinished, isHeld, restore: await readFacts().catch(() => undefined) };
  } finally {
    await session.close();
  }
}

async function readRows(session: Session, settings: OperationSettings): Promise<readonly MigrationRow[]> {
  return (await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, QUERY_DEADLINE_MS)).rows;
}
