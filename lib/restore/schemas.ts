/**
 * Owner, rights and comment of schemas, as the statements that set them: a schema that a wipe keeps is not created again
 * from the dump, and so must be put back by itself.
 */

const GRANTEE = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END";

const USER_SCHEMAS = `nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (
  SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = n.oid AND deptype = 'e')`;

/** Rows (schema, statement, inverse): what sets a property, and what takes it away where another does not replace it. */
const STATEMENTS = `
  SELECT nspname, format('ALTER SCHEMA %I OWNER TO %s', nspname, nspowner::regrole), NULL
    FROM pg_namespace AS n WHERE ${USER_SCHEMAS}
  UNION ALL SELECT nspname, format('COMMENT ON SCHEMA %I IS %L', nspname, obj_description(oid, 'pg_namespace')), NULL
    FROM pg_namespace AS n WHERE ${USER_SCHEMAS}
  UNION ALL SELECT nspname, format('GRANT %s ON SCHEMA %I TO %s%s', a.privilege_type, nspname, ${GRANTEE},
      CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END),
      format('REVOKE %s ON SCHEMA %I FROM %s', a.privilege_type, nspname, ${GRANTEE})
    FROM pg_namespace AS n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS a WHERE ${USER_SCHEMAS}`;

/** One row, `schemas`: a JSON list of [schema, statement]. */
export const SCHEMAS_QUERY = `
  SELECT coalesce(json_agg(json_build_array(schema, statement) ORDER BY statement COLLATE "C"), '[]') AS "schemas"
  FROM (${STATEMENTS}) AS statements(schema, statement, inverse)`;

/**
 * PL/pgSQL statements that put the schemas back that exist and that we own. Uses the variable `line`, a text.
 *
 * @param schemas SQL literal of the JSON list that was marked
 */
export function makeSchemasBlock(schemas: string): string {
  const marked = `(SELECT pair ->> 0, pair ->> 1 FROM json_array_elements(${schemas}::json) AS pair) AS m(schema, statement)`;
  const own = `schema IN (SELECT nspname FROM pg_namespace WHERE pg_has_role(nspowner, 'USAGE'))`;
  return `
  IF to_regnamespace('public') IS NULL AND EXISTS (SELECT FROM ${marked} WHERE schema = 'public') THEN
    CREATE SCHEMA public;
  END IF;
  FOR line IN SELECT s.inverse FROM (${STATEMENTS}) AS s(schema, statement, inverse)
    WHERE s.inverse IS NOT NULL AND s.${own} AND s.statement NOT IN (SELECT m.statement FROM ${marked}) LOOP
    EXECUTE line;
  END LOOP;
  FOR line IN SELECT m.statement FROM ${marked}
    WHERE m.${own} AND m.statement NOT IN (SELECT s.statement FROM (${STATEMENTS}) AS s(schema, statement, inverse))
    ORDER BY m.statement NOT LIKE 'ALTER SCHEMA %' LOOP
    EXECUTE line;
  END LOOP;`;
}
