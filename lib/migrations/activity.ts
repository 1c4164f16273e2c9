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

/**
 * What can be known of a command that tells nothing of its progress, such as an ALTER TABLE that writes its table anew:
 * the server shows its locks, but neither which statement of a script runs nor how far it is.
 */
export interface HeldTables {
  /** Tables that nobody else can even read meanwhile, largest first. Not those that the migration has made. */
  readonly tables: readonly HeldTable[];
  /** Since the migration's newest table was first seen, by whoever wrote. Undefined where it has made none. */
  readonly grownBytes: number | undefined;
  /** Estimate: the growth as a part of the only table that is held, 0 to 99. */
  readonly percent: number | undefined;
}

export interface HeldTable {
  readonly name: string;
  /** As the last VACUUM or ANALYZE has noted it, TOAST included, without indexes. Undefined where none has. */
  readonly sizeBytes: number | undefined;
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

export interface HeldRow {
  readonly tables: readonly { readonly name: string; readonly sizeBytes: number }[];
  /** Oid of the newest relation that only its own transaction sees. */
  readonly unseen: number | null;
}

const STATEMENT_SHOWN_LENGTH = 120;
/** `pg_stat_progress_copy` came with it. */
const SERVER_14 = 140_000;

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
export function makeWorkQuery(pid: number, serverVersionNumber: number): string {
  const table = "(SELECT relname::text FROM pg_class WHERE oid = relid)";
  const own = `WHERE pid = ${Math.trunc(pid)} AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  const measure = (done: string, total: string) => `(${done})::float8 AS "done", (${total})::float8 AS "total"`;
  const whenScanning = (done: string) => `CASE WHEN phase LIKE '%scanning heap' THEN ${done} END`;
  const ofIndex = (kind: "done" | "total") =>
    `CASE WHEN phase LIKE 'waiting%' THEN lockers_${kind} WHEN phase LIKE '%loading tuples%' THEN tuples_${kind}
       WHEN phase LIKE '%scanning%' THEN blocks_${kind} END`;
  const copy = `
  UNION ALL SELECT command, ${table}, type, ${measure("bytes_processed", "nullif(bytes_total, 0)")}
  FROM pg_stat_progress_copy ${own}`;
  return `
  SELECT command, ${table} AS "table", phase, ${measure(ofIndex("done"), ofIndex("total"))}
  FROM pg_stat_progress_create_index ${own}
  UNION ALL SELECT command, ${table}, phase, ${measure(whenScanning("heap_blks_scanned"), "heap_blks_total")}
  FROM pg_stat_progress_cluster ${own}
  UNION ALL SELECT 'VACUUM', ${table}, phase, ${measure(whenScanning("heap_blks_scanned"), "heap_blks_total")}
  FROM pg_stat_progress_vacuum ${own}
  UNION ALL SELECT 'ANALYZE', ${table}, phase, ${measure("sample_blks_scanned", "sample_blks_total")}
  FROM pg_stat_progress_analyze ${own}${serverVersionNumber < SERVER_14 ? "" : copy}`;
}

/**
 * One row. An ALTER TABLE writes into a table of its own making, which takes the place of the old one at its end; nobody
 * else sees it in `pg_class`, but its lock. No lock is taken: asking for the size of a table would wait for the command.
 *
 * @see src/backend/commands/tablecmds.c, ATRewriteTables; src/backend/commands/cluster.c, make_new_heap
 */
export function makeHeldQuery(pid: number): string {
  return `
  SELECT coalesce(json_agg(json_build_object('name', c.relname, 'sizeBytes', s.bytes) ORDER BY s.bytes DESC, c.relname)
      FILTER (WHERE c.oid IS NOT NULL), '[]') AS "tables",
    (max(l.relation::bigint) FILTER (WHERE c.oid IS NULL))::float8 AS "unseen"
  FROM pg_locks AS l
  LEFT JOIN pg_class AS c ON c.oid = l.relation
  LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid,
  LATERAL (SELECT (greatest(c.relpages, 0) + greatest(t.relpages, 0))::bigint
    * current_setting('block_size')::bigint AS bytes) AS s
  WHERE l.pid = ${Math.trunc(pid)} AND l.granted AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (c.oid IS NULL OR c.relkind IN ('r', 'p', 'm'))`;
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

/** @returns undefined where nothing is held that others could miss, and nothing has been written that they can't see */
export function makeHeldTables({ tables }: HeldRow, grownBytes: number | undefined): HeldTables | undefined {
  if (tables.length === 0 && !grownBytes) return undefined;
  const [only, ...others] = tables;
  const total = only !== undefined && others.length === 0 ? only.sizeBytes : null;
  return {
    tables: tables.map(({ name, sizeBytes }) => ({ name, sizeBytes: sizeBytes || undefined })),
    grownBytes,
    percent: percentOf(grownBytes ?? null, total),
  };
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
