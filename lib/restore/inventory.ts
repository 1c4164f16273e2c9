/** The database's objects by (catalog, oid), with owner and schema, as SQL to build on. What a wipe may drop. Pure. */

/** Objects of the system itself have smaller ids; a database's public schema has one of those. */
export const FIRST_USER_OID = 16384;

interface OwnedCatalog {
  readonly name: string;
  readonly owner: string;
  /** Undefined for objects that are in no schema. */
  readonly namespace: string | undefined;
  readonly where?: string;
}

const OWNED_CATALOGS: readonly OwnedCatalog[] = [
  {
    name: "pg_class",
    owner: "relowner",
    namespace: "relnamespace",
    where: "relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND relpersistence <> 't'",
  },
  // The functions of a range type belong to the bootstrap superuser, whoever made the type.
  { name: "pg_proc", owner: "proowner", namespace: "pronamespace", where: isNoPart("pg_proc") },
  { name: "pg_type", owner: "typowner", namespace: "typnamespace", where: isNoPart("pg_type") },
  { name: "pg_operator", owner: "oprowner", namespace: "oprnamespace" },
  { name: "pg_opclass", owner: "opcowner", namespace: "opcnamespace" },
  { name: "pg_opfamily", owner: "opfowner", namespace: "opfnamespace" },
  { name: "pg_collation", owner: "collowner", namespace: "collnamespace" },
  { name: "pg_conversion", owner: "conowner", namespace: "connamespace" },
  { name: "pg_ts_config", owner: "cfgowner", namespace: "cfgnamespace" },
  { name: "pg_ts_dict", owner: "dictowner", namespace: "dictnamespace" },
  { name: "pg_statistic_ext", owner: "stxowner", namespace: "stxnamespace" },
  { name: "pg_namespace", owner: "nspowner", namespace: undefined, where: "nspname !~ '^pg_'" },
  { name: "pg_extension", owner: "extowner", namespace: undefined },
  { name: "pg_language", owner: "lanowner", namespace: undefined },
  { name: "pg_foreign_data_wrapper", owner: "fdwowner", namespace: undefined },
  { name: "pg_foreign_server", owner: "srvowner", namespace: undefined },
  { name: "pg_event_trigger", owner: "evtowner", namespace: undefined },
  { name: "pg_publication", owner: "pubowner", namespace: undefined },
  { name: "pg_default_acl", owner: "defaclrole", namespace: undefined },
  { name: "pg_largeobject_metadata", owner: "lomowner", namespace: undefined },
];

export const IS_SUPERUSER = "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";

interface OwnerlessCatalog {
  readonly name: string;
  /** As pg_dump names the object, where `pg_identify_object` says it otherwise. */
  readonly label?: string;
  /** Of the row `o`: that we may drop it, and create it again. */
  readonly isOwn: string;
  readonly namespace?: string;
}

/** What has no owner: only a superuser makes it, or whoever owns what it is about. */
export const OWNERLESS_CATALOGS: readonly OwnerlessCatalog[] = [
  { name: "pg_ts_template", isOwn: IS_SUPERUSER, namespace: "tmplnamespace" },
  { name: "pg_ts_parser", isOwn: IS_SUPERUSER, namespace: "prsnamespace" },
  {
    name: "pg_cast",
    label: "format('(%s AS %s)', format_type(castsource, NULL), format_type(casttarget, NULL))",
    isOwn: `EXISTS (SELECT FROM pg_type WHERE pg_type.oid IN (castsource, casttarget) AND pg_has_role(typowner, 'USAGE'))`,
  },
  { name: "pg_transform", isOwn: IS_SUPERUSER },
  { name: "pg_am", isOwn: IS_SUPERUSER },
];

/**
 * What of it is not ours, and no part of an extension: (classid, objid, comment as an archive's contents have it,
 * namespace). With an empty search path, as pg_dump has it.
 */
export const FOREIGN_OWNERLESS = OWNERLESS_CATALOGS.map(
  ({ name, isOwn, namespace = "NULL::oid", label = "coalesce(quote_ident(i.name), i.identity)" }) => `
    SELECT '${name}'::regclass::oid, o.oid,
      concat_ws(' ', 'COMMENT', coalesce(i.schema, '-'), upper(i.type), ${label}), ${namespace}
    FROM ${name} AS o, LATERAL pg_identify_object('${name}'::regclass, o.oid, 0) AS i
    WHERE o.oid >= ${FIRST_USER_OID} AND NOT (${isOwn}) AND NOT EXISTS (
      SELECT FROM pg_depend WHERE classid = '${name}'::regclass AND objid = o.oid AND deptype = 'e')`,
).join("\n    UNION ALL ");

/** What another object brought along, such as the array type of a type, is a part of that one. */
function isNoPart(catalog: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend WHERE classid = '${catalog}'::regclass AND objid = ${catalog}.oid AND deptype = 'i')`;
}

const SYSTEM_NAMESPACES = `SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema'`;

function select({ name, owner, namespace, where = "true" }: OwnedCatalog): string {
  const isUser = `(oid >= ${FIRST_USER_OID}${name === "pg_namespace" ? " OR nspname = 'public'" : ""})`;
  const isOutside = namespace === undefined ? "true" : `${namespace} NOT IN (${SYSTEM_NAMESPACES})`;
  return `SELECT '${name}'::regclass::oid, oid, ${owner}, ${namespace ?? "NULL::oid"}
    FROM ${name} WHERE ${isUser} AND ${isOutside} AND ${where}`;
}

/**
 * Common tables, to stand behind WITH: `member` (classid, objid, extension), `object` (classid, objid, owner,
 * namespace, extension: null for what is in none) of everything that has an owner.
 *
 * A superuser may use every role, so to him nothing is foreign.
 */
export const INVENTORY_TABLES = `
  member AS MATERIALIZED (
    SELECT classid, objid, refobjid AS extension FROM pg_depend
    WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
  ),
  object AS MATERIALIZED (
    SELECT o.classid, o.objid, o.owner, o.namespace, m.extension
    FROM (${OWNED_CATALOGS.map(select).join("\nUNION ALL ")}) AS o(classid, objid, owner, namespace)
    LEFT JOIN member AS m ON m.classid = o.classid AND m.objid = o.objid
  )`;

/** Rows of catalogs that extensions put their members into, for a digest that tells whether one was changed. */
const MEMBER_CATALOGS = [
  "pg_proc",
  "pg_class",
  "pg_type",
  "pg_operator",
  "pg_opclass",
  "pg_opfamily",
  "pg_cast",
  "pg_namespace",
  "pg_language",
  "pg_am",
  "pg_collation",
  "pg_ts_config",
  "pg_ts_dict",
  "pg_foreign_data_wrapper",
];

const MEMBER_ROWS = MEMBER_CATALOGS.map(
  (name) => `SELECT '${name}'::regclass::oid AS classid, oid, xmin::text AS writer FROM ${name}`,
).join("\nUNION ALL ");

/**
 * Every extension with a digest of its own row and of its members' rows: (oid, digest). An extension with the same
 * digest as at the mark is left where it is: dropping it could neither bring back its version nor its owner.
 */
export const EXTENSION_DIGESTS = `
  SELECT e.oid, md5(concat_ws(';', e.xmin::text, (
    SELECT string_agg(d.classid || '.' || d.objid || ':' || coalesce(r.writer, ''), ',' ORDER BY d.classid, d.objid)
    FROM pg_depend AS d LEFT JOIN (${MEMBER_ROWS}) AS r ON r.classid = d.classid AND r.oid = d.objid
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
  ))) AS digest
  FROM pg_extension AS e`;
