/** Which automatic restore is possible, and which format of backup it can work from. Pure. */
import type { BackupFormat } from "../backup/name.ts";
import type { RestoreFacts } from "./facts.ts";

/** A way to undo committed changes without a person, in the order in which they are tried. */
export type Rung = "in-place";

/** Why a plain dump could not be restored in place. */
export type PlainReason =
  /** Its section of large objects commits in the middle. */
  | "large-objects"
  /** It names objects that this role may not create, and can't be told to leave them out. */
  | "foreign-objects"
  | "publications-for-all-tables"
  /** Their schemas stay, and it would create them again. */
  | "extensions-in-schemas";

/** Why the in-place restore is not possible. */
export type InPlaceReason =
  | "replication-slots"
  | "subscriptions"
  | "too-many-objects"
  | "extensions-with-own-restore"
  | "create-denied"
  | "foreign-large-objects"
  | "foreign-dependents"
  | "foreign-writable"
  | "foreign-grantors"
  /** The format was asked for, and does not suit. */
  | "plain-format";

export interface RestorePlan {
  /** Empty when only a person can restore. */
  readonly rungs: readonly Rung[];
  readonly format: BackupFormat;
  /** Why the format is not plain, or why plain does not suit where it was asked for. */
  readonly why: readonly PlainReason[];
  /** Why there is no rung. */
  readonly reasonsNot: readonly InPlaceReason[];
}

/** Entries of the server's lock table that dropping and creating one takes, measured; its indexes included. */
const LOCKS_PER_TABLE = 12;
const LOCKS_PER_LARGE_OBJECT = 2;

export function chooseRestore(facts: RestoreFacts, settings: { readonly format: "auto" | BackupFormat }): RestorePlan {
  const why = listPlainReasons(facts);
  const format = settings.format === "auto" ? (why.length === 0 ? "plain" : "custom") : settings.format;
  const reasonsNot: InPlaceReason[] = listInPlaceReasons(facts);
  if (format === "plain" && why.length > 0) reasonsNot.push("plain-format");
  return { rungs: reasonsNot.length === 0 ? ["in-place"] : [], format, why, reasonsNot };
}

function listPlainReasons(facts: RestoreFacts): PlainReason[] {
  return select<PlainReason>([
    ["large-objects", facts.largeObjects > 0],
    ["foreign-objects", facts.foreignObjects.length > 0],
    ["publications-for-all-tables", !facts.isSuperuser && facts.publicationsForAllTables.length > 0],
    ["extensions-in-schemas", facts.extensionsInSchemas.length > 0],
  ]);
}

function listInPlaceReasons(facts: RestoreFacts): InPlaceReason[] {
  const locks = facts.tables * LOCKS_PER_TABLE + facts.largeObjects * LOCKS_PER_LARGE_OBJECT;
  return select<InPlaceReason>([
    // Whoever follows the changes would see everything deleted and inserted again.
    ["replication-slots", facts.replicationSlots.length > 0],
    ["subscriptions", facts.subscriptions > 0],
    ["too-many-objects", locks >= facts.lockCapacity],
    ["extensions-with-own-restore", facts.extensionsWithOwnRestore.length > 0],
    ["create-denied", !facts.canCreateSchemas],
    ["foreign-large-objects", facts.foreignLargeObjects > 0],
    ["foreign-dependents", facts.foreignDependents.length > 0],
    ["foreign-writable", facts.foreignWritable.length > 0],
    ["foreign-grantors", facts.foreignGrantors.length > 0],
  ]);
}

function select<Reason>(candidates: readonly (readonly [Reason, boolean])[]): Reason[] {
  return candidates.filter(([, holds]) => holds).map(([reason]) => reason);
}
