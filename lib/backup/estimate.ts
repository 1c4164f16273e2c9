/** How large a backup will be. Pure. */
import type { BackupFormat } from "./name.ts";

/** A dump holds no indexes and no dead rows, but text can be wider than what it is made from. */
const PLAIN_RATIO = 1;
/** Measured between 0.03 and 0.37 of the plain size; rows that were compressed before do not shrink. */
const CUSTOM_RATIO = 0.5;
/** What even an empty database needs, and some air for the manifest and the journal. */
const BASE_BYTES = 1024 * 1024;

/** Bytes that the backup folder should have free for a database of that size (`pg_database_size`). */
export function estimateBackupBytes(format: BackupFormat, databaseBytes: number): number {
  return BASE_BYTES + Math.ceil(databaseBytes * (format === "plain" ? PLAIN_RATIO : CUSTOM_RATIO));
}
