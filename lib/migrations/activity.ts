/** What a backend that migrates is at, from what the server shows of it: whom it waits for, how far its work is. Pure. */

/** Somebody who holds, or is before us in the queue for, the lock that a migration waits for. */
export interface Blocker {
  /** 0 for a prepared transaction, which has no process. */
  readonly pid: number;
  /** What the client calls itself, or what kind of process it is. Empty where it says nothing. */
  readonly applicationName: string;
  /** Undefined where our role may not see it, as the statement. */
  readonly state: string | undefined;
  /** Current or last statement, cut short. */
  readonly statement: string | undefined;
  /** How long its transaction has lasted, or else how long it has been in its state. */
  readonly sinceMs: number | undefined;
}

export interface LockWait {
  /** At least; what is shorter than our patience is not told at all. */
  readonly waitedMs: number;
  /** The longest first. */
  readonly blockers: readonly Blocker[];
}

/** What the server tells about the progress of a long command. */
export interface LongWork {
  /** In PostgreSQL's words, as the phase: `CREATE INDEX CONCURRENTLY`, `VACUUM FULL`. */
  readonly command: string;
  /** Undefined for a table of the migration itself, which only its own transaction sees. */
  readonly table: string | undefined;
  readonly phase: string;
  /** Of this phase, 0 to 99. Undefined where the phase has no measure. */
  readonly percent: number | undefined;
}

export interface WaitRow {
  readonly isWaiting: boolean;
  readonly blockers: readonly { readonly [K in keyof Blocker]: Blocker[K] | null }[] | null;
}

export interface WorkRow {
  readonly command: string;
  readonly table: string | null;
  readonly phase: string;
  readonly done: number | null;
  readonly total: number | null;
}

const STATEMENT_SHOWN_LENGTH = 120;

/**
 * One row, or none where the backend is gone. Who blocks it is asked only while it waits, since the answer needs every
 * lock of the lock table for a moment.
 */
export function makeWaitQuery(pid: number): string {
  return `
  SELECT coalesce(a.wait_event_type = 'Lock', false) AS "isWaiting",
    CASE WHEN a.wait_event_type = 'Lock' THEN (
      SELECT json_agg(json_build_object(
        'pid', b.pid,
        'applicationName', coalesce(nullif(s.application_name, ''), nullif(s.backend_type, 'client backend'), ''),
        'state', s.state,
        'statement', CASE WHEN s.state IS NOT NULL
          THEN left(btrim(regexp_replace(s.query, '\\s+', ' ', 'g')), ${STATEMENT_SHOWN_LENGTH}) END,
        'sinceMs', round(extract(epoch FROM clock_timestamp() - coalesce(s.xact_start, s.state_change)) * 1000)
      ) ORDER BY coalesce(s.xact_start, s.state_change), b.pid)
      FROM (SELECT DISTINCT unnest(pg_blocking_pids(a.pid)) AS pid) AS b LEFT JOIN pg_stat_activity AS s USING (pid)
    ) END AS "blockers"
  FROM pg_stat_activity AS a WHERE a.pid = ${Math.trunc(pid)}`;
}

/** At most one row: a backend reports one command at a time. ALTER TABLE reports nothing, also where it rewrites. */
export function makeWorkQuery(pid: number): string {
  const table = "(SELECT relname::text FROM pg_class WHERE oid = relid)";
  const own = `WHERE pid = ${Math.trunc(pid)} AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  const measure = (done: string, total: string) => `(${done})::float8 AS "done", (${total})::float8 AS "total"`;
  const whenScanning = (done: string) => `CASE WHEN phase LIKE '%scanning heap' THEN ${done} END`;
  const ofIndex = (kind: "done" | "total") =>
    `CASE WHEN phase LIKE 'waiting%' THEN lockers_${kind} WHEN phase LIKE '%loading tuples%' THEN tuples_${kind}
       WHEN phase LIKE '%scanning%' THEN blocks_${kind} END`;
  return `
  SELECT command, ${table} AS "table", phase, ${measure(ofIndex("done"), ofIndex("total"))}
  FROM pg_stat_progress_create_index ${own}
  UNION ALL SELECT command, ${table}, phase, ${measure(whenScanning("heap_blks_scanned"), "heap_blks_total")}
  FROM pg_stat_progress_cluster ${own}
  UNION ALL SELECT 'VACUUM', ${table}, phase, ${measure(whenScanning("heap_blks_scanned"), "heap_blks_total")}
  FROM pg_stat_progress_vacuum ${own}
  UNION ALL SELECT 'ANALYZE', ${table}, phase, ${measure("sample_blks_scanned", "sample_blks_total")}
  FROM pg_stat_progress_analyze ${own}`;
}

/** @param waitedMs how long the wait has been seen */
export function makeLockWait({ isWaiting, blockers }: WaitRow, waitedMs: number): LockWait | undefined {
  if (!isWaiting) return undefined;
  return {
    waitedMs,
    blockers: (blockers ?? []).map((blocker) => ({
      pid: blocker.pid ?? 0,
      applicationName: blocker.applicationName ?? "",
      state: blocker.state ?? undefined,
      statement: blocker.statement ?? undefined,
      sinceMs: blocker.sinceMs ?? undefined,
    })),
  };
}

export function makeLongWork({ command, table, phase, done, total }: WorkRow): LongWork {
  return { command, table: table ?? undefined, phase, percent: percentOf(done, total) };
}

/**
 * A phase that is done gives way to the next one. What calls itself done is at its beginning: the server takes the first
 * block of a table for all of them.
 *
 * @see src/backend/access/heap/heapam_handler.c, heapam_scan_get_blocks_done
 */
function percentOf(done: number | null, total: number | null): number | undefined {
  if (done === null || total === null || done >= total) return undefined;
  return Math.floor((done / total) * 100);
}
