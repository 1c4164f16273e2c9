/** Deletes what the retention policy no longer keeps: our own files only, and never the backup that was just taken. */
import { removeFile } from "../system/files.ts";
import { type RetentionPolicy, selectExpired } from "./retention.ts";
import { type BackupOwner, listBackups, listLeftovers, removeBackup } from "./store.ts";

export interface Pruned {
  /** Dumps that were deleted, and leftovers of backups that never came to an end. */
  readonly paths: readonly string[];
  /** Backups of this database that are left. */
  readonly kept: number;
}

/**
 * @param options `dryRun`: tell what would go, and delete nothing
 * @throws BACKUP_DIR_UNUSABLE
 */
export async function pruneBackups(
  directory: string,
  owner: BackupOwner,
  policy: RetentionPolicy,
  now: Date,
  options: { readonly dryRun: boolean } = { dryRun: false },
): Promise<Pruned> {
  const backups = await listBackups(directory, owner);
  const expired = selectExpired(backups, policy, now);
  const leftovers = await listLeftovers(directory, now);
  if (!options.dryRun) {
    for (const backup of expired) await removeBackup(directory, backup);
    for (const path of leftovers) await removeFile(path);
  }
  return { paths: [...expired.map(({ path }) => path), ...leftovers], kept: backups.length - expired.length };
}
