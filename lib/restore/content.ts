/**
 * The schema's content by definitions: for every object a digest of all that defines it, without ids, so that it is the
 * same before a dump and after its restore. Read at the mark, and again inside the transaction that restores.
 *
 * Definitions are compared without casts, brackets and white space: PostgreSQL itself writes some expressions otherwise
 * after they were read once (`x IN ('a', 'b')` on a varchar), and a restore can't lose a cast alone. An index that was
 * invalid is not content: no dump holds it. Members of extensions come with their extension; only their rights count.
 */

/** What the texts of expressions, bounds and values depend on. Statements to run before the query, in its transaction. */
export const CONTENT_SETTINGS = [
  "SET LOCAL search_path = ''",
  "SET LOCAL timezone = 'UTC'",
  "SET LOCAL datestyle = 'ISO, YMD'",
  "SET LOCAL intervalstyle = 'postgres'",
  "SET LOCAL extra_float_digits = 1",
  "SET LOCAL bytea_output = 'hex'",
  "SET LOCAL quote_all_identifiers = off",
  "SET LOCAL xmlbinary = 'base64'",
  "SET LOCAL jit = off",
].join("; ");

const NAME = `("([^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*)`;
const CAST_PATTERN =
  `::${NAME}(\\.${NAME})?( varying| precision)?(\\([0-9,]+\\))?( with(out)? time zone)?(\\[\\])*`.replaceAll("'", "''");

function canonical(expression: string): string {
  return `regexp_replace(regexp_replace(${expression}, '${CAST_PATTERN}', '', 'g'), '[\\s()]', '', 'g')`;
}

function roleName(oid: string): string {
  return `pg_get_userbyid(${oid})`;
}

/** Rights as a sorted list, the same for the default ones whether they are written down or not. */
function rights(acl: string, defaultType: string, owner: string): string {
  const all = defaultType === "" ? acl : `coalesce(${acl}, acldefault(${defaultType}, ${owner}))`;
  return `(SELECT string_agg(concat_ws(' ', a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable),
    ',' ORDER BY a.grantor::regrole::text, a.grantee::regrole::text, a.privilege_type, a.is_grantable)::text
    FROM aclexplode(${all}) AS a)`;
}

const RELATION_RIGHTS = `CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char"`;

/** Newer minor releases note a version of their own beside the user's options, another one in each table. */
const COLUMN_OPTIONS = `(SELECT string_agg(o, ',' ORDER BY o) FROM unnest(attoptions) AS o WHERE o LIKE 'n\\_distinct%')`;

function options(array: string): string {
  return `(SELECT string_agg(o, ',' ORDER BY o) FROM unnest(${array}) AS o)`;
}

/** Objects that belong to an extension, to no schema of the user, or to a session alone, are left out. */
const COMMON_TABLES = `
  member AS MATERIALIZED (
    SELECT classid, objid, refobjid AS extension FROM pg_depend
    WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
  ),
  space AS MATERIALIZED (
    SELECT n.* FROM pg_namespace AS n WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_namespace'::regclass AND objid = n.oid)
  ),
  everywhere AS MATERIALIZED (
    SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  ),
  relation AS MATERIALIZED (
    SELECT c.*, CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
        WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'type' END
      || ' ' || quote_ident(e.nspname) || '.' || quote_ident(c.relname) AS object
    FROM pg_class AS c JOIN everywhere AS e ON e.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_class'::regclass AND objid = c.oid)
  )`;

