/**
 * The whole procedure, top to bottom. Order and failure policy are here; everything that it calls does one thing.
 *
 * What is promised: whatever fails, the database ends as it was before, fully migrated, or at a migration boundary, and
 * no write that somebody else committed is destroyed. Where that can't be kept, nothing more is touched.
 */
import { type AnyDeployError, DeployError, hasCode, isDeployError } from "./errors.ts";
import { type Report, type SegmentSummary, unfailing, type Warning } from "./events.ts";
import type { EndedDeploy } from "./journal/end.ts";
import type { ConcurrentFailure } from "./migrations/concurrent-index.ts";
import { isUpToDate, type Plan } from "./migrations/plan.ts";
import type { Outcome } from "./outcome.ts";
import { ServerError } from "./postgres/session.ts";
import type { RecoveryChoices } from "./restore/choices.ts";

/** What the deploy does to the world. Each verb checks its own work and throws a DeployError where it failed. */
export interface Operations<Backup extends TakenBackup = TakenBackup> {
  /** Connects, waits for the database where it must, and reads history and folder. Changes nothing. */
  readPlan(): Promise<Plan>;
  /** Why a deploy is refused, with what can be found out about it. Never throws. */
  explain(problem: AnyDeployError): Promise<AnyDeployError>;
  takeLock(): Promise<void>;
  releaseLock(): Promise<void>;
  /** Finishes or undoes a swap that a killed deploy has begun, and waits for one that is at work. Under the lock. */
  resolveSwap(): Promise<void>;
  /** Lets writers in again whom a killed deploy has shut out. Under the lock, and it is held anew afterwards. */
  lowerLeftFence(id: string): Promise<void>;
  /** Whether the journal knows of a deploy that was killed. Asks nobody else. */
  mayBeInterrupted(): Promise<boolean>;
  /** What a deploy that was killed has left; undefined where there was none. Readies what finishes or undoes it. */
  findInterrupted(): Promise<Interrupted<Backup> | undefined>;
  /** Refuses what has failed before, until it is time for it again. @throws FAILED_BEFORE, and what reading scripts meets */
  refuseRepetition(plan: Plan): Promise<void>;
  /** Everything that can be refused is refused here: scripts, their grammar, tools, rights, space, possible restores. */
  prepare(plan: Plan): Promise<Preparation>;
  /** Tells which restore would be possible after a failure. Changes nothing. */
  previewRestore(): Promise<void>;
  /** Shuts writers out, as far as we may: see `restore/fence.ts`. */
  raiseFence(): Promise<void>;
  /** Lets writers in again, where `raiseFence` has shut them out. */
  lowerFence(): Promise<void>;
  /** Marks the state to come back to and takes a verified backup of exactly that state. */
  takeBackup(): Promise<Backup>;
  /** Applies what was prepared. A failure of a migration is a result, not an exception. */
  migrate(): Promise<MigrateResult>;
  /** Reads the history again: is every migration recorded as applied, and nothing left invalid? */
  verify(applied: readonly string[]): Promise<readonly Warning[]>;
  /** Finds out what a failure left behind, and clears what can be cleared without a restore. */
  settle(failure: MigrateFailure): Promise<Remains>;
  /** Proves that nobody else has written since the mark. @throws RESTORE_NOT_PROVEN */
  proveAlone(): Promise<void>;
  /**
   * Puts the marked state back; the proof is repeated when nobody else can write any more.
   *
   * @returns the failed database, where a restored one has taken its place
   */
  restore(): Promise<KeptDatabase | undefined>;
  /** The commands for a person, where nothing more may be done automatically. */
  makeInstructions(backup: Backup, choices: RecoveryChoices | undefined): Promise<readonly string[]>;
  /** What that person can choose, and what it costs, as far as it can be found out. */
  describeChoices(backup: Backup): Promise<RecoveryChoices>;
  prune(backup: Backup): Promise<void>;
  /** Writes into the journal what has failed, before anything is undone. */
  noteFailure(error: AnyDeployError): Promise<void>;
  /** Writes into the journal how a deploy that has begun has ended. */
  noteEnd(end: EndedDeploy): Promise<void>;
}

export interface Preparation {
  readonly segments: readonly SegmentSummary[];
  readonly warnings: readonly Warning[];
}

/** A database that was replaced by a restored one. */
export interface KeptDatabase {
  readonly database: string;
  readonly sizeBytes: number;
  /** What removes it. */
  readonly command: string;
}

export interface TakenBackup {
  readonly path: string;
}

export type MigrateResult =
  | { readonly kind: "applied"; readonly names: readonly string[] }
  | ({ readonly kind: "failed" } & MigrateFailure);

