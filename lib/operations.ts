/**
 * What a deploy does to the world, one verb each: it holds the sessions and what earlier verbs found out, and hands
 * values down. Order and failure policy are in `deploy.ts`; modules that only a pending migration needs load then.
 */
import type { Backup } from "./backup/store.ts";
import type {
  Interrupted,
  KeptDatabase,
  MigrateFailure,
  MigrateResult,
  Operations,
  Preparation,
  Remains,
} from "./deploy.ts";
import { type AnyDeployError, DeployError, hasCode, type LockHolder } from "./errors.ts";
import type { Report, Warning } from "./events.ts";
import type { EndedDeploy } from "./journal/end.ts";
import type { JournalFailure } from "./journal/lines.ts";
import type { Journal } from "./journal/store.ts";
import { readMigrationsFolder, readPresentScripts } from "./migrations/folder.ts";
import { DEFAULT_SCHEMA, type History, readHistory } from "./migrations/history.ts";
import { makePlan, type Plan } from "./migrations/plan.ts";
import { retryWhileUnavailable } from "./postgres/availability.ts";
import { isShut } from "./postgres/connection-error.ts";
import { type Database, makeDatabase } from "./postgres/database.ts";
import type { LockOptions } from "./postgres/deploy-lock.ts";
import { untilInterrupted } from "./postgres/interruption.ts";
import type { Session } from "./postgres/session.ts";
import type { ConnectionTarget } from "./postgres/url.ts";
import type { Prepared } from "./preflight.ts";
import type { RecoveryPoint } from "./recovery-point.ts";
import type { RecoveryChoices } from "./restore/choices.ts";
import type { SwapEnd } from "./restore/interrupted-swap.ts";
import type { RestorePolicy } from "./restore/plan.ts";

/** The settings that operations work by. */
export interface OperationSettings {
  readonly target: ConnectionTarget;
  readonly migrationsDirectory: string;
  readonly migrateEngine: "native" | "prisma";
  readonly prismaSchema: string;
  /** 0: none. */
  readonly prismaTimeoutMs: number;
  readonly migrationOrder: "bytes" | "prisma";
  readonly onEdited: "warn" | "refuse";
  readonly onMissing: "warn" | "refuse";
  readonly backupDirectory: string;
  readonly backupFormat: "auto" | "plain" | "custom";
  readonly backupRetentionDays: number;
  readonly backupMinimumKeep: number;
  readonly acceptManualRestore: boolean;
  readonly restore: RestorePolicy;
  /** Empty: postgres, else template1. */
  readonly maintenanceDatabase: string;
  readonly databaseWaitMs: number;
  readonly deployLockWaitMs: number;
  readonly lockTimeoutMs: number;
  readonly lockRetryMs: number;
  readonly statementTimeoutMs: number;
  readonly createDatabase: boolean;
  readonly maintenance: boolean;
  /** Try what has failed before at once. */
  readonly retry: boolean;
}

export interface OperationContext {
  readonly settings: OperationSettings;
  /** What the user gave us, for the children that need it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly tell: Report;
  /** A swap that was cut off is finished or undone: for commands that may change the database. */
  readonly resolvesSwaps?: boolean;
  /** Fires with INTERRUPTED as its reason. What undoes a failure is never interrupted by it. */
  readonly signal: AbortSignal;
}

export interface DeployOperations extends Operations<Backup> {
  /** Names of applied migrations whose script is no longer the one that was applied. */
  readEdited(plan: Plan): Promise<readonly string[]>;
  /** Who may be at work on what is unfinished: the holder of the lock, or an engine that has outlived its CLI and lock. */
  readWorker(plan: Plan): Promise<LockHolder | undefined>;
  /** Ends every session, and waits for nobody: the program is about to end. Never throws. */
  close(): Promise<void>;
}

export const MINIMUM_SERVER = { versionNumber: 130_000, version: "13" } as const;
const READ_DEADLINE_MS = 60_000;

export function makeOperations(context: OperationContext): DeployOperations {
  return new DatabaseOperations(context);
}

class DatabaseOperations implements DeployOperations {
  readonly #context: OperationContext;
  readonly #database: Database;
  #session: Session | undefined;
  #isLocked = false;
  #history: History | undefined;
  /** Ids of the rows that our first session has seen. */
  #firstRows: readonly string[] | undefined;
  #prepared: Prepared | undefined;
  /** Names that are, or were, about to be applied. */
  #pending: readonly string[] = [];
  #journal: Journal | undefined;
  #point: RecoveryPoint | undefined;
  #fence: string | undefined;
  #fenceTransactionId: string | undefined;
  /** Set while what is at hand is a deploy that was killed, and not ours; with what had failed before, where that had. */
  #killed: { readonly failure: JournalFailure | undefined } | undefined;

