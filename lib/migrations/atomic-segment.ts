/**
 * An atomic segment: BEGIN, every script with its row, COMMIT. A script can't lie: after each one it is checked that the
 * transaction, the lock and the settings are what they must be, before anything is recorded.
 */
import { randomUUID } from "node:crypto";
import { type AnyDeployError, DeployError, isDeployError } from "../errors.ts";
import { ServerError } from "../postgres/session.ts";
import { failureLogs } from "./migration-logs.ts";
import { createTable, hasTable, insertFinished, insertStarted, markFailed } from "./migration-rows.ts";
import {
  despiteCancel,
  isCancelled,
  isLost,
  migrationError,
  QUERY_DEADLINE_MS,
  type Run,
  readTransactionId,
  rollBack,
  sendScript,
  throwIfInterrupted,
} from "./native-run.ts";
import type { PlannedScript, Segment } from "./segments.ts";
import {
  differingSettings,
  holdsDeployLock,
  MARKER,
  makeCheckConstraints,
  makeDeferAgain,
  makePutBack,
  readSessionState,
  readSettings,
  type SessionState,
} from "./session-state.ts";

export interface AppliedMigration {
  readonly name: string;
  readonly durationMs: number;
}

export type AtomicResult =
  | { readonly kind: "committed"; readonly applied: readonly AppliedMigration[] }
  /** Nothing of it is in the database; that was asked of the server. */
  | {
      readonly kind: "rolled-back";
      readonly index: number;
      readonly error: AnyDeployError;
      /** What the server said about the script, or about the merge. */
      readonly refusal: ServerError | undefined;
      readonly transactionId: string | undefined;
    }
  /** The script ended our transaction behind our back: a part of it may be committed. */
  | {
      readonly kind: "broken";
      readonly index: number;
      readonly error: AnyDeployError;
      readonly rowId: string;
      /** What was committed whole together with it. */
      readonly applied: readonly AppliedMigration[];
    }
  /** The connection is gone; only a new session can tell. */
  | {
      readonly kind: "lost";
      readonly index: number;
      readonly error: AnyDeployError;
      readonly transactionId: string | undefined;
      readonly commitSent: boolean;
    };

/** How far one try has come. */
interface Attempt {
  index: number;
  isBegun: boolean;
  transactionId: string | undefined;
  marker: string | undefined;
  commitSent: boolean;
  readonly applied: AppliedMigration[];
}

/**
 * Deferred constraints that can't be deferred again by their name alone. The next script has to have a transaction of
 * its own, which is what the server's 55006 asks for as well.
 */
const AMBIGUOUS_CONSTRAINT = { sqlState: "55006", message: "deferred constraints of the same name" };

/** After such a script the lock is looked for at once, so that it is blamed; before the COMMIT it is in any case. */
const NAMES_LOCKS = /advisory/i;

/**
 * Runs the segment once.
 *
 * @param onCommitting told the transaction's id when everything is done but the COMMIT; what it throws rolls back
 * @throws only for a bug; the transaction is then rolled back
 */
export async function applyAtomic(
  run: Run,
  segment: Segment,
  onCommitting: (transactionId: string) => Promise<void>,
): Promise<AtomicResult> {
  const attempt: Attempt = {
    index: 0,
    isBegun: false,
    transactionId: undefined,
    marker: undefined,
    commitSent: false,
    applied: [],
  };
  const hadTable = run.hasTable;
  try {
    await begin(run, segment, attempt);
    const last = segment.scripts.at(-1);
    if (last === undefined) throw new Error("a segment without a script");
    for (const [index, script] of segment.scripts.entries()) {
      attempt.index = index;
      await applyScript(run, script, attempt, script === last);
    }
    await commit(run, last, attempt, onCommitting);
    return { kind: "committed", applied: attempt.applied };
  } catch (error) {
    const result = await undo(run, segment, attempt, error);
    if (result.kind === "rolled-back") run.hasTable = hadTable;
    return result;
  }
}

