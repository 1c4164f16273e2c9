/** What a person can choose where nothing may be undone automatically: going back or going on, and what each costs. Pure. */
import type { Manifest } from "../backup/manifest.ts";
import { chooseByHand, isForAnotherRole, listObstacles, type RestoreByHand } from "./by-hand.ts";
import type { RestoreFacts } from "./facts.ts";
import type { SwapReason } from "./plan.ts";
import type { TableChanges } from "./row-changes.ts";

export interface RecoveryChoices {
  readonly database: string;
  /** Id of the backup to go back to. */
  readonly backup: string;
  readonly backupSizeBytes: number;
  /** How `restore` goes back to it; undefined where the database could not be asked. */
  readonly restore: RestoreByHand | undefined;
  /** It can be restored into a new database, whatever keeps it from this one's place. */
  readonly mayRestoreInto: boolean;
  /** What keeps this role from restoring by PostgreSQL's own tools; undefined where the database could not be asked. */
  readonly againstTools: readonly (SwapReason | "sessions-not-ended")[] | undefined;
  /** A swap by this role waits in vain for sessions that it can't end. */
  readonly isHeld: boolean;
  /** They are for a role that has the rights. */
  readonly isForAnotherRole: boolean;
  /** About how long the restore takes; undefined where nothing tells. */
  readonly restoreMs: number | undefined;
  /** About how long another backup takes, which going on begins with; undefined where nothing tells. */
  readonly backupMs: number | undefined;
  /** Rows that were written since the backup, by table, by whomever; undefined where nothing tells. */
  readonly changes: readonly TableChanges[] | undefined;
  /** Migrations that have begun and not finished, which have to be looked at before going on; undefined where not known. */
  readonly unfinished: readonly string[] | undefined;
}

/** Building indexes and checking keys makes a restore slower than its dump: measured, 13.6 s for 5.0 s. */
const RESTORE_PER_BACKUP = 2.7;

/** What the database says when the deploy has failed: rights and objects may be others than at its beginning. */
export interface PresentFacts {
  /** Undefined where they can't be read. */
  readonly restore: RestoreFacts | undefined;
  readonly changes: readonly TableChanges[] | undefined;
  readonly unfinished: readonly string[];
  /** Somebody is connected whom this role can't end. */
  readonly isHeld: boolean;
}

export interface ChoiceFacts {
  readonly database: string;
  readonly manifest: Pick<Manifest, "id" | "sizeBytes" | "format" | "largeObjects" | "durationMs">;
  /** Undefined where the database can't be reached. */
  readonly present: PresentFacts | undefined;
}

export function makeChoices({ database, manifest, present }: ChoiceFacts): RecoveryChoices {
  const { restore: facts, changes, unfinished, isHeld = false } = present ?? {};
  const { durationMs: backupMs } = manifest;
  const restore = facts && chooseByHand(facts, { manifest }, undefined);
  const againstTools = facts && [...listObstacles(facts), ...(isHeld ? (["sessions-not-ended"] as const) : [])];
  return {
    database,
    backup: manifest.id,
    backupSizeBytes: manifest.sizeBytes,
    restore,
    mayRestoreInto: facts !== undefined && chooseByHand(facts, { manifest }, database).how === "aside",
    againstTools,
    isHeld: isHeld && restore?.how === "swap",
    isForAnotherRole: isForAnotherRole(againstTools ?? []),
    restoreMs: backupMs === undefined ? undefined : Math.round(backupMs * RESTORE_PER_BACKUP),
    backupMs,
    changes,
    unfinished: unfinished && [...new Set(unfinished)],
  };
}
