/**
 * Applies segments on the session that holds the deploy lock. What fails is a result, from which the procedure chooses
 * its rung of recovery; nothing here restores.
 */
import type { AnyDeployError } from "../errors.ts";
import type { SegmentSummary } from "../events.ts";
import { type AppliedMigration, type AtomicResult, applyAtomic } from "./atomic-segment.ts";
import type { ConcurrentFailure } from "./concurrent-index.ts";
import {
  backoffMs,
  endRun,
  interruptionOf,
  isLockConflict,
  pause,
  type Run,
  type RunOptions,
  startRun,
} from "./native-run.ts";
import { type Refusal, type Segment, splitSegment } from "./segments.ts";
import { applySingle } from "./single-segment.ts";

export { type ConcurrentFailure, cleanUpConcurrently } from "./concurrent-index.ts";

export interface NativeOptions extends RunOptions {
  readonly segments: readonly Segment[];
  readonly serverVersionNumber: number;
  /** Told the id of a transaction when all of it is done but the COMMIT. What it throws rolls the transaction back. */
  readonly onCommitting: (transactionId: string) => Promise<void>;
  /**
   * Asked before a plan with smaller segments runs, after the server has refused a larger one: what is still to be done,
   * in order. An error stops there, with nothing of it done.
   */
  readonly approve: (segments: readonly Segment[]) => Promise<AnyDeployError | undefined>;
}

export type NativeResult =
  | ({ readonly kind: "applied" } & Done)
  | ({
      readonly kind: "failed";
      readonly error: AnyDeployError;
      /** The migration that failed, or before which it stopped. */
      readonly failed: string;
      readonly trace: Trace;
    } & Done);

interface Done {
  /** Names of the migrations that are committed whole, in order. */
  readonly committed: readonly string[];
  /** Ids of every transaction of ours that has committed. */
  readonly transactionIds: readonly string[];
  /** Statements have run whose transactions' ids can't be known, since a script ran outside of ours. */
  readonly hasUnknownTransactions: boolean;
}

/** What the failed segment has left. */
export type Trace =
  /** Nothing: never begun, or rolled back, of which the server itself was asked. */
  | { readonly kind: "none"; readonly transactionId: string | undefined }
  /** Its row, unfinished, and whatever of the script was committed. */
  | {
      readonly kind: "row";
      readonly rowId: string;
      /** For `cleanUpConcurrently`: at most an invalid index is left. Undefined where it could be more. */
      readonly concurrent: ConcurrentFailure | undefined;
    }
  /**
   * The connection is gone, and the old backend may still be at work. The rows tell what was committed, once another
   * session has got the deploy lock that it held.
   */
  | {
      readonly kind: "unknown";
      /** Of an atomic segment; where it is undefined, nothing was sent that could commit as a whole. */
      readonly transactionId: string | undefined;
      /** The answer to a COMMIT is what was lost. */
      readonly commitSent: boolean;
    };

/**
 * Runs the segments in order and stops at the first that fails.
 *
 * @throws what asking the session for its settings meets, before anything was begun; later only for a bug: an open
 * transaction then ends with the session, a row that was begun stands unfinished
 */
export async function applyNative(options: NativeOptions): Promise<NativeResult> {
  const run = await startRun(options);
  try {
    return await applySegments(run, options);
  } finally {
    await endRun(run);
  }
}

type Tried = { readonly kind: "committed"; readonly applied: readonly AppliedMigration[] } | StoppedSegment;

interface StoppedSegment {
  readonly kind: "stopped";
  readonly error: AnyDeployError;
  readonly failed: string;
  readonly trace: Trace;
  /** Committed whole although the segment was not. */
  readonly applied: readonly AppliedMigration[];
  /** What a smaller plan may get past. */
  readonly refusal: Refusal | undefined;
}

