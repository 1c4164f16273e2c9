/**
 * What a deploy that was killed has left, found out from the journal, the mark on the disk and the rows, so that the
 * same ladder can finish or undo it that would have done so after a failure.
 */
import { type Backup, readBackup, removeUnfinished } from "./backup/store.ts";
import type { Interrupted, MigrateFailure } from "./deploy.ts";
import { DeployError } from "./errors.ts";
import { type JournaledDeploy, readUnfinished } from "./journal/deploys.ts";
import type { JournalFailure, JournalOwner } from "./journal/lines.ts";
import { type Journal, openJournal, readJournal } from "./journal/store.ts";
import type { ConcurrentFailure } from "./migrations/concurrent-index.ts";
import { readMigrationNames, readPresentScripts } from "./migrations/folder.ts";
import { DEFAULT_SCHEMA, type History, type MigrationRow } from "./migrations/history.ts";
import { type InterruptedRows, judgeInterrupted } from "./migrations/interrupted.ts";
import type { OperationContext, OperationSettings } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import type { Session } from "./postgres/session.ts";
import { type RecoveryPoint, watchSessions } from "./recovery-point.ts";
import { isContentOf } from "./restore/mark.ts";
import { type MarkFile, readMarkFile } from "./restore/mark-file.ts";
import { chooseRestore } from "./restore/plan.ts";
import type { MarkedEvidence } from "./restore/proof.ts";
import { settleTransaction } from "./restore/settle.ts";
import { readSwapFacts } from "./restore/swap-facts.ts";

/** A killed deploy, and what its successor works with. */
export interface FoundDeploy {
  readonly interrupted: Interrupted<Backup>;
  readonly journal: Journal;
  /** What had failed before it was killed. */
  readonly failure: JournalFailure | undefined;
  /** Undefined where it had not marked anything yet, or where that is gone. */
  readonly point: RecoveryPoint | undefined;
  /** The rows as they were before it began. */
  readonly before: Pick<History, "rows" | "schema">;
}

/** @returns undefined where the journal knows of none for a database of that name: nobody is asked anything then */
export function mayBeInterrupted(
  directory: string,
  { database, schema = DEFAULT_SCHEMA }: OperationSettings["target"],
): boolean {
  const lines = readJournal(directory).filter((line) => line.database === database);
  const systems = new Set(lines.map(({ systemIdentifier }) => systemIdentifier));
  return [...systems].some(
    (systemIdentifier) => readUnfinished(lines, { systemIdentifier, database, schema }) !== undefined,
  );
}

export type FindContext = Pick<OperationContext, "settings" | "tell"> & {
  /** Ids of the rows that were there when our first session read them. */
  readonly firstRows: readonly string[];
  readonly now: () => Date;
};

/**
 * @param session holds the deploy lock, so that the deploy's own session has ended
 * @param readAfter reads the rows, when nothing of the deploy is at work any more
 */
export async function findInterrupted(
  database: Database,
  session: Session,
  owner: JournalOwner,
  readAfter: () => Promise<History>,
  { settings, tell, firstRows, now }: FindContext,
): Promise<FoundDeploy | undefined> {
  const { backupDirectory } = settings;
  const { schema = DEFAULT_SCHEMA } = settings.target;
  const deploy = readUnfinished(readJournal(backupDirectory), { ...owner, schema });
  if (deploy === undefined) return undefined;
  tell({
    kind: "interrupted-found",
    startedAt: deploy.startedAt,
    migrations: deploy.migrations.map(({ name }) => name),
  });
  // A restore outlives the deploy that has started it, and locks the rows.
  for (const transaction of deploy.restoreTransactions) await settleTransaction(database, transaction);
  const after = await readAfter();
  if (deploy.backup === undefined && deploy.claimedBackup !== undefined) {
    await removeUnfinished(backupDirectory, deploy.claimedBackup);
  }
  const mark =
    deploy.backup === undefined ? undefined : await readMarkFile<MigrationRow>(backupDirectory, deploy.backup);
  const backup = await readBackup(backupDirectory, deploy.backup);
  const own = mark?.deploy === deploy.id ? mark : undefined;
  const journal = openJournal(backupDirectory, owner, deploy.id, now);
  const successor = { database, session, journal, settings, firstRows };
  const point = backup && own && (await makePoint(successor, deploy, own, backup));
  const pending = deploy.migrations.map(({ name }) => name);
  const before = {
    rows: own?.rows ?? after.rows.filter(({ name }) => !pending.includes(name)),
    schema: own === undefined ? after.schema : (own.historySchema ?? undefined),
  };
  const judged = judgeInterrupted(before.rows, after.rows, pending, (row) => isRowOf(deploy, row));
  const rows = await finishScript(session, deploy, judged, after, { ...settings, now });
  const interrupted = await describe(session, deploy, rows, point);
  return { interrupted, journal, failure: deploy.failure, point, before };
}

/**
 * A statement with CONCURRENTLY, alone in its script, that the server has brought to its end although nobody waited for
 * it: only its row is unfinished. Tried again, it would find its own index there.
 */
