/**
 * Empties the database inside the restoring transaction, of all that its role owns: what the dump will create again, and
 * what a migration has created since. Pure: the text of statements.
 *
 * Objects go, the public schema and everything foreign stay: an owner could not create those again. What stays was found
 * out before (`survivors.ts`), so that the dump's entries fit; a DROP ... CASCADE that took more than that with it, such
 * as another role's view on our table, ends the transaction.
 */
import { quoteLiteral } from "../postgres/identifier.ts";
import { FIRST_USER_OID, FOREIGN_OWNERLESS, INVENTORY_TABLES, OWNERLESS_CATALOGS } from "./inventory.ts";
import { makePropertiesBlock } from "./properties.ts";
import { makeSchemasBlock } from "./schemas.ts";
import { IS_KEPT_PUBLICATION, type Survivors } from "./survivors.ts";

export interface WipeOptions {
  readonly survivors: Pick<Survivors, "extensions" | "schemas">;
  /** As read by SCHEMAS_QUERY and PROPERTIES_QUERY at the mark, JSON. */
  readonly schemas: string;
  readonly properties: string;
  /** The mark's list, JSON. */
  readonly extensions: string;
}

/** SQLSTATE when something would go that is not ours. */
export const FOREIGN_LOSS_STATE = "PS002";

/**
 * Every table of ours, one by one: whoever has written to one has ended when this has. Waits for each as long as
 * `lock_timeout` says.
 */
export const LOCK_BLOCK = `DO $lock$
DECLARE
  line text;
BEGIN
  FOR line IN SELECT format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', c.oid::regclass)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND pg_has_role(c.relowner, 'USAGE')
    ORDER BY c.oid LOOP
    EXECUTE line;
  END LOOP;
END
$lock$;`;

/** Answers `guarded`: everything foreign, but for members of an extension of ours that goes. */
const GUARDED = `
  WITH ${INVENTORY_TABLES.trim()}
  SELECT coalesce(array_agg(classid || ' ' || objid), '{}') FROM (
    SELECT classid, objid FROM object
    WHERE NOT pg_has_role(owner, 'USAGE') AND (extension IS NULL OR extension = ANY (kept_extensions))
    UNION ALL SELECT classid, objid FROM (${FOREIGN_OWNERLESS}) AS ownerless(classid, objid, comment, namespace)
  ) AS guarded(classid, objid)`;

/** Before all else: an event trigger would be fired by every DROP. */
const WATCHING_OBJECTS = [
  `SELECT format('DROP EVENT TRIGGER %I', evtname) FROM pg_event_trigger AS o WHERE pg_has_role(evtowner, 'USAGE')
    AND ${isNoMember("pg_event_trigger")}`,
  `SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication WHERE NOT ${IS_KEPT_PUBLICATION}`,
];

const WHOLE_OBJECTS = [
  `SELECT format('DROP EXTENSION IF EXISTS %I CASCADE', extname) FROM pg_extension
    WHERE oid <> ALL (kept_extensions) AND pg_has_role(extowner, 'USAGE')`,
  `SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) FROM pg_namespace AS o
    WHERE oid <> ALL (kept_schemas) AND nspname !~ '^pg_' AND nspname <> 'information_schema'
      AND pg_has_role(nspowner, 'USAGE') AND ${isNoMember("pg_namespace")}`,
];

interface Kind {
  readonly catalog: string;
  /** True for those that we may drop. */
  readonly isOwn: string;
  readonly namespace?: string;
  readonly where?: string;
}

/**
 * First, and in every schema: most of the rest goes with them, and no extension can be dropped while an index has options
 * of its operator class.
 */
const RELATIONS: Kind = {
  catalog: "pg_class",
  isOwn: "pg_has_role(relowner, 'USAGE')",
  where: `relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't' AND relnamespace NOT IN (
    SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema')`,
};

