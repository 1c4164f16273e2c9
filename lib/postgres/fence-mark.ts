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

/** SQL: the settings of a database for all roles, as rows of `entry`, "name=value". @param database SQL of its name */
function entriesOf(database: string): string {
  return `pg_db_role_setting AS s, unnest(s.setconfig) AS entry
  WHERE s.setrole = 0 AND s.setdatabase = (SELECT oid FROM pg_database WHERE datname = ${database})`;
}

/** SQL: those of the current one. */
export const DATABASE_ENTRIES = entriesOf("current_database()");

/** SQL condition on a row of settings. */
export const IS_FENCE_ENTRY = `starts_with(entry, 'application_name=${WORDS}')`;

/** SQL: what stands behind the words, NULL where there is no fence. One look into a small catalog. */
export function fenceExpressionOf(database: string): string {
  return `(SELECT substr(entry, ${"application_name=".length + WORDS.length + 1})
  FROM ${entriesOf(database)} AND ${IS_FENCE_ENTRY})`;
}

/** SQL: the same of the current database. */
export const FENCE_EXPRESSION = fenceExpressionOf("current_database()");

/** The id of the fence that FENCE_EXPRESSION found. */
export function readFenceId(mark: string | null): string | undefined {
  return mark === null ? undefined : mark.split(" ", 1)[0];
}

/**
 * Settings of a database for all roles, "name=value" each, as they were before the fence that they hold; the same where
 * they hold none, or one that can't be read.
 */
export function keptEntries(entries: readonly string[]): readonly string[] {
  const mark = entries.find((entry) => entry.startsWith(`application_name=${WORDS}`));
  if (mark === undefined) return entries;
  const kept = readKept(mark.slice(`application_name=${WORDS}`.length).split(" ")[1]);
  const isFenced = (entry: string) => FENCED_SETTINGS.some((name) => entry.startsWith(`${name}=`));
  return kept === undefined ? entries : [...entries.filter((entry) => !isFenced(entry)), ...kept];
}

function readKept(hex = ""): readonly string[] | undefined {
  if (hex === "") return [];
  try {
    const kept: unknown = JSON.parse(Buffer.from(hex, "hex").toString("utf8"));
    return Array.isArray(kept) && kept.every((entry) => typeof entry === "string") ? kept : undefined;
  } catch {
    return undefined;
  }
}
