/** Folders that a restore works in. They hold the backup's rows as text, and go with the restore unless it was killed. */
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

/** Of their names; they are in the backup folder. */
export const WORK_PREFIX = ".restore-";

/** A younger one may belong to a restore that is at work right now. */
const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;

/** Removes what killed restores left behind, and answers its paths. A folder that does not exist holds nothing. */
export async function removeLeftovers(backupDirectory: string, now: Date): Promise<string[]> {
  const names = await readdir(backupDirectory).catch(() => []);
  const removed: string[] = [];
  for (const name of names.filter((entry) => entry.startsWith(WORK_PREFIX))) {
    const path = join(backupDirectory, name);
    const stats = await stat(path).catch(() => undefined);
    if (stats?.isDirectory() !== true || now.getTime() - stats.mtimeMs <= LEFTOVER_AGE_MS) continue;
    await rm(path, { recursive: true, force: true });
    removed.push(path);
  }
  return removed;
}