export interface MigrateFailure {
  readonly error: AnyDeployError;
  /** The transaction that was rolled back, where it had an id. */
  readonly transactionId: string | undefined;
  /** A failed CONCURRENTLY, which can have left nothing but an invalid index and its row. */
  readonly concurrent: ConcurrentFailure | undefined;
  /** Sessions that are not ours may still be at work, or have written rows that this deploy can't explain. */
  readonly hasUnsettledSessions: boolean;
}

export type Remains =
  /** Checked: these migrations of the deploy are applied whole, of the others there is nothing in the database. */
  | { readonly kind: "nothing"; readonly applied: readonly string[] }
  /** Changes are left, or it can't be known. */
  | { readonly kind: "changes" };

/** A deploy that was killed, as it is found. */
export interface Interrupted<Backup extends TakenBackup = TakenBackup> {
  /** Names that it was about to apply. */
  readonly pending: readonly string[];
  readonly remains: /** It had not begun to change the database. */
    | { readonly kind: "untouched" }
    /** These are applied whole, of the others there is nothing; `isRestored`: the restore that it had begun is complete. */
    | { readonly kind: "whole"; readonly applied: readonly string[]; readonly isRestored: boolean }
    | { readonly kind: "half" };
  /** That it was killed, for the ladder. */
  readonly failure: MigrateFailure;
  /** Undefined where there is none, or none any more, or not the mark that belongs to it. */
  readonly backup: Backup | undefined;
}

export interface DeployOptions {
  readonly version: string;
  readonly engine: "native" | "prisma";
  /** Tell what would be done, and do nothing. */
  readonly dryRun: boolean;
  /** Writers are shut out from the mark to the verdict. */
  readonly maintenance: boolean;
  /** At a migration boundary: leave what is applied whole, or go back to the backup where that is proven safe. */
  readonly onPartial: "stop" | "restore";
}

/** @throws DeployError where the deploy stops before it changed anything */
export async function deploy(options: DeployOptions, operations: Operations, report: Report): Promise<Outcome> {
  const tell = unfailing(report);
  tell({ kind: "deploy-started", version: options.version });
  tell({ kind: "reading-status" });
  const seen = await readFirstPlan(options, operations);
  if (seen !== undefined && isUpToDate(seen) && (!isInterrupted(seen) || options.dryRun)) {
    return tellUpToDate(seen, false, tell);
  }
  if (options.dryRun && seen !== undefined) {
    // What is unfinished is at work then, and not failed; what it will leave to do can't be known.
    const isAtWork = seen.lockHeld && seen.unfinished.length > 0;
    if (isAtWork) throw new DeployError("LOCK_NOT_ACQUIRED", { holder: undefined, waitedMs: 0 });
    await prepare(seen, operations, tell);
    await operations.previewRestore();
    return { kind: "planned" };
  }

  tell({ kind: "work-found" });
  await operations.takeLock();
  try {
    const outcome = await deployLocked(options, seen, operations, tell);
    await noteEnd(outcome, operations, tell);
    return outcome;
  } catch (cause) {
    const error = asDeployError(cause, "migrate");
    await noteEnd({ kind: "stopped", error }, operations, tell);
    // A bug is shown as it is.
    throw error.code === "UNEXPECTED" ? cause : error;
  } finally {
    // The lock goes with the session anyway: failing to release it must not hide how the deploy ended.
    await operations.releaseLock().catch((cause) => tell({ kind: "warning", warning: warningAbout("unlock", cause) }));
  }
}

/** @returns undefined where a killed deploy's restore may still hold the rows, which is for the holder of the lock to settle */
async function readFirstPlan({ dryRun }: DeployOptions, operations: Operations): Promise<Plan | undefined> {
  try {
    return await operations.readPlan();
  } catch (error) {
    const isHeldUp = !dryRun && hasCode(error, "DEADLINE_EXCEEDED") && (await operations.mayBeInterrupted());
    if (!isHeldUp) throw error;
    return undefined;
  }
}

/** Before the lock is let go, so that an open entry is always that of a deploy that was killed. */
async function noteEnd(end: EndedDeploy, operations: Operations, tell: Report): Promise<void> {
  await operations.noteEnd(end).catch((cause) => tell({ kind: "warning", warning: warningAbout("journal", cause) }));
}

/**
 * What a killed deploy has left is finished or undone by the same ladder, before anything else is decided. Where a person
 * is needed that is how we end; otherwise the deploy goes on from what there is then.
 */
