/** Folders that a restore works in. They hold its scripts, and go with the restore unless it was killed. */
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

/** Of their names; they are in the backup folder. */
export const WORK_PREFIX = ".restore-";

/** A younger one may belong to a restore that is at work right now. */
const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;

/** Paths of what killed restores left behind. A folder that does not exist holds nothing. */
export async function listLeftovers(backupDirectory: string, now: Date): Promise<string[]> {
  const names = await readdir(backupDirectory).catch(() => []);
  const paths = names.filter((entry) => entry.startsWith(WORK_PREFIX)).map((name) => join(backupDirectory, name));
  const isLeft = async (path: string) => {
    const stats = await stat(path).catch(() => undefined);
    return stats?.isDirectory() === true && now.getTime() - stats.mtimeMs > LEFTOVER_AGE_MS;
  };
  const left = await Promise.all(paths.map(isLeft));
  return paths.filter((_, index) => left[index]).sort();
}

/** Removes them, and answers their paths. */
export async function removeLeftovers(backupDirectory: string, now: Date): Promise<string[]> {
  const paths = await listLeftovers(backupDirectory, now);
  for (const path of paths) await rm(path, { recursive: true, force: true });
  return paths;
}
