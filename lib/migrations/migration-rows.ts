/**
 * The rows of `_prisma_migrations` as Prisma's engine writes them, in the table's own schema whatever the search path.
 *
 * Each statement answers the id of its transaction: it is ours, and the proof that nobody else has written leaves it out.
 * @see schema-engine/connectors/sql-schema-connector/src/sql_migration_persistence.rs
 */
import { quoteIdentifier, quoteLiteral } from "../postgres/identifier.ts";
import type { QueryParameter, Session } from "../postgres/session.ts";
import type { MigrationScript } from "./folder.ts";

const DEADLINE_MS = 60_000;

const OWN_ID = `pg_catalog.pg_current_xact_id()::text AS "transactionId"`;

/** @see schema-engine/connectors/sql-schema-connector/src/flavour/postgres.rs, create_migrations_table */
const COLUMNS = [
  "id VARCHAR(36) PRIMARY KEY NOT NULL",
  "checksum VARCHAR(64) NOT NULL",
  "finished_at TIMESTAMPTZ",
  "migration_name VARCHAR(255) NOT NULL",
  "logs TEXT",
  "rolled_back_at TIMESTAMPTZ",
  "started_at TIMESTAMPTZ NOT NULL DEFAULT now()",
  "applied_steps_count INTEGER NOT NULL DEFAULT 0",
].join(", ");

export function tableIn(schema: string): string {
  return `${quoteIdentifier(schema)}."_prisma_migrations"`;
}

export async function hasTable(session: Session, schema: string): Promise<boolean> {
  const [row] = await session.query<{ exists: boolean }>(
    `SELECT pg_catalog.to_regclass(${quoteLiteral(tableIn(schema))}) IS NOT NULL AS "exists"`,
    { during: "look for _prisma_migrations", deadlineMs: DEADLINE_MS },
  );
  return row?.exists === true;
}

/** Creates the table, and the schema where it is missing, as Prisma does. Inside of the caller's transaction. */
export async function createTable(session: Session, schema: string): Promise<void> {
  const options = { during: "create _prisma_migrations", deadlineMs: DEADLINE_MS };
  const [found] = await session.query<{ exists: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = ${quoteLiteral(schema)}) AS "exists"`,
    options,
  );
  // Not IF NOT EXISTS: that demands the right to create even where there is nothing to do.
  if (found?.exists !== true) await session.query(`CREATE SCHEMA ${quoteIdentifier(schema)}`, options);
  await session.query(`CREATE TABLE ${tableIn(schema)} (${COLUMNS})`, options);
}

export interface RowTimes {
  readonly startedAt: string;
  readonly finishedAt: string;
}

/** The row of a migration that runs in the same transaction: begun and finished at once. */
export async function insertFinished(
  session: Session,
  schema: string,
  id: string,
  script: MigrationScript,
  { startedAt, finishedAt }: RowTimes,
): Promise<void> {
  await write(
    session,
    `INSERT INTO ${tableIn(schema)}
       ("id", "checksum", "started_at", "finished_at", "migration_name", "applied_steps_count")
     VALUES ($1, $2, $3, $4, $5, 1)`,
    [id, script.checksum, startedAt, finishedAt, script.name],
  );
}

/** The row of a migration that is about to run outside of our transaction: unfinished until it has succeeded. */
export async function insertStarted(
  session: Session,
  schema: string,
  id: string,
  script: MigrationScript,
  startedAt: string,
): Promise<string> {
  const transactionId = await write(
    session,
    `INSERT INTO ${tableIn(schema)} ("id", "checksum", "started_at", "migration_name") VALUES ($1, $2, $3, $4)`,
    [id, script.checksum, startedAt, script.name],
  );
  if (transactionId === undefined) throw new Error("the server answered nothing to an INSERT");
  return transactionId;
}

/** This and the next two answer undefined where the row is gone: the script itself may have deleted it. */
export async function markFinished(
  session: Session,
  schema: string,
  id: string,
  finishedAt: string,
): Promise<string | undefined> {
  return await write(
    session,
    `UPDATE ${tableIn(schema)} SET "applied_steps_count" = "applied_steps_count" + 1, "finished_at" = $2
     WHERE "id" = $1`,
    [id, finishedAt],
  );
}

/** A failed row is one that is neither finished nor rolled back; the logs are for people. */
export async function markFailed(
  session: Session,
  schema: string,
  id: string,
  logs: string,
): Promise<string | undefined> {
  return await write(session, `UPDATE ${tableIn(schema)} SET "logs" = $2 WHERE "id" = $1`, [id, logs]);
}

/** What `prisma migrate resolve --rolled-back` writes. */
export async function markRolledBack(
  session: Session,
  schema: string,
  id: string,
  at: string,
): Promise<string | undefined> {
  return await write(session, `UPDATE ${tableIn(schema)} SET "rolled_back_at" = $2 WHERE "id" = $1`, [id, at]);
}

async function write(
  session: Session,
  text: string,
  parameters: readonly QueryParameter[],
): Promise<string | undefined> {
  const [row] = await session.query<{ transactionId: string }>(`${text} RETURNING ${OWN_ID}`, {
    during: "write _prisma_migrations",
    deadlineMs: DEADLINE_MS,
    parameters,
  });
  return row?.transactionId;
}