const KINDS: readonly Kind[] = [
  {
    catalog: "pg_class",
    isOwn: "pg_has_role(relowner, 'USAGE')",
    namespace: "relnamespace",
    where: `relkind = 'S' AND ${isNoPart("pg_class")}`,
  },
  { catalog: "pg_proc", isOwn: "pg_has_role(proowner, 'USAGE')", namespace: "pronamespace" },
  { catalog: "pg_type", isOwn: "pg_has_role(typowner, 'USAGE')", namespace: "typnamespace" },
  { catalog: "pg_operator", isOwn: "pg_has_role(oprowner, 'USAGE')", namespace: "oprnamespace" },
  { catalog: "pg_opclass", isOwn: "pg_has_role(opcowner, 'USAGE')", namespace: "opcnamespace" },
  { catalog: "pg_opfamily", isOwn: "pg_has_role(opfowner, 'USAGE')", namespace: "opfnamespace" },
  { catalog: "pg_collation", isOwn: "pg_has_role(collowner, 'USAGE')", namespace: "collnamespace" },
  { catalog: "pg_conversion", isOwn: "pg_has_role(conowner, 'USAGE')", namespace: "connamespace" },
  { catalog: "pg_ts_config", isOwn: "pg_has_role(cfgowner, 'USAGE')", namespace: "cfgnamespace" },
  { catalog: "pg_ts_dict", isOwn: "pg_has_role(dictowner, 'USAGE')", namespace: "dictnamespace" },
  { catalog: "pg_statistic_ext", isOwn: "pg_has_role(stxowner, 'USAGE')", namespace: "stxnamespace" },
  ...OWNERLESS_CATALOGS.map(({ name, label: _, ...rest }) => ({ catalog: name, ...rest })),
  { catalog: "pg_foreign_server", isOwn: "pg_has_role(srvowner, 'USAGE')" },
  { catalog: "pg_foreign_data_wrapper", isOwn: "pg_has_role(fdwowner, 'USAGE')" },
  { catalog: "pg_language", isOwn: "pg_has_role(lanowner, 'USAGE')" },
];

/** Words of pg_identify_object that are others in a DROP. */
const COMMAND = `CASE i.type WHEN 'function' THEN 'ROUTINE' WHEN 'procedure' THEN 'ROUTINE' WHEN 'aggregate' THEN 'ROUTINE'
  WHEN 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER' WHEN 'statistics object' THEN 'STATISTICS' ELSE upper(i.type) END`;

/** What is left after the schemas: objects in those that stay, and objects that are in none. */
function makeDropQuery({ catalog, isOwn, namespace, where = isNoPart(catalog) }: Kind): string {
  const isPlaced = namespace === undefined ? "true" : `${namespace} = ANY (kept_schemas)`;
  return `SELECT format('DROP %s IF EXISTS %s CASCADE', ${COMMAND}, i.identity)
    FROM ${catalog} AS o, LATERAL pg_identify_object('${catalog}'::regclass, o.oid, 0) AS i
    WHERE o.oid >= ${FIRST_USER_OID} AND ${isPlaced} AND (${where}) AND ${isOwn} AND ${isNoMember(catalog)}`;
}

/** What another object brought along, such as a range type its functions or an identity column its sequence, goes with it. */
function isNoPart(catalog: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend WHERE classid = '${catalog}'::regclass AND objid = o.oid AND deptype = 'i')`;
}

function isNoMember(catalog: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend WHERE classid = '${catalog}'::regclass AND objid = o.oid AND deptype = 'e')`;
}

/** Rows of an extension that stays which the dump holds: configuration, for those that it is not foreign to us. */
const CONFIGURATION = `
  SELECT format('DELETE FROM %s %s', c.oid::regclass, e.condition)
  FROM (SELECT unnest(extconfig), unnest(extcondition) FROM pg_extension WHERE oid = ANY (kept_extensions))
    AS e(relation, condition) JOIN pg_class AS c ON c.oid = e.relation
  WHERE c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')`;

const OBJECT_WORD = `CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
  WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END`;
