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
 */
export function judgeInterrupted(
  before: readonly MigrationRow[],
  after: readonly MigrationRow[],
  pending: readonly string[],
): InterruptedRows {
  const live = after.filter((row) => row.rolledBackAt === null);
  const finished = new Set(live.filter((row) => row.finishedAt !== null).map(({ name }) => name));
  const applied = pending.filter((name) => finished.has(name));
  // After the last COMMIT nothing is undone, whatever has happened since.
  if (applied.length === pending.length) return { kind: "whole", applied };
  if (before.some((row) => !after.some((other) => isSameRow(row, other)))) return { kind: "changed" };
  const known = new Set(before.map(({ id }) => id));
  const row = live.find(({ id, name, finishedAt }) => finishedAt === null && !known.has(id) && pending.includes(name));
  return row === undefined ? { kind: "whole", applied } : { kind: "half", row };
}
