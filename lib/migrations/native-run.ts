/** What the native engine's modules share while they work: the session that holds the deploy lock, and its rules. */
import { type AnyDeployError, DeployError, hasCode, isDeployError, type ServerMessage } from "../errors.ts";
import type { Report } from "../events.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import { cancelWhenAborted } from "../postgres/interruption.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import type { IndexSnapshot } from "./concurrent-index.ts";
import type { MadeIndex } from "./outside-statements.ts";
import { countCharacters, makeScriptLocation } from "./script-location.ts";
import type { PlannedScript } from "./segments.ts";
import { readSettings, type SessionSettings } from "./session-state.ts";

export interface RunOptions {
  /** Holds the deploy lock. */
  readonly session: Session;
  /** Where `_prisma_migrations` is, or will be. */
  readonly schema: string;
  readonly hasTable: boolean;
  /** How long one statement waits for a lock, so that nobody queues behind us for longer. */
  readonly lockTimeoutMs: number;
  /** How long a segment is tried again after such a wait, or after a deadlock. */
  readonly lockRetryMs: number;
  /** Its reason, when it fires, is an INTERRUPTED error. */
  readonly signal: AbortSignal;
  readonly tell: Report;
  /** Told what is about to run outside of our transactions, before its row is written. What it throws stops it. */
  readonly onScript?: (start: ScriptStart) => void;
  /** Milliseconds since 1970 by this machine's clock, fractions allowed: Prisma takes its times from the client too. */
  readonly now: () => number;
}

/** A script that runs with a row of its own, and what a failure of it could leave. */
export interface ScriptStart {
  readonly migration: string;
  readonly rowId: string;
  /** Set where it could at most be an invalid index. */
  readonly concurrent: { readonly indexes: IndexSnapshot; readonly made: MadeIndex } | undefined;
}

/** The engine at work. What changes while it works is here and nowhere else. */
export interface Run extends Omit<RunOptions, "now"> {
  /** As they were when the engine began, our own `lock_timeout` included. */
  readonly settings: SessionSettings;
  readonly lockTimeoutBefore: string;
  /** ISO 8601 with microseconds, each later than the one before: the rows are ordered by their start. */
  readonly nextTimestamp: () => string;
  hasTable: boolean;
  /** Ids of the transactions that we know to be ours and committed. */
  readonly transactionIds: string[];
}

/** For statements that only read or write our own rows. */
export const QUERY_DEADLINE_MS = 60_000;

/** More of them can't be on their way. */
const CANCELS_MAX = 5;
const ROLLBACK_DEADLINE_MS = 120_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MS_MAX = 15_000;

/** Lock not available in time, deadlock, serialization failure: the same statement may succeed later. */
const LOCK_CONFLICTS = ["55P03", "40P01", "40001"];
const QUERY_CANCELED = "57014";

/** Sets our `lock_timeout` and notes what a script must not leave changed. */
export async function startRun(options: RunOptions): Promise<Run> {
  const [row] = await options.session.query<{ lockTimeout: string }>(
    `SELECT pg_catalog.current_setting('lock_timeout') AS "lockTimeout"`,
    { during: "read lock_timeout", deadlineMs: QUERY_DEADLINE_MS },
  );
  await setLockTimeout(options.session, `${options.lockTimeoutMs}ms`);
  const { now, ...rest } = options;
  return {
    ...rest,
    settings: await readSettings(options.session),
    lockTimeoutBefore: row?.lockTimeout ?? "0",
    nextTimestamp: makeTimestamps(now),
    transactionIds: [],
  };
}

/** Gives the session back as it was. Where that fails, the session is lost, and its next user will be told. */
export async function endRun(run: Run): Promise<void> {
  if (!run.session.isOpen) return;
  await setLockTimeout(run.session, run.lockTimeoutBefore).catch(() => {});
}

/** @param lockTimeout with its unit; `0` waits for ever */
export async function setLockTimeout(session: Session, lockTimeout: string): Promise<void> {
  await session.query(`SELECT pg_catalog.set_config('lock_timeout', ${quoteLiteral(lockTimeout)}, false)`, {
    during: "set lock_timeout",
    deadlineMs: QUERY_DEADLINE_MS,
  });
}

/** Microseconds as Prisma's engine writes them. @see chrono::Utc::now in schema-engine/connectors */
export function makeTimestamps(now: () => number): () => string {
  let lastMicroseconds = 0;
  return () => {
    lastMicroseconds = Math.max(lastMicroseconds + 1, Math.floor(now() * 1_000));
    const milliseconds = Math.floor(lastMicroseconds / 1_000);
    const fraction = String(lastMicroseconds % 1_000).padStart(3, "0");
    return new Date(milliseconds).toISOString().replace("Z", `${fraction}Z`);
  };
}

/**
 * Sends statements that may take as long as they need. An interruption cancels them.
 *
 * @throws INTERRUPTED before anything is sent
 */
export async function sendScript(run: Run, text: string, during: string): Promise<void> {
  const { session, signal } = run;
  throwIfInterrupted(signal);
  await cancelWhenAborted(
    signal,
    () => [session],
    () => session.script(text, { during, deadlineMs: undefined }),
  );
}

export function throwIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw interruptionOf(signal);
}

