/**
 * The point to come back to, and the way back: marked and backed up before anything is changed, found out and undone
 * after a failure.
 */
import type { BackupContext } from "./backup/dump.ts";
import type { BackupFormat } from "./backup/name.ts";
import type { BackupRoom } from "./backup/room.ts";
import type { Backup } from "./backup/store.ts";
import type { KeptDatabase, MigrateFailure, Remains } from "./deploy.ts";
import { type AnyDeployError, DeployError, isDeployError, type RestoreReason } from "./errors.ts";
import { makeDataProgress, type Report, type Warning } from "./events.ts";
import { makeEndStep } from "./journal/end.ts";
import { type Journal, openJournal } from "./journal/store.ts";
import { DEFAULT_SCHEMA, type History, type MigrationRow, readHistory } from "./migrations/history.ts";
import { judgePrismaRun } from "./migrations/prisma-verdict.ts";
import type { Segment } from "./migrations/segments.ts";
import type { OperationContext, OperationSettings } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import { untilInterrupted } from "./postgres/interruption.ts";
import type { Session } from "./postgres/session.ts";
import { formatServerVersion } from "./postgres/tool-choice.ts";
import type { Prepared, Tools } from "./preflight.ts";
import type { RecoveryChoices } from "./restore/choices.ts";
import { readRestoreFacts } from "./restore/facts.ts";
import { expectGrowth } from "./restore/growth.ts";
import { listClusterChanges, type Mark, readClusterDigests, readInvalidIndexes, takeMark } from "./restore/mark.ts";
import { writeMarkFile } from "./restore/mark-file.ts";
import { chooseRestore, type RestorePlan } from "./restore/plan.ts";
import { judgeProof, type OwnWork, readEvidence } from "./restore/proof.ts";
import { readSwapFacts } from "./restore/swap-facts.ts";
import type { ReusedBackup } from "./reuse.ts";
import { VERSION } from "./version.ts";

/** What a deploy may come back to, and what it did itself since then. */
export interface RecoveryPoint {
  readonly journal: Journal;
  readonly backup: Backup;
  readonly mark: Mark;
  readonly restorePlan: RestorePlan;
  /** Transactions of ours, each recorded before its COMMIT. */
  readonly ownTransactionIds: string[];
  /** False once something has opened an unknown number of sessions for us. */
  areSessionsCounted: boolean;
  /** Sessions of a child that is still at work, which are certain; it adds them to the others when it has ended. */
  childSessions: number;
  /** True once it was proven, after a failure, that nobody else has written since the mark. */
  isProven: boolean;
  /** How long the backup took; undefined where another deploy has taken it. */
  readonly backupMs?: number | undefined;
}

const QUERY_DEADLINE_MS = 60_000;
const DUMP_LOCK_WAIT_MS = 60_000;

type MarkContext = OperationContext & {
  /** Of the transaction that has raised our fence before the mark; undefined without one. */
  readonly fenceTransactionId?: string | undefined;
};

/** @throws what refuses the deploy (exit 4), with nothing left of the backup */
export async function takeRecoveryPoint(
  database: Database,
  session: Session,
  prepared: Prepared,
  history: History,
  context: MarkContext,
): Promise<RecoveryPoint> {
  const { settings, signal, tell } = context;
  const coordinator = await database.open("backup");
  try {
    const historySchema = history.schema ?? settings.target.schema ?? DEFAULT_SCHEMA;
    const swap = await readSwapFacts(database, session, settings.maintenanceDatabase);
    // It waits for whoever holds a table for himself alone.
    const mark = await untilInterrupted(
      signal,
      () => [coordinator, session],
      () => takeMark({ database, coordinator, sessions: [session], historySchema }),
    );
    const { backupFormat: format, restore } = settings;
    const restorePlan = chooseRestore({ ...mark.facts, swap }, { format, restore });
    const point = {
      mark,
      restorePlan,
      ownTransactionIds: [],
      areSessionsCounted: true,
      childSessions: 0,
      isProven: false,
    };
    const { owner } = prepared.room;
    const journal = openJournal(settings.backupDirectory, owner, crypto.randomUUID(), () => new Date());
    tell({ kind: "restore-plan", ...summariseRestore(prepared, restorePlan) });
    const isUnsuitable = settings.backupFormat === "plain" && restorePlan.why.length > 0;
    if (isUnsuitable && restorePlan.rungs.length === 0 && !settings.acceptManualRestore) {
      throw new DeployError("BACKUP_FORMAT_UNSUITABLE", { reasons: restorePlan.why });
    }
    const objection = prepared.cli === undefined ? objectionTo(prepared.segments, point, settings) : undefined;
    if (objection !== undefined) throw objection;
    signal.throwIfAborted();
    const backedUp = await backUp(database, session, { ...point, journal }, prepared, history, context).catch(
      (cause) => {
        if (isDeployError(cause)) journal.note(makeEndStep({ kind: "stopped", error: cause }));
        throw cause;
      },
    );
    return watchSessions(database, { ...point, journal, ...backedUp });
  } finally {
    await coordinator.close();
  }
}

