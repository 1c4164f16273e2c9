/** What `resolve` and `baseline` write, decided from the rows alone, as Prisma decides it. Pure. */
import { DeployError } from "../errors.ts";
import type { MigrationRow } from "./history.ts";

export interface Resolution {
  /** Ids of the failed rows that get their `rolled_back_at`. */
  readonly rolledBackIds: readonly string[];
  /** Migrations that get a row of an applied one, in this order. */
  readonly applied: readonly string[];
}

/**
 * `resolve --applied`: a row of its own, and its failed rows are rolled back.
 *
 * @throws RESOLVE_SCRIPT_NOT_FOUND (P3017), RESOLVE_ALREADY_APPLIED (P3008)
 * @see schema-engine/commands/src/commands/mark_migration_applied.rs
 */
export function resolveApplied(rows: readonly MigrationRow[], names: readonly string[], migration: string): Resolution {
  if (!names.includes(migration)) throw new DeployError("RESOLVE_SCRIPT_NOT_FOUND", { migration });
  const own = rows.filter(({ name }) => name === migration);
  // Even one that is rolled back by now.
  if (own.some(({ finishedAt }) => finishedAt !== null))
    throw new DeployError("RESOLVE_ALREADY_APPLIED", { migration });
  return { rolledBackIds: own.filter(isFailed).map(({ id }) => id), applied: [migration] };
}

/**
 * `resolve --rolled-back`: its failed rows are rolled back. Again and again it changes nothing more.
 *
 * @throws RESOLVE_NEVER_APPLIED (P3011), RESOLVE_NOT_FAILED (P3012)
 * @see schema-engine/commands/src/commands/mark_migration_rolled_back.rs
 */
export function resolveRolledBack(rows: readonly MigrationRow[], migration: string): Resolution {
  const own = rows.filter(({ name }) => name === migration);
  if (own.length === 0) throw new DeployError("RESOLVE_NEVER_APPLIED", { migration });
  if (own.every(({ finishedAt }) => finishedAt !== null)) throw new DeployError("RESOLVE_NOT_FAILED", { migration });
  return { rolledBackIds: own.filter(isFailed).map(({ id }) => id), applied: [] };
}

/**
 * `baseline`: `resolve --applied` for every migration of the folder that has no row yet.
 *
 * @throws BASELINE_CONTRADICTED where rows tell another story than that of a database that was there before them
 */
export function resolveBaseline(rows: readonly MigrationRow[], names: readonly string[]): Resolution {
  const failed = rows.filter(isFailed);
  const rolledBack = rows.filter(({ name }) => names.includes(name) && isPending(rows, name));
  // What a deploy has applied has steps, what was marked has none.
  const deployed = rows.filter((row) => row.finishedAt !== null && !row.rolledBackAt && row.appliedStepsCount > 0);
  if (failed.length + rolledBack.length + deployed.length > 0) {
    throw new DeployError("BASELINE_CONTRADICTED", {
      failed: unique(failed),
      rolledBack: unique(rolledBack),
      deployed: unique(deployed),
    });
  }
  return { rolledBackIds: [], applied: names.filter((name) => isPending(rows, name)) };
}

function isFailed({ finishedAt, rolledBackAt }: MigrationRow): boolean {
  return finishedAt === null && rolledBackAt === null;
}

function isPending(rows: readonly MigrationRow[], name: string): boolean {
  return !rows.some((row) => row.name === name && row.rolledBackAt === null);
}

function unique(rows: readonly MigrationRow[]): string[] {
  return [...new Set(rows.map(({ name }) => name))];
}
