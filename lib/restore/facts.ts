/** What decides which restore is possible in this database for this role. Read only. */
import type { Session } from "../postgres/session.ts";
import { NOT_GIVEABLE, SUPERUSER_MADE } from "./creatable.ts";
import { FOREIGN_OWNERLESS, INVENTORY_TABLES } from "./inventory.ts";
import type { SwapFacts } from "./swap-facts.ts";

/** Lists of names hold a few examples, enough to show. Foreign is what belongs to a role that we may not act as. */
export interface RestoreFacts {
  readonly serverVersionNumber: number;
  /** As `15.18`. */
  readonly serverVersion: string;
  readonly systemIdentifier: string;
  readonly isSuperuser: boolean;
  /** The role may create schemas in the database, or has none to create again. */
  readonly canCreateSchemas: boolean;
  readonly largeObjects: number;
  readonly foreignLargeObjects: number;
  /** Foreign objects that are a part of the dump, and so of no use to it for this role. */
  readonly foreignObjects: readonly string[];
  /** Foreign objects that would go when ours go, such as a view on our table. */
  readonly foreignDependents: readonly string[];
  /** Foreign tables and sequences that the role may write to, so that a migration can have. */
  readonly foreignWritable: readonly string[];
  /** Roles by whom rights on our objects were granted: only a superuser can grant in their name. */
  readonly foreignGrantors: readonly string[];
  /** Objects of ours that only a superuser can make. */
  readonly superuserMade: readonly string[];
  /** Objects of roles that we may act as, which could not be given back to them. */
  readonly notGiveable: readonly string[];
  readonly publicationsForAllTables: readonly string[];
  /** Extensions whose objects keep a schema from being dropped and created again. */
  readonly extensionsInSchemas: readonly string[];
  /** Extensions that can't be dumped and restored without steps of their own. */
  readonly extensionsWithOwnRestore: readonly string[];
  readonly replicationSlots: readonly string[];
  readonly subscriptions: number;
  readonly tables: number;
  /** Locks that the server's table has room for. */
  readonly lockCapacity: number;
  readonly databaseSizeBytes: number;
  /** Undefined where nobody has asked. */
  readonly swap?: SwapFacts | undefined;
}

const DEADLINE_MS = 120_000;
const EXAMPLES_MAX = 5;
const OWN_RESTORE = ["timescaledb", "citus"];

/** A list of at most a few examples of what `query`, which answers names, finds. */
function examples(query: string): string {
  return `(SELECT coalesce(json_agg(name ORDER BY name), '[]')
    FROM (SELECT name FROM (${query}) AS found(name) GROUP BY name ORDER BY name LIMIT ${EXAMPLES_MAX}) AS shown)`;
}

/**
 * The public schema belongs to the bootstrap superuser before server 15. A dump says nothing about one that is as it
 * was made.
 */
const IS_UNTOUCHED_PUBLIC = `EXISTS (
  SELECT FROM pg_namespace AS n
  LEFT JOIN pg_init_privs AS p ON p.classoid = 'pg_namespace'::regclass AND p.objoid = n.oid AND p.objsubid = 0
  WHERE o.classid = 'pg_namespace'::regclass AND n.oid = o.objid AND n.nspname = 'public'
    AND n.nspacl::text IS NOT DISTINCT FROM p.initprivs::text
    AND obj_description(n.oid, 'pg_namespace') = 'standard public schema')`;

const FOREIGN_OBJECTS = `
  SELECT pg_describe_object(classid, objid, 0) FROM foreign_object AS o
  WHERE extension IS NULL AND classid <> 'pg_largeobject_metadata'::regclass AND NOT ${IS_UNTOUCHED_PUBLIC}
  UNION ALL SELECT pg_describe_object(classid, objid, 0) FROM (${FOREIGN_OWNERLESS}) AS ownerless(classid, objid, comment, namespace)`;

/** Parts of objects are in no inventory of their own: what they refer to takes the whole object along. */
const PARTS: readonly { readonly catalog: string; readonly whole: string; readonly id: string }[] = [
  { catalog: "pg_rewrite", whole: "pg_class", id: "ev_class" },
  { catalog: "pg_constraint", whole: "pg_class", id: "nullif(conrelid, 0)" },
  { catalog: "pg_constraint", whole: "pg_type", id: "nullif(contypid, 0)" },
  { catalog: "pg_trigger", whole: "pg_class", id: "tgrelid" },
  { catalog: "pg_attrdef", whole: "pg_class", id: "adrelid" },
  { catalog: "pg_policy", whole: "pg_class", id: "polrelid" },
  { catalog: "pg_amop", whole: "pg_opfamily", id: "amopfamily" },
  { catalog: "pg_amproc", whole: "pg_opfamily", id: "amprocfamily" },
  { catalog: "pg_publication_rel", whole: "pg_publication", id: "prpubid" },
];

const PART_EDGES = PARTS.map(
  ({ catalog, whole, id }) => `
    UNION ALL SELECT '${whole}'::regclass, ${id}, d.refclassid, d.refobjid
    FROM pg_depend AS d JOIN ${catalog} AS p ON p.oid = d.objid WHERE d.classid = '${catalog}'::regclass`,
).join("");