/** A verified backup of the marked state, with the mark beside it. */
async function backUp(
  database: Database,
  session: Session,
  point: Omit<RecoveryPoint, "backup">,
  prepared: Prepared,
  history: History,
  context: MarkContext,
): Promise<Pick<RecoveryPoint, "backup" | "mark" | "backupMs">> {
  const { journal, restorePlan } = point;
  const { settings, tell } = context;
  const migrations = prepared.scripts.map(({ name, checksum }) => ({ name, checksum }));
  const schema = settings.target.schema ?? DEFAULT_SCHEMA;
  journal.record({ step: "begun", program: VERSION, engine: settings.migrateEngine, migrations, schema });
  const reasons = restorePlan.format === "custom" ? restorePlan.why : [];
  tell({ kind: "backup-started", format: restorePlan.format, reasons });
  const startedMs = performance.now();
  const reused = await reuseBackup(session, point, prepared, context);
  const mark = reused === undefined ? point.mark : { ...point.mark, content: reused.content };
  const backup = reused?.backup ?? (await takeNewBackup(database, point, prepared, history, context));
  const backupMs = reused === undefined ? performance.now() - startedMs : undefined;
  await writeMarkFile(settings.backupDirectory, {
    version: 1,
    deploy: journal.deploy,
    backup: backup.manifest.id,
    mark,
    rows: history.rows,
    historySchema: history.schema ?? null,
    pending: prepared.plan.pending,
  });
  journal.record({ step: "backed-up", backup: backup.manifest.id, isReused: reused !== undefined });
  return { backup, mark, backupMs };
}

async function takeNewBackup(
  database: Database,
  { mark, restorePlan, journal }: Omit<RecoveryPoint, "backup">,
  { tools, room, plan }: Prepared,
  history: History,
  context: OperationContext,
): Promise<Backup> {
  const onClaimed = (id: string) => journal.record({ step: "backing-up", backup: id });
  const source = { mark, format: restorePlan.format, tools, room, history, precedes: plan.pending, onClaimed };
  return await takeMarkedBackup(database, source, context);
}

async function reuseBackup(
  session: Session,
  { mark, restorePlan }: Pick<RecoveryPoint, "mark" | "restorePlan">,
  prepared: Prepared,
  { settings, signal, tell, fenceTransactionId }: MarkContext,
): Promise<ReusedBackup | undefined> {
  const { findReusable } = await import("./reuse.ts");
  const startedMs = performance.now();
  const reused = await findReusable(session, mark, {
    directory: settings.backupDirectory,
    owner: prepared.room.owner,
    format: restorePlan.format,
    pgRestore: prepared.tools.pgRestore,
    mayBeRestored: !isOneTransaction(prepared),
    fenceTransactionId,
    signal,
  });
  if (reused === undefined) return undefined;
  const { path, manifest } = reused.backup;
  const durationMs = performance.now() - startedMs;
  tell({ kind: "backup-finished", path, sizeBytes: manifest.sizeBytes, durationMs, isReused: true });
  return reused;
}

/** From now on the number of our sessions is on the disk: a run that comes after a kill needs it for its proof. */
export function watchSessions(database: Database, point: RecoveryPoint): RecoveryPoint {
  // A number on the disk that is too low proves nothing, and so does no harm.
  const note = (opened: number) => {
    const { childSessions, areSessionsCounted } = point;
    const isExact = areSessionsCounted || childSessions > 0;
    point.journal.note({ step: "sessions", opened: opened + childSessions, isExact });
  };
  note(database.sessionsOpened);
  database.onSessionOpened = note;
  return point;
}

