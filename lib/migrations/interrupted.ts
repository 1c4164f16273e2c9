/** What a deploy that was killed has left, by the rows alone. Pure. */
import type { MigrationRow } from "./history.ts";
import { isSameRow } from "./prisma-verdict.ts";

export type InterruptedRows =
  /** No migration of it is half applied; these are applied whole. */
  | { readonly kind: "whole"; readonly applied: readonly string[] }
  /** One began and did not finish. */
  | { readonly kind: "half"; readonly row: MigrationRow }
  /** Rows of before are not there any more, or others: a script may have done it, or a person. */
  | { readonly kind: "changed" };

/**
 * @param before the rows as they were before it began
 * @param pending names that it was about to apply
 * @param isOwn whether an unfinished row can be of its making: somebody may have gone on with another tool since
 */
export function judgeInterrupted(
  before: readonly MigrationRow[],
  after: readonly MigrationRow[],
  pending: readonly string[],
  isOwn: (row: MigrationRow) => boolean,
): InterruptedRows {
  const live = after.filter((row) => row.rolledBackAt === null);
  const finished = new Set(live.filter((row) => row.finishedAt !== null).map(({ name }) => name));
  const applied = pending.filter((name) => finished.has(name));
  // After the last COMMIT nothing is undone, whatever has happened since.
  if (applied.length === pending.length) return { kind: "whole", applied };
  if (before.some((row) => !after.some((other) => isSameRow(row, other)))) return { kind: "changed" };
  const known = new Set(before.map(({ id }) => id));
  const isLeft = (row: MigrationRow) => row.finishedAt === null && !known.has(row.id) && pending.includes(row.name);
  const row = live.find((candidate) => isLeft(candidate) && isOwn(candidate));
  return row === undefined ? { kind: "whole", applied } : { kind: "half", row };
}