export function interruptionOf(signal: AbortSignal): DeployError<"INTERRUPTED"> {
  const { reason } = signal;
  if (hasCode(reason, "INTERRUPTED")) return reason;
  return new DeployError("INTERRUPTED", { signal: "SIGTERM" }, { cause: reason });
}

export function isLockConflict(error: unknown): error is ServerError {
  return error instanceof ServerError && LOCK_CONFLICTS.includes(error.server.sqlState);
}

/** True where the connection is gone, so that only a new session can tell what the server has made of it. */
export function isLost(run: Run, error: unknown): boolean {
  return !run.session.isOpen && isDeployError(error);
}

/** True for what our own cancelling has caused. */
export function isCancelled(run: Run, error: ServerError): boolean {
  return run.signal.aborted && error.server.sqlState === QUERY_CANCELED;
}

export async function rollBack(run: Run): Promise<void> {
  await run.session.script("ROLLBACK", { during: "roll back", deadlineMs: ROLLBACK_DEADLINE_MS });
}

/** A request to cancel that was late hits what comes after the script; this must be done all the same. */
export async function despiteCancel<Result>(act: () => Promise<Result>): Promise<Result> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await act();
    } catch (error) {
      const isCancel = error instanceof ServerError && error.server.sqlState === QUERY_CANCELED;
      if (!isCancel || tries === CANCELS_MAX) throw error;
    }
  }
}

/**
 * The script's error for people, or the interruption that cancelled it. Anything unknown is a bug and is thrown on.
 *
 * @param start offset of the text that was sent, in UTF-16 units. Undefined where it was not a statement of the script
 * that failed, but a check of what it has left.
 */
export function migrationError(
  run: Run,
  script: PlannedScript,
  error: unknown,
  start: number | undefined,
): AnyDeployError {
  if (isDeployError(error)) return error;
  if (!(error instanceof ServerError)) throw error;
  if (isCancelled(run, error)) return interruptionOf(run.signal);
  const { name: migration, path, text } = script;
  const position = start === undefined ? undefined : positionOf(script, error, start);
  const server: ServerMessage = { ...error.server, position };
  const location = position === undefined ? undefined : makeScriptLocation(path, text, position);
  return new DeployError("MIGRATION_FAILED", { migration, path, server, location }, { cause: error });
}

/** 1-based, in characters of the file. Where the server names no place, the start of the statement that failed. */
function positionOf({ text, sendText, facts }: PlannedScript, error: ServerError, start: number): number | undefined {
  const { position } = error.server;
  if (position !== undefined) return position + countCharacters(text.slice(0, start));
  // A BEGIN and a COMMIT that were blanked are no statements for the server.
  const sent = facts.statements.filter((place) => sendText.slice(place.start, place.end).trim() !== "");
  const failed = sent.filter((place) => place.start >= start)[error.statementsBefore];
  return failed === undefined ? undefined : countCharacters(text.slice(0, failed.start)) + 1;
}

/** How long the n-th pause between two tries is: longer each time, and never the same for two that collided. */
export function backoffMs(attempt: number): number {
  const fullMs = Math.min(BACKOFF_MS_MAX, BACKOFF_FIRST_MS * 2 ** (attempt - 1));
  return fullMs * (0.5 + Math.random() / 2);
}

/**
 * Runs it until it succeeds, fails for another reason than a lock, or `lockRetryMs` is over.
 *
 * @param run.lockRetryMs counted from the first try
 * @throws what the last try threw, INTERRUPTED
 */
export async function retryLockConflicts<Result>(run: Run, act: () => Promise<Result>): Promise<Result> {
  const startedMs = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act();
    } catch (error) {
      const waitMs = backoffMs(attempt);
      const isOver = performance.now() - startedMs + waitMs > run.lockRetryMs;
      if (!isLockConflict(error) || !run.session.isOpen || isOver) throw error;
      const { sqlState, message } = error.server;
      run.tell({ kind: "segment-retrying", attempt, waitMs, sqlState, message });
      await pause(waitMs, run.signal);
    }
  }
}

export async function readTransactionId(session: Session): Promise<string> {
  const [row] = await session.query<{ id: string }>(`SELECT pg_catalog.pg_current_xact_id()::text AS "id"`, {
    during: "read the transaction's id",
    deadlineMs: QUERY_DEADLINE_MS,
  });
  if (row === undefined) throw new Error("the server answered no transaction id");
  return row.id;
}

/** Runs it as one transaction of ours, which is then known. What fails is rolled back and thrown. */
export async function inTransaction(run: Run, during: string, act: () => Promise<void>): Promise<void> {
  const { session } = run;
  const options = { during, deadlineMs: QUERY_DEADLINE_MS };
  await session.script("BEGIN", options);
  try {
    await act();
    const id = await readTransactionId(session);
    await session.script("COMMIT", options);
    run.transactionIds.push(id);
  } catch (error) {
    if (session.isOpen) await session.script("ROLLBACK", options);
    throw error;
  }
}

/** @throws INTERRUPTED as soon as the signal fires */
export async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  throwIfInterrupted(signal);
  await new Promise<void>((resolve, reject) => {
    const interrupted = () => {
      clearTimeout(timer);
      reject(interruptionOf(signal));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", interrupted);
      resolve();
    }, durationMs);
    signal.addEventListener("abort", interrupted, { once: true });
  });
}
