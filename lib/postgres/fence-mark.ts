/**
 * What a fence leaves in the settings of its database, so that whoever connects can tell it: a deploy that finds it knows
 * that writers were shut out, by which deploy, and what the settings were before. Pure.
 *
 * The mark is the database's `application_name`, since an owner may set no variable of his own there:
 * `prisma-safe-deploy fence <id>`, and behind it, where one of the two settings had a value before, those values as the
 * hexadecimal text of a JSON list.
 */

const WORDS = "prisma-safe-deploy fence ";

/** The two settings that a fence changes. */
const FENCED_SETTINGS = ["application_name", "default_transaction_read_only"] as const;

/** SQL list of their names. */
export const FENCED_NAMES = FENCED_SETTINGS.map((name) => `'${name}'`).join(", ");

/** SQL literal of the words that every mark begins with. */
export const FENCE_WORDS = `'${WORDS}'`;

/** SQL: the settings of the current database for all roles, as rows of `entry`, "name=value". */
export const DATABASE_ENTRIES = `pg_db_role_setting AS s, unnest(s.setconfig) AS entry
  WHERE s.setrole = 0 AND s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/** SQL condition on a row of settings. */
export const IS_FENCE_ENTRY = `starts_with(entry, 'application_name=${WORDS}')`;

/** SQL: what stands behind the words, NULL where there is no fence. One look into a small catalog. */
export const FENCE_EXPRESSION = `(SELECT substr(entry, ${"application_name=".length + WORDS.length + 1})
  FROM ${DATABASE_ENTRIES} AND ${IS_FENCE_ENTRY})`;

/** The id of the fence that FENCE_EXPRESSION found. */
export function readFenceId(mark: string | null): string | undefined {
  return mark === null ? undefined : mark.split(" ", 1)[0];
}
