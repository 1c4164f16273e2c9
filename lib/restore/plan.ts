/** Which automatic restore is possible, and which format of backup it can work from. Pure. */
import type { BackupFormat } from "../backup/name.ts";
import type { RestoreFacts } from "./facts.ts";
import type { SwapFacts } from "./swap-facts.ts";

/** A way to undo committed changes without a person, in the order in which they are tried. */
export type Rung = "swap" | "in-place";

/** Which of them are wanted. `always`: a swap even where nothing is proven, since it keeps both databases. */
export type RestorePolicy = "auto" | "swap" | "in-place" | "always" | "never";

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
  /** Ours, and not to be made again by us. */
  | "superuser-made"
  | "not-giveable"
  /** The format was asked for, and does not suit. */
  | "plain-format";

/** Why the database can't be replaced by a restored one. */
export type SwapReason =
  | "replication-slots"
  | "subscriptions"
  | "prepared-transactions"
  | "extensions-with-own-restore"
  | "not-owner"
  | "create-database-denied"
  | "tablespace-denied"
  | "no-maintenance-database"
  /** One at a time: two of them would soon fill the disk. */
  | "failed-database-kept"
  | "properties-not-settable"
  | "database-grantors"
  | "extensions-not-creatable"
  | "foreign-objects"
  | "foreign-large-objects"
  | "foreign-grantors"
  | "superuser-made"
  | "not-giveable"
  | "publications-for-all-tables"
  | "plain-format";

export interface RestorePlan {
  /** Empty when only a person can restore. */
  readonly rungs: readonly Rung[];
  readonly format: BackupFormat;
  /** Why the format is not plain, or why plain does not suit where it was asked for. */
  readonly why: readonly PlainReason[];
  /** Why it can't be restored in place. */
  readonly reasonsNot: readonly (InPlaceReason | "not-wanted")[];
  /** Why the database can't be swapped; empty too where nobody has asked. */
  readonly swapReasonsNot: readonly SwapReason[];
}

/** Entries of the server's lock table that dropping and creating one takes, measured; its indexes included. */
const LOCKS_PER_TABLE = 12;
const LOCKS_PER_LARGE_OBJECT = 2;

export function chooseRestore(
  facts: RestoreFacts,
  settings: { readonly format: "auto" | BackupFormat; readonly restore?: RestorePolicy },
): RestorePlan {
  const { restore = "auto" } = settings;
  const isSwapWanted = facts.swap !== undefined && !["in-place", "never"].includes(restore);
  const isInPlaceWanted = !["swap", "never"].includes(restore);
  const swapReasonsNot = isSwapWanted && facts.swap !== undefined ? listSwapReasons(facts, facts.swap) : [];
  const reasonsNot: RestorePlan["reasonsNot"] = isInPlaceWanted ? listInPlaceReasons(facts) : ["not-wanted"];
  const plain = { swap: listSwapPlainReasons(facts), "in-place": listPlainReasons(facts) };
  const possible: Rung[] = [
    ...(isSwapWanted && swapReasonsNot.length === 0 ? (["swap"] as const) : []),
    ...(reasonsNot.length === 0 ? (["in-place"] as const) : []),
  ];
  // The first one decides: it is the one that is meant to work.
  const why = plain[possible[0] ?? "in-place"];
  const format = settings.format === "auto" ? (why.length === 0 ? "plain" : "custom") : settings.format;
  const unsuited = (rung: Rung) => (format === "plain" && plain[rung].length > 0 ? (["plain-format"] as const) : []);
  return {
    rungs: possible.filter((rung) => unsuited(rung).length === 0),
    format,
    why,
    reasonsNot: [...reasonsNot, ...unsuited("in-place")],
    swapReasonsNot: isSwapWanted ? [...swapReasonsNot, ...unsuited("swap")] : [],
  };
}

/** Into an empty database psql may commit as often as it likes. */
function listSwapPlainReasons(facts: RestoreFacts): PlainReason[] {
  return select<PlainReason>([["extensions-in-schemas", (facts.swap?.extensionsToPlace.length ?? 0) > 0]]);
}

function listSwapReasons(facts: RestoreFacts, swap: SwapFacts): SwapReason[] {
  return select<SwapReason>([
    // They belong to the database itself, and would follow the failed one.
    ["replication-slots", facts.replicationSlots.length > 0],
    ["subscriptions", facts.subscriptions > 0],
    ["prepared-transactions", swap.preparedTransactions > 0],
    ["extensions-with-own-restore", facts.extensionsWithOwnRestore.length > 0],
    ["not-owner", !swap.isOwner],
    ["create-database-denied", !swap.canCreateDatabase],
    ["tablespace-denied", !swap.canUseTablespace],
    ["no-maintenance-database", swap.isOwner && swap.canCreateDatabase && !swap.hasMaintenance],
    ["failed-database-kept", swap.failedDatabases.length > 0],
    ["properties-not-settable", swap.unsettable.length > 0],
    ["database-grantors", swap.hasForeignGrants],
    ["extensions-not-creatable", swap.extensionsNotCreatable.length > 0],
    ["foreign-objects", facts.foreignObjects.length > 0],
    ["foreign-large-objects", facts.foreignLargeObjects > 0],
    ["foreign-grantors", facts.foreignGrantors.length > 0],
    ["superuser-made", facts.superuserMade.length > 0],
    ["not-giveable", facts.notGiveable.length > 0],
    ["publications-for-all-tables", !facts.isSuperuser && facts.publicationsForAllTables.length > 0],
  ]);
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
    ["superuser-made", facts.superuserMade.length > 0],
    ["not-giveable", facts.notGiveable.length > 0],
  ]);
}

function select<Reason>(candidates: readonly (readonly [Reason, boolean])[]): Reason[] {
  return candidates.filter(([, holds]) => holds).map(([reason]) => reason);
}
