/** A digest of Prisma's rows, over all of their columns. Needs CONTENT_SETTINGS, for the timestamps. Pure. */
import { quoteIdentifier } from "../postgres/identifier.ts";

/** Of the rows of `m`. Double quotes and no `%`: it is put into a format() string. */
export const HISTORY_EXPRESSION = `md5(coalesce(string_agg(m::text, E'\\n' ORDER BY m::text COLLATE "C"), ''))`;

/** Answers one row, `digest`. */
export function makeHistoryQuery(schema: string): string {
  return `SELECT ${HISTORY_EXPRESSION} AS "digest" FROM ${quoteIdentifier(schema)}._prisma_migrations AS m`;
}
