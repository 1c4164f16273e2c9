/** Which backups have expired. Pure: what is selected is what a dry run shows and what pruning removes. */
import type { Backup } from "./store.ts";

export interface RetentionPolicy {
  readonly retentionDays: number;
  /** The newest this many whole backups stay, however old they are. */
  readonly keepMinimum: number;
  /** Id of the backup that this deploy has just taken. */
  readonly justTaken: string | undefined;
  /** Ids of backups that an unresolved failure may still need. */
  readonly neededBy: readonly string[];
}

const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The backups that may go, oldest first: older than the policy by their manifest's time, not by a name or by the file
 * system's. Only whole ones count towards the minimum. A manifest whose dump is gone is no backup and always goes.
 */
export function selectExpired(backups: readonly Backup[], policy: RetentionPolicy, now: Date): Backup[] {
  const newestFirst = [...backups].sort((a, b) => timeOf(b) - timeOf(a) || (a.manifest.id < b.manifest.id ? 1 : -1));
  const whole = newestFirst.filter(({ state }) => state === "present");
  const kept = new Set(whole.slice(0, policy.keepMinimum).map(({ manifest }) => manifest.id));
  for (const id of policy.neededBy) kept.add(id);
  if (policy.justTaken !== undefined) kept.add(policy.justTaken);
  const oldestMs = now.getTime() - policy.retentionDays * DAY_MS;
  const isExpired = (backup: Backup) =>
    !kept.has(backup.manifest.id) && (backup.state === "dump-missing" || timeOf(backup) < oldestMs);
  return newestFirst.filter(isExpired).reverse();
}

function timeOf({ manifest }: Backup): number {
  return Date.parse(manifest.createdAt);
}