/** What would be planned and told, without a mark. */
export async function previewRestore(
  database: Database,
  session: Session,
  prepared: Prepared,
  { settings, tell }: OperationContext,
): Promise<void> {
  const swap = await readSwapFacts(database, session, settings.maintenanceDatabase);
  const facts = { ...(await readRestoreFacts(session)), swap };
  const { backupFormat: format, restore } = settings;
  tell({ kind: "restore-plan", ...summariseRestore(prepared, chooseRestore(facts, { format, restore })) });
}

/** A plan that is one transaction has nothing to restore, so only others show whether they could be. */
function summariseRestore(prepared: Prepared, plan: RestorePlan) {
  if (isOneTransaction(prepared)) return { rungs: ["rollback" as const], reasons: [], swapReasons: [] };
  const engineRungs = prepared.cli === undefined ? (["rollback"] as const) : [];
  const reasons = plan.rungs.length > 0 ? [] : plan.reasonsNot;
  return { rungs: [...engineRungs, ...plan.rungs], reasons, swapReasons: plan.swapReasonsNot };
}

function isOneTransaction({ segments, cli }: Prepared): boolean {
  return cli === undefined && segments.every(({ mode }) => mode === "atomic");
}

/** A plan that could leave half a migration is refused where nothing could restore it, unless that was accepted. */
export function objectionTo(
  segments: readonly Segment[],
  point: Pick<RecoveryPoint, "restorePlan">,
  settings: Pick<OperationSettings, "acceptManualRestore">,
): DeployError<"NO_AUTOMATIC_RESTORE"> | undefined {
  const risky = segments.filter(({ couldBeHalfApplied }) => couldBeHalfApplied);
  if (risky.length === 0 || point.restorePlan.rungs.length > 0 || settings.acceptManualRestore) return undefined;
  const migrations = risky.flatMap(({ scripts }) => scripts.map(({ name }) => name));
  return new DeployError("NO_AUTOMATIC_RESTORE", { migrations, reasons: allReasons(point.restorePlan) });
}

function allReasons({ reasonsNot, swapReasonsNot }: RestorePlan): readonly RestoreReason[] {
  return [...new Set<RestoreReason>([...swapReasonsNot, ...reasonsNot])];
}

/** What a backup needs besides the mark, whose snapshot it is taken from. */
export interface MarkedBackup {
  readonly mark: Mark;
  readonly format: BackupFormat;
  readonly tools: Tools;
  readonly room: BackupRoom;
  /** Undefined where it could not be read. */
  readonly history: History | undefined;
  readonly precedes: readonly string[];
  /** Told the backup's id before anything is written under it. */
  readonly onClaimed?: ((id: string) => void) | undefined;
}

/** @throws what `takeBackup` throws */
export async function takeMarkedBackup(
  database: Database,
  { mark, format, tools, room, history, precedes, onClaimed }: MarkedBackup,
  { settings, signal, tell }: Pick<OperationContext, "settings" | "signal" | "tell">,
): Promise<Backup> {
  const { takeBackup } = await import("./backup/dump.ts");
  const rows = history?.rows ?? [];
  const applied = rows.filter(({ finishedAt, rolledBackAt }) => finishedAt !== null && rolledBackAt === null);
  const startedMs = performance.now();
  const backup = await takeBackup(
    {
      directory: settings.backupDirectory,
      format,
      database: room.owner.database,
      systemIdentifier: mark.place.systemIdentifier,
      serverVersion: formatServerVersion(mark.facts.serverVersionNumber),
      snapshot: mark.exportedSnapshot,
      lockWaitMs: DUMP_LOCK_WAIT_MS,
      history: { applied: applied.length, last: applied.at(-1)?.name ?? null },
      precedes,
      dataBytes: room.dataBytes,
      ...(onClaimed === undefined ? {} : { onClaimed }),
    },
    {
      database,
      pgDump: tools.pgDump,
      pgRestore: tools.pgRestore,
      now: () => new Date(),
      signal,
      progress: makeBackupProgress(room, format, tell),
    },
  );
  const { path, manifest } = backup;
  tell({ kind: "backup-finished", path, sizeBytes: manifest.sizeBytes, durationMs: performance.now() - startedMs });
  return backup;
}