const GRANTEE = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END";

/**
 * Default rights would be added to what the dump creates before it sets them again. Those of a schema are none by
 * default, those of the whole database are what the server grants by itself.
 */
const DEFAULT_RIGHTS = [
  `SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %s %s REVOKE ALL ON %s FROM %s', defaclrole::regrole,
      'IN SCHEMA ' || defaclnamespace::regnamespace, ${OBJECT_WORD}, ${GRANTEE})
    FROM pg_default_acl, aclexplode(defaclacl) AS a WHERE defaclnamespace <> 0 AND pg_has_role(defaclrole, 'USAGE')`,
  `SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %s %s ON %s %s', defaclrole::regrole, r.verb, ${OBJECT_WORD}, r.whom)
    FROM pg_default_acl, LATERAL (
      SELECT 1, 'REVOKE ALL', 'FROM ' || ${GRANTEE} FROM aclexplode(defaclacl) AS a
      UNION ALL SELECT 2, 'GRANT ' || a.privilege_type, 'TO ' || ${GRANTEE} FROM aclexplode(acldefault(
        CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole)) AS a
    ) AS r(step, verb, whom)
    WHERE defaclnamespace = 0 AND pg_has_role(defaclrole, 'USAGE') ORDER BY defaclobjtype, r.step`,
];

/** The statements are found before the first of them runs: the catalog changes under a query that is still open. */
function makeLoop(query: string): string {
  return `  FOREACH line IN ARRAY ARRAY(${query}) LOOP EXECUTE line; END LOOP;`;
}

/** A DO block. Fails with FOREIGN_LOSS_STATE when something foreign would be lost. */
export function makeWipeBlock({ survivors, schemas, extensions, properties }: WipeOptions): string {
  const drops = [...WATCHING_OBJECTS, makeDropQuery(RELATIONS), ...WHOLE_OBJECTS, ...KINDS.map(makeDropQuery)];
  const loops = [...drops, CONFIGURATION, ...DEFAULT_RIGHTS].map(makeLoop);
  return `DO $wipe$
#variable_conflict use_column
DECLARE
  kept_extensions oid[] := ${asOids(survivors.extensions)};
  kept_schemas oid[] := ${asOids(survivors.schemas)};
  guarded text[];
  remaining text[];
  lost text;
  line text;
BEGIN
  guarded := (${GUARDED});
${loops.join("\n")}
  PERFORM lo_unlink(oid) FROM pg_largeobject_metadata WHERE pg_has_role(lomowner, 'USAGE');
  remaining := (${GUARDED});
  lost := (SELECT string_agg(entry, ', ') FROM unnest(guarded) AS entry WHERE entry <> ALL (remaining));
  IF lost IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '${FOREIGN_LOSS_STATE}', MESSAGE = 'objects of other roles would be lost: ' || lost;
  END IF;
${makeSchemasBlock(quoteLiteral(schemas))}
${makeExtensionsBlock(quoteLiteral(extensions))}
${makePropertiesBlock(quoteLiteral(properties))}
END
$wipe$;`;
}

/**
 * A dump creates an extension that is missing in its newest version and as its own role. Where the schema is there
 * already, that is done as it was instead; what the dump says afterwards then changes nothing.
 */
function makeExtensionsBlock(extensions: string): string {
  return `  FOREACH line IN ARRAY ARRAY(
    SELECT format('SET LOCAL ROLE %s; CREATE EXTENSION %I SCHEMA %s VERSION %L; RESET ROLE', x.owner, x.name, x.schema, x.version)
    FROM json_to_recordset(${extensions}::json) AS x(oid oid, name text, schema text, version text, owner text)
    WHERE to_regnamespace(x.schema) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = x.name)
    ORDER BY x.oid) LOOP
    EXECUTE line;
  END LOOP;`;
}

function asOids(oids: readonly string[]): string {
  return `ARRAY[${oids.map((oid) => BigInt(oid).toString()).join(", ")}]::oid[]`;
}
