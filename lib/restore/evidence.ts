/**
 * What the proofs of `proof.ts` go by, read from the server. Nothing is judged here.
 *
 * The order in which things are read is a part of the proof, see there; so these are single statements, run one by one.
 */
import type { Session } from "../postgres/session.ts";

/** Where we are: a database of another cluster, or of a later life of this one, has other transaction ids. */
export interface Place {
  readonly databaseOid: string;
  readonly systemIdentifier: string;
  /** First eight digits of a WAL file's name; a promoted standby and a recovered cluster have a new one. */
  readonly timeline: string;
}

/** Who is at work in this database beside us, or could be without opening a session that is counted. */
export interface Presence {
  readonly otherClients: number;
  readonly preparedTransactions: number;
  readonly subscriptions: number;
  /** Extensions whose background workers write without a session of their own. */
  readonly workerExtensions: readonly string[];
}

/** Counters that only grow, each with what tells that it began anew. Null where the server does not have it. */
export interface Counters {
  /** `pg_stat_database.sessions` of this database. */
  readonly sessions: string | null;
  readonly databaseReset: string | null;
  readonly serverReset: string | null;
  readonly serverStarted: string;
  /** Buffers that replication connections have touched, on server 16 and later: they can write, and are not counted. */
  readonly walSenderAccesses: string | null;
}

/** What has happened to transaction ids that the mark's snapshot does not hold, without our own. */
export type ForeignTransactions = "none-committed" | "committed" | "unknown";

/** First server whose ended sessions are surely counted: before it, statistics travel by datagrams. */
export const SESSIONS_COUNTED_MAJOR = 15;
const SESSIONS_MAJOR = 14;
const IO_STATISTICS_MAJOR = 16;
const DEADLINE_MS = 60_000;
/** Short: where an app is at work, nobody leaves. */
const SETTLE_MS = 500;
const SETTLE_POLL_MS = 50;

/**
 * Extensions that write by background workers. Those of pg_cron open sessions, which are counted, unless it is told
 * to use workers, which then reach every database of the cluster.
 */
const WORKER_EXTENSIONS = [
  "bdr",
  "citus",
  "pg_background",
  "pg_cron",
  "pg_net",
  "pg_partman",
  "pg_squeeze",
  "pg_task",
  "pglogical",
  "spock",
  "timescaledb",
];

/** As a number, since a session's settings change how a timestamp or a fraction is written. */
function microseconds(timestamp: string): string {
  return `(extract(epoch FROM ${timestamp}) * 1000000)::bigint::text`;
}

/** SQL: another text after every start and every crash of the server. */
export const LIFE_EXPRESSION = `${microseconds("pg_postmaster_start_time()")} || '/' || coalesce((SELECT ${microseconds("stats_reset")} FROM pg_stat_bgwriter), '')`;

export const PLACE_QUERY = `
  SELECT oid::text AS "databaseOid", (SELECT system_identifier::text FROM pg_control_system()) AS "systemIdentifier",
    CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS "timeline"
  FROM pg_database WHERE datname = current_database()`;

/**
 * A role that may not see what others do sees no `backend_type` either. Processes with a database and without a user are
 * autovacuum's; whatever else can't be told is taken for a client, and so is a replication connection to this database.
 *
 * @param ownPids backends of our own sessions
 */
export function makePresenceQuery(ownPids: readonly number[]): string {
  const own = ["pg_backend_pid()", ...ownPids.map(String)].join(", ");
  const extensions = WORKER_EXTENSIONS.map((name) => `'${name}'`).join(", ");
  return `
  SELECT (
      SELECT count(*)::int FROM pg_stat_get_activity(NULL) AS a
      WHERE a.datid = d.oid AND a.pid NOT IN (${own})
        AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker')
        AND NOT (a.backend_type IS NULL AND coalesce(a.usesysid, 0) = 0)
    ) AS "otherClients",
    (SELECT count(*)::int FROM pg_prepared_xacts WHERE database = d.datname) AS "preparedTransactions",
    (SELECT count(*)::int FROM pg_subscription WHERE subdbid = d.oid) AS "subscriptions",
    (
      SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM (
        SELECT extname::text FROM pg_extension WHERE extname IN (${extensions})
        UNION SELECT 'pg_cron' FROM pg_settings WHERE name = 'cron.use_background_workers' AND setting = 'on'
      ) AS workers(name)
    ) AS "workerExtensions"
  FROM pg_database AS d WHERE d.datname = current_database()`;
}

export function makeCountersQuery(serverMajor: number): string {
  const isCounted = serverMajor >= SESSIONS_MAJOR;
  const walSenders =
    "(SELECT sum(coalesce(reads, 0) + coalesce(hits, 0) + coalesce(writes, 0) + coalesce(extends, 0))::text " +
    // A standby reads WAL all the time, which server 18 counts as well: no client writes by that.
    "FROM pg_stat_io WHERE backend_type = 'walsender' AND object <> 'wal')";
  return `
  SELECT ${isCounted ? "pg_stat_get_db_sessions(oid)::text" : "NULL::text"} AS "sessions",
    ${microseconds("pg_stat_get_db_stat_reset_time(oid)")} AS "databaseReset",
    (SELECT ${microseconds("stats_reset")} FROM pg_stat_bgwriter) AS "serverReset",
    ${microseconds("pg_postmaster_start_time()")} AS "serverStarted",
    ${serverMajor >= IO_STATISTICS_MAJOR ? walSenders : "NULL::text"} AS "walSenderAccesses"
  FROM pg_database WHERE datname = current_database()`;
}

