/** What gives a role the rights that it lacks, the same in every language. Pure. */
import type { ErrorFields } from "../errors.ts";

/** At most two statements, for the first of what is missing: they are to be understood, and not only to be run. */
const SHOWN_MAX = 2;

export function makeGrants(missing: ErrorFields["BACKUP_DENIED"]): string[] {
  const user = quoteIfNeeded(missing.user);
  const [schema] = missing.schemas;
  const [table] = missing.tables;
  const [sequence] = missing.sequences;
  const [largeObject] = missing.largeObjects;
  return [
    ...(schema === undefined ? [] : [`GRANT USAGE ON SCHEMA ${schema} TO ${user};`]),
    ...(table === undefined ? [] : [`GRANT SELECT ON TABLE ${table} TO ${user};`]),
    ...(sequence === undefined ? [] : [`GRANT SELECT ON SEQUENCE ${sequence} TO ${user};`]),
    ...(missing.hidden.length === 0 ? [] : [`ALTER ROLE ${user} BYPASSRLS;`]),
    ...(largeObject === undefined ? [] : [`GRANT SELECT ON LARGE OBJECT ${largeObject} TO ${user};`]),
  ].slice(0, SHOWN_MAX);
}

function quoteIfNeeded(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}
