/** How to make an empty database like another one: what can't be changed later, and is in no dump. Pure. */
import { quoteLiteral } from "../postgres/identifier.ts";

/**
 * SQL: the statement that creates `name`, as text, from the row `d` of pg_database. Newer servers know more columns, and
 * an older one is asked for none that it does not have.
 */
export function makeCreateExpression(name: string): string {
  const column = (...names: string[]) => `coalesce(${names.map((one) => `to_jsonb(d) ->> '${one}'`).join(", ")})`;
  const locale = column("daticulocale", "datlocale");
  const rules = column("daticurules");
  return (
    `format('CREATE DATABASE %I TEMPLATE template0 OWNER %I ENCODING %L LC_COLLATE %L LC_CTYPE %L', ` +
    `${quoteLiteral(name)}, pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype) ` +
    // Named, even the default one asks for a right of its own.
    `|| CASE d.dattablespace WHEN (SELECT dattablespace FROM pg_database WHERE datname = 'template0') THEN '' ` +
    `ELSE format(' TABLESPACE %I', (SELECT spcname FROM pg_tablespace WHERE oid = d.dattablespace)) END || CASE to_jsonb(d) ->> 'datlocprovider' ` +
    `WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', ${locale}) || CASE WHEN ${rules} IS NULL THEN '' ELSE format(' ICU_RULES %L', ${rules}) END ` +
    `WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', ${locale}) ELSE '' END`
  );
}
