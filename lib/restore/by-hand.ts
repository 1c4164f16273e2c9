/**
 * How a person could put a backup back: by `restore`, and by PostgreSQL's own tools. What was wanted to happen by itself
 * does not matter to either. Pure.
 */
import type { DumpHazard } from "../backup/dump-scanner.ts";
import type { Manifest } from "../backup/manifest.ts";
import type { RestoreReason } from "../errors.ts";
import type { RestoreFacts } from "./facts.ts";
import { chooseRestore, type Rung, type SwapReason } from "./plan.ts";

export type RestoreByHand =
  | { readonly how: Rung | "aside" }
  | { readonly how: "impossible"; readonly reasons: readonly RestoreReason[] };

export interface BackupByHand {
  readonly manifest: Pick<Manifest, "format" | "largeObjects">;
  readonly hazard?: DumpHazard | undefined;
}

/** @param into name of a new database; undefined for the present one */
export function chooseByHand(
  facts: RestoreFacts,
  { manifest, hazard }: BackupByHand,
  into: string | undefined,
): RestoreByHand {
  const { reasonsNot } = chooseRestore(facts, { format: "custom" });
  const againstSwap = listObstacles(facts);
  // What belongs to the present database does not matter to a new one.
  const againstAside = againstSwap.filter((reason) => ASIDE_REASONS.includes(reason));
  const endsEarly = manifest.format === "plain" && (manifest.largeObjects > 0 || hazard?.kind === "commit");
  const againstInPlace: RestoreReason[] = [
    ...reasonsNot,
    ...(endsEarly ? (["large-objects", "plain-format"] as const) : []),
  ];
  if (into !== undefined && againstAside.length === 0) return { how: "aside" };
  if (into === undefined && againstSwap.length === 0) return { how: "swap" };
  if (into === undefined && againstInPlace.length === 0) return { how: "in-place" };
  const reasons = into === undefined ? [...new Set([...againstSwap, ...againstInPlace])] : againstAside;
  return { how: "impossible", reasons };
}

const ASIDE_REASONS: readonly RestoreReason[] = [
  "create-database-denied",
  "tablespace-denied",
  "no-maintenance-database",
  "not-owner",
];

/** What keeps this role from putting a restored copy in the database's place. That an earlier swap has kept one does not. */
export function listObstacles(facts: RestoreFacts): readonly SwapReason[] {
  const { swapReasonsNot } = chooseRestore(facts, { format: "custom", restore: "swap" });
  return swapReasonsNot.filter((reason) => reason !== "failed-database-kept");
}

/** They are in the way of a superuser too. */
const ROLELESS: readonly RestoreReason[] = [
  "replication-slots",
  "subscriptions",
  "prepared-transactions",
  "extensions-with-own-restore",
  "no-maintenance-database",
  "too-many-objects",
  "large-objects",
  "plain-format",
];

/** Whether these reasons are no more than rights that this role does not have. */
export function isForAnotherRole(reasons: readonly RestoreReason[]): boolean {
  return reasons.length > 0 && !reasons.some((reason) => ROLELESS.includes(reason));
}
