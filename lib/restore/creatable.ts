/**
 * What belongs to this role, or to one that it may act as, and what it could not make again all the same: a superuser
 * made it. The text of queries that answer descriptions; none of them finds anything for a superuser. Pure.
 */
import { FIRST_USER_OID, IS_SUPERUSER } from "./inventory.ts";

interface Kind {
  readonly catalog: string;
  readonly owner: string;
  /** True of the row `o` where only a superuser can make it. */
  readonly isOutOfReach: string;
}

/** A name that no module has registered is the superuser's to set, on server 15 and later. */
const HAS_FOREIGN_SETTING = `EXISTS (
  SELECT FROM unnest(o.proconfig) AS entry LEFT JOIN pg_settings AS s ON lower(s.name) = lower(split_part(entry, '=', 1))
  WHERE CASE WHEN s.name IS NULL THEN current_setting('server_version_num')::int >= 150000 ELSE s.context <> 'user' END)`;

const KINDS: readonly Kind[] = [
  {
    catalog: "pg_proc",
    owner: "proowner",
    isOutOfReach: `proleakproof OR ${HAS_FOREIGN_SETTING} OR CASE prokind
      WHEN 'a' THEN EXISTS (SELECT FROM pg_aggregate WHERE aggfnoid = o.oid AND aggtranstype = 'internal'::regtype)
      ELSE (SELECT NOT lanpltrusted OR NOT has_language_privilege(l.oid, 'USAGE') FROM pg_language AS l WHERE l.oid = prolang)
    END`,
  },
  { catalog: "pg_opclass", owner: "opcowner", isOutOfReach: "true" },
  { catalog: "pg_opfamily", owner: "opfowner", isOutOfReach: "true" },
  { catalog: "pg_event_trigger", owner: "evtowner", isOutOfReach: "true" },
  { catalog: "pg_foreign_data_wrapper", owner: "fdwowner", isOutOfReach: "true" },
  { catalog: "pg_type", owner: "typowner", isOutOfReach: "typtype = 'b'" },
  {
    catalog: "pg_foreign_server",
    owner: "srvowner",
    isOutOfReach: "NOT has_foreign_data_wrapper_privilege(srvfdw, 'USAGE')",
  },
  {
    catalog: "pg_class",
    owner: "relowner",
    isOutOfReach: `relkind IN ('r', 'p', 'm', 'i', 'I') AND reltablespace <> 0
      AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_')
      AND NOT has_tablespace_privilege(reltablespace, 'CREATE')`,
  },
  {
    catalog: "pg_publication",
    owner: "pubowner",
    // Of whole schemas, which servers before 15 do not know.
    isOutOfReach: `EXISTS (SELECT FROM pg_depend AS d WHERE d.refclassid = 'pg_publication'::regclass AND d.refobjid = o.oid
      AND d.classid = to_regclass('pg_catalog.pg_publication_namespace'))`,
  },
];

function isNoPart(catalog: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend WHERE classid = '${catalog}'::regclass AND objid = o.oid AND deptype IN ('i', 'e'))`;
}

/** What only a superuser can make. */
export const SUPERUSER_MADE = [
  ...KINDS.map(
    ({ catalog, owner, isOutOfReach }) => `
    SELECT pg_describe_object('${catalog}'::regclass, o.oid, 0) FROM ${catalog} AS o
    WHERE o.oid >= ${FIRST_USER_OID} AND NOT ${IS_SUPERUSER} AND pg_has_role(${owner}, 'USAGE')
      AND ${isNoPart(catalog)} AND (${isOutOfReach})`,
  ),
  `SELECT pg_describe_object('pg_cast'::regclass, o.oid, 0) FROM pg_cast AS o
    WHERE o.oid >= ${FIRST_USER_OID} AND NOT ${IS_SUPERUSER} AND castmethod = 'b' AND ${isNoPart("pg_cast")} AND EXISTS (
      SELECT FROM pg_type AS t WHERE t.oid IN (castsource, casttarget) AND t.oid >= ${FIRST_USER_OID}
        AND pg_has_role(typowner, 'USAGE'))`,
].join("\n    UNION ALL ");

/** Since server 16 a membership can leave out the right to become the role, and with it that to give it something. */
const MAY_GIVE_TO_OWNER = `pg_has_role(o.owner, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'USAGE' END)`;

/**
 * What would have to be given to another role, which may not create in its schema: by then the schema is new, and the
 * rights that the dump gives on it come last. Or to one that we may act as, and not become. Needs the common tables of
 * the inventory.
 */
export const NOT_GIVEABLE = `
  SELECT pg_describe_object(o.classid, o.objid, 0) FROM object AS o LEFT JOIN pg_namespace AS n ON n.oid = o.namespace
  WHERE NOT ${IS_SUPERUSER} AND o.extension IS NULL AND pg_has_role(o.owner, 'USAGE')
    AND o.owner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
    AND (NOT ${MAY_GIVE_TO_OWNER} OR NOT pg_has_role(o.owner, n.nspowner, 'USAGE')
      AND (n.nspname <> 'public' OR NOT has_schema_privilege(o.owner, n.oid, 'CREATE')))`;