  constructor(context: OperationContext) {
    this.#context = context;
    this.#database = makeDatabase(context.settings.target, context.tell);
  }

  async readPlan(): Promise<Plan> {
    const { settings, signal, tell } = this.#context;
    signal.throwIfAborted();
    const folder = readMigrationsFolder(settings.migrationsDirectory);
    // Under the lock a lost session is a lost lock: nothing may go on by another one.
    const waitMs = this.#isLocked ? 0 : settings.databaseWaitMs;
    this.#history = await untilInterrupted(
      signal,
      () => [this.#session],
      () => retryWhileUnavailable(() => this.#readHistory(), { waitMs, signal, tell }),
    );
    // Only where no session of ours has come and gone before it does the first read tell when we came.
    this.#firstRows ??= this.#database.sessionsOpened === 1 ? this.#history.rows.map(({ id }) => id) : [];
    const plan = makePlan(this.#history, folder.names, settings.target.schema ?? DEFAULT_SCHEMA, {
      ...settings,
      engine: settings.migrateEngine,
    });
    if (await this.#waitForOrphans(plan)) return await this.readPlan();
    if (folder.names.length > 0) return plan;
    return { ...plan, warnings: [...plan.warnings, { about: "empty-folder", path: folder.path }] };
  }

  async readEdited(plan: Plan): Promise<readonly string[]> {
    const { isChecksumOf } = await import("./migrations/checksum.ts");
    const rows = this.#history?.rows.filter(({ rolledBackAt, finishedAt }) => !rolledBackAt && finishedAt) ?? [];
    const edited: string[] = [];
    for (const name of plan.applied) {
      const [script] = await readPresentScripts(this.#context.settings.migrationsDirectory, [name]);
      const stored = rows.filter((row) => row.name === name);
      if (script !== undefined && !stored.some((row) => isChecksumOf(row.checksum, script.text))) edited.push(name);
    }
    return edited;
  }

  async readWorker(plan: Plan): Promise<LockHolder | undefined> {
    const { session } = this.#current();
    if (plan.lockHeld) {
      const { readLockHolder } = await import("./postgres/deploy-lock.ts");
      return await readLockHolder(session);
    }
    const { readEngine } = await import("./migrations/prisma-engine.ts");
    const names = plan.unfinished.map(({ name }) => name);
    return await readEngine(session, await readPresentScripts(this.#context.settings.migrationsDirectory, names));
  }

  async explain(problem: AnyDeployError): Promise<AnyDeployError> {
    if (problem.code !== "HISTORY_FAILED") return problem;
    const { explainFailed } = await import("./migrations/failed-explanation.ts");
    const { history, session } = this.#current();
    return await explainFailed(problem, history, session, this.#context.settings);
  }

  async takeLock(): Promise<void> {
    const { signal } = this.#context;
    const { acquireDeployLock } = await import("./postgres/deploy-lock.ts");
    await this.#session?.close();
    const open = () => this.#openMigrating();
    this.#session = await acquireDeployLock(this.#database, open, this.#lockOptions(signal));
    this.#isLocked = true;
    // What the killed deploy has left is finished or undone behind its fence.
    const { passLeftFence } = await import("./restore/fence.ts");
    await passLeftFence(this.#database, this.#session);
  }

  /** What the server says while it lets us in, for example that the mark of a fence is long, is no migration's notice. */
  async #openMigrating(): Promise<Session> {
    let isOpen = false;
    const session = await this.#database.open("deploy", {
      isMigrating: true,
      onNotice: (notice) => isOpen && this.#context.tell({ kind: "notice", ...notice }),
    });
    isOpen = true;
    return session;
  }

  async releaseLock(): Promise<void> {
    const { releaseDeployLock } = await import("./postgres/deploy-lock.ts");
    if (this.#session !== undefined) await releaseDeployLock(this.#session);
  }

  async resolveSwap(): Promise<void> {
    await this.#resolveSwap(this.#context.signal);
  }

  async lowerLeftFence(id: string): Promise<void> {
    await this.#lowerFence(id, true);
  }

  async raiseFence(): Promise<void> {
    this.#context.signal.throwIfAborted();
    const { makeFenceId, raiseFence } = await import("./restore/fence.ts");
    this.#fence = makeFenceId(new Date());
    const { transactionId, ...raised } = await raiseFence(this.#database, this.#fence);
    this.#fenceTransactionId = transactionId;
    this.#context.tell({ kind: "fence-raised", ...raised });
  }

  async lowerFence(): Promise<void> {
    if (this.#fence !== undefined) await this.#lowerFence(this.#fence, false);
  }

  async mayBeInterrupted(): Promise<boolean> {
    const { backupDirectory, target } = this.#context.settings;
    const { mayBeInterrupted } = await import("./interrupted.ts");
    return mayBeInterrupted(backupDirectory, target);
  }

  async findInterrupted(): Promise<Interrupted<Backup> | undefined> {
    if (!(await this.mayBeInterrupted())) return undefined;
    const { findInterrupted } = await import("./interrupted.ts");
    const { readOwner } = await import("./backup/room.ts");
    const { session } = this.#current();
    const owner = await readOwner(session);
    const readAfter = async () => {
      if ((await this.readPlan()).hasSwap) {
        await this.resolveSwap();
        await this.readPlan();
      }
      return this.#current().history;
    };
    const context = { ...this.#context, firstRows: this.#firstRows ?? [], now: () => new Date() };
    const found = await findInterrupted(this.#database, session, owner, readAfter, context);
    if (found === undefined) return undefined;
    this.#history = { ...this.#current().history, ...found.before };
    this.#pending = found.interrupted.pending;
    this.#journal = found.journal;
    this.#point = found.point;
    this.#killed = { failure: found.failure };
    return found.interrupted;
  }

  async refuseRepetition(plan: Plan): Promise<void> {
    const { settings } = this.#context;
    if (settings.retry) return;
    const { refuseRepetition } = await import("./repetition.ts");
    await refuseRepetition(plan, this.#current().session, settings, new Date());
  }

  async prepare(plan: Plan): Promise<Preparation> {
    const { settings, environment, signal } = this.#context;
    signal.throwIfAborted();
    const { prepareDeploy, summarise } = await import("./preflight.ts");
    const edited = await this.readEdited(plan);
    if (edited.length > 0 && settings.onEdited === "refuse") {
      throw new DeployError("HISTORY_EDITED", { migrations: edited });
    }
    const { history, session } = this.#current();
    this.#prepared = await untilInterrupted(
      signal,
      () => [session],
      () => prepareDeploy(plan, history.server, session, settings, environment),
    );
    this.#pending = plan.pending;
    const warnings: Warning[] = edited.length > 0 ? [{ about: "edited", migrations: edited }] : [];
    return { segments: summarise(this.#prepared), warnings: [...warnings, ...this.#prepared.warnings] };
  }

  async previewRestore(): Promise<void> {
    const { previewRestore } = await import("./recovery-point.ts");
    const { session, prepared } = this.#current();
    await previewRestore(this.#database, session, prepared, this.#context);
  }

  async takeBackup(): Promise<Backup> {
    const { takeRecoveryPoint } = await import("./recovery-point.ts");
    const { history, session, prepared } = this.#current();
    const context = { ...this.#context, fenceTransactionId: this.#fenceTransactionId };
    this.#point = await takeRecoveryPoint(this.#database, session, prepared, history, context);
    this.#journal = this.#point.journal;
    return this.#point.backup;
  }

  async migrate(): Promise<MigrateResult> {
    this.#context.signal.throwIfAborted();
    const { migrate, settleLost } = await import("./migration.ts");
    const { history, session, prepared, point } = this.#current();
    const migration = { database: this.#database, session, prepared, history, point };
    const result = await migrate(migration, this.#context);
    if (result.kind === "applied" || session.isOpen) return result;
    // What was lost may be the answer to the last COMMIT.
    return await settleLost({ ...migration, session: await this.#lockedSession() }, result, this.#context.settings);
  }

  async verify(applied: readonly string[]): Promise<readonly Warning[]> {
    const { verifyApplied } = await import("./recovery.ts");
    const { point } = this.#current();
    return await verifyApplied(await this.#lockedSession(), applied, point, this.#context.settings);
  }

  async settle(failure: MigrateFailure): Promise<Remains> {
    const { settle } = await import("./recovery.ts");
    const { history, point } = this.#current();
    const facts = { failure, history, pending: this.#pending, point };
    return await settle(await this.#lockedSession(), facts, this.#context);
  }

  async proveAlone(): Promise<void> {
    const { proveAlone } = await import("./recovery.ts");
    await proveAlone(this.#database, await this.#lockedSession(), this.#current().point, this.#context);
  }

  async restore(): Promise<KeptDatabase | undefined> {
    const { restore } = await import("./recovery.ts");
    const { findTools } = await import("./preflight.ts");
    const { point, history } = this.#current();
    const tools = this.#prepared?.tools ?? (await findTools(history.server.versionNumber));
    const access = { database: this.#database, tools, lockedSession: () => this.#lockedSession() };
    return await restore(access, { point, history }, this.#context);
  }

  async makeInstructions(backup: Backup, choices: RecoveryChoices | undefined): Promise<readonly string[]> {
    const { makeInstructions } = await import("./restore/instructions.ts");
    const { target, maintenanceDatabase } = this.#context.settings;
    return makeInstructions(backup, target, {
      properties: this.#point?.mark.content.properties,
      maintenanceDatabase,
      asksForRole: choices?.isForAnotherRole ?? false,
    });
  }

  async describeChoices({ manifest }: Backup): Promise<RecoveryChoices> {
    const { readPresent } = await import("./recovery.ts");
    const { makeChoices } = await import("./restore/choices.ts");
    const { settings, tell } = this.#context;
    const { point } = this.#current();
    // Whoever has found out before that there is no server has waited for it already.
    const patience = { waitMs: LOOK_WAIT_MS, signal: new AbortController().signal, tell };
    const present = await retryWhileUnavailable(() => readPresent(this.#database, point, settings), patience).catch(
      () => undefined,
    );
    return makeChoices({ database: settings.target.database, manifest, present });
  }

  async prune(backup: Backup): Promise<void> {
    const { pruneBackups } = await import("./backup/prune.ts");
    const { readNeededBackups } = await import("./journal/store.ts");
    const { removeLeftovers } = await import("./restore/leftovers.ts");
    const { backupDirectory, backupRetentionDays, backupMinimumKeep } = this.#context.settings;
    const policy = {
      retentionDays: backupRetentionDays,
      keepMinimum: backupMinimumKeep,
      justTaken: backup.manifest.id,
      neededBy: readNeededBackups(backupDirectory),
    };
    const { paths, kept } = await pruneBackups(backupDirectory, backup.manifest, policy, new Date());
    const leftovers = await removeLeftovers(backupDirectory, new Date());
    this.#context.tell({ kind: "pruned", paths: [...paths, ...leftovers], kept });
  }

  async noteFailure(error: AnyDeployError): Promise<void> {
    const { describeFailure } = await import("./journal/end.ts");
    this.#journal?.note({ step: "failed", failure: describeFailure(error) });
  }

  async noteEnd(end: EndedDeploy): Promise<void> {
    const journal = this.#journal;
    if (journal === undefined) return;
    const { makeEndStep } = await import("./journal/end.ts");
    journal.note(makeEndStep(end, this.#killed));
    // What comes next, if anything does, is another deploy.
    this.#database.onSessionOpened = undefined;
    this.#journal = undefined;
    this.#point = undefined;
    this.#killed = undefined;
  }

  async close(): Promise<void> {
    await this.#session?.leave();
  }

  /** Not given up at once: a deploy that has failed on a lost connection has a fence to lift all the same. */
  async #lowerFence(id: string, wasLeft: boolean): Promise<void> {
    const { lowerFence } = await import("./restore/fence.ts");
    const { settings, tell } = this.#context;
    const lowered = await retryWhileUnavailable(() => lowerFence(this.#database, id), {
      waitMs: Math.max(settings.databaseWaitMs, RECONNECT_MS_MIN),
      signal: new AbortController().signal,
      tell,
    });
    if (lowered !== undefined) {
      this.#journal?.note({ step: "fence-lowered", transactionId: lowered.transactionId });
    }
    // A restored database that was swapped in has never had ours.
    const isGone = !wasLeft && this.#fenceTransactionId !== undefined;
    if (lowered !== undefined || isGone) tell({ kind: "fence-lowered", wasLeft, id, ended: lowered?.ended ?? 0 });
  }

  #lockOptions(signal: AbortSignal): LockOptions {
    const { settings, tell } = this.#context;
    const onShut = async () => void (await this.#resolveSwap(signal));
    const openBeside = async () => {
      const { openBeside: open } = await import("./postgres/maintenance.ts");
      return await open(this.#database, settings.maintenanceDatabase);
    };
    return { waitMs: settings.deployLockWaitMs, signal, tell, onShut, openBeside };
  }

  async #resolveSwap(signal: AbortSignal): Promise<SwapEnd> {
    const { settings, tell } = this.#context;
    const { resolveSwap } = await import("./restore/interrupted-swap.ts");
    const { maintenanceDatabase, deployLockWaitMs: waitMs, restore } = settings;
    const backupDirectory = restore === "never" || restore === "in-place" ? undefined : settings.backupDirectory;
    return await resolveSwap(this.#database, { maintenanceDatabase, waitMs, backupDirectory, signal, tell });
  }

  /** Nobody is let in: perhaps by a swap. @returns true when that has come to its end, so that it is worth another try */
  async #passSwap(): Promise<boolean> {
    const { resolvesSwaps, settings, signal } = this.#context;
    if (resolvesSwaps) return !["absent", "unreachable", "shut-by-others"].includes(await this.#resolveSwap(signal));
    const { inspectSwap } = await import("./restore/interrupted-swap.ts");
    const state = await inspectSwap(this.#database, settings.maintenanceDatabase);
    if (state === "none") return false;
    const { database } = settings.target;
    throw new DeployError("SWAP_UNFINISHED", { database, isAtWork: state === "at-work", reason: undefined });
  }

  async #readHistory(attempts = SHUT_ATTEMPTS_MAX): Promise<History> {
    const { settings, tell } = this.#context;
    if (this.#session?.isOpen !== true && !this.#isLocked) this.#session = await this.#database.open("deploy");
    const { session } = this.#current();
    try {
      const history = await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, READ_DEADLINE_MS);
      const { version, versionNumber } = history.server;
      if (versionNumber >= MINIMUM_SERVER.versionNumber) return history;
      throw new DeployError("SERVER_TOO_OLD", { serverVersion: version, minimum: MINIMUM_SERVER.version });
    } catch (error) {
      if (isShut(error) && attempts > 0 && (await this.#passSwap())) return await this.#readHistory(attempts - 1);
      if (!settings.createDatabase || !hasCode(error, "DATABASE_NOT_FOUND")) throw error;
      const { createDatabase } = await import("./postgres/database-creation.ts");
      await createDatabase(this.#database);
      tell({ kind: "database-created", database: settings.target.database });
      return await this.#readHistory();
    }
  }

  /** The engine of a Prisma CLI outlives a deploy that was killed, and holds no lock: what it does is not believed yet. */
  async #waitForOrphans(plan: Plan): Promise<boolean> {
    const names = [...plan.pending, ...plan.unfinished.map(({ name }) => name)];
    if (!this.#isLocked || names.length === 0) return false;
    const { waitForEngines } = await import("./migrations/prisma-engine.ts");
    const { settings, signal, tell } = this.#context;
    const scripts = await readPresentScripts(settings.migrationsDirectory, names);
    return await waitForEngines(this.#current().session, scripts, { waitMs: settings.deployLockWaitMs, signal, tell });
  }

  /**
   * The session that holds the lock. Where it was lost, a new one that has taken the lock again: then the old backend,
   * and whatever it was doing, has ended.
   */
  async #lockedSession(): Promise<Session> {
    if (this.#session?.isOpen !== true) {
      const { settings, tell } = this.#context;
      const uninterrupted = new AbortController().signal;
      await retryWhileUnavailable(
        async () => {
          const { acquireDeployLock } = await import("./postgres/deploy-lock.ts");
          this.#session = await acquireDeployLock(
            this.#database,
            () => this.#database.open("deploy", { isMigrating: true }),
            this.#lockOptions(uninterrupted),
          );
        },
        { waitMs: Math.max(settings.databaseWaitMs, RECONNECT_MS_MIN), signal: uninterrupted, tell },
      );
    }
    return this.#current().session;
  }

  /** What the earlier verbs left. A verb that is called out of order is a bug. */
  #current() {
    const [session, history, prepared, point] = [this.#session, this.#history, this.#prepared, this.#point];
    const required = <T>(value: T | undefined): T => {
      if (value === undefined) throw new Error("an operation was called before the one that it builds on");
      return value;
    };
    return {
      get session() {
        return required(session);
      },
      get history() {
        return required(history);
      },
      get prepared() {
        return required(prepared);
      },
      get point() {
        return required(point);
      },
    };
  }
}

/** How often in a row a swap may be in our way before we knock. */
const SHUT_ATTEMPTS_MAX = 5;

/** After a lost connection the server may be recovering from a crash: that is worth more than an impatient setting. */
const RECONNECT_MS_MIN = 60_000;
const LOOK_WAIT_MS = 10_000;
