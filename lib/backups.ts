/** Backups by hand: one that is taken now, and pruning by policy. */
import { pruneBackups } from "./backup/prune.ts";
import { requireDumpRights } from "./backup/rights.ts";
import { checkRoom, readOwner } from "./backup/room.ts";
import type { Backup } from "./backup/store.ts";
import { DeployError, isDeployError } from "./errors.ts";
import { readNeededBackups } from "./journal/store.ts";
import { withDeployLock } from "./locked.ts";
import { readMigrationNames } from "./migrations/folder.ts";
import { DEFAULT_SCHEMA, type History, readHistory } from "./migrations/history.ts";
import { MINIMUM_SERVER, type OperationContext } from "./operations.ts";
import { exitCodeOfError } from "./outcome.ts";
import { makeDatabase } from "./postgres/database.ts";
import { untilInterrupted } from "./postgres/interruption.ts";
import type { Session } from "./postgres/session.ts";
import { formatServerVersion } from "./postgres/tool-choice.ts";
import { findTools } from "./preflight.ts";
import { takeMarkedBackup } from "./recovery-point.ts";
import { listLeftovers, removeLeftovers } from "./restore/leftovers.ts";
import { takeMark } from "./restore/mark.ts";
import { chooseRestore } from "./restore/plan.ts";

const READ_DEADLINE_MS = 60_000;
const EXIT_HISTORY = 3;

/**
 * Takes a backup and verifies it. No deploy is at work meanwhile: to it our sessions would be somebody else's.
 *
 * @throws what refuses or fails a backup (exit 4), what connecting and locking can meet
 */
export async function takeBackupNow(context: OperationContext): Promise<Backup> {
  const { settings, signal, tell } = context;
  return await withDeployLock(context, "backup", async (session, database) => {
    const history = await readHistoryIfGood(session, context);
    const { pgDump, pgRestore, psql } = await findTools(await readVersion(session));
    await requireDumpRights(session);
    const format = settings.backupFormat === "custom" ? "custom" : "plain";
    const room = await checkRoom(session, settings.backupDirectory, format);
    const coordinator = await database.open("backup");
    try {
      const historySchema = history?.schema ?? settings.target.schema ?? DEFAULT_SCHEMA;
      const mark = await untilInterrupted(
        signal,
        () => [coordinator, session],
        () => takeMark({ database, coordinator, sessions: [session], historySchema }),
      );
      const plan = chooseRestore(mark.facts, { format: settings.backupFormat });
      signal.throwIfAborted();
      tell({
        kind: "backup-started",
        format: plan.format,
        reasons: plan.format === "custom" && settings.backupFormat === "auto" ? plan.why : [],
      });
      const tools = { pgDump, pgRestore, psql };
      const precedes = listPending(history, settings.migrationsDirectory);
      return await takeMarkedBackup(database, { mark, format: plan.format, tools, room, history, precedes }, context);
    } finally {
      await coordinator.close();
    }
  });
}

export interface PrunedNow {
  readonly deleted: readonly string[];
  /** Backups of this database that are left. */
  readonly kept: number;
  /** Nothing was deleted: it is what would be. */
  readonly dryRun: boolean;
}

/**
 * Deletes the backups of this database that the policy no longer keeps. No deploy and no restore is at work meanwhile,
 * which may be reading one of them.
 *
 * @throws BACKUP_DIR_UNUSABLE, what connecting and locking can meet
 */
export async function pruneNow(context: OperationContext, { dryRun }: { dryRun: boolean }): Promise<PrunedNow> {
  const { settings } = context;
  const { backupDirectory, backupRetentionDays: retentionDays, backupMinimumKeep: keepMinimum } = settings;
  const policy = { retentionDays, keepMinimum, justTaken: undefined, neededBy: readNeededBackups(backupDirectory) };
  if (dryRun) {
    const session = await makeDatabase(settings.target, context.tell).open("prune");
    const owner = await readOwner(session).finally(() => session.close());
    const { paths, kept } = await pruneBackups(backupDirectory, owner, policy, new Date(), { dryRun });
    const leftovers = await listLeftovers(backupDirectory, new Date());
    return { deleted: [...paths, ...leftovers], kept, dryRun };
  }
  return await withDeployLock(context, "prune", async (session) => {
    const { paths, kept } = await pruneBackups(backupDirectory, await readOwner(session), policy, new Date());
    const leftovers = await removeLeftovers(backupDirectory, new Date());
    return { deleted: [...paths, ...leftovers], kept, dryRun };
  });
}

/** A backup is wanted all the more where the history is in disorder. */
async function readHistoryIfGood(session: Session, { settings }: OperationContext): Promise<History | undefined> {
  try {
    return await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, READ_DEADLINE_MS);
  } catch (cause) {
    if (isDeployError(cause) && exitCodeOfError(cause) === EXIT_HISTORY) return undefined;
    throw cause;
  }
}

/** @throws SERVER_TOO_OLD */
async function readVersion(session: Session): Promise<number> {
  const [row] = await session.query<{ version: number }>(
    `SELECT current_setting('server_version_num')::int AS "version"`,
    { during: "read the server's version", deadlineMs: READ_DEADLINE_MS },
  );
  const version = row?.version ?? 0;
  if (version >= MINIMUM_SERVER.versionNumber) return version;
  const serverVersion = formatServerVersion(version);
  throw new DeployError("SERVER_TOO_OLD", { serverVersion, minimum: MINIMUM_SERVER.version });
}

/** What a deploy would apply next. Without a folder, as beside an app that is not here, nothing is known of it. */
function listPending(history: History | undefined, directory: string): readonly string[] {
  if (history === undefined) return [];
  const live = new Set(history.rows.filter(({ rolledBackAt }) => rolledBackAt === null).map(({ name }) => name));
  try {
    return readMigrationNames(directory).filter((name) => !live.has(name));
  } catch {
    return [];
  }
}