/** Each answers (object, definition); a row more or less for an object changes its digest. */
const RELATION_PARTS = [
  `SELECT object, jsonb_build_array('relation', relkind, relpersistence, ${roleName("relowner")},
      ${options("reloptions")}, (SELECT amname FROM pg_am WHERE oid = relam AND relkind <> 'p'),
      (SELECT spcname FROM pg_tablespace WHERE oid = reltablespace), relrowsecurity, relforcerowsecurity, relreplident,
      CASE WHEN relkind = 'm' THEN relispopulated::text END,
      (SELECT ${options("t.reloptions")} FROM pg_class AS t WHERE t.oid = reltoastrelid),
      ${canonical("pg_get_expr(relpartbound, oid)")}, ${canonical("CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END")},
      CASE WHEN reloftype <> 0 THEN reloftype::regtype::text END, 'rights',
      ${rights("relacl", RELATION_RIGHTS, "relowner")})::text
    FROM relation`,
  `SELECT object, jsonb_build_array('column', row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
      format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
      nullif(to_jsonb(a) ->> 'attcompression', ''), coalesce(attstattarget, -1),
      ${canonical("(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)")},
      (SELECT collname FROM pg_collation WHERE oid = attcollation), ${COLUMN_OPTIONS}, ${options("attfdwoptions")},
      'rights', ${rights("attacl", "", "")})::text
    FROM relation AS r JOIN pg_attribute AS a ON attrelid = r.oid WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'`,
  `SELECT object, jsonb_build_array('constraint', conname, convalidated, ${canonical("pg_get_constraintdef(c.oid)")})::text
    FROM relation AS r JOIN pg_constraint AS c ON conrelid = r.oid
    WHERE contype <> 'n' AND NOT (contype = 'f' AND conparentid <> 0)`,
  `SELECT object, jsonb_build_array('index', ${canonical("pg_get_indexdef(indexrelid)")}, indisclustered, indisreplident,
      (SELECT spcname FROM pg_tablespace AS s JOIN pg_class AS i ON i.reltablespace = s.oid WHERE i.oid = indexrelid),
      (SELECT string_agg(attnum || ':' || attstattarget, ',' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = indexrelid AND attstattarget >= 0))::text
    FROM relation AS r JOIN pg_index ON indrelid = r.oid WHERE indisvalid OR relkind = 'p'`,
  `SELECT object, jsonb_build_array('trigger', tgname, tgenabled, ${canonical("pg_get_triggerdef(t.oid)")})::text
    FROM relation AS r JOIN pg_trigger AS t ON tgrelid = r.oid WHERE NOT tgisinternal AND tgparentid = 0`,
  `SELECT object, jsonb_build_array('rule', rulename, ev_enabled, ${canonical("pg_get_ruledef(w.oid)")})::text
    FROM relation AS r JOIN pg_rewrite AS w ON ev_class = r.oid WHERE rulename <> '_RETURN'`,
  `SELECT object, jsonb_build_array('policy', polname, polcmd, polpermissive,
      (SELECT string_agg(p::regrole::text, ',' ORDER BY p::regrole::text) FROM unnest(polroles) AS p),
      'using', ${canonical("pg_get_expr(polqual, polrelid)")}, 'check', ${canonical("pg_get_expr(polwithcheck, polrelid)")})::text
    FROM relation AS r JOIN pg_policy ON polrelid = r.oid`,
  `SELECT object, jsonb_build_array('query', ${canonical("pg_get_viewdef(oid)")})::text FROM relation WHERE relkind IN ('v', 'm')`,
  `SELECT r.object, jsonb_build_array('inherits', inhseqno, p.object)::text
    FROM relation AS r JOIN pg_inherits ON inhrelid = r.oid JOIN relation AS p ON p.oid = inhparent`,
  `SELECT r.object, jsonb_build_array('sequence', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle,
      owner.name,
      'value', CASE WHEN has_sequence_privilege(r.oid, 'USAGE, SELECT') THEN pg_sequence_last_value(r.oid) END)::text
    FROM relation AS r JOIN pg_sequence ON seqrelid = r.oid
    LEFT JOIN (
      SELECT objid, o.object || '.' || attname AS name FROM pg_depend JOIN relation AS o ON o.oid = refobjid
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
      WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    ) AS owner ON owner.objid = r.oid`,
  `SELECT object, jsonb_build_array('foreign', (SELECT srvname FROM pg_foreign_server WHERE oid = ftserver),
      ${options("ftoptions")})::text FROM relation AS r JOIN pg_foreign_table ON ftrelid = r.oid`,
];

/** Objects of the other catalogs are named as PostgreSQL itself identifies them. */
interface OtherCatalog {
  readonly catalog: string;
  /** What defines a row of it, as SQL expressions of the row `o`. */
  readonly definition: readonly string[];
  readonly where?: string;
}

