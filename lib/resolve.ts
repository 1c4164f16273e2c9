/**
 * `resolve` and `baseline`: what a person knows of a migration is recorded in the history, as Prisma's CLI records it,
 * but never blindly: before anything is marked, its script is held against what is in the database.
 */
import { DeployError, hasCode } from "./errors.ts";
import type { Report } from "./events.ts";
import { withDeployLock } from "./locked.ts";
import type { Choice, Diagnosis } from "./migrations/diagnosis.ts";
import { type MigrationScript, readMigrationNames, readMigrationsFolder, readScripts } from "./migrations/folder.ts";
import { DEFAULT_SCHEMA, type History, readHistory } from "./migrations/history.ts";
import { type Resolution, resolveApplied, resolveBaseline, resolveRolledBack } from "./migrations/resolution.ts";
import type { DiagnosisSubject } from "./migrations/script-diagnosis.ts";
import { MINIMUM_SERVER, type OperationContext } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import type { Session } from "./postgres/session.ts";

export type ResolveRequest =
  | { readonly as: Choice; readonly migration: string }
  /** Everything in the folder is applied. */
  | { readonly as: "baseline" };

export interface ResolveOptions {
  /** Record it even where the database contradicts it. */
  readonly force: boolean;
  /** Look, and write nothing. */
  readonly dryRun: boolean;
}

/** The stable shape of `resolve --json` and `baseline --json`. */
export interface ResolveResult {
  readonly applied: readonly string[];
  readonly rolledBack: readonly string[];
  /** False with `--dry-run`, and where nothing had to be marked. */
  readonly written: boolean;
  /** Of a baseline, only those that speak against it. */
  readonly diagnoses: readonly Diagnosis[];
}

const READ_DEADLINE_MS = 60_000;

/** @throws RESOLVE_*, BASELINE_CONTRADICTED and what connecting and locking can meet; then nothing was recorded */
export async function resolve(
  request: ResolveRequest,
  options: ResolveOptions,
  context: OperationContext,
): Promise<ResolveResult> {
  const names = readNames(request, context.settings.migrationsDirectory);
  return await withDeployLock(context, "resolve", (session, database) =>
    resolveLocked(database, session, names, request, options, context),
  );
}

/** What is unfinished may have been at work: only under the lock it is failed. */
async function resolveLocked(
  database: Database,
  session: Session,
  names: readonly string[],
  request: ResolveRequest,
  options: ResolveOptions,
  context: OperationContext,
): Promise<ResolveResult> {
  const { settings, signal, tell } = context;
  const schema = settings.target.schema ?? DEFAULT_SCHEMA;
  const history = await readSettledHistory(session, schema, names, context);
  const scripts = await readNeededScripts(request, names, settings.migrationsDirectory);
  const resolution = decide(request, history, names);
  const rolledBack = history.rows.filter(({ id }) => resolution.rolledBackIds.includes(id)).map(({ name }) => name);
  const marked = { applied: resolution.applied, rolledBack: [...new Set(rolledBack)] };
  if (marked.applied.length + rolledBack.length === 0) return { ...marked, written: false, diagnoses: [] };

  const subject = { names, history, schema, migrationsDirectory: settings.migrationsDirectory };
  const diagnoses = await diagnose(session, request, resolution, subject);
  refuseContradicted(request, diagnoses, options);
  tell({ kind: "diagnosed", diagnoses });
  if (options.dryRun) return { ...marked, written: false, diagnoses };

  signal.throwIfAborted();
  if (history.fence !== undefined) await lowerLeftFence(database, session, history.fence, tell);
  const { writeResolution } = await import("./migrations/resolution-rows.ts");
  const { makeTimestamps } = await import("./migrations/native-run.ts");
  const rows = {
    rolledBackIds: resolution.rolledBackIds,
    applied: scripts.filter(({ name }) => resolution.applied.includes(name)),
  };
  const nextTimestamp = makeTimestamps(() => performance.timeOrigin + performance.now());
  await writeResolution(session, rows, { schema, hasTable: history.schema !== undefined, nextTimestamp });
  return { ...marked, written: true, diagnoses };
}

