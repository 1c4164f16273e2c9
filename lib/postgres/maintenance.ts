/** A session in another database of the cluster, from where this one can be locked up, renamed or found missing. */
import { isDeployError } from "../errors.ts";
import { type Database, makeDatabase } from "./database.ts";
import type { Session } from "./session.ts";

/** `postgres` alone: whoever lingers in `template1` keeps others from making databases of it. */
const LINGERING_DATABASES = ["postgres"] as const;
const MAINTENANCE_DATABASES = ["postgres", "template1"] as const;

const DEADLINE_MS = 30_000;

/** The same server and role, another database; Prisma's `?schema=` means nothing there. */
export function besideDatabase(database: Pick<Database, "target">, name: string): Database {
  return makeDatabase({ ...database.target, database: name, schema: undefined });
}

/**
 * A session in the first maintenance database that lets us in; undefined where none does.
 *
 * @param preferred tried alone where it is given
 * @throws DATABASE_UNREACHABLE and DATABASE_STARTING: then it is the server that is not there
 */
export async function openMaintenance(
  database: Pick<Database, "target">,
  purpose: string,
  preferred?: string,
  names: readonly string[] = MAINTENANCE_DATABASES,
): Promise<Session | undefined> {
  const candidates = preferred === undefined || preferred === "" ? names : [preferred];
  for (const name of candidates.filter((candidate) => candidate !== database.target.database)) {
    try {
      return await openPrepared(besideDatabase(database, name), purpose);
    } catch (error) {
      if (!isDeployError(error) || ["DATABASE_UNREACHABLE", "DATABASE_STARTING"].includes(error.code)) throw error;
    }
  }
  return undefined;
}

/** A session to wait in for the deploy lock; undefined where none lets us in. */
export async function openBeside(database: Pick<Database, "target">, preferred: string): Promise<Session | undefined> {
  return await openMaintenance(database, "wait", preferred, LINGERING_DATABASES).catch(() => undefined);
}

/** No timeout of the role ends it, the server notices soon when we die, and what it says is committed is on the disk. */
async function openPrepared(beside: Database, purpose: string): Promise<Session> {
  const session = await beside.open(purpose, { isMigrating: true });
  try {
    await session.query(
      `SELECT pg_catalog.set_config('search_path', '', false),
         pg_catalog.set_config('default_transaction_read_only', 'off', false),
         CASE pg_catalog.current_setting('synchronous_commit') WHEN 'off'
           THEN pg_catalog.set_config('synchronous_commit', 'local', false) END`,
      { during: "set up the session beside the database", deadlineMs: DEADLINE_MS },
    );
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}
