/** Deletes what the retention policy no longer keeps: our own files only, and never the backup that was just taken. */
import { removeFile } from "../system/files.ts";
import { selectExpired } from "./retention.ts";
import { type Backup, listBackups, listLeftovers, removeBackup } from "./store.ts";

export interface Pruned {
  /** Dumps that were deleted, and leftovers of backups that never came to an end. */
  readonly paths: readonly string[];
  /** Backups of this database that are left. */
  readonly kept: number;
}

/** @throws BACKUP_DIR_UNUSABLE */
export async function pruneBackups(
  directory: string,
  justTaken: Backup,
  policy: { readonly retentionDays: number; readonly keepMinimum: number },
  now: Date,
): Promise<Pruned> {
  const backups = await listBackups(directory, justTaken.manifest);
  const expired = selectExpired(backups, { ...policy, justTaken: justTaken.manifest.id, neededBy: [] }, now);
  for (const backup of expired) await removeBackup(directory, backup);
  const leftovers = await listLeftovers(directory, now);
  for (const path of leftovers) await removeFile(path);
  return { paths: [...expired.map(({ path }) => path), ...leftovers], kept: backups.length - expired.length };
}