/**
 * Stops at the first one that has committed. An id whose status the server has forgotten (NULL) may have, and where the
 * durable one has not, the server's disk was put back to before it: then ids mean nothing.
 *
 * @param mark with the text of its `pg_current_snapshot()`
 * @param ownTransactionIds recorded by us before each COMMIT
 */
export function makeTransactionsQuery(
  { snapshot, durableTransactionId }: { readonly snapshot: string; readonly durableTransactionId?: string | undefined },
  ownTransactionIds: readonly string[],
): string {
  const own = ownTransactionIds.map((id) => BigInt(id).toString());
  const foreign = own.length === 0 ? "" : `WHERE id::text NOT IN (${own.map((id) => `'${id}'`).join(", ")})`;
  return `
  SELECT CASE WHEN NOT coalesce(${durableTransactionId === undefined ? "true" : hasCommitted(durableTransactionId)}, false)
    THEN 'unknown' ELSE coalesce((
    SELECT CASE WHEN status IS NULL THEN 'unknown' ELSE 'committed' END
    FROM (
      SELECT pg_xact_status(id) AS status FROM (
        SELECT pg_snapshot_xip('${requireSnapshot(snapshot)}'::pg_snapshot)
        UNION ALL
        SELECT number::text::xid8 FROM generate_series(
          pg_snapshot_xmax('${snapshot}'::pg_snapshot)::text::bigint,
          pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1) AS number
      ) AS ids(id) ${foreign}
    ) AS statuses
    WHERE status IS NULL OR status = 'committed'
    LIMIT 1
  ), 'none-committed') END AS "transactions"`;
}

/** SQL: the server refuses to tell of one that it has not given out yet. */
function hasCommitted(transactionId: string): string {
  const id = `'${BigInt(transactionId)}'::xid8`;
  return `CASE WHEN ${id} < pg_snapshot_xmax(pg_current_snapshot()) THEN pg_xact_status(${id}) = 'committed' END`;
}

/**
 * Sends a session's own statistics to the shared ones: they are there when the statement has ended, unless a transaction
 * is open, which began before the statement.
 */
const FLUSH_STATISTICS =
  'SELECT pg_backend_pid() AS "pid", now() = statement_timestamp() AS "isIdle", pg_stat_force_next_flush()';

/**
 * Makes sessions of ours surely counted, and answers their backends. A session that is lost, or in a transaction, is left
 * out: its backend, if it still lives, is a stranger until it has ended.
 */
export async function flushOwnSessions(sessions: readonly Session[], serverMajor: number): Promise<number[]> {
  const counted = serverMajor >= SESSIONS_COUNTED_MAJOR;
  const statement = counted ? FLUSH_STATISTICS : 'SELECT pg_backend_pid() AS "pid", true AS "isIdle"';
  const pids: number[] = [];
  for (const session of sessions) {
    if (!session.isOpen) continue;
    const row = await readRow<{ pid: number; isIdle: boolean }>(session, statement).catch(() => undefined);
    if (row?.isIdle) pids.push(row.pid);
  }
  return pids;
}

/** For a mark: the count first, and then who is there, see `proof.ts`. A backend that is just leaving is waited for. */
export async function readPresence(
  session: Session,
  ownPids: readonly number[],
  serverMajor: number,
): Promise<{ counters: Counters; presence: Presence }> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const counters = await readRow<Counters>(session, makeCountersQuery(serverMajor));
    const presence = await readRow<Presence>(session, makePresenceQuery(ownPids));
    if (presence.otherClients === 0 || performance.now() >= deadline) return { counters, presence };
    await new Promise((resolve) => setTimeout(resolve, SETTLE_POLL_MS));
  }
}

/**
 * Puts a session of ours out of reach of what its role or database has set: names are those of pg_catalog, whatever
 * functions somebody has made, and no timeout ends it while a backup or a restore works. Some exist in newer servers only.
 */
export async function prepareSession(session: Session): Promise<void> {
  await session.query(PREPARE_SESSION, { during: "set up the session", deadlineMs: DEADLINE_MS });
}

const PREPARE_SESSION = `
  SELECT pg_catalog.set_config(name, CASE name WHEN 'search_path' THEN '' ELSE '0' END, false)
  FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY (ARRAY['search_path', 'statement_timeout',
    'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout'])`;

/** An idle session may not know yet that it is lost. */
export async function isAlive(session: Session): Promise<boolean> {
  if (!session.isOpen) return false;
  await readRow(session, "SELECT 1").catch(() => {});
  return session.isOpen;
}

export async function readRow<Row extends object>(session: Session, query: string): Promise<Row> {
  const rows = await session.query<Row>(query, { during: "read the evidence", deadlineMs: DEADLINE_MS });
  if (rows[0] === undefined) throw new Error("a statement that always answers one row has answered none");
  return rows[0];
}

/** It becomes a part of a statement, and comes back from a place that is not always ours. */
function requireSnapshot(snapshot: string): string {
  if (!/^\d+:\d+:(\d+(,\d+)*)?$/.test(snapshot)) throw new Error("not a snapshot");
  return snapshot;
}
