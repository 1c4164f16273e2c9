/** Who holds a lock of deploys, as far as our role may see it. */
import type { LockHolder } from "../errors.ts";
import type { Session } from "./session.ts";

const STATEMENT_SHOWN_LENGTH = 120;
const DEADLINE_MS = 30_000;

/** @param lock which advisory lock, as an SQL condition about `l`, a row of pg_locks; the rest is added */
export async function readHolder(session: Session, lock: string): Promise<LockHolder | undefined> {
  const [row] = await session.query<{ [K in keyof LockHolder]: LockHolder[K] | null }>(
    `SELECT l.pid, coalesce(a.application_name, '') AS "applicationName", host(a.client_addr) AS "clientAddress",
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "since", a.state,
       left(regexp_replace(a.query, '\\s+', ' ', 'g'), ${STATEMENT_SHOWN_LENGTH}) AS "statement"
     FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a USING (pid)
     WHERE l.locktype = 'advisory' AND l.granted AND ${lock} LIMIT 1`,
    { during: "read the holder of the deploy lock", deadlineMs: DEADLINE_MS },
  );
  if (row === undefined) return undefined;
  return {
    pid: row.pid ?? 0,
    applicationName: row.applicationName ?? "",
    clientAddress: row.clientAddress ?? undefined,
    since: row.since ?? undefined,
    statement: row.statement ?? undefined,
    state: row.state ?? undefined,
  };
}
