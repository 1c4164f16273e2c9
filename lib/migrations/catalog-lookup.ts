/** Looks objects up in the catalog: all of them by one query. */
import type { Session } from "../postgres/session.ts";
import type { CatalogObject, FoundState } from "./catalog-objects.ts";

const DEADLINE_MS = 60_000;

/** An object without a schema is looked for where the search path would find it, its first schema first. */
const LOOK_UP = `
  WITH wanted AS (
    SELECT o.place, o.kind, o.owner, o.name, o."inputTypes",
      CASE WHEN o.schema IS NULL THEN pg_catalog.current_schemas(false) ELSE ARRAY[o.schema]::name[] END AS schemas
    FROM pg_catalog.json_to_recordset($1::json)
      AS o(place int, kind text, schema name, owner name, name text, "inputTypes" text)
  )
  SELECT coalesce(pg_catalog.json_agg(coalesce(CASE w.kind
    WHEN 'schema' THEN (SELECT 'present' FROM pg_catalog.pg_namespace n WHERE n.nspname = w.name)
    WHEN 'extension' THEN (SELECT 'present' FROM pg_catalog.pg_extension e WHERE e.extname = w.name)
    WHEN 'relation' THEN (
      SELECT CASE
          WHEN c.relkind = 'i' AND NOT i.indisvalid THEN 'invalid-index'
          WHEN c.relkind IN ('r', 'p', 'f') THEN 'table' WHEN c.relkind IN ('i', 'I') THEN 'index'
          WHEN c.relkind = 'v' THEN 'view' WHEN c.relkind = 'm' THEN 'materialized-view'
          WHEN c.relkind = 'S' THEN 'sequence' ELSE 'present' END
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
      WHERE c.relname = w.name AND n.nspname = ANY (w.schemas)
      ORDER BY pg_catalog.array_position(w.schemas, n.nspname) LIMIT 1)
    WHEN 'type' THEN (
      SELECT 'present' FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      WHERE t.typname = w.name AND n.nspname = ANY (w.schemas) LIMIT 1)
    WHEN 'enum-value' THEN (
      SELECT 'present' FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      WHERE e.enumlabel = w.name AND t.typname = w.owner AND n.nspname = ANY (w.schemas) LIMIT 1)
    WHEN 'function' THEN (
      SELECT 'present' FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE p.proname = w.name AND n.nspname = ANY (w.schemas) AND (w."inputTypes" IS NULL OR w."inputTypes" = (
        SELECT coalesce(pg_catalog.string_agg(t.typname, ',' ORDER BY a.number), '')
        FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a(type, number)
          JOIN pg_catalog.pg_type t ON t.oid = a.type)) LIMIT 1)
    ELSE (
      SELECT 'present' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = w.owner AND n.nspname = ANY (w.schemas) AND CASE w.kind
        WHEN 'column' THEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = c.oid AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped)
        WHEN 'not-null' THEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = c.oid AND a.attname = w.name AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull)
        WHEN 'constraint' THEN EXISTS (SELECT FROM pg_catalog.pg_constraint k
          WHERE k.conrelid = c.oid AND k.conname = w.name)
        WHEN 'trigger' THEN EXISTS (SELECT FROM pg_catalog.pg_trigger t
          WHERE t.tgrelid = c.oid AND t.tgname = w.name AND NOT t.tgisinternal)
        WHEN 'policy' THEN EXISTS (SELECT FROM pg_catalog.pg_policy y
          WHERE y.polrelid = c.oid AND y.polname = w.name) END
      LIMIT 1)
    END, 'absent') ORDER BY w.place), '[]') AS "found"
  FROM wanted w`;

/** @returns the state of each, in their order */
export async function lookUp(session: Session, objects: readonly CatalogObject[]): Promise<readonly FoundState[]> {
  if (objects.length === 0) return [];
  const wanted = objects.map((object, place) => ({ place, ...object }));
  const [answer] = await session.query<{ found: readonly FoundState[] }>(LOOK_UP, {
    during: "look up what the scripts make",
    deadlineMs: DEADLINE_MS,
    parameters: [JSON.stringify(wanted)],
  });
  return answer?.found ?? [];
}
