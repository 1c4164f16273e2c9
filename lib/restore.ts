/**
 * `restore`: a backup of any day, put back because a person wants it. Nothing has to be proven, since the person
 * consents; but it is whole or it has not happened, and what is there afterwards was checked.
 *
 * Where the role may, the restored database takes the place of the present one, which is kept. An owner who may not make
 * databases restores in place, in one transaction. Into a database of another name, nothing is replaced at all.
 */
import { type ChosenBackup, chooseBackup } from "./backup/choice.ts";
import { readOwner } from "./backup/room.ts";
import type { BackupOwner } from "./backup/store.ts";
import { DeployError } from "./errors.ts";
import { type Event, makeDataProgress } from "./events.ts";
import { listDeploys, listUnsettled } from "./journal/deploys.ts";
import { selectOwn } from "./journal/lines.ts";
import { openJournal, readJournal } from "./journal/store.ts";
import { withDeployLock } from "./locked.ts";
import { DEFAULT_SCHEMA } from "./migrations/history.ts";
import type { OperationContext } from "./operations.ts";
import { retryWhileUnavailable } from "./postgres/availability.ts";
import { type Database, makeDatabase } from "./postgres/database.ts";
import { quoteLiteral } from "./postgres/identifier.ts";
import type { Session } from "./postgres/session.ts";
import { type ClientTool, findTool } from "./postgres/tools.ts";
import { chooseByHand } from "./restore/by-hand.ts";
import { readRestoreFacts } from "./restore/facts.ts";
import { lowerAnyFence } from "./restore/fence.ts";
import { makeRemovalCommand } from "./restore/instructions.ts";
import { resolveSwap } from "./restore/interrupted-swap.ts";
import { type Mark, takeMark } from "./restore/mark.ts";
import { readMarkFile } from "./restore/mark-file.ts";
import type { Rung } from "./restore/plan.ts";
import { makeRestoreProgress, type RestoreProgress } from "./restore/progress.ts";
import { PROPERTIES_QUERY } from "./restore/properties.ts";
import { readSwapFacts } from "./restore/swap-facts.ts";

export interface RestoreRequest {
  /** `latest`, the name of a backup in the folder, or a path. */
  readonly wanted: string;
  readonly before: string | undefined;
  /** Name of a new database; undefined for the present one. */
  readonly into: string | undefined;
}

/** What is about to be done, for the person who has to consent. */
export type RestoreChoice = Omit<Extract<Event, { kind: "restore-chosen" }>, "kind">;

/** The stable shape of `restore --json`. */
export interface RestoredByHand {
  readonly database: string;
  readonly how: Rung | "aside";
  readonly backup: string;
  /** The database that was replaced, and is kept. */
  readonly kept: string | null;
  readonly durationMs: number;
}

interface Tools {
  readonly psql: ClientTool;
  readonly pgRestore: ClientTool;
}

/** A person waits for it, and all that the lock does is to make others wait. */
const LOCK_TIMEOUT_MS = 30_000;
const QUERY_DEADLINE_MS = 60_000;

/**
 * @param consent throws where the person does not consent
 * @throws BACKUP_NOT_FOUND, BACKUP_NOT_VERIFIED, RESTORE_IMPOSSIBLE, RESTORE_TARGET_EXISTS, what `consent` throws, and what
 * connecting and locking can meet: nothing was changed. RESTORE_FAILED, RESTORE_DIFFERS: neither. COMMIT_UNKNOWN,
 * SWAP_UNFINISHED: it can't be told.
 */
export async function restoreByHand(
  request: RestoreRequest,
  context: OperationContext,
  consent: (choice: RestoreChoice) => Promise<void>,
): Promise<RestoredByHand> {
  const { owner, backup, tools, choice } = await prepare(request, context);
  await consent(choice);
  context.signal.throwIfAborted();
  return await withDeployLock(context, "restore", async (session, database) => {
    // One that was killed while we waited has left its copy, which nobody would find behind a trace of ours.
    const { maintenanceDatabase, deployLockWaitMs: waitMs } = context.settings;
    await resolveSwap(database, { ...context, maintenanceDatabase, waitMs });
    const lowered = await lowerAnyFence(database);
    if (lowered !== undefined) {
      context.tell({ kind: "fence-lowered", wasLeft: true, id: lowered.id, ended: lowered.ended });
    }
    context.tell({ kind: "restore-started", backupPath: backup.path });
    const startedMs = performance.now();
    const kept = await restoreAs(choice, { database, session, backup, tools }, context);
    const durationMs = performance.now() - startedMs;
    context.tell({ kind: "restore-finished", durationMs });
    if (choice.how !== "aside") noteRestored(owner, backup, choice.how, context.settings.backupDirectory);
    return { database: choice.database, how: choice.how, backup: backup.path, kept: kept ?? null, durationMs };
  });
}

