/** The backups of a folder as they are shown: what each is, and when pruning will take it. Pure. */
import { type RetentionPolicy, selectExpired } from "./retention.ts";
import type { Backup } from "./store.ts";

/** When pruning takes a backup. */
export type Expiry =
  /** The next time. */
  | { readonly kind: "due" }
  | { readonly kind: "after"; readonly durationMs: number }
  /** Not as long as there are no newer ones. */
  | { readonly kind: "kept" }
  /** A failure that nobody has resolved yet needs it. */
  | { readonly kind: "needed" };

export interface ListedBackup {
  readonly path: string;
  readonly database: string;
  readonly systemIdentifier: string;
  /** ISO 8601 in UTC, as all times here. */
  readonly createdAt: string;
  readonly sizeBytes: number;
  readonly format: "plain" | "custom";
  readonly state: Backup["state"];
  readonly verifiedAt: string;
  readonly precedes: readonly string[];
  readonly expiry: Expiry;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** Oldest first; each database of each cluster has its own retention. */
export function makeListing(
  backups: readonly Backup[],
  policy: Omit<RetentionPolicy, "justTaken">,
  now: Date,
): ListedBackup[] {
  const groups = Map.groupBy(backups, ({ manifest }) => `${manifest.systemIdentifier} ${manifest.database}`);
  const expiries = new Map([...groups.values()].flatMap((group) => [...findExpiries(group, policy, now)]));
  return backups.map((backup) => ({
    path: backup.path,
    database: backup.manifest.database,
    systemIdentifier: backup.manifest.systemIdentifier,
    createdAt: backup.manifest.createdAt,
    sizeBytes: backup.manifest.sizeBytes,
    format: backup.manifest.format,
    state: backup.state,
    verifiedAt: backup.manifest.verifiedAt,
    precedes: backup.manifest.precedes,
    expiry: expiries.get(backup) ?? { kind: "kept" },
  }));
}

function findExpiries(
  group: readonly Backup[],
  policy: Omit<RetentionPolicy, "justTaken">,
  now: Date,
): Map<Backup, Expiry> {
  const select = (at: Date) => new Set(selectExpired(group, { ...policy, justTaken: undefined }, at));
  const due = select(now);
  const atAnyAge = select(new Date(8.64e15));
  return new Map(
    group.map((backup): [Backup, Expiry] => {
      if (policy.neededBy.includes(backup.manifest.id)) return [backup, { kind: "needed" }];
      if (due.has(backup)) return [backup, { kind: "due" }];
      if (!atAnyAge.has(backup)) return [backup, { kind: "kept" }];
      const expiresMs = Date.parse(backup.manifest.createdAt) + policy.retentionDays * DAY_MS;
      return [backup, { kind: "after", durationMs: expiresMs - now.getTime() }];
    }),
  );
}