const FOREIGN_DEPENDENTS = `
  SELECT pg_describe_object(f.classid, f.objid, 0)
  FROM (
    SELECT classid, objid, refclassid, refobjid FROM pg_depend WHERE deptype IN ('n', 'a', 'i') ${PART_EDGES}
  ) AS edge(classid, objid, refclassid, refobjid)
  JOIN foreign_object AS f ON f.classid = edge.classid AND f.objid = edge.objid
  JOIN own_object AS o ON o.classid = edge.refclassid AND o.objid = edge.refobjid
  WHERE o.extension IS NULL AND o.classid <> 'pg_namespace'::regclass`;

const FOREIGN_WRITABLE = `
  SELECT pg_describe_object(o.classid, o.objid, 0) FROM foreign_object AS o JOIN pg_class AS c ON c.oid = o.objid
  WHERE o.classid = 'pg_class'::regclass AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE')
    ELSE c.relkind <> 'c' AND (has_table_privilege(c.oid, 'DELETE, TRUNCATE') OR has_any_column_privilege(c.oid, 'INSERT, UPDATE')) END`;

const FOREIGN_GRANTORS = `
  SELECT pg_get_userbyid(a.grantor) FROM (
    SELECT relowner, relacl FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL SELECT c.relowner, attacl FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
    UNION ALL SELECT proowner, proacl FROM pg_proc UNION ALL SELECT typowner, typacl FROM pg_type
    UNION ALL SELECT nspowner, nspacl FROM pg_namespace UNION ALL SELECT lomowner, lomacl FROM pg_largeobject_metadata
  ) AS rights(owner, acl), aclexplode(acl) AS a
  WHERE acl IS NOT NULL AND a.grantor <> owner AND pg_has_role(owner, 'USAGE') AND NOT r.rolsuper
    AND a.grantor <> (SELECT oid FROM pg_roles WHERE rolname = session_user)`;

const EXTENSIONS_IN_SCHEMAS = `
  SELECT extname::text FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace
  WHERE extname <> 'plpgsql' AND nspname NOT IN ('public', 'pg_catalog')`;

const FACTS_QUERY = `
  WITH ${INVENTORY_TABLES.trim()},
  foreign_object AS MATERIALIZED (SELECT * FROM object WHERE NOT pg_has_role(owner, 'USAGE')),
  own_object AS MATERIALIZED (SELECT * FROM object WHERE pg_has_role(owner, 'USAGE'))
  SELECT current_setting('server_version_num')::int AS "serverVersionNumber",
    split_part(current_setting('server_version'), ' ', 1) AS "serverVersion",
    (SELECT system_identifier::text FROM pg_control_system()) AS "systemIdentifier",
    r.rolsuper AS "isSuperuser",
    has_database_privilege(d.oid, 'CREATE') OR NOT EXISTS (
      SELECT FROM own_object JOIN pg_namespace AS n ON n.oid = objid
      WHERE classid = 'pg_namespace'::regclass AND nspname <> 'public') AS "canCreateSchemas",
    (SELECT count(*)::int FROM pg_largeobject_metadata) AS "largeObjects",
    (SELECT count(*)::int FROM foreign_object WHERE classid = 'pg_largeobject_metadata'::regclass) AS "foreignLargeObjects",
    ${examples(FOREIGN_OBJECTS)} AS "foreignObjects",
    ${examples(FOREIGN_DEPENDENTS)} AS "foreignDependents",
    ${examples(FOREIGN_WRITABLE)} AS "foreignWritable",
    ${examples(FOREIGN_GRANTORS)} AS "foreignGrantors",
    ${examples(SUPERUSER_MADE)} AS "superuserMade",
    ${examples(NOT_GIVEABLE)} AS "notGiveable",
    ${examples("SELECT pubname::text FROM pg_publication WHERE puballtables")} AS "publicationsForAllTables",
    ${examples(EXTENSIONS_IN_SCHEMAS)} AS "extensionsInSchemas",
    ${examples(`SELECT extname::text FROM pg_extension WHERE extname IN ('${OWN_RESTORE.join("', '")}')`)}
      AS "extensionsWithOwnRestore",
    ${examples("SELECT slot_name::text FROM pg_replication_slots WHERE database = d.datname")} AS "replicationSlots",
    (SELECT count(*)::int FROM pg_subscription WHERE subdbid = d.oid) AS "subscriptions",
    (SELECT count(*)::int FROM pg_class WHERE relkind IN ('r', 'p', 'm') AND relpersistence <> 't'
      AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema'))
      AS "tables",
    current_setting('max_locks_per_transaction')::int
      * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) AS "lockCapacity",
    pg_database_size(d.oid)::float8 AS "databaseSizeBytes"
  FROM pg_database AS d, pg_roles AS r WHERE d.datname = current_database() AND r.rolname = current_user`;

/** @throws what the session throws */
export async function readRestoreFacts(session: Session): Promise<RestoreFacts> {
  const rows = await session.query<RestoreFacts>(FACTS_QUERY, {
    during: "read what a restore would need",
    deadlineMs: DEADLINE_MS,
  });
  if (rows[0] === undefined) throw new Error("a statement that always answers one row has answered none");
  return rows[0];
}

export { FACTS_QUERY };