const OTHER_CATALOGS: readonly OtherCatalog[] = [
  {
    catalog: "pg_namespace",
    definition: [roleName("nspowner"), rights("nspacl", "'n'", "nspowner")],
    where: "oid IN (SELECT oid FROM space)",
  },
  {
    catalog: "pg_extension",
    definition: [
      "extversion",
      "extnamespace::regnamespace::text",
      roleName("extowner"),
      `(SELECT string_agg(i.identity || ' ' || m.acl, ';' ORDER BY i.identity)
        FROM member JOIN (
          SELECT 'pg_proc'::regclass AS catalog, oid, proacl::text AS acl FROM pg_proc
          UNION ALL SELECT 'pg_class'::regclass, oid, relacl::text FROM pg_class
          UNION ALL SELECT 'pg_type'::regclass, oid, typacl::text FROM pg_type
          UNION ALL SELECT 'pg_namespace'::regclass, oid, nspacl::text FROM pg_namespace
        ) AS m ON m.catalog = member.classid AND m.oid = member.objid AND m.acl IS NOT NULL,
        LATERAL pg_identify_object(classid, objid, 0) AS i
        WHERE extension = o.oid)`,
    ],
  },
  {
    catalog: "pg_proc",
    definition: [
      roleName("proowner"),
      canonical("CASE WHEN prokind <> 'a' THEN pg_get_functiondef(oid) END"),
      "(SELECT to_jsonb(g) - 'aggfnoid' - 'aggtranstype' - 'aggmtranstype' - 'aggsortop' FROM pg_aggregate AS g WHERE aggfnoid = o.oid)",
      "(SELECT format_type(aggtranstype, NULL) FROM pg_aggregate WHERE aggfnoid = o.oid)",
      rights("proacl", "'f'", "proowner"),
    ],
    where: "pronamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_type",
    definition: [
      roleName("typowner"),
      "typtype",
      "(SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = o.oid)",
      "format_type(nullif(typbasetype, 0), typtypmod)",
      "typnotnull",
      canonical("typdefault"),
      "(SELECT collname FROM pg_collation WHERE oid = typcollation)",
      `(SELECT string_agg(conname || ' ' || convalidated || ' ' || ${canonical("pg_get_constraintdef(c.oid)")}, ';' ORDER BY conname)
        FROM pg_constraint AS c WHERE contypid = o.oid)`,
      `(SELECT concat_ws(' ', format_type(rngsubtype, NULL), rngcollation::regcollation, rngcanonical, rngsubdiff)
        FROM pg_range WHERE rngtypid = o.oid)`,
      "CASE WHEN typtype = 'b' THEN concat_ws(' ', typlen, typinput, typoutput, typcategory, typdelim, typalign, typstorage) END",
      rights("typacl", "'T'", "typowner"),
    ],
    where: `typnamespace IN (SELECT oid FROM everywhere) AND typtype IN ('e', 'd', 'r', 'b', 'c')
      AND (typtype <> 'c' OR EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = o.oid AND deptype = 'i')`,
  },
  {
    catalog: "pg_operator",
    definition: [
      roleName("oprowner"),
      "oprcode::text",
      "oprcom::regoperator::text",
      "oprnegate::regoperator::text",
      "oprrest::text",
      "oprjoin::text",
      "oprcanmerge",
      "oprcanhash",
    ],
    where: "oprnamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_opclass",
    definition: [roleName("opcowner"), "opcintype::regtype::text", "opckeytype::regtype::text", "opcdefault"],
    where: "opcnamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_opfamily",
    definition: [
      roleName("opfowner"),
      `(SELECT string_agg(concat_ws(' ', amopstrategy, amoppurpose, amopopr::regoperator), ',' ORDER BY amopopr::regoperator::text, amopstrategy)
        FROM pg_amop WHERE amopfamily = o.oid)`,
      `(SELECT string_agg(concat_ws(' ', amprocnum, amproc), ',' ORDER BY amproc::text, amprocnum)
        FROM pg_amproc WHERE amprocfamily = o.oid)`,
    ],
    where: "opfnamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_collation",
    definition: [
      roleName("collowner"),
      "to_jsonb(o) - 'oid' - 'collnamespace' - 'collowner' - 'collversion' - 'collencoding'",
    ],
    where: "collnamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_conversion",
    definition: [roleName("conowner"), "conforencoding", "contoencoding", "conproc::text", "condefault"],
    where: "connamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_ts_config",
    definition: [
      roleName("cfgowner"),
      `(SELECT string_agg(concat_ws(' ', maptokentype, mapseqno, mapdict::regdictionary), ',' ORDER BY maptokentype, mapseqno)
        FROM pg_ts_config_map WHERE mapcfg = o.oid)`,
    ],
    where: "cfgnamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_ts_dict",
    definition: [roleName("dictowner"), "dictinitoption"],
    where: "dictnamespace IN (SELECT oid FROM everywhere)",
  },
  { catalog: "pg_ts_parser", definition: ["prsstart::text"], where: "prsnamespace IN (SELECT oid FROM everywhere)" },
  {
    catalog: "pg_ts_template",
    definition: ["tmpllexize::text"],
    where: "tmplnamespace IN (SELECT oid FROM everywhere)",
  },
  {
    catalog: "pg_statistic_ext",
    definition: [roleName("stxowner"), canonical("pg_get_statisticsobjdef(oid)"), "to_jsonb(o) -> 'stxstattarget'"],
    where: "stxnamespace IN (SELECT oid FROM everywhere)",
  },
  { catalog: "pg_cast", definition: ["castcontext", "castmethod", "nullif(castfunc, 0)::regprocedure::text"] },
  {
    catalog: "pg_language",
    definition: [
      roleName("lanowner"),
      "lanpltrusted",
      "lanplcallfoid::regproc::text",
      rights("lanacl", "'l'", "lanowner"),
    ],
  },
  {
    catalog: "pg_foreign_data_wrapper",
    definition: [
      roleName("fdwowner"),
      "nullif(fdwhandler, 0)::regproc::text",
      options("fdwoptions"),
      rights("fdwacl", "'F'", "fdwowner"),
    ],
  },
  {
    catalog: "pg_foreign_server",
    definition: [
      roleName("srvowner"),
      "(SELECT fdwname FROM pg_foreign_data_wrapper WHERE oid = srvfdw)",
      "srvtype",
      "srvversion",
      options("srvoptions"),
      rights("srvacl", "'S'", "srvowner"),
      `(SELECT string_agg(concat_ws(' ', usename, ${options("umoptions")}), ',' ORDER BY usename) FROM pg_user_mappings WHERE srvid = o.oid)`,
    ],
  },
  {
    catalog: "pg_event_trigger",
    definition: [roleName("evtowner"), "evtevent", "evtfoid::regproc::text", "evtenabled", options("evttags")],
  },
  {
    catalog: "pg_publication",
    definition: [
      roleName("pubowner"),
      "to_jsonb(o) - 'oid' - 'pubowner'",
      `CASE WHEN NOT puballtables THEN (SELECT string_agg(${canonical("t::text")}, ',' ORDER BY t::text)
        FROM pg_publication_tables AS t WHERE t.pubname = o.pubname) END`,
    ],
  },
  { catalog: "pg_am", definition: ["amtype", "amhandler::text"] },
  { catalog: "pg_transform", definition: ["trffromsql::text", "trftosql::text"] },
];

