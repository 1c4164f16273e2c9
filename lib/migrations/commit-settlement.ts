/** What became of a transaction whose COMMIT was never answered: asked of the server, never guessed. */
import { hasCode } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { hasTable, tableIn } from "./migration-rows.ts";

export interface LostCommit {
  readonly transactionId: string;
  /** A row that the transaction has written: a server that crashed may have given the same id to another transaction. */
  readonly rowId: string;
  readonly schema: string;
}

export interface SettleOptions {
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

const POLL_MS = 250;
const QUERY_DEADLINE_MS = 10_000;
/** The id is in the future of a server that has lost its end in a crash. */
const INVALID_PARAMETER_VALUE = "22023";

/** Connection failures that pass: a server that restarts, a network that comes back. */
const PASSING = [
  "DATABASE_UNREACHABLE",
  "DATABASE_STARTING",
  "DATABASE_REFUSED",
  "CONNECTION_LOST",
  "DEADLINE_EXCEEDED",
] as const;

/**
 * Opens new sessions until one can tell whether the transaction is committed or rolled back.
 *
 * While the old backend still works on it, this waits. `unknown` after the deadline, or when interrupted.
 */
export async function settleCommit(
  database: Database,
  lost: LostCommit,
  options: SettleOptions,
): Promise<"committed" | "aborted" | "unknown"> {
  const endMs = performance.now() + options.deadlineMs;
  let session: Session | undefined;
  try {
    while (performance.now() < endMs && !options.signal.aborted) {
      try {
        session = session?.isOpen ? session : await database.open("settle");
        const answer = await ask(session, lost);
        if (answer !== "in progress") return answer;
      } catch (error) {
        if (!PASSING.some((code) => hasCode(error, code))) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return "unknown";
  } finally {
    await session?.close();
  }
}

async function ask(session: Session, lost: LostCommit): Promise<"committed" | "aborted" | "in progress"> {
  const options = { during: "read the transaction's status", deadlineMs: QUERY_DEADLINE_MS };
  try {
    const [row] = await session.query<{ status: string | null }>(
      `SELECT pg_catalog.pg_xact_status('${lost.transactionId}'::xid8) AS "status"`,
      options,
    );
    if (row?.status === "in progress") return "in progress";
    if (row?.status === "aborted") return "aborted";
  } catch (error) {
    if (!(error instanceof ServerError) || error.server.sqlState !== INVALID_PARAMETER_VALUE) throw error;
  }
  return (await isWritten(session, lost)) ? "committed" : "aborted";
}

async function isWritten(session: Session, { schema, rowId }: LostCommit): Promise<boolean> {
  if (!(await hasTable(session, schema))) return false;
  const rows = await session.query(`SELECT 1 AS "found" FROM ${tableIn(schema)} WHERE "id" = $1`, {
    during: "read _prisma_migrations",
    deadlineMs: QUERY_DEADLINE_MS,
    parameters: [rowId],
  });
  return rows.length > 0;
}