/** A deploy that has ended badly, or was killed, has nothing to be finished or undone any more. */
function noteRestored(owner: BackupOwner, { manifest }: ChosenBackup, rung: Rung, directory: string): void {
  const now = () => new Date();
  const left = listUnsettled(listDeploys(selectOwn(readJournal(directory), owner)));
  openJournal(directory, owner, crypto.randomUUID(), now).note({ step: "restored-by-hand", backup: manifest.id, rung });
  const end = { outcome: "restored", exitCode: 0, applied: [], failure: null, isFoundLater: true } as const;
  for (const { id } of left) openJournal(directory, owner, id, now).note({ step: "ended", ...end });
}

interface Prepared {
  readonly owner: BackupOwner;
  readonly backup: ChosenBackup;
  readonly tools: Tools;
  readonly choice: RestoreChoice;
}

/** Everything that can be refused is refused here, without a lock: a person may take his time. */
async function prepare(request: RestoreRequest, { settings, signal, tell }: OperationContext): Promise<Prepared> {
  const database = makeDatabase(settings.target, tell);
  const { maintenanceDatabase, deployLockWaitMs: waitMs } = settings;
  await resolveSwap(database, { maintenanceDatabase, waitMs, signal, tell });
  // A fence that a killed deploy has left is lifted before anything is restored.
  database.passFence();
  const { session, owner } = await retryWhileUnavailable(
    async () => {
      const opened = await database.open("restore");
      return { session: opened, owner: await readOwner(opened) };
    },
    { waitMs: settings.databaseWaitMs, signal, tell },
  );
  try {
    const facts = await readRestoreFacts(session);
    const tools = {
      psql: await findTool("psql", facts.serverVersionNumber),
      pgRestore: await findTool("pg_restore", facts.serverVersionNumber),
    };
    const { pgRestore } = tools;
    const backup = await chooseBackup(settings.backupDirectory, owner, request, {
      pgRestore,
      signal,
      now: () => new Date(),
      watch: (totalBytes) => makeDataProgress(tell, "verify", totalBytes),
    });
    requireTame(backup);
    const swap = await readSwapFacts(database, session, settings.maintenanceDatabase);
    const { manifest, hasManifest } = backup;
    const chosen = chooseByHand({ ...facts, swap }, backup, request.into);
    if (chosen.how === "impossible") throw new DeployError("RESTORE_IMPOSSIBLE", { reasons: chosen.reasons });
    if (request.into !== undefined) await requireFree(session, request.into);
    const isOther = hasManifest && manifest.database !== owner.database;
    const choice = {
      database: request.into ?? owner.database,
      how: chosen.how,
      path: backup.path,
      createdAt: manifest.createdAt,
      sizeBytes: manifest.sizeBytes,
      otherDatabase: isOther ? manifest.database : undefined,
      history: hasManifest ? manifest.history : undefined,
    };
    return { owner, backup, tools, choice };
  } finally {
    await session.close();
  }
}

/** A dump that leads psql elsewhere would be restored into the present database, whatever was asked for. */
function requireTame({ path, hazard }: ChosenBackup): void {
  if (hazard?.kind !== "command") return;
  const reason = `it holds a command of psql that pg_dump writes only when it is asked to: ${hazard.text}`;
  throw new DeployError("BACKUP_NOT_VERIFIED", { path, reason });
}

