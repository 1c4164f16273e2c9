/** Names of the databases beside the live one: what is being restored, and what failed and is kept. Pure. */

export type AsideKind = "restore" | "failed";

/** What PostgreSQL cuts names to. */
const NAME_BYTES_MAX = 63;
/** As the stamps of backups: `20241219_143022`, and a suffix for a second one in that second. */
const STAMP = "_\\d{8}_\\d{6}(_\\d+)?";
/** The longest end that a name of ours may have, so that one live database has one beginning. */
const SUFFIX_BYTES_MAX = "_restore_20241219_143022_999".length;

/** `<database>_restore_<stamp>`, the end in full: it tells what the database is. */
export function makeAsideName(database: string, kind: AsideKind, stamp: string): string {
  return `${cutToFit(database)}_${kind}_${stamp}`;
}

/** A regular expression of PostgreSQL for all names of that kind. */
export function makeAsidePattern(database: string, kind: AsideKind): string {
  return `^${cutToFit(database).replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")}_${kind}${STAMP}$`;
}

/** The stamp of a backup's id. */
export function stampOf(backupId: string): string {
  return backupId.replace(/^backup_/, "");
}

function cutToFit(database: string): string {
  let name = database;
  while (Buffer.byteLength(name) + SUFFIX_BYTES_MAX > NAME_BYTES_MAX) name = [...name].slice(0, -1).join("");
  return name;
}