/** An archive is read again from its beginning, as the SQL that it is unpacked to. */
function makeBackupProgress(room: BackupRoom, format: BackupFormat, tell: Report): BackupContext["progress"] {
  const ofBackup = makeDataProgress(tell, "backup", room.estimateBytes(format));
  let ofVerification: ((bytes: number) => void) | undefined;
  return (work, bytes) => {
    if (work === "backup") return ofBackup(bytes);
    ofVerification ??= makeDataProgress(tell, "verify", room.estimateBytes("plain"));
    ofVerification(bytes);
  };
}

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
  const own = ownWork(database, [session], point);
  const { proven, reasons } = judgeProof(mark, await readEvidence(session, mark, own), own);
  point.isProven = proven !== undefined;
  if (point.isProven) return;
  if (settings.restore !== "always" || !restorePlan.rungs.includes("swap")) {
    throw new DeployError("RESTORE_NOT_PROVEN", { reasons });
  }
  tell({ kind: "warning", warning: { about: "restore-unproven", reasons } });
}

/** Sessions are counted when they are open, so this is asked for anew each time. */
function ownWork(database: Database, sessions: readonly Session[], point: RecoveryPoint): OwnWork {
  return {
    transactionIds: point.ownTransactionIds,
    sessions,
    sessionsOpened: point.areSessionsCounted ? database.sessionsOpened : undefined,
  };
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
  const rungs = point.restorePlan.rungs.filter((rung) => rung === "swap" || point.isProven);
  for (const [index, rung] of rungs.entries()) {
    const next = rungs[index + 1];
    try {
      if (rung === "swap") return await swapDatabases(access, facts, context);
      return await restoreDatabase(access, facts, context);
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
  const { mark, backup, ownTransactionIds: transactionIds, areSessionsCounted } = point;
  point.journal.note({ step: "restoring", rung: "swap" });
  const { failed, failedSizeBytes } = await swapIn({
    database,
    maintenanceDatabase: settings.maintenanceDatabase,
    tools,
    backup,
    content: mark.content,
    proof: point.isProven ? { mark, transactionIds, areSessionsCounted } : undefined,
    sessions: [await lockedSession()],
    progress: makeDataProgress(tell, "restore", expectGrowth(mark.facts.databaseSizeBytes)),
  });
  return { database: failed, sizeBytes: failedSizeBytes, command: makeRemovalCommand(failed, database.target) };
}

async function restoreDatabase(
  { database, tools, lockedSession }: RestoreAccess,
  { point, history }: Pick<FailureFacts, "point" | "history">,
  { settings, tell }: OperationContext,
): Promise<undefined> {
  const { restoreInPlace } = await import("./restore/in-place.ts");
  const session = await lockedSession();
  point.journal.note({ step: "restoring", rung: "in-place" });
  const { transactionId } = await restoreInPlace({
    database,
    tools,
    backup: point.backup,
    mark: point.mark,
    own: {
      transactionIds: point.ownTransactionIds,
      sessions: [session],
      areSessionsCounted: point.areSessionsCounted,
    },
    progress: makeDataProgress(tell, "restore", expectGrowth(point.mark.facts.databaseSizeBytes)),
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
  // It only saves the next try a backup.
  await renewMark(session, settings.backupDirectory, point, ownWork(database, [session], point)).catch(() => {});
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

/** @throws what the session throws */
export async function describeChoices(
  session: Session,
  { mark, backup, restorePlan: plan, backupMs }: RecoveryPoint,
  settings: OperationSettings,
): Promise<RecoveryChoices> {
  const { makeChoices } = await import("./restore/choices.ts");
  const { readRowChanges } = await import("./restore/row-changes.ts");
  const changes = mark.rowCounters === undefined ? undefined : await readRowChanges(session, mark.rowCounters);
  const open = (await readRows(session, settings)).filter((row) => !row.finishedAt && !row.rolledBackAt);
  const unfinished = open.map(({ name }) => name);
  const { manifest } = backup;
  return makeChoices({ database: settings.target.database, manifest, plan, backupMs, changes, unfinished });
}

async function readRows(session: Session, settings: OperationSettings): Promise<readonly MigrationRow[]> {
  return (await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, QUERY_DEADLINE_MS)).rows;
}
