/**
 * What a wipe leaves where it is, found out before: extensions that are as they were at the mark, everything foreign,
 * the public schema, and schemas that hold any of those. The wipe keeps them, and the dump's entries for them are left
 * out of what is restored.
 */
import { quoteLiteral } from "../postgres/identifier.ts";
import type { Session } from "../postgres/session.ts";
import { EXTENSION_DIGESTS, FOREIGN_OWNERLESS, INVENTORY_TABLES } from "./inventory.ts";

export interface Survivors {
  readonly extensions: readonly string[];
  readonly schemas: readonly string[];
  /** Entries of a dump's table of contents, as "catalog oid": the dump knows objects by the same ids. */
  readonly entries: readonly string[];
  /** Names of extensions that stay. */
  readonly extensionNames: readonly string[];
  /** Comments on what stays and has no owner, as a dump's table of contents names them. */
  readonly comments: readonly string[];
  /** All roles of the cluster, and whether we may act as them. */
  readonly roles: readonly { readonly name: string; readonly isOwn: boolean }[];
}

const DEADLINE_MS = 120_000;

/** Only a superuser can create one for all tables, whoever owns it. */
export const IS_KEPT_PUBLICATION = `(NOT pg_has_role(pubowner, 'USAGE')
  OR puballtables AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))`;

/** @param extensions SQL literal of the mark's list, JSON */
function makeSurvivorsQuery(extensions: string, hadPublic: boolean): string {
  return `
  WITH ${INVENTORY_TABLES.trim()},
  kept_extension AS MATERIALIZED (
    SELECT e.* FROM pg_extension AS e JOIN (${EXTENSION_DIGESTS}) AS v ON v.oid = e.oid
    WHERE e.extname = 'plpgsql' OR NOT pg_has_role(e.extowner, 'USAGE') OR (e.oid::text, v.digest) IN (
      SELECT x.oid, x.digest FROM json_to_recordset(${extensions}::json) AS x(oid text, digest text))
  ),
  guarded AS MATERIALIZED (
    SELECT * FROM object WHERE NOT pg_has_role(owner, 'USAGE')
      AND (extension IS NULL OR extension IN (SELECT oid FROM kept_extension))
  ),
  foreign_ownerless(classid, objid, comment, namespace) AS MATERIALIZED (${FOREIGN_OWNERLESS}),
  kept_schema AS MATERIALIZED (
    SELECT n.oid FROM pg_namespace AS n
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND (
      n.nspname = 'public' AND ${hadPublic}
      OR NOT pg_has_role(n.nspowner, 'USAGE')
      OR n.oid IN (SELECT extnamespace FROM kept_extension)
      OR n.oid IN (SELECT namespace FROM guarded)
      OR n.oid IN (SELECT namespace FROM foreign_ownerless)
      OR n.oid IN (SELECT namespace FROM object WHERE extension IN (SELECT oid FROM kept_extension))
      OR n.oid IN (SELECT objid FROM member
        WHERE classid = 'pg_namespace'::regclass AND extension IN (SELECT oid FROM kept_extension)))
  )
  SELECT (SELECT coalesce(json_agg(oid::text), '[]') FROM kept_extension) AS "extensions",
    (SELECT coalesce(json_agg(oid::text), '[]') FROM kept_schema) AS "schemas",
    (SELECT coalesce(json_agg(entry), '[]') FROM (
      SELECT 'pg_extension'::regclass::oid || ' ' || oid FROM kept_extension
      UNION SELECT 'pg_namespace'::regclass::oid || ' ' || oid FROM kept_schema
      UNION SELECT classid || ' ' || objid FROM guarded
      UNION SELECT classid || ' ' || objid FROM foreign_ownerless
      UNION SELECT '0 ' || objid FROM guarded WHERE classid = 'pg_class'::regclass
      UNION SELECT 'pg_publication'::regclass::oid || ' ' || oid FROM pg_publication WHERE ${IS_KEPT_PUBLICATION}
    ) AS entries(entry)) AS "entries",
    (SELECT coalesce(json_agg(extname), '[]') FROM kept_extension) AS "extensionNames",
    (SELECT coalesce(json_agg(comment), '[]') FROM foreign_ownerless) AS "comments",
    (SELECT json_agg(json_build_object('name', rolname, 'isOwn', pg_has_role(oid, 'USAGE'))) FROM pg_roles) AS "roles"`;
}

/** @throws what the session throws */
export async function readSurvivors(
  session: Session,
  mark: { readonly extensions: string; readonly hadPublic: boolean },
): Promise<Survivors> {
  const rows = await session.query<Survivors>(makeSurvivorsQuery(quoteLiteral(mark.extensions), mark.hadPublic), {
    during: "find what a restore leaves in place",
    deadlineMs: DEADLINE_MS,
  });
  if (rows[0] === undefined) throw new Error("a statement that always answers one row has answered none");
  return rows[0];
}
