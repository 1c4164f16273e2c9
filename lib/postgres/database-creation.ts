/** Creates a database that does not exist yet, as Prisma does on its first deploy. */
import { DeployError, hasCode } from "../errors.ts";
import { type Database, makeDatabase } from "./database.ts";
import { quoteIdentifier } from "./identifier.ts";
import { ServerError } from "./session.ts";

/** In this order. @see schema-engine, flavour/postgres.rs, create_postgres_admin_conn */
const MAINTENANCE_DATABASES = ["postgres", "template1", "defaultdb"] as const;

const DUPLICATE_DATABASE = "42P04";
const UNIQUE_VIOLATION = "23505";
const DEADLINE_MS = 120_000;

/**
 * Creates the target's database with the server's defaults. One that another deploy has just created is as good.
 *
 * @throws RIGHTS_MISSING where the role may not, or the error of the last maintenance database
 */
export async function createDatabase(database: Database): Promise<void> {
  const name = database.target.database;
  let lastError: unknown;
  for (const maintenance of MAINTENANCE_DATABASES) {
    const session = await makeDatabase({ ...database.target, database: maintenance, schema: undefined }).open("create");
    try {
      await session.query(`CREATE DATABASE ${quoteIdentifier(name)}`, {
        during: `create the database ${name}`,
        deadlineMs: DEADLINE_MS,
      });
      return;
    } catch (error) {
      if (error instanceof ServerError) {
        if ([DUPLICATE_DATABASE, UNIQUE_VIOLATION].includes(error.server.sqlState)) return;
        throw new DeployError("RIGHTS_MISSING", { reason: error.server.message }, { cause: error });
      }
      if (!hasCode(error, "DATABASE_NOT_FOUND") && !hasCode(error, "AUTHENTICATION_FAILED")) throw error;
      lastError = error;
    } finally {
      await session.close();
    }
  }
  throw lastError;
}
