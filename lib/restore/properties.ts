/**
 * What belongs to a database as a whole, and is in no dump of it: settings, rights, comment, connection limit. As the
 * statements that set it, so that two states can be compared and one be put back. A fence of ours is no part of it: what
 * counts is what the settings were before it. Pure.
 */
import { FENCE_EXPRESSION, FENCED_NAMES } from "../postgres/fence-mark.ts";

/**
 * Settings that are lists of names: their stored value is SQL already, that of all others is one text.
 * @see variable_is_guc_list_quote() in src/bin/pg_dump/dumputils.c of PostgreSQL
 */
const LIST_SETTINGS = [
  "local_preload_libraries",
  "search_path",
  "session_preload_libraries",
  "shared_preload_libraries",
  "temp_tablespaces",
  "unix_socket_directories",
];

const GRANTEE = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END";

/** What a setting belongs to. */
const SCOPE = `CASE setrole WHEN 0 THEN format('ALTER DATABASE %I', current_database())
  ELSE format('ALTER ROLE %s IN DATABASE %I', setrole::regrole, current_database()) END`;

/** Rows (role, "name=value") of what is set in this database, with the values that a fence has replaced. */
const ENTRIES = `
  SELECT setrole, entry FROM pg_db_role_setting, unnest(setconfig) AS entry
  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND NOT (setrole = 0 AND split_part(entry, '=', 1) IN (${FENCED_NAMES}) AND ${FENCE_EXPRESSION} IS NOT NULL)
  UNION ALL SELECT 0::oid, json_array_elements_text(convert_from(decode(kept, 'hex'), 'UTF8')::json)
  FROM (SELECT split_part(${FENCE_EXPRESSION}, ' ', 2)) AS fence(kept) WHERE kept <> ''`;

/** Rows (statement, inverse): what sets a property, and what takes it away where another one does not replace it. */
const STATEMENTS = `
  SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', current_database(), datconnlimit), NULL
    FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT format('ALTER DATABASE %I OWNER TO %s', current_database(), datdba::regrole), NULL
    FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT format('ALTER DATABASE %I IS_TEMPLATE true', current_database()),
      format('ALTER DATABASE %I IS_TEMPLATE false', current_database())
    FROM pg_database WHERE datname = current_database() AND datistemplate
  UNION ALL SELECT format('SECURITY LABEL FOR %I ON DATABASE %I IS %L', provider, current_database(), label),
      format('SECURITY LABEL FOR %I ON DATABASE %I IS NULL', provider, current_database())
    FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass
      AND objoid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT format('COMMENT ON DATABASE %I IS %L', current_database(), shobj_description(oid, 'pg_database')), NULL
    FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, current_database(), ${GRANTEE},
      CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END),
      format('REVOKE %s ON DATABASE %I FROM %s', a.privilege_type, current_database(), ${GRANTEE})
    FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a WHERE datname = current_database()
  UNION ALL SELECT format('%s SET %I TO %s', scope, key, CASE WHEN value <> '' AND lower(key) IN ('${LIST_SETTINGS.join("', '")}')
      THEN value ELSE quote_literal(value) END), format('%s RESET %I', scope, key)
    FROM (
      SELECT ${SCOPE}, split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
      FROM (${ENTRIES}) AS entries(setrole, entry)
    ) AS settings(scope, key, value)`;

/** One row, `properties`: a JSON list of statements, in a fixed order. */
export const PROPERTIES_QUERY = `
  SELECT json_agg(statement ORDER BY statement COLLATE "C") AS "properties"
  FROM (${STATEMENTS}) AS statements(statement, inverse)`;

/**
 * PL/pgSQL statements that put back what differs, and nothing else: some settings only a superuser may set again. Uses
 * the variable `line`, a text.
 *
 * @param properties SQL literal of the JSON list that was marked
 */
export function makePropertiesBlock(properties: string): string {
  const now = `(${STATEMENTS}) AS s(statement, inverse)`;
  return `
  FOR line IN SELECT inverse FROM ${now}
    WHERE inverse IS NOT NULL AND statement NOT IN (SELECT json_array_elements_text(${properties}::json)) LOOP
    EXECUTE line;
  END LOOP;
  FOR line IN SELECT json_array_elements_text(${properties}::json) EXCEPT SELECT statement FROM ${now} LOOP
    EXECUTE line;
  END LOOP;`;
}

const IDENTIFIER = `(?:"(?:[^"]|"")*"|[^\\s"]+)`;
const SUBJECT = new RegExp(
  `^(ALTER DATABASE |COMMENT ON DATABASE |GRANT [A-Z ]+ ON DATABASE |ALTER ROLE ${IDENTIFIER} IN DATABASE |SECURITY LABEL FOR ${IDENTIFIER} ON DATABASE )${IDENTIFIER} `,
  "u",
);

/**
 * The same property as a statement about another database.
 *
 * @param identifier the other one's name as the server quotes it
 */
export function moveProperty(statement: string, identifier: string): string {
  return statement.replace(SUBJECT, (_, head: string) => `${head}${identifier} `);
}

/** SQLSTATE of the answer of PROPERTIES_TRIAL; its message is a JSON list of the statements that failed. */
export const TRIAL_STATE = "PS004";

/** Tries to set every property as it is, and takes all of it back: what fails, this role could not carry over. */
export const PROPERTIES_TRIAL = `DO $trial$
DECLARE
  line text;
  failed text[] := '{}';
BEGIN
  PERFORM set_config('lock_timeout', '3s', true);
  FOR line IN SELECT statement FROM (${STATEMENTS}) AS s(statement, inverse) ORDER BY statement COLLATE "C" LOOP
    BEGIN
      EXECUTE line;
    EXCEPTION WHEN OTHERS THEN
      failed := failed || line;
    END;
  END LOOP;
  RAISE EXCEPTION USING ERRCODE = '${TRIAL_STATE}', MESSAGE = array_to_json(failed)::text;
END
$trial$`;
