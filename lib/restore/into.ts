/**
 * Restores a backup into a new database. Until it is whole it has another name, so that under the one that was asked for
 * there is never half a database.
 */
import type { Manifest } from "../backup/manifest.ts";
import { DeployError } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { quoteIdentifier, quoteLiteral } from "../postgres/identifier.ts";
import { openMaintenance } from "../postgres/maintenance.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { restoreAside } from "./aside.ts";
import { makeAsideName, makeAsidePattern, stampOf } from "./aside-name.ts";
import { readRow } from "./evidence.ts";
import { PROPERTIES_QUERY } from "./properties.ts";
import { readDatabase } from "./swap-steps.ts";

export interface IntoOptions {
  readonly database: Database;
  readonly maintenanceDatabase?: string | undefined;
  /** In the database whose properties the new one gets. */
  readonly session: Session;
  readonly tools: { readonly psql: ClientTool; readonly pgRestore: ClientTool | undefined };
  readonly backup: { readonly path: string; readonly manifest: Manifest };
  /** Of the new database. */
  readonly name: string;
  readonly signal?: AbortSignal | undefined;
  /** Called about once a second with the bytes that have been restored. */
  readonly progress?: ((bytes: number) => void) | undefined;
}

const DROP_DEADLINE_MS = 600_000;
const DUPLICATE_DATABASE = "42P04";

/**
 * @throws RESTORE_TARGET_EXISTS, RESTORE_FAILED, RESTORE_DIFFERS, BACKUP_NOT_VERIFIED, or what connecting meets: there is
 * no new database
 */
export async function restoreInto(options: IntoOptions): Promise<void> {
  const { database, maintenanceDatabase, session, name, backup } = options;
  const maintenance = await openMaintenance(database, "restore", maintenanceDatabase);
  if (maintenance === undefined) throw new DeployError("RESTORE_IMPOSSIBLE", { reasons: ["no-maintenance-database"] });
  try {
    const scratch = makeAsideName(name, "restore", stampOf(backup.manifest.id));
    await dropLeft(maintenance, name, scratch);
    const { text } = await readRow<{ text: string }>(
      session,
      `SELECT "properties"::text AS "text" FROM (${PROPERTIES_QUERY}) AS x`,
    );
    const restoring = { swap: "restoring" } as const;
    try {
      const properties = JSON.parse(text) as string[];
      const trace = { restoring, ready: restoring };
      await restoreAside({ ...options, maintenance, name: scratch, content: undefined, properties, trace });
      await giveName(maintenance, scratch, name);
    } catch (error) {
      await drop(maintenance, scratch).catch(() => {});
      throw error;
    }
  } finally {
    await maintenance.close();
  }
}

/** What killed restores into that name have left half, by the traces that they have put on it. */
async function dropLeft(maintenance: Session, name: string, scratch: string): Promise<void> {
  const { names } = await readRow<{ names: readonly string[] }>(
    maintenance,
    `SELECT coalesce(json_agg(datname), '[]') AS "names" FROM pg_catalog.pg_database
     WHERE datname ~ ${quoteLiteral(makeAsidePattern(name, "restore"))}`,
  );
  for (const left of names) {
    const isOurs = (await readDatabase(maintenance, left))?.trace?.swap === "restoring";
    if (!isOurs && left === scratch) throw new DeployError("RESTORE_TARGET_EXISTS", { database: scratch });
    if (!isOurs) continue;
    // Somebody may be at work in one of another name: that one is left to him.
    if (left === scratch) await drop(maintenance, left);
    else await drop(maintenance, left, "").catch(() => {});
  }
}

async function drop(maintenance: Session, database: string, how = "WITH (FORCE)"): Promise<void> {
  await maintenance.script(`DROP DATABASE IF EXISTS ${quoteIdentifier(database)} ${how}`, {
    during: "drop the database that was being restored",
    deadlineMs: DROP_DEADLINE_MS,
  });
}

async function giveName(maintenance: Session, scratch: string, name: string): Promise<void> {
  const row = await readDatabase(maintenance, scratch);
  const comment = row?.comment == null ? "NULL" : `'${row.comment.replaceAll("'", "''")}'`;
  try {
    await maintenance.script(
      `BEGIN; ALTER DATABASE ${quoteIdentifier(scratch)} RENAME TO ${quoteIdentifier(name)};
       COMMENT ON DATABASE ${quoteIdentifier(name)} IS ${comment}; COMMIT`,
      { during: "name the restored database", deadlineMs: DROP_DEADLINE_MS },
    );
  } catch (error) {
    if (maintenance.isOpen) await maintenance.script("ROLLBACK", { during: "roll back", deadlineMs: DROP_DEADLINE_MS });
    if (!(error instanceof ServerError)) throw error;
    if (error.server.sqlState === DUPLICATE_DATABASE)
      throw new DeployError("RESTORE_TARGET_EXISTS", { database: name });
    const output = `${error.server.message} (${error.server.sqlState})`;
    throw new DeployError("RESTORE_FAILED", { tool: "SQL", exitCode: undefined, output }, { cause: error });
  }
}
