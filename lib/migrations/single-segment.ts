/**
 * One script outside of any transaction of ours, with Prisma's own bookkeeping around it: its row is there, unfinished,
 * before anything runs, so that no half of a migration is ever unrecorded.
 */
import { randomUUID } from "node:crypto";
import { type AnyDeployError, DeployError, isDeployError } from "../errors.ts";
import { DEPLOY_LOCK_KEY } from "../postgres/deploy-lock-key.ts";
import { ServerError } from "../postgres/session.ts";
import type { AppliedMigration } from "./atomic-segment.ts";
import { dropInvalidIndexes, type IndexSnapshot, readIndexes } from "./concurrent-index.ts";
import { failureLogs } from "./migration-logs.ts";
import { createTable, insertStarted, markFailed, markFinished } from "./migration-rows.ts";
import {
  despiteCancel,
  inTransaction,
  isLockConflict,
  isLost,
  migrationError,
  QUERY_DEADLINE_MS,
  type Run,
  retryLockConflicts,
  rollBack,
  sendScript,
  setLockTimeout,
  throwIfInterrupted,
} from "./native-run.ts";
import type { MadeIndex } from "./outside-statements.ts";
import type { PlannedScript, Segment } from "./segments.ts";
import {
  differingSettings,
  holdsDeployLock,
  isInTransaction,
  makePutBack,
  readSessionState,
  readSettings,
} from "./session-state.ts";
import { groupStatements, type StatementPlace } from "./statements.ts";

export type SingleResult =
  | { readonly kind: "committed"; readonly applied: readonly AppliedMigration[] }
  /** Nothing was begun, the row included. */
  | { readonly kind: "not-begun"; readonly error: AnyDeployError }
  /** The row stands unfinished. */
  | {
      readonly kind: "failed";
      readonly error: AnyDeployError;
      readonly rowId: string;
      /** For `cleanUpConcurrently`. */
      readonly indexes: IndexSnapshot;
      readonly made: MadeIndex;
    }
  | { readonly kind: "lost"; readonly error: AnyDeployError };

/** How far the script has come. */
interface Progress {
  readonly rowId: string;
  /** As they were before. */
  indexes: IndexSnapshot;
  /** Offset of the text that was sent last, in the script. */
  start: number;
  /** The row may be there. */
  isRowSent: boolean;
  /** The row is there. */
  isBegun: boolean;
  /** All of the script has run: what fails then is a check of what it has left. */
  isThrough: boolean;
}

const ABORTED_TRANSACTION = "25P02";

/** @throws only for a bug; the row then stands unfinished, as after a kill */
export async function applySingle(run: Run, segment: Segment): Promise<SingleResult> {
  const [script] = segment.scripts;
  if (script === undefined) throw new Error("a segment without a script");
  const startedMs = performance.now();
  const rowId = randomUUID();
  const progress: Progress = {
    rowId,
    indexes: new Map(),
    start: 0,
    isRowSent: false,
    isBegun: false,
    isThrough: false,
  };
  try {
    await begin(run, segment, script, progress);
    await setLockTimeout(run.session, lockTimeoutOf(run, segment));
    run.tell({ kind: "migration-running", name: script.name });
    await runScript(run, segment, script, progress);
    progress.isThrough = true;
    // The script is through: an interruption is for the next one.
    await despiteCancel(() => checkAfter(run, script));
    await despiteCancel(() => finish(run, script, progress));
  } catch (error) {
    return await fail(run, script, progress, error);
  }
  return { kind: "committed", applied: [{ name: script.name, durationMs: performance.now() - startedMs }] };
}

async function finish(run: Run, script: PlannedScript, { rowId }: Progress): Promise<void> {
  const id = await markFinished(run.session, run.schema, rowId, run.nextTimestamp());
  if (id === undefined) throw new DeployError("VERIFY_FAILED", { migrations: [script.name] });
  run.transactionIds.push(id);
}

async function begin(run: Run, segment: Segment, script: PlannedScript, progress: Progress): Promise<void> {
  throwIfInterrupted(run.signal);
  const { session, schema, nextTimestamp } = run;
  progress.indexes = await readIndexes(session);
  if (!run.hasTable) {
    await inTransaction(run, "create _prisma_migrations", () => createTable(session, schema));
    run.hasTable = true;
  }
  const { rowId, indexes } = progress;
  const made = madeFrom(script, 0);
  const concurrent = segment.couldBeHalfApplied ? undefined : { indexes, made };
  run.onScript?.({ migration: script.name, rowId, concurrent });
  progress.isRowSent = true;
  run.transactionIds.push(await insertStarted(session, schema, progress.rowId, script, nextTimestamp()));
  progress.isBegun = true;
}

/**
 * CONCURRENTLY waits for old transactions and stands in nobody's way; a script that a timeout could leave half applied
 * waits once for as long as another would be tried again.
 */
function lockTimeoutOf(run: Run, segment: Segment): string {
  if (loneOutside(segment)?.isConcurrent) return "0";
  if (segment.mode === "statement-by-statement" || !segment.couldBeHalfApplied) return `${run.lockTimeoutMs}ms`;
  return `${Math.max(run.lockRetryMs, run.lockTimeoutMs)}ms`;
}

function loneOutside({ scripts, mode }: Segment): StatementPlace["outside"] {
  const statements = scripts[0]?.facts.statements ?? [];
  return mode === "alone" && statements.length === 1 ? statements[0]?.outside : undefined;
}

async function runScript(run: Run, segment: Segment, script: PlannedScript, progress: Progress): Promise<void> {
  if (segment.mode === "statement-by-statement") return await runByStatement(run, script, progress);
  const made = loneOutside(segment)?.index;
  const send = () => sendScript(run, script.sendText, script.name);
  if (made !== undefined) await runConcurrently(run, made, progress, send);
  else if (segment.couldBeHalfApplied) await send();
  else await retryLockConflicts(run, send);
}

