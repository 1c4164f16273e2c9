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
  const all = defaultType === "" ? acl : `coalesce(${acl}, acldefault('${defaultType}', ${owner}))`;
  return `(SELECT string_agg(concat_ws(' ', a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable),
    ',' ORDER BY a.grantor::regrole::text, a.grantee::regrole::text, a.privilege_type, a.is_grantable)
    FROM aclexplode(${all}) AS a)`;
}

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
  `SELECT object, concat_ws('|', 'relation', relkind, relpersistence, ${roleName("relowner")},
      ${options("reloptions")}, (SELECT amname FROM pg_am WHERE oid = relam AND relkind <> 'p'),
      (SELECT spcname FROM pg_tablespace WHERE oid = reltablespace), relrowsecurity, relforcerowsecurity, relreplident,
      CASE WHEN relkind = 'm' THEN relispopulated::text END,
      (SELECT ${options("t.reloptions")} FROM pg_class AS t WHERE t.oid = reltoastrelid),
      ${canonical("pg_get_expr(relpartbound, oid)")}, ${canonical("CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END")},
      CASE WHEN reloftype <> 0 THEN reloftype::regtype::text END, 'rights',
      ${rights("relacl", "r", "relowner").replace("acldefault('r', relowner)", "acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner)")})
    FROM relation`,
  `SELECT object, concat_ws('|', 'column', row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
      format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
      nullif(to_jsonb(a) ->> 'attcompression', ''), coalesce(attstattarget, -1),
      ${canonical("(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)")},
      (SELECT collname FROM pg_collation WHERE oid = attcollation), ${options("attoptions")}, ${options("attfdwoptions")},
      'rights', ${rights("attacl", "", "")})
    FROM relation AS r JOIN pg_attribute AS a ON attrelid = r.oid WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'`,
  `SELECT object, concat_ws('|', 'constraint', conname, convalidated, ${canonical("pg_get_constraintdef(c.oid)")})
    FROM relation AS r JOIN pg_constraint AS c ON conrelid = r.oid
    WHERE contype <> 'n' AND NOT (contype = 'f' AND conparentid <> 0)`,
  `SELECT object, concat_ws('|', 'index', ${canonical("pg_get_indexdef(indexrelid)")}, indisclustered, indisreplident,
      (SELECT spcname FROM pg_tablespace AS s JOIN pg_class AS i ON i.reltablespace = s.oid WHERE i.oid = indexrelid),
      (SELECT string_agg(attnum || ':' || attstattarget, ',' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = indexrelid AND attstattarget >= 0))
    FROM relation AS r JOIN pg_index ON indrelid = r.oid WHERE indisvalid OR relkind = 'p'`,
  `SELECT object, concat_ws('|', 'trigger', tgname, tgenabled, ${canonical("pg_get_triggerdef(t.oid)")})
    FROM relation AS r JOIN pg_trigger AS t ON tgrelid = r.oid WHERE NOT tgisinternal AND tgparentid = 0`,
  `SELECT object, concat_ws('|', 'rule', rulename, ev_enabled, ${canonical("pg_get_ruledef(w.oid)")})
    FROM relation AS r JOIN pg_rewrite AS w ON ev_class = r.oid WHERE rulename <> '_RETURN'`,
  `SELECT object, concat_ws('|', 'policy', polname, polcmd, polpermissive,
      (SELECT string_agg(p::regrole::text, ',' ORDER BY p::regrole::text) FROM unnest(polroles) AS p),
      'using', ${canonical("pg_get_expr(polqual, polrelid)")}, 'check', ${canonical("pg_get_expr(polwithcheck, polrelid)")})
    FROM relation AS r JOIN pg_policy ON polrelid = r.oid`,
  `SELECT object, concat_ws('|', 'query', ${canonical("pg_get_viewdef(oid)")}) FROM relation WHERE relkind IN ('v', 'm')`,
  `SELECT r.object, concat_ws('|', 'inherits', inhseqno, p.object)
    FROM relation AS r JOIN pg_inherits ON inhrelid = r.oid JOIN relation AS p ON p.oid = inhparent`,
  `SELECT r.object, concat_ws('|', 'sequence', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle,
      (SELECT o.object || '.' || attname FROM pg_depend AS d JOIN relation AS o ON o.oid = refobjid
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
          AND deptype IN ('a', 'i')),
      'value', CASE WHEN has_sequence_privilege(r.oid, 'USAGE, SELECT') THEN pg_sequence_last_value(r.oid) END)
    FROM relation AS r JOIN pg_sequence ON seqrelid = r.oid`,
  `SELECT object, concat_ws('|', 'foreign', (SELECT srvname FROM pg_foreign_server WHERE oid = ftserver),
      ${options("ftoptions")}) FROM relation AS r JOIN pg_foreign_table ON ftrelid = r.oid`,
];
