/** What became of a transaction whose end we were not told. Never guessed: the server knows. */
import type { Database } from "../postgres/database.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { LIFE_EXPRESSION } from "./evidence.ts";

export interface RecordedTransaction {
  /** Text of `pg_current_xact_id()`. */
  readonly id: string;
  /** The backend that ran it. */
  readonly pid: number;
  /** Answer of LIFE_EXPRESSION when it began. */
  readonly life: string;
}

export type TransactionEnd =
  | { readonly kind: "committed" }
  | { readonly kind: "aborted" }
  | { readonly kind: "unknown"; readonly reason: string };

/** SQLSTATE for an id that the server has not given out yet. */
const IN_THE_FUTURE = "22023";
const QUERY_DEADLINE_MS = 30_000;
const POLL_MS = 200;
/** A COMMIT that is under way ends by itself; what takes longer is a statement whose client is gone. */
const PATIENCE_MS = 5_000;
/** A server that crashed is back by then, or a person is needed. */
const DEADLINE_MS = 120_000;

/** Waits until the transaction has ended, and ends its backend where its client is gone and it works on. */
export async function settleTransaction(database: Database, transaction: RecordedTransaction): Promise<TransactionEnd> {
  const startedMs = performance.now();
  let reason = "still in progress";
  let session: Session | undefined;
  try {
    while (performance.now() - startedMs < DEADLINE_MS) {
      try {
        if (session?.isOpen !== true) session = await database.open("settle");
        const { status, isSameLife } = await readStatus(session, transaction);
        const isOfAnother = status === "in progress" && !isSameLife;
        if (status === "aborted" || isOfAnother) return { kind: "aborted" };
        if (status === "committed" && isSameLife) return { kind: "committed" };
        if (status !== "in progress") return { kind: "unknown", reason: "the server has crashed or forgotten it" };
        if (performance.now() - startedMs > PATIENCE_MS) await endBackend(session, transaction);
      } catch (cause) {
        // A server that restarts refuses for a while.
        reason = cause instanceof Error ? cause.message : String(cause);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return { kind: "unknown", reason };
  } finally {
    await session?.close();
  }
}

/**
 * A server that crashed may give the id of a lost transaction to somebody else: then a commit is not ours for sure, and
 * an id that it has not reached again is one that was lost, and so is one under which somebody is at work.
 */
async function readStatus(
  session: Session,
  { id, life }: RecordedTransaction,
): Promise<{ status: string | null; isSameLife: boolean }> {
  try {
    const [row] = await session.query<{ status: string | null; isSameLife: boolean }>(
      `SELECT pg_xact_status('${BigInt(id)}'::xid8) AS "status", ${LIFE_EXPRESSION} = ${quoteLiteral(life)} AS "isSameLife"`,
      { during: "ask how the transaction ended", deadlineMs: QUERY_DEADLINE_MS },
    );
    return row ?? { status: null, isSameLife: false };
  } catch (error) {
    if (error instanceof ServerError && error.server.sqlState === IN_THE_FUTURE) {
      return { status: "aborted", isSameLife: false };
    }
    throw error;
  }
}

/** By its transaction too: the number of a backend that has ended is given out again. */
async function endBackend(session: Session, { id, pid }: RecordedTransaction): Promise<void> {
  const shortId = BigInt(id) % 2n ** 32n;
  await session.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ${pid} AND backend_xid::text = '${shortId}'`,
    { during: "end the restore's session", deadlineMs: QUERY_DEADLINE_MS },
  );
}
