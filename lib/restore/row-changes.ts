/**
 * Which tables were written to since the mark, by the server's counters: they come late, and count what was rolled back.
 * A hint for a person who has to choose, and never a proof.
 */
import type { Session } from "../postgres/session.ts";

/** Rows inserted, updated and deleted so far, by the table's oid. */
export type RowCounters = Readonly<Record<string, number>>;

export interface TableChanges {
  /** As in SQL. */
  readonly table: string;
  readonly rows: number;
}

const DEADLINE_MS = 60_000;
const COUNTED = "(n_tup_ins + n_tup_upd + n_tup_del)";

/** One row, `counters`. */
export const ROW_COUNTERS_QUERY = `
  SELECT coalesce(json_object_agg(relid::text, ${COUNTED}), '{}') AS "counters" FROM pg_stat_user_tables`;

/**
 * Of the tables that were there at the mark, those with the most changes first: by whomever.
 *
 * @throws what the session throws
 */
export async function readRowChanges(session: Session, marked: RowCounters): Promise<readonly TableChanges[]> {
  const [row] = await session.query<{ tables: readonly { oid: string; table: string; count: number }[] }>(
    `SELECT coalesce(json_agg(json_build_object('oid', relid::text, 'count', ${COUNTED},
       'table', format('%I.%I', schemaname, relname))), '[]') AS "tables"
     FROM pg_stat_user_tables WHERE relname <> '_prisma_migrations'`,
    { during: "read how many rows were written", deadlineMs: DEADLINE_MS },
  );
  return (row?.tables ?? [])
    .flatMap(({ oid, table, count }) => {
      const before = marked[oid];
      return before === undefined || count <= before ? [] : [{ table, rows: count - before }];
    })
    .sort((a, b) => b.rows - a.rows);
}
