/**
 * What a statement with CONCURRENTLY leaves when it fails: an index that is marked invalid, costs every write and serves
 * no query. It is found by comparing the indexes before and after, and dropped where the statement itself has made it.
 */
import { quoteIdentifier } from "../postgres/identifier.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { markRolledBack } from "./migration-rows.ts";
import {
  endRun,
  inTransaction,
  QUERY_DEADLINE_MS,
  type Run,
  type RunOptions,
  retryLockConflicts,
  sendScript,
  startRun,
} from "./native-run.ts";
import type { MadeIndex } from "./outside-statements.ts";

/** Name and validity of each index of the database, by its OID. */
export type IndexSnapshot = ReadonlyMap<string, { readonly name: string; readonly isValid: boolean }>;

interface IndexRow {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  readonly table: string;
  readonly isValid: boolean;
}

export async function readIndexes(session: Session): Promise<IndexSnapshot> {
  const rows = await queryIndexes(session);
  return new Map(rows.map(({ oid, name, isValid }) => [oid, { name, isValid }]));
}

export interface DroppedIndexes {
  /** Names with their schema. */
  readonly dropped: readonly string[];
  /** Invalid now and valid before, since it was to be dropped; or new, and the server did not let us drop it. */
  readonly left: readonly string[];
}

/** Drops the invalid indexes that were not there before and that the statement has made. */
export async function dropInvalidIndexes(run: Run, before: IndexSnapshot, made: MadeIndex): Promise<DroppedIndexes> {
  const invalid = (await queryIndexes(run.session)).filter(({ isValid }) => !isValid);
  const dropped: string[] = [];
  const left: string[] = [];
  for (const index of invalid) {
    const known = before.get(index.oid);
    // REINDEX gives the old index a second name before it drops it.
    const isNew = known === undefined || known.name !== index.name;
    if (isNew ? !isMadeBy(made, index) : !known.isValid) continue;
    const label = `${index.schema}.${index.name}`;
    if (isNew && (await dropIndex(run, index))) {
      run.tell({ kind: "invalid-index-dropped", index: label });
      dropped.push(label);
    } else {
      left.push(label);
    }
  }
  return { dropped, left };
}

/** Somebody else may build an index at the same time, which is invalid until it is done. */
function isMadeBy(made: MadeIndex, { name, table }: IndexRow): boolean {
  switch (made.kind) {
    case "named":
      return name === made.name;
    case "on-table":
      return table === made.table;
    case "rebuilt":
      return /_cc(new|old)\d*$/.test(name);
    case "none":
      return false;
  }
}

export interface ConcurrentFailure {
  /** The unfinished row of the failed migration. */
  readonly rowId: string;
  readonly indexes: IndexSnapshot;
  readonly made: MadeIndex;
}

/**
 * The recovery of a failed migration that could not be half applied: drops the invalid index that it has left, and marks
 * its row as rolled back, so that the next run, ours or Prisma's, tries it again.
 *
 * @param options.session holds the deploy lock; may be another session than the one that failed
 * @returns what was dropped, what is still invalid, and the ids of our own transactions
 */
export async function cleanUpConcurrently(
  options: RunOptions,
  failure: ConcurrentFailure,
): Promise<DroppedIndexes & { readonly transactionIds: readonly string[] }> {
  const run = await startRun(options);
  try {
    const indexes = await dropInvalidIndexes(run, failure.indexes, failure.made);
    const { session, schema, nextTimestamp, transactionIds } = run;
    const id = await retryLockConflicts(run, () => markRolledBack(session, schema, failure.rowId, nextTimestamp()));
    if (id !== undefined) transactionIds.push(id);
    return { ...indexes, transactionIds };
  } finally {
    await endRun(run);
  }
}

async function queryIndexes(session: Session): Promise<IndexRow[]> {
  return await session.query<IndexRow>(
    `SELECT i.indexrelid::text AS "oid", n.nspname::text AS "schema", c.relname::text AS "name",
       t.relname::text AS "table", i.indisvalid AND i.indisready AND i.indislive AS "isValid"
     FROM pg_catalog.pg_index i
     JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
     JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE i.indexrelid >= 16384`,
    { during: "read the indexes", deadlineMs: QUERY_DEADLINE_MS },
  );
}

/** Plainly, in one short transaction of ours: with CONCURRENTLY it would wait for everybody else, without an end. */
async function dropIndex(run: Run, { schema, name }: IndexRow): Promise<boolean> {
  const drop = `DROP INDEX IF EXISTS ${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  const during = "drop an invalid index";
  try {
    await retryLockConflicts(run, () => inTransaction(run, during, () => sendScript(run, drop, during)));
    return true;
  } catch (error) {
    // An index of a TOAST table, or one that is not ours: it is named instead.
    if (error instanceof ServerError) return false;
    throw error;
  }
}