async function finishInterrupted(operations: Operations, tell: Report): Promise<Outcome | undefined> {
  const interrupted = await operations.findInterrupted();
  if (interrupted === undefined) return undefined;
  const { kind: remains } = interrupted.remains;
  if (remains === "untouched") {
    tell({ kind: "rolled-back", transactionId: undefined });
    await noteEnd({ kind: "stopped", error: interrupted.failure.error }, operations, tell);
    return undefined;
  }
  const outcome = await settleInterrupted(interrupted, operations, tell);
  await noteEnd(outcome, operations, tell);
  // Without a backup to go back to, the plan says best what is the matter.
  if (outcome.kind === "unresolved") return interrupted.backup === undefined ? undefined : outcome;
  // Where a restored database has taken the place of the failed one, the lock went with that.
  if (outcome.kind === "restored") await operations.takeLock();
  return undefined;
}

async function settleInterrupted(
  { pending, remains, failure, backup }: Interrupted,
  operations: Operations,
  tell: Report,
): Promise<Outcome> {
  const taken = backup ?? { path: "" };
  if (remains.kind === "whole" && remains.isRestored) {
    tell({ kind: "interrupted-restored", backupPath: taken.path });
    return { kind: "restored", failure: failure.error, backupPath: taken.path };
  }
  if (remains.kind === "whole") return stopClean(failure, remains.applied, pending, taken, tell);
  // A kill is no failure of a migration: what is applied whole stays, and the rest is applied now.
  if (backup !== undefined) return await recover(failure, "stop", pending, backup, operations, tell);
  const { error } = failure;
  return { kind: "unresolved", failure: error, recoveryFailures: [], backupPath: taken.path, instructions: [] };
}

/** What was seen before the lock may have been a migration of the holder at work: only now is anything decided. */
async function deployLocked(
  options: DeployOptions,
  seen: Plan | undefined,
  operations: Operations,
  tell: Report,
): Promise<Outcome> {
  const stopped = await finishInterrupted(operations, tell);
  if (stopped !== undefined) {
    await readLockedPlan(operations).catch((cause) => tell({ kind: "warning", warning: warningAbout("fence", cause) }));
    return stopped;
  }
  const plan = await readLockedPlan(operations);
  if (isUpToDate(plan)) return tellUpToDate(plan, seen === undefined || !isUpToDate(seen), tell);
  if (plan.problem === undefined) await operations.refuseRepetition(plan);
  await prepare(plan, operations, tell);
  if (!options.maintenance) return await migrateMarked(options, plan, operations, tell);
  try {
    await operations.raiseFence();
    return await migrateMarked(options, plan, operations, tell);
  } finally {
    await operations.lowerFence().catch((cause) => tell({ kind: "warning", warning: warningAbout("fence", cause) }));
  }
}

/** What is still there when we hold the lock belongs to a deploy that was killed. */
async function readLockedPlan(operations: Operations): Promise<Plan> {
  const plan = await operations.readPlan();
  if (!isInterrupted(plan)) return plan;
  if (plan.hasSwap) await operations.resolveSwap();
  if (plan.fence !== undefined) await operations.lowerLeftFence(plan.fence);
  return await operations.readPlan();
}

/** A deploy has left traces in the database: it is at work, or was killed. */
function isInterrupted(plan: Plan): boolean {
  return plan.fence !== undefined || plan.hasSwap;
}

async function migrateMarked(
  options: DeployOptions,
  plan: Plan,
  operations: Operations,
  tell: Report,
): Promise<Outcome> {
  const backup = await operations.takeBackup();

  tell({ kind: "migration-started", engine: options.engine });
  const startedMs = performance.now();
  const result = await operations.migrate().catch(asMigrateFailure);
  if (result.kind === "failed") {
    tell({ kind: "migration-failed", error: result.error });
    await operations.noteFailure(result.error).catch(() => {});
    return await recover(result, options.onPartial, plan.pending, backup, operations, tell);
  }

  // After the last COMMIT nothing restores by itself: what fails from here on can't undo a good deploy.
  const unverified = await verify(result.names, operations, tell);
  if (unverified !== undefined) return await unresolved(unverified, [], backup, operations);
  tell({ kind: "migration-finished", applied: result.names, durationMs: performance.now() - startedMs });

  tell({ kind: "prune-started" });
  await operations.prune(backup).catch((cause) => tell({ kind: "warning", warning: warningAbout("prune", cause) }));
  return { kind: "deployed", applied: result.names, backupPath: backup.path };
}

async function prepare(plan: Plan, operations: Operations, tell: Report): Promise<void> {
  if (plan.problem !== undefined) throw await operations.explain(plan.problem);
  const { segments, warnings } = await operations.prepare(plan);
  tell({ kind: "pending-found", pending: plan.pending, segments });
  for (const warning of [...plan.warnings, ...warnings]) tell({ kind: "warning", warning });
}

