/** The point to come back to after a failure: chosen, marked and backed up before anything is changed. */
import type { BackupContext } from "./backup/dump.ts";
import type { BackupFormat } from "./backup/name.ts";
import type { BackupRoom } from "./backup/room.ts";
import type { Backup } from "./backup/store.ts";
import { DeployError, isDeployError, type RestoreReason } from "./errors.ts";
import { makeDataProgress, type Report } from "./events.ts";
import { makeEndStep } from "./journal/end.ts";
import { type Journal, openJournal } from "./journal/store.ts";
import { DEFAULT_SCHEMA, type History } from "./migrations/history.ts";
import type { Segment } from "./migrations/segments.ts";
import type { OperationContext, OperationSettings } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import { untilInterrupted } from "./postgres/interruption.ts";
import type { Session } from "./postgres/session.ts";
import { formatServerVersion } from "./postgres/tool-choice.ts";
import type { Prepared, Tools } from "./preflight.ts";
import { readRestoreFacts } from "./restore/facts.ts";
import { type Mark, takeMark } from "./restore/mark.ts";
import { writeMarkFile } from "./restore/mark-file.ts";
import { chooseRestore, type RestorePlan } from "./restore/plan.ts";
import type { MarkedEvidence } from "./restore/proof.ts";
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
  /** What a deploy that was killed had proven of itself, and confirmed on the disk. */
  readonly confirmed?: MarkedEvidence | undefined;
  /** Once it was proven, after a failure, that nobody else has written since the mark: what the proof goes on from. */
  proven: MarkedEvidence | undefined;
}

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
      proven: undefined,
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
): Promise<Pick<RecoveryPoint, "backup" | "mark">> {
  const { journal, restorePlan } = point;
  const { settings, tell } = context;
  const migrations = prepared.scripts.map(({ name, checksum }) => ({ name, checksum }));
  const schema = settings.target.schema ?? DEFAULT_SCHEMA;
  journal.record({ step: "begun", program: VERSION, engine: settings.migrateEngine, migrations, schema });
  const reasons = restorePlan.format === "custom" ? restorePlan.why : [];
  tell({ kind: "backup-started", format: restorePlan.format, reasons });
  const reused = await reuseBackup(session, point, prepared, context);
  const mark = reused === undefined ? point.mark : { ...point.mark, content: reused.content };
  const backup = reused?.backup ?? (await takeNewBackup(database, point, prepared, history, context));
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
  return { backup, mark };
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
  const { backupFormat, restore, backupDirectory: directory } = settings;
  const plan = chooseRestore(facts, { format: backupFormat, restore });
  const { format } = plan;
  tell({ kind: "backup-planned", directory, format, sizeBytes: prepared.room.estimateBytes(format) });
  tell({ kind: "restore-plan", ...summariseRestore(prepared, plan) });
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

/** Why nothing restores by itself. Pure. */
export function allReasons({ reasonsNot, swapReasonsNot }: RestorePlan): readonly RestoreReason[] {
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
