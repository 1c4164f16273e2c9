/** What a person can choose where nothing may be undone automatically: going back or going on, and what each costs. Pure. */
import type { Manifest } from "../backup/manifest.ts";
import type { RestorePlan } from "./plan.ts";
import type { TableChanges } from "./row-changes.ts";

export interface RecoveryChoices {
  readonly database: string;
  /** Id of the backup to go back to. */
  readonly backup: string;
  readonly backupSizeBytes: number;
  /** The present database stays beside the restored one, with all that was written since the backup. */
  readonly keepsPresent: boolean;
  /** About how long the restore takes; undefined where nothing tells. */
  readonly restoreMs: number | undefined;
  /** Rows that were written since the backup, by table, by whomever; undefined where nothing tells. */
  readonly changes: readonly TableChanges[] | undefined;
  /** Migrations that have begun and not finished: what is left of them has to be looked at before going on. */
  readonly unfinished: readonly string[];
}

/** Building indexes and checking keys makes a restore slower than its dump: measured, 13.6 s for 5.0 s. */
const RESTORE_PER_BACKUP = 2.7;

export interface ChoiceFacts {
  readonly database: string;
  readonly manifest: Pick<Manifest, "id" | "sizeBytes">;
  readonly plan: Pick<RestorePlan, "swapReasonsNot">;
  /** How long the backup took; undefined where it was not taken by this deploy. */
  readonly backupMs: number | undefined;
  readonly changes: readonly TableChanges[] | undefined;
  readonly unfinished: readonly string[];
}

export function makeChoices({ database, manifest, plan, backupMs, changes, unfinished }: ChoiceFacts): RecoveryChoices {
  return {
    database,
    backup: manifest.id,
    backupSizeBytes: manifest.sizeBytes,
    // A person's restore does not mind what an earlier swap has kept.
    keepsPresent: plan.swapReasonsNot.every((reason) => reason === "failed-database-kept"),
    restoreMs: backupMs === undefined ? undefined : Math.round(backupMs * RESTORE_PER_BACKUP),
    changes,
    unfinished: [...new Set(unfinished)],
  };
}