/** The recovery ladder, cheapest rung first. Each "as before" is said only after it was checked. */
async function recover(
  failure: MigrateFailure,
  onPartial: DeployOptions["onPartial"],
  pending: readonly string[],
  backup: TakenBackup,
  operations: Operations,
  tell: Report,
): Promise<Outcome> {
  let boundary: readonly string[] = [];
  try {
    const remains = await operations.settle(failure);
    if (remains.kind === "nothing") {
      boundary = remains.applied;
      if (boundary.length === 0 || onPartial === "stop") return stopClean(failure, boundary, pending, backup, tell);
    }
    await operations.proveAlone();
    tell({ kind: "restore-started", backupPath: backup.path });
    const startedMs = performance.now();
    const kept = await operations.restore();
    tell({ kind: "restore-finished", durationMs: performance.now() - startedMs });
    if (kept !== undefined) tell({ kind: "failed-database-kept", ...kept });
    return { kind: "restored", failure: failure.error, backupPath: backup.path };
  } catch (recoveryFailure) {
    const known = asDeployError(recoveryFailure, "restore");
    if (known.code === "RESTORE_NOT_PROVEN") {
      tell({ kind: "restore-not-proven", reasons: known.fields.reasons });
      // A restore that is not proven has changed nothing, so the boundary still stands.
      if (boundary.length > 0) return stopClean(failure, boundary, pending, backup, tell);
    }
    return await unresolved(failure.error, [known], backup, operations);
  }
}

/** Nothing half is left: as before, or at the boundary behind the migrations that are applied whole. */
function stopClean(
  { error, transactionId }: MigrateFailure,
  applied: readonly string[],
  pending: readonly string[],
  backup: TakenBackup,
  tell: Report,
): Outcome {
  const notApplied = pending.filter((name) => !applied.includes(name));
  if (applied.length === 0) {
    tell({ kind: "rolled-back", transactionId });
    return { kind: "rolled-back", failure: error, backupPath: backup.path };
  }
  // Found later, it is no stop: what is left is applied next, if anything is.
  const isFoundLater = error.code === "DEPLOY_INTERRUPTED";
  if (isFoundLater) tell({ kind: "interrupted-whole", applied, notApplied });
  if (isFoundLater && notApplied.length === 0) return { kind: "deployed", applied, backupPath: backup.path };
  if (!isFoundLater) tell({ kind: "stopped-at-boundary", applied, notApplied });
  return { kind: "at-boundary", failure: error, applied, notApplied, backupPath: backup.path };
}

async function unresolved(
  failure: AnyDeployError,
  recoveryFailures: readonly AnyDeployError[],
  backup: TakenBackup,
  operations: Operations,
): Promise<Outcome> {
  // What is true of the database must be told, whatever happens to the advice.
  const choices = await operations.describeChoices(backup).catch(() => undefined);
  const instructions = await operations.makeInstructions(backup, choices).catch(() => []);
  return { kind: "unresolved", failure, recoveryFailures, backupPath: backup.path, choices, instructions };
}

/** What can't be read after the last COMMIT is a matter for a person; the database is left alone. */
async function verify(
  applied: readonly string[],
  operations: Operations,
  tell: Report,
): Promise<AnyDeployError | undefined> {
  try {
    for (const warning of await operations.verify(applied)) tell({ kind: "warning", warning });
    return undefined;
  } catch (cause) {
    return asDeployError(cause, "verify");
  }
}

function tellUpToDate(plan: Plan, deployedByAnother: boolean, tell: Report): Outcome {
  for (const warning of plan.warnings) tell({ kind: "warning", warning });
  if (deployedByAnother) tell({ kind: "deployed-by-another" });
  tell({ kind: "up-to-date", applied: plan.applied.length });
  return { kind: "up-to-date", applied: plan.applied.length, deployedByAnother };
}

/** Whatever escapes from a migration, the ladder decides by what is in the database and not by what was thrown. */
function asMigrateFailure(cause: unknown): MigrateResult {
  const error = asDeployError(cause, "migrate");
  return { kind: "failed", error, transactionId: undefined, concurrent: undefined, hasUnsettledSessions: false };
}

/**
 * What the server refuses of our own statements is told as such. A bug while recovering must not hide what failed first:
 * both are kept, and a person is called.
 */
function asDeployError(cause: unknown, during: "migrate" | "restore" | "verify"): AnyDeployError {
  if (isDeployError(cause)) return cause;
  if (cause instanceof ServerError) {
    return new DeployError("STATEMENT_FAILED", { during: cause.during, server: cause.server }, { cause });
  }
  const stack = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
  return new DeployError("UNEXPECTED", { during, stack }, { cause });
}

function warningAbout(about: "prune" | "unlock" | "fence" | "journal", cause: unknown): Warning {
  const reason = isDeployError(cause) ? cause.code : cause instanceof Error ? cause.message : String(cause);
  return { about, reason };
}