/** Objects of the system itself have smaller ids; a database's public schema has one of those. */
const FIRST_USER_OID = 16384;

function otherPart({ catalog, definition, where = "true" }: OtherCatalog): string {
  const isMemberCatalog = catalog !== "pg_extension";
  return `SELECT i.type || ' ' || i.identity, jsonb_build_array(${definition.join(", ")})::text
    FROM ${catalog} AS o, LATERAL pg_identify_object('${catalog}'::regclass, o.oid, 0) AS i
    WHERE (o.oid >= ${FIRST_USER_OID}${catalog === "pg_namespace" ? " OR o.nspname = 'public'" : ""}) AND ${where}${
      isMemberCatalog
        ? ` AND NOT EXISTS (SELECT FROM member WHERE classid = '${catalog}'::regclass AND objid = o.oid)`
        : ""
    }`;
}

const LOOSE_PARTS = [
  `SELECT 'large object ' || oid, jsonb_build_array(${roleName("lomowner")}, ${rights("lomacl", "'L'", "lomowner")})::text
    FROM pg_largeobject_metadata`,
  `SELECT concat_ws(' ', 'default rights of', defaclrole::regrole, nullif(defaclnamespace, 0)::regnamespace),
      jsonb_build_array(defaclobjtype, ${rights("defaclacl", "", "")})::text FROM pg_default_acl`,
  `SELECT i.type || ' ' || i.identity, jsonb_build_array('comment', objsubid, description)::text
    FROM pg_description AS d, LATERAL pg_identify_object(classoid, objoid, 0) AS i
    WHERE (objoid >= ${FIRST_USER_OID} OR (classoid = 'pg_namespace'::regclass AND i.identity = 'public'))
      AND NOT EXISTS (SELECT FROM member WHERE classid = classoid AND objid = objoid)`,
  `SELECT i.type || ' ' || i.identity, jsonb_build_array('label', objsubid, provider, label)::text
    FROM pg_seclabel AS d, LATERAL pg_identify_object(classoid, objoid, 0) AS i
    WHERE objoid >= ${FIRST_USER_OID} AND NOT EXISTS (SELECT FROM member WHERE classid = classoid AND objid = objoid)`,
];

/** Answers one row, `content`: a JSON object of digests by object. Needs CONTENT_SETTINGS in its transaction. */
export const CONTENT_QUERY = `
  WITH ${COMMON_TABLES.trim()}
  SELECT coalesce(json_object_agg(object, digest ORDER BY object COLLATE "C"), '{}')::text AS "content" FROM (
    SELECT object, md5(string_agg(definition, E'\n' ORDER BY definition COLLATE "C")) AS digest
    FROM (${[...RELATION_PARTS, ...OTHER_CATALOGS.map(otherPart), ...LOOSE_PARTS].join("\nUNION ALL ")}) AS parts(object, definition)
    GROUP BY object
  ) AS digests`;