/** Each statement is its own transaction, and so is each transaction of the script's own: tried again as a whole. */
async function runByStatement(run: Run, script: PlannedScript, progress: Progress): Promise<void> {
  const sendPlace = async (place: StatementPlace) => {
    progress.start = place.start;
    await sendScript(run, script.text.slice(place.start, place.end), script.name);
  };
  for (const unit of groupStatements(script.facts.statements)) {
    const [first] = unit;
    const made = unit.length === 1 ? first?.outside?.index : undefined;
    if (first !== undefined && made !== undefined) {
      const own = await readLockTimeout(run);
      await setLockTimeout(run.session, "0");
      await runConcurrently(run, made, progress, () => sendPlace(first));
      await setLockTimeout(run.session, own);
      continue;
    }
    await retryLockConflicts(run, async () => {
      try {
        for (const place of unit) await sendPlace(place);
      } catch (error) {
        if (unit.length > 1 && isLockConflict(error)) await rollBack(run);
        throw error;
      }
    });
  }
}

async function readLockTimeout(run: Run): Promise<string> {
  const [row] = await run.session.query<{ value: string }>(
    `SELECT pg_catalog.current_setting('lock_timeout') AS "value"`,
    { during: "read lock_timeout", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.value ?? "0";
}

/**
 * A `prisma migrate deploy` that has given up still waits for the deploy lock on the server, and its snapshot is one that
 * CONCURRENTLY waits for: a deadlock. The invalid index goes, and the statement is tried again.
 */
async function runConcurrently(
  run: Run,
  made: MadeIndex,
  progress: Progress,
  send: () => Promise<void>,
): Promise<void> {
  await retryLockConflicts(run, async () => {
    try {
      await send();
    } catch (error) {
      if (isLockConflict(error) && run.session.isOpen) {
        await setLockTimeout(run.session, `${run.lockTimeoutMs}ms`);
        await dropInvalidIndexes(run, progress.indexes, made);
        await setLockTimeout(run.session, "0");
      }
      throw error;
    }
  });
}

/** Nothing may be left open, and nothing that the script has set may reach our rows. */
async function checkAfter(run: Run, script: PlannedScript): Promise<void> {
  const broke = { migration: script.name, reason: "it left a transaction open" };
  if (await isLeftInTransaction(run)) {
    await rollBack(run);
    throw new DeployError("MIGRATION_BROKE_TRANSACTION", broke);
  }
  await putBack(run);
  const left = differingSettings(run.settings, await readSettings(run.session));
  if (left.length > 0) throw sessionChanged(script, left.join(", "));
  if (!(await holdsDeployLock(run.session)) && !(await retakeLock(run)))
    throw sessionChanged(script, "it released the deploy lock");
}

function sessionChanged(script: PlannedScript, reason: string): AnyDeployError {
  return new DeployError("MIGRATION_LEFT_SESSION_CHANGED", { migration: script.name, reason });
}

async function isLeftInTransaction(run: Run): Promise<boolean> {
  try {
    return await isInTransaction(run.session);
  } catch (error) {
    if (error instanceof ServerError && error.server.sqlState === ABORTED_TRANSACTION) return true;
    throw error;
  }
}

async function putBack(run: Run): Promise<void> {
  const statements = makePutBack(run.settings, await readSessionState(run.session));
  await run.session.script(statements.join("; "), { during: "put the settings back", deadlineMs: QUERY_DEADLINE_MS });
}

/** DISCARD ALL, for example, has let it go. Nobody has had it since when it is free. */
async function retakeLock(run: Run): Promise<boolean> {
  const [row] = await run.session.query<{ held: boolean }>(
    `SELECT pg_catalog.pg_try_advisory_lock(${DEPLOY_LOCK_KEY}) AS "held"`,
    { during: "take the deploy lock again", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.held === true;
}

async function fail(run: Run, script: PlannedScript, progress: Progress, cause: unknown): Promise<SingleResult> {
  const { rowId, indexes, start, isRowSent, isBegun } = progress;
  const error = explain(run, script, progress, cause);
  if (isLost(run, cause)) return isRowSent ? { kind: "lost", error } : { kind: "not-begun", error };
  if (!isBegun) return { kind: "not-begun", error };
  const made = madeFrom(script, start);
  try {
    await despiteCancel(async () => {
      if (await isLeftInTransaction(run)) await rollBack(run);
      await putBack(run);
    });
    const logs = failureLogs(script.name, error);
    const id = await despiteCancel(() => markFailed(run.session, run.schema, rowId, logs));
    if (id !== undefined) run.transactionIds.push(id);
  } catch (secondError) {
    if (isLost(run, secondError)) return { kind: "lost", error };
    // The row stands unfinished without its logs, which says the same to everybody.
    if (!isDeployError(secondError) && !(secondError instanceof ServerError)) throw secondError;
  }
  return { kind: "failed", error, rowId, indexes, made };
}

/** The index that the statement at an offset, or the next one, makes. */
function madeFrom(script: PlannedScript, start: number): MadeIndex {
  return script.facts.statements.find((place) => place.start >= start)?.outside?.index ?? { kind: "none" };
}

/** Our own statements fail under their own name, so that nobody looks for the fault in the script. */
function explain(run: Run, script: PlannedScript, progress: Progress, cause: unknown): AnyDeployError {
  if (cause instanceof ServerError && !progress.isBegun) {
    return new DeployError("STATEMENT_FAILED", { during: `record ${script.name}`, server: cause.server }, { cause });
  }
  return migrationError(run, script, cause, progress.isThrough ? undefined : progress.start);
}