/** We hold the lock, so the deploy that shut writers out was killed. */
async function lowerLeftFence(database: Database, session: Session, id: string, tell: Report): Promise<void> {
  const { lowerFence } = await import("./restore/fence.ts");
  const lowered = await lowerFence(database, id);
  if (lowered !== undefined) tell({ kind: "fence-lowered", wasLeft: true, id, ended: lowered.ended });
  // It connected behind the fence, and would stay read-only.
  await session.script("SET default_transaction_read_only = off", {
    during: "set the session up to write",
    deadlineMs: READ_DEADLINE_MS,
  });
}

/** As Prisma: the provider matters for what is to be applied, and a migration can be rolled back without a folder. */
function readNames(request: ResolveRequest, directory: string): readonly string[] {
  if (request.as !== "rolled-back") return readMigrationsFolder(directory).names;
  try {
    return readMigrationNames(directory);
  } catch (error) {
    if (hasCode(error, "MIGRATIONS_DIR_NOT_FOUND")) return [];
    throw error;
  }
}

async function readNeededScripts(
  request: ResolveRequest,
  names: readonly string[],
  directory: string,
): Promise<readonly MigrationScript[]> {
  if (request.as === "rolled-back") return [];
  if (request.as === "baseline") return await readScripts(directory, names);
  const { migration } = request;
  if (!names.includes(migration)) return [];
  return await readScripts(directory, [migration]).catch((cause: unknown) => {
    if (!hasCode(cause, "SCRIPT_MISSING")) throw cause;
    throw new DeployError("RESOLVE_SCRIPT_NOT_FOUND", { migration }, { cause });
  });
}

/** The history once nothing is at work on it any more: an engine of Prisma's can outlive its CLI, and its lock. */
async function readSettledHistory(
  session: Session,
  schema: string,
  names: readonly string[],
  { settings, signal, tell }: OperationContext,
): Promise<History> {
  const history = await readHistory(session, schema, READ_DEADLINE_MS);
  const { version, versionNumber, readOnly, inRecovery } = history.server;
  if (versionNumber < MINIMUM_SERVER.versionNumber) {
    throw new DeployError("SERVER_TOO_OLD", { serverVersion: version, minimum: MINIMUM_SERVER.version });
  }
  if (readOnly && (inRecovery || history.fence === undefined))
    throw new DeployError("DATABASE_READ_ONLY", { inRecovery });
  if (history.baseline?.hasContractLedger === true) {
    throw new DeployError("LEDGER_UNSUPPORTED", { schema: "prisma_contract" });
  }
  const { waitForEngines } = await import("./migrations/prisma-engine.ts");
  const { readPresentScripts } = await import("./migrations/folder.ts");
  const finished = new Set(history.rows.filter(({ finishedAt }) => finishedAt !== null).map(({ name }) => name));
  const unfinished = names.filter((name) => !finished.has(name));
  const scripts = await readPresentScripts(settings.migrationsDirectory, unfinished);
  const hasWaited = await waitForEngines(session, scripts, { waitMs: settings.deployLockWaitMs, signal, tell });
  return hasWaited ? await readHistory(session, schema, READ_DEADLINE_MS) : history;
}

function decide(request: ResolveRequest, history: History, names: readonly string[]): Resolution {
  switch (request.as) {
    case "applied":
      return resolveApplied(history.rows, names, request.migration);
    case "rolled-back":
      return resolveRolledBack(history.rows, request.migration);
    case "baseline":
      return resolveBaseline(history.rows, names);
  }
}

/** Of a whole folder, only what speaks against it: the rest would be everything that was ever made. */
async function diagnose(
  session: Session,
  request: ResolveRequest,
  { applied }: Resolution,
  subject: DiagnosisSubject,
): Promise<readonly Diagnosis[]> {
  const { diagnoseEach, diagnoseTogether } = await import("./migrations/script-diagnosis.ts");
  if (request.as !== "baseline") return await diagnoseEach(session, [request.migration], subject);
  const all = await diagnoseTogether(session, subject.names, subject);
  return all.filter(({ migration, contradicted }) => applied.includes(migration) && contradicted.includes("applied"));
}

function refuseContradicted(request: ResolveRequest, diagnoses: readonly Diagnosis[], { force }: ResolveOptions): void {
  const isBaseline = request.as === "baseline";
  const choice = isBaseline ? "applied" : request.as;
  const against = diagnoses.filter(({ contradicted }) => contradicted.includes(choice));
  if (against.length === 0 || force) return;
  throw new DeployError("RESOLVE_CONTRADICTED", {
    choice,
    command: isBaseline ? "baseline" : "resolve",
    diagnoses: against,
  });
}
