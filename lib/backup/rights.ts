/** Whether this role may read all that a dump holds: pg_dump gives up at the first thing that it may not. */
import { DeployError } from "../errors.ts";
import type { Session } from "../postgres/session.ts";

/** Names as SQL has them, a few examples of each. */
interface DumpRights {
  readonly user: string;
  /** Schemas that the role may not look into. */
  readonly schemas: readonly string[];
  readonly tables: readonly string[];
  readonly sequences: readonly string[];
  /** Tables of which row-level security would show the role a part, or for whose owner it is forced. */
  readonly hidden: readonly string[];
  /** Ids of large objects. */
  readonly largeObjects: readonly string[];
}

const DEADLINE_MS = 60_000;
const EXAMPLES_MAX = 5;

function examples(from: string): string {
  return `(SELECT coalesce(json_agg(name), '[]') FROM (SELECT DISTINCT name FROM ${from} ORDER BY name LIMIT ${EXAMPLES_MAX}) AS shown)`;
}

/** Of an extension's tables a dump holds only those that it declares as configuration. */
const QUERY = `
  WITH dumped AS MATERIALIZED (
    SELECT c.oid, c.relkind, n.oid AS schema, format('%I', n.nspname) AS schema_name, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
          WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        OR c.oid IN (SELECT unnest(extconfig) FROM pg_catalog.pg_extension))
  )
  SELECT current_user::text AS "user",
    ${examples("(SELECT schema_name FROM dumped WHERE NOT has_schema_privilege(schema, 'USAGE')) AS x(name)")} AS "schemas",
    ${examples("dumped WHERE relkind <> 'S' AND NOT has_table_privilege(oid, 'SELECT')")} AS "tables",
    ${examples("dumped WHERE relkind = 'S' AND NOT has_table_privilege(oid, 'SELECT')")} AS "sequences",
    ${examples("dumped WHERE relkind <> 'S' AND row_security_active(oid)")} AS "hidden",
    ${examples(`(SELECT l.oid::text FROM pg_catalog.pg_largeobject_metadata AS l
      WHERE NOT pg_has_role(l.lomowner, 'USAGE') AND NOT EXISTS (SELECT FROM aclexplode(l.lomacl) AS a
        WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))) AS x(name)`)} AS "largeObjects"`;

/** @throws BACKUP_DENIED with what the role may not read, or what the session throws */
export async function requireDumpRights(session: Session): Promise<void> {
  const [rights] = await session.query<DumpRights>(QUERY, {
    during: "find what the role may not read",
    deadlineMs: DEADLINE_MS,
  });
  if (rights === undefined) throw new Error("a statement that always answers one row has answered none");
  const { user: _, ...missing } = rights;
  if (Object.values(missing).some((names) => names.length > 0)) throw new DeployError("BACKUP_DENIED", rights);
}