async function begin(run: Run, segment: Segment, attempt: Attempt): Promise<void> {
  throwIfInterrupted(run.signal);
  const options = { during: "begin the transaction", deadlineMs: QUERY_DEADLINE_MS };
  await run.session.script("BEGIN", options);
  attempt.isBegun = true;
  if (segment.setsTransaction) {
    // Asking for an id would take a snapshot, after which the script's SET TRANSACTION is refused.
    attempt.marker = randomUUID();
    await run.session.script(`SET LOCAL ${MARKER} = '${attempt.marker}'`, options);
    return;
  }
  attempt.transactionId = await readTransactionId(run.session);
  if (!run.hasTable) await createTableOnce(run);
}

async function createTableOnce(run: Run): Promise<void> {
  await createTable(run.session, run.schema);
  run.hasTable = true;
}

async function applyScript(run: Run, script: PlannedScript, attempt: Attempt, isLast: boolean): Promise<void> {
  const startedAt = run.nextTimestamp();
  const startedMs = performance.now();
  let isThrough = false;
  run.tell({ kind: "migration-running", name: script.name });
  try {
    await sendScript(run, script.sendText, script.name);
    isThrough = true;
    await checkAfter(run, script, attempt, isLast);
  } catch (error) {
    throw error instanceof ServerError ? new ScriptRefusal(error, isThrough) : error;
  }
  const finishedAt = run.nextTimestamp();
  if (!run.hasTable) await createTableOnce(run);
  await insertFinished(run.session, run.schema, randomUUID(), script, { startedAt, finishedAt });
  attempt.applied.push({ name: script.name, durationMs: performance.now() - startedMs });
}

/** An error of the script, or of a check of what it has left, unlike one of our own statements. */
class ScriptRefusal extends Error {
  readonly refusal: ServerError;
  readonly isThrough: boolean;

  constructor(refusal: ServerError, isThrough: boolean) {
    super(refusal.message, { cause: refusal });
    this.refusal = refusal;
    this.isThrough = isThrough;
  }
}

/** The order matters: what the commit would have checked is checked as the script has left the session. */
async function checkAfter(run: Run, script: PlannedScript, attempt: Attempt, isLast: boolean): Promise<void> {
  const state = await readSessionState(run.session);
  const isOurs =
    attempt.marker === undefined ? state.transactionId === attempt.transactionId : state.marker === attempt.marker;
  if (!isOurs) {
    const broke = { migration: script.name, reason: "it ended the transaction that it ran in" };
    throw new DeployError("MIGRATION_BROKE_TRANSACTION", broke);
  }
  if (NAMES_LOCKS.test(script.text)) await checkLock(run, script);
  const check = makeCheckConstraints(state.constraints);
  if (check !== undefined) await sendScript(run, check, script.name);
  const statements = makePutBack(run.settings, state);
  if (!isLast) statements.push(...beforeNext(attempt, state));
  await run.session.script(statements.join("; "), { during: "put the settings back", deadlineMs: QUERY_DEADLINE_MS });
}

/** What the next script would find at the start of a transaction of its own. */
function beforeNext(attempt: Attempt, { constraints }: SessionState): string[] {
  if (constraints.some(({ initiallyDeferred, isAmbiguous }) => initiallyDeferred && isAmbiguous)) {
    const unknown = { detail: undefined, hint: undefined, position: undefined, where: undefined };
    attempt.index += 1;
    throw new ServerError({ ...AMBIGUOUS_CONSTRAINT, ...unknown }, { during: "defer the constraints again" });
  }
  const defer = makeDeferAgain(constraints);
  return [...(defer === undefined ? [] : [defer]), "CLOSE ALL"];
}

async function checkLock(run: Run, script: PlannedScript): Promise<void> {
  if (await holdsDeployLock(run.session)) return;
  throw leftChanged(script, "it released the deploy lock");
}

function leftChanged(script: PlannedScript, reason: string): AnyDeployError {
  return new DeployError("MIGRATION_LEFT_SESSION_CHANGED", { migration: script.name, reason });
}