async function requireFree(session: Session, name: string): Promise<void> {
  const [row] = await session.query<{ exists: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AS "exists"`,
    { during: "look for a database", deadlineMs: QUERY_DEADLINE_MS, parameters: [name] },
  );
  if (row?.exists) throw new DeployError("RESTORE_TARGET_EXISTS", { database: name });
}

interface Access {
  readonly database: Database;
  /** Holds the deploy lock. */
  readonly session: Session;
  readonly backup: ChosenBackup;
  readonly tools: Tools;
}

/** @returns the database that is kept */
async function restoreAs(
  choice: RestoreChoice,
  access: Access,
  context: OperationContext,
): Promise<string | undefined> {
  switch (choice.how) {
    case "swap":
      return await swap(access, context);
    case "in-place":
      await restorePresent(access, context);
      return undefined;
    case "aside": {
      const { restoreInto } = await import("./restore/into.ts");
      const { settings, signal } = context;
      const watch = await makeProgress(access.backup, context);
      const progress = (bytes: number) => watch("restore", bytes);
      await restoreInto({ ...access, name: choice.database, ...settings, signal, progress });
      return undefined;
    }
  }
}

async function swap({ database, session, backup, tools }: Access, context: OperationContext): Promise<string> {
  const { swapIn } = await import("./restore/swap.ts");
  const { settings, signal, tell } = context;
  const marked = await readMarked(backup, settings.backupDirectory);
  const content = marked !== undefined && (await isReproducible(session, marked)) ? marked.content : undefined;
  const properties = await readProperties(session);
  const { failed, failedSizeBytes } = await swapIn({
    database,
    maintenanceDatabase: settings.maintenanceDatabase,
    tools,
    backup,
    content: content === undefined ? undefined : { ...content, properties },
    proof: undefined,
    sessions: [session],
    signal,
    progress: await makeProgress(backup, context),
  });
  const command = makeRemovalCommand(failed, database.target);
  tell({ kind: "failed-database-kept", database: failed, sizeBytes: failedSizeBytes, command });
  return failed;
}

async function makeProgress(backup: ChosenBackup, { settings, tell }: OperationContext): Promise<RestoreProgress> {
  const marked = await readMarked(backup, settings.backupDirectory);
  return makeRestoreProgress(tell, backup.manifest, marked?.facts.databaseSizeBytes);
}

/** Of a backup that a deploy has taken: what is in no dump, and what the restored database is compared with. */
async function readMarked({ manifest, hasManifest }: ChosenBackup, directory: string): Promise<Mark | undefined> {
  return hasManifest ? (await readMarkFile(directory, manifest.id))?.mark : undefined;
}

/** Another major version words definitions otherwise, and an extension's version may not be installed any more. */
async function isReproducible(session: Session, { serverMajor, content }: Mark): Promise<boolean> {
  const [row] = await session.query<{ isSame: boolean }>(
    `SELECT current_setting('server_version_num')::int / 10000 = ${serverMajor} AND NOT EXISTS (
       SELECT FROM json_to_recordset(${quoteLiteral(content.extensions)}::json) AS e(name text, version text)
       WHERE NOT EXISTS (SELECT FROM pg_available_extension_versions AS v WHERE v.name = e.name AND v.version = e.version)
     ) AS "isSame"`,
    { during: "compare the server with that of the backup", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.isSame === true;
}

async function readProperties(session: Session): Promise<string> {
  const [row] = await session.query<{ text: string }>(
    `SELECT "properties"::text AS "text" FROM (${PROPERTIES_QUERY}) AS x`,
    { during: "read the properties of the database", deadlineMs: QUERY_DEADLINE_MS },
  );
  if (row === undefined) throw new Error("a statement that always answers one row has answered none");
  return row.text;
}

/** What the database is like as a whole stays as it is; of what it holds, all that the backup does not know goes. */
async function restorePresent(access: Access, context: OperationContext): Promise<void> {
  const { settings, signal } = context;
  const { database, session, backup, tools } = access;
  const { restoreInPlace } = await import("./restore/in-place.ts");
  const coordinator = await database.open("restore");
  const historySchema = settings.target.schema ?? DEFAULT_SCHEMA;
  const mark = await takeMark({ database, coordinator, sessions: [session], historySchema }).finally(() =>
    coordinator.close(),
  );
  const marked = (await readMarked(backup, settings.backupDirectory))?.content;
  const { extensions, schemas, hadPublic } = marked ?? mark.content;
  await restoreInPlace({
    database,
    tools,
    backup,
    mark: { ...mark, content: { ...mark.content, extensions, schemas, hadPublic } },
    expected: { content: undefined, history: marked?.history },
    own: undefined,
    lockTimeoutMs: LOCK_TIMEOUT_MS,
    signal,
    progress: await makeProgress(backup, context),
  });
}