async function finishScript(
  session: Session,
  deploy: JournaledDeploy,
  rows: InterruptedRows,
  after: History,
  settings: Pick<OperationSettings, "migrationsDirectory" | "target"> & { readonly now: () => Date },
): Promise<InterruptedRows> {
  if (rows.kind !== "half" || makeConcurrent(deploy, rows.row) === undefined) return rows;
  const { id, name, checksum } = rows.row;
  const [script] = await readPresentScripts(settings.migrationsDirectory, [name]);
  if (script?.checksum !== checksum) return rows;
  const { diagnoseEach } = await import("./migrations/script-diagnosis.ts");
  const { markFinished } = await import("./migrations/migration-rows.ts");
  const schema = after.schema ?? settings.target.schema ?? DEFAULT_SCHEMA;
  const subject = { ...settings, names: readMigrationNames(settings.migrationsDirectory), history: after, schema };
  const [diagnosis] = await diagnoseEach(session, [name], subject);
  const isWhole = diagnosis?.proposal === "applied" && diagnosis.contradicted.includes("rolled-back");
  if (!isWhole || diagnosis.contradicted.includes("applied")) return rows;
  const finishedAt = settings.now().toISOString();
  await markFinished(session, schema, id, finishedAt);
  const pending = deploy.migrations.map((migration) => migration.name);
  return judgeInterrupted(
    after.rows.filter((row) => !pending.includes(row.name)),
    after.rows.map((row) => (row.id === id ? { ...row, finishedAt } : row)),
    pending,
    (row) => isRowOf(deploy, row),
  );
}

/** The id of a row outside of a transaction is noted before it is written; of a CLI's rows only the script is known. */
function isRowOf({ engine, migrations, script }: JournaledDeploy, { id, name, checksum }: MigrationRow): boolean {
  if (engine === "native") return id === script?.rowId;
  return migrations.some((migration) => migration.name === name && migration.checksum === checksum);
}

interface Successor {
  readonly database: Database;
  readonly session: Session;
  readonly journal: Journal;
  readonly settings: Pick<OperationSettings, "restore" | "maintenanceDatabase">;
  readonly firstRows: readonly string[];
}

/**
 * As the killed deploy had it. Its sessions count as ours, as far as it has written down how many there were, and our own
 * where they are sure to be younger than the mark: where the first of them has seen a row that the mark does not have. A
 * replica that has waited for the lock may have come before it, and a stranger could hide behind a session that is
 * counted twice.
 */
async function makePoint(
  { database, session, journal, settings, firstRows }: Successor,
  deploy: JournaledDeploy,
  { mark, rows }: MarkFile<MigrationRow>,
  backup: Backup,
): Promise<RecoveryPoint> {
  const { sessions, transactionIds } = deploy;
  database.addSessions(sessions?.opened ?? 0);
  const isYounger = firstRows.some((id) => !rows.some((row) => row.id === id));
  const swap = await readSwapFacts(database, session, settings.maintenanceDatabase);
  const point = {
    journal,
    backup,
    mark,
    restorePlan: chooseRestore({ ...mark.facts, swap }, { format: backup.manifest.format, restore: settings.restore }),
    ownTransactionIds: [...transactionIds],
    areSessionsCounted: sessions?.isExact === true && isYounger,
    childSessions: 0,
    confirmed: deploy.proven as MarkedEvidence | undefined,
    proven: undefined,
  };
  return watchSessions(database, point);
}

async function describe(
  session: Session,
  deploy: JournaledDeploy,
  rows: InterruptedRows,
  point: RecoveryPoint | undefined,
): Promise<Interrupted<Backup>> {
  const pending = deploy.migrations.map(({ name }) => name);
  const error = new DeployError("DEPLOY_INTERRUPTED", {
    startedAt: deploy.startedAt,
    migration: rows.kind === "half" ? rows.row.name : undefined,
  });
  const found = { pending, backup: point?.backup, failure: makeFailure(deploy, rows, error) };
  if (!deploy.isMigrating) return { ...found, remains: { kind: "untouched" } };
  if (rows.kind !== "whole") return { ...found, remains: { kind: "half" } };
  const mayBeRestored = deploy.isRestoring && rows.applied.length === 0 && point !== undefined;
  const isRestored = mayBeRestored && (await isContentOf(session, point.mark));
  return { ...found, remains: { kind: "whole", applied: rows.applied, isRestored } };
}

function makeFailure(deploy: JournaledDeploy, rows: InterruptedRows, error: DeployError): MigrateFailure {
  return {
    error: error as MigrateFailure["error"],
    transactionId: undefined,
    concurrent: rows.kind === "half" ? makeConcurrent(deploy, rows.row) : undefined,
    hasUnsettledSessions: false,
  };
}

/** What it was about to run, where that can have left an invalid index at most. */
function makeConcurrent({ script }: JournaledDeploy, row: MigrationRow): ConcurrentFailure | undefined {
  if (script?.concurrent == null || script.rowId !== row.id) return undefined;
  const { indexes, made } = script.concurrent;
  return {
    rowId: row.id,
    indexes: new Map(indexes.map(([oid, name, isValid]) => [oid, { name, isValid }])),
    made: made as ConcurrentFailure["made"],
  };
}
