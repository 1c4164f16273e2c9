/**
 * Restores a backup into a new database. Until it is whole it has another name, so that under the one that was asked for
 * there is never half a database.
 */
import type { Manifest } from "../backup/manifest.ts";
import { DeployError } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { quoteIdentifier } from "../postgres/identifier.ts";
import { openMaintenance } from "../postgres/maintenance.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { restoreAside } from "./aside.ts";
import { makeAsideName, stampOf } from "./aside-name.ts";
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
    await dropLeft(maintenance, scratch);
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

/** What a killed restore has left half, by the trace that it has put on it. */
async function dropLeft(maintenance: Session, scratch: string): Promise<void> {
  const row = await readDatabase(maintenance, scratch);
  if (row === undefined) return;
  if (row.trace?.swap !== "restoring") throw new DeployError("RESTORE_TARGET_EXISTS", { database: scratch });
  await drop(maintenance, scratch);
}

async function drop(maintenance: Session, database: string): Promise<void> {
  await maintenance.script(`DROP DATABASE IF EXISTS ${quoteIdentifier(database)} WITH (FORCE)`, {
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