async function applySegments(run: Run, options: NativeOptions): Promise<NativeResult> {
  const committed: string[] = [];
  let hasUnknownTransactions = false;
  let segments = options.segments;
  for (let segment = segments[0]; segment !== undefined; segment = segments[0]) {
    const tried = segment.mode === "atomic" ? await tryAtomic(run, segment, options) : await trySingle(run, segment);
    for (const migration of tried.applied) {
      committed.push(migration.name);
      run.tell({ kind: "migration-applied", ...migration });
    }
    hasUnknownTransactions ||= segment.mode !== "atomic" || (tried.kind === "stopped" && tried.trace.kind === "row");
    segments = segments.slice(1);
    if (tried.kind === "committed") continue;
    const { error, failed, trace, refusal } = tried;
    const failure = { kind: "failed" as const, error, failed, trace, committed, hasUnknownTransactions };
    const parts = refusal && splitSegment(segment, refusal, options.serverVersionNumber);
    if (refusal === undefined || parts === undefined) return { ...failure, transactionIds: run.transactionIds };
    segments = [...parts, ...segments];
    const { sqlState, message } = refusal;
    run.tell({ kind: "segment-split", sqlState, message, segments: segments.map(summarise) });
    const objection = await options.approve(segments);
    if (objection !== undefined) return { ...failure, error: objection, transactionIds: run.transactionIds };
  }
  return { kind: "applied", committed, transactionIds: run.transactionIds, hasUnknownTransactions };
}

function summarise({ scripts, mode }: Segment): SegmentSummary {
  return { migrations: scripts.map(({ name }) => name), atomic: mode === "atomic" };
}

/** The whole segment again after a lock that was not to be had: nothing of it was committed. */
async function tryAtomic(run: Run, segment: Segment, options: NativeOptions): Promise<Tried> {
  const startedMs = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    const result = await applyAtomic(run, segment, options.onCommitting);
    if (result.kind === "committed") return result;
    const stopped = stopAtomic(segment, result);
    const { cause } = stopped.error;
    const waitMs = backoffMs(attempt);
    const isOver = performance.now() - startedMs + waitMs > run.lockRetryMs;
    if (result.kind !== "rolled-back" || !isLockConflict(cause) || isOver) return stopped;
    const { sqlState, message } = cause.server;
    run.tell({ kind: "segment-retrying", attempt, waitMs, sqlState, message });
    try {
      await pause(waitMs, run.signal);
    } catch {
      return { ...stopped, error: interruptionOf(run.signal), refusal: undefined };
    }
  }
}

function stopAtomic(segment: Segment, result: Exclude<AtomicResult, { kind: "committed" }>): StoppedSegment {
  const { index, error } = result;
  const failed = segment.scripts[index]?.name ?? "";
  const stopped = { kind: "stopped" as const, error, failed, applied: [], refusal: undefined };
  switch (result.kind) {
    case "rolled-back": {
      const { server } = result.refusal ?? {};
      const refusal = server && { index, sqlState: server.sqlState, message: server.message };
      return { ...stopped, refusal, trace: { kind: "none", transactionId: result.transactionId } };
    }
    case "broken": {
      const { rowId, applied } = result;
      return { ...stopped, applied, trace: { kind: "row", rowId, concurrent: undefined } };
    }
    case "lost": {
      const { transactionId, commitSent } = result;
      return { ...stopped, trace: { kind: "unknown", transactionId, commitSent } };
    }
  }
}

async function trySingle(run: Run, segment: Segment): Promise<Tried> {
  const result = await applySingle(run, segment);
  if (result.kind === "committed") return result;
  const { error } = result;
  const failed = segment.scripts[0]?.name ?? "";
  const stopped = { kind: "stopped" as const, error, failed, applied: [], refusal: undefined };
  switch (result.kind) {
    case "not-begun":
      return { ...stopped, trace: { kind: "none", transactionId: undefined } };
    case "failed": {
      const { rowId, indexes, made } = result;
      const concurrent = segment.couldBeHalfApplied ? undefined : { rowId, indexes, made };
      return { ...stopped, trace: { kind: "row", rowId, concurrent } };
    }
    case "lost":
      return { ...stopped, trace: { kind: "unknown", transactionId: undefined, commitSent: false } };
  }
}