async function commit(
  run: Run,
  last: PlannedScript,
  attempt: Attempt,
  onCommitting: (transactionId: string) => Promise<void>,
): Promise<void> {
  await checkLock(run, last);
  const left = differingSettings(run.settings, await readSettings(run.session));
  if (left.length > 0) throw leftChanged(last, left.join(", "));
  const transactionId = attempt.transactionId ?? (await readTransactionId(run.session));
  attempt.transactionId = transactionId;
  await onCommitting(transactionId);
  throwIfInterrupted(run.signal);
  attempt.commitSent = true;
  await sendScript(run, "COMMIT", "commit the transaction");
  // A COMMIT in an aborted transaction rolls back and calls it a success.
  const status = await readStatus(run, transactionId);
  if (status !== "committed") throw new DeployError("COMMIT_UNKNOWN", { transactionId, reason: `it is ${status}` });
  run.transactionIds.push(transactionId);
}

async function readStatus(run: Run, transactionId: string | undefined): Promise<string | undefined> {
  if (transactionId === undefined) return undefined;
  const [row] = await run.session.query<{ status: string | null }>(
    `SELECT pg_catalog.pg_xact_status('${transactionId}'::xid8) AS "status"`,
    { during: "read the transaction's status", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.status ?? "forgotten";
}

/** Rolls back and asks the server what became of the transaction: "as before" is never guessed. */
async function undo(run: Run, segment: Segment, attempt: Attempt, cause: unknown): Promise<AtomicResult> {
  const { index, transactionId, commitSent } = attempt;
  const script = segment.scripts[index];
  if (script === undefined || !isExpected(cause)) {
    if (attempt.isBegun && run.session.isOpen) await rollBack(run);
    throw cause;
  }
  const refusal = cause instanceof ScriptRefusal ? cause.refusal : undefined;
  const error = explain(run, script, attempt, cause);
  const lost = { kind: "lost", index, error, transactionId, commitSent } as const;
  if (!run.session.isOpen) return lost;
  try {
    // A COMMIT that the server has refused has ended the transaction.
    if (attempt.isBegun && !commitSent) await despiteCancel(() => rollBack(run));
    const status = await despiteCancel(() => readStatus(run, transactionId));
    if (status === "committed" && transactionId !== undefined) run.transactionIds.push(transactionId);
    // What failed came after the COMMIT, for example a request to cancel that was late.
    if (commitSent && status === "committed") return { kind: "committed", applied: attempt.applied };
    const isGone = status === "aborted" || (status === undefined && error.code !== "MIGRATION_BROKE_TRANSACTION");
    if (isGone) return { kind: "rolled-back", index, error, refusal, transactionId };
    const applied = status === "committed" ? attempt.applied : [];
    const brokenRowId = await despiteCancel(() => recordBroken(run, script, error));
    return { kind: "broken", index, error, rowId: brokenRowId, applied };
  } catch (secondError) {
    if (isLost(run, secondError)) return lost;
    throw secondError;
  }
}

/** Anything else is a bug. */
function isExpected(cause: unknown): boolean {
  return cause instanceof ScriptRefusal || cause instanceof ServerError || isDeployError(cause);
}

/** Our own statements fail under their own name, so that nobody looks for the fault in the script. */
function explain(run: Run, script: PlannedScript, { commitSent }: Attempt, cause: unknown): AnyDeployError {
  if (cause instanceof ScriptRefusal) {
    return migrationError(run, script, cause.refusal, cause.isThrough ? undefined : 0);
  }
  if (!(cause instanceof ServerError) || isCancelled(run, cause)) return migrationError(run, script, cause, undefined);
  const during = commitSent ? "commit the transaction" : `record ${script.name}`;
  return new DeployError("STATEMENT_FAILED", { during, server: cause.server }, { cause });
}

/** A part of the migration may be in the database: a failed row says so to everybody, Prisma included. */
async function recordBroken(run: Run, script: PlannedScript, error: AnyDeployError): Promise<string> {
  // It may have been committed with the script.
  if (!(await hasTable(run.session, run.schema))) await createTable(run.session, run.schema);
  run.hasTable = true;
  const rowId = randomUUID();
  run.transactionIds.push(await insertStarted(run.session, run.schema, rowId, script, run.nextTimestamp()));
  const id = await markFailed(run.session, run.schema, rowId, failureLogs(script.name, error));
  if (id !== undefined) run.transactionIds.push(id);
  return rowId;
}
