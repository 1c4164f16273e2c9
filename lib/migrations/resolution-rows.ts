/** Writes what `resolve` and `baseline` record: the rows of Prisma's own commands, all of them in one transaction. */
import { randomUUID } from "node:crypto";
import { DeployError, hasCode } from "../errors.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import type { MigrationScript } from "./folder.ts";
import { createTable, markRolledBack, tableIn } from "./migration-rows.ts";

export interface ResolutionRows {
  readonly rolledBackIds: readonly string[];
  /** In the order of their rows. */
  readonly applied: readonly MigrationScript[];
}

export interface WriteOptions {
  readonly schema: string;
  readonly hasTable: boolean;
  /** ISO 8601, each later than the one before. */
  readonly nextTimestamp: () => string;
}

const DURING = "write _prisma_migrations";
const DEADLINE_MS = 60_000;

/**
 * @throws STATEMENT_FAILED where the server refuses a row, and then nothing was written
 * @throws COMMIT_UNKNOWN where the connection was lost at the last moment
 */
export async function writeResolution(session: Session, rows: ResolutionRows, options: WriteOptions): Promise<void> {
  try {
    await write(session, rows, options);
  } catch (cause) {
    if (!(cause instanceof ServerError)) throw cause;
    await session.query("ROLLBACK", { during: DURING, deadlineMs: DEADLINE_MS }).catch(() => {});
    throw new DeployError("STATEMENT_FAILED", { during: DURING, server: cause.server }, { cause });
  }
}

async function write(
  session: Session,
  { rolledBackIds, applied }: ResolutionRows,
  { schema, hasTable, nextTimestamp }: WriteOptions,
): Promise<void> {
  const run = async (text: string, parameters: readonly string[] = []) =>
    await session.query<{ transactionId: string }>(text, {
      during: DURING,
      deadlineMs: DEADLINE_MS,
      parameters,
    });
  await run("BEGIN");
  if (!hasTable) await createTable(session, schema);
  for (const id of rolledBackIds) await markRolledBack(session, schema, id, nextTimestamp());
  for (const { checksum, name } of applied) {
    const at = nextTimestamp();
    // @see schema-engine/connectors/sql-schema-connector/src/sql_migration_persistence.rs, mark_migration_applied_impl
    await run(
      `INSERT INTO ${tableIn(schema)} ("id", "checksum", "logs", "started_at", "finished_at", "migration_name")
       VALUES ($1, $2, '', $3, $3, $4)`,
      [randomUUID(), checksum, at, name],
    );
  }
  const [own] = await run(`SELECT pg_catalog.pg_current_xact_id()::text AS "transactionId"`);
  await run("COMMIT").catch((cause: unknown) => {
    if (!hasCode(cause, "CONNECTION_LOST") && !hasCode(cause, "DEADLINE_EXCEEDED")) throw cause;
    const transactionId = own?.transactionId ?? "?";
    throw new DeployError("COMMIT_UNKNOWN", { transactionId, reason: cause.code }, { cause });
  });
}
