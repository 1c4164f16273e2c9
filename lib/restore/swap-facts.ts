/** What decides whether this role can replace the database by a restored one. Changes nothing. */
import type { Database } from "../postgres/database.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import { openMaintenance } from "../postgres/maintenance.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { makeAsidePattern } from "./aside-name.ts";
import { PROPERTIES_TRIAL, TRIAL_STATE } from "./properties.ts";

export interface SwapFacts {
  readonly isOwner: boolean;
  readonly canCreateDatabase: boolean;
  readonly canUseTablespace: boolean;
  /** A maintenance database lets us in. */
  readonly hasMaintenance: boolean;
  /** Databases that earlier swaps have kept. */
  readonly failedDatabases: readonly string[];
  readonly preparedTransactions: number;
  /** Properties of the database, as statements, that this role may not set. */
  readonly unsettable: readonly string[];
  /** Rights on the database were granted by others than its owner. */
  readonly hasForeignGrants: boolean;
  /** Extensions that have to be made before the dump, in schemas that are not there before it. */
  readonly extensionsToPlace: readonly string[];
  /** Extensions that can't be made again as their owner, or in their version. */
  readonly extensionsNotCreatable: readonly string[];
}

const DEADLINE_MS = 120_000;

function makeFactsQuery(database: string): string {
  const list = (query: string) =>
    `(SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM (${query}) AS found(name))`;
  const isOtherwise = "(e.extowner <> r.oid OR e.extversion IS DISTINCT FROM a.default_version)";
  return `
  SELECT pg_has_role(d.datdba, 'USAGE') AS "isOwner", r.rolsuper OR r.rolcreatedb AS "canCreateDatabase",
    d.dattablespace = t.dattablespace OR has_tablespace_privilege(d.dattablespace, 'CREATE') AS "canUseTablespace",
    ${list(`SELECT datname::text FROM pg_database WHERE datname ~ ${quoteLiteral(makeAsidePattern(database, "failed"))}`)}
      AS "failedDatabases",
    (SELECT count(*)::int FROM pg_prepared_xacts WHERE database = d.datname) AS "preparedTransactions",
    EXISTS (SELECT FROM aclexplode(d.datacl) AS g WHERE g.grantor <> d.datdba) AS "hasForeignGrants",
    ${list(`SELECT e.extname::text FROM pg_extension AS e LEFT JOIN pg_available_extensions AS a ON a.name = e.extname
      JOIN pg_namespace AS n ON n.oid = e.extnamespace
      WHERE e.extname <> 'plpgsql' AND n.nspname NOT IN ('public', 'pg_catalog') AND ${isOtherwise}`)} AS "extensionsToPlace",
    ${list(`SELECT e.extname::text FROM pg_extension AS e JOIN pg_roles AS o ON o.oid = e.extowner
      LEFT JOIN pg_available_extension_versions AS v ON v.name = e.extname AND v.version = e.extversion
      WHERE e.extname <> 'plpgsql' AND (v.name IS NULL OR NOT o.rolsuper AND v.superuser AND NOT v.trusted)`)}
      AS "extensionsNotCreatable"
  FROM pg_database AS d, pg_database AS t, pg_roles AS r
  WHERE d.datname = current_database() AND t.datname = 'template0' AND r.rolname = current_user`;
}

/**
 * @param session of the live database, outside of any transaction
 * @throws what the sessions throw
 */
export async function readSwapFacts(
  database: Database,
  session: Session,
  maintenanceDatabase: string | undefined,
): Promise<SwapFacts> {
  const read = { during: "read what a swap would need", deadlineMs: DEADLINE_MS };
  const query = makeFactsQuery(database.target.database);
  const [facts] = await session.query<Omit<SwapFacts, "hasMaintenance" | "unsettable">>(query, read);
  if (facts === undefined) throw new Error("a statement that always answers one row has answered none");
  const isPossible = facts.isOwner && facts.canCreateDatabase;
  const maintenance = isPossible ? await openMaintenance(database, "look", maintenanceDatabase) : undefined;
  await maintenance?.close();
  return {
    ...facts,
    hasMaintenance: maintenance !== undefined,
    unsettable: isPossible ? await readUnsettable(session) : [],
  };
}

/**
 * Whether somebody is connected whom this role can't end, as pg_terminate_backend decides it.
 *
 * @throws what the session throws
 */
export async function hasLastingSessions(session: Session): Promise<boolean> {
  const [row] = await session.query<{ isHeld: boolean }>(
    `SELECT NOT r.rolsuper AND EXISTS (
       SELECT FROM pg_stat_activity AS a JOIN pg_roles AS o ON o.oid = a.usesysid
       WHERE a.datname = current_database()
         AND (o.rolsuper OR NOT pg_has_role(o.oid, 'USAGE') AND NOT pg_has_role('pg_signal_backend', 'USAGE'))
     ) AS "isHeld" FROM pg_roles AS r WHERE r.rolname = current_user`,
    { during: "look for sessions that can't be ended", deadlineMs: DEADLINE_MS },
  );
  return row?.isHeld === true;
}

/** Tried, and taken back: no rule of ours could know what every setting and every provider of labels asks for. */
async function readUnsettable(session: Session): Promise<readonly string[]> {
  try {
    await session.script(PROPERTIES_TRIAL, { during: "try the database's properties", deadlineMs: DEADLINE_MS });
  } catch (error) {
    if (!(error instanceof ServerError) || error.server.sqlState !== TRIAL_STATE) throw error;
    return JSON.parse(error.server.message) as string[];
  }
  throw new Error("a statement that always fails has succeeded");
}
