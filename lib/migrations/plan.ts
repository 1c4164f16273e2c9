/** What a deploy would do, decided from the rows and the folder alone. */
import type { AnyDeployError } from "../errors.ts";
import { DeployError } from "../errors.ts";
import type { Warning } from "../events.ts";
import type { History, MigrationRow } from "./history.ts";

export interface PlanPolicy {
  /** `prisma`: the order of Prisma 6.6 and later for the pending ones where it differs from byte order. */
  readonly migrationOrder: "bytes" | "prisma";
  readonly onMissing: "warn" | "refuse";
  readonly engine: "native" | "prisma";
}

export interface Plan {
  /** How many migrations the folder holds. */
  readonly found: number;
  /** Names to apply, in order. */
  readonly pending: readonly string[];
  /** Names of the folder that are applied. */
  readonly applied: readonly string[];
  /** Rows that began and neither finished nor were marked rolled back: failed, or running while the lock is held. */
  readonly unfinished: readonly MigrationRow[];
  /** Names whose every row is marked rolled back; those in the folder are pending again. */
  readonly rolledBack: readonly string[];
  /** Names that are applied and not in the folder. */
  readonly missing: readonly string[];
  /** Pending names that sort before an applied one. */
  readonly late: readonly string[];
  /** Of the folder in its order, the one before the first that is pending; the last one where nothing is. */
  readonly lastCommon: string | undefined;
  /** The table is there, with rows or without. */
  readonly hasHistory: boolean;
  /** Somebody else holds the deploy lock: an unfinished row may be a migration at work. */
  readonly lockHeld: boolean;
  /** Id of the fence that shuts writers out. One that is there while nobody holds the lock was left by a killed deploy. */
  readonly fence: string | undefined;
  /** A swap of the database has not ended: it is at work, or was killed. */
  readonly hasSwap: boolean;
  /** Why a deploy is refused. Only the holder of the lock may act on it. */
  readonly problem: AnyDeployError | undefined;
  readonly warnings: readonly Warning[];
}

/** Tables of PostGIS that don't count as content, compared without case. @see sql_migration_persistence.rs, initialize */
const IGNORED_TABLES = [
  "spatial_ref_sys",
  "geometry_columns",
  "geography_columns",
  "raster_columns",
  "raster_overviews",
];

/** @param names the folder's migrations in byte order */
export function makePlan(history: History, names: readonly string[], schema: string, policy: PlanPolicy): Plan {
  const live = history.rows.filter((row) => row.rolledBackAt === null);
  const liveNames = new Set(live.map((row) => row.name));
  const inFolder = new Set(names);
  const byteOrdered = names.filter((name) => !liveNames.has(name));
  const prismaOrdered = byteOrdered.toSorted(comparePrisma);
  const pending = policy.migrationOrder === "prisma" ? prismaOrdered : byteOrdered;
  const ordered = policy.migrationOrder === "prisma" ? names.toSorted(comparePrisma) : names;
  const [next] = pending;
  const unfinished = live.filter((row) => row.finishedAt === null);
  const appliedRows = live.filter((row) => row.finishedAt !== null);
  const appliedNames = new Set(appliedRows.map((row) => row.name));
  const applied = names.filter((name) => appliedNames.has(name));
  const missing = [...appliedNames].filter((name) => !inFolder.has(name));
  const lastApplied = applied.at(-1);
  const late =
    lastApplied === undefined ? [] : byteOrdered.filter((name) => names.indexOf(name) < names.indexOf(lastApplied));
  const rolledBack = unique(history.rows.map((row) => row.name).filter((name) => !liveNames.has(name)));
  return {
    found: names.length,
    pending,
    applied,
    unfinished,
    rolledBack,
    missing,
    late,
    lastCommon: ordered[(next === undefined ? ordered.length : ordered.indexOf(next)) - 1],
    hasHistory: history.schema !== undefined,
    lockHeld: history.lockHeld,
    fence: history.fence,
    hasSwap: history.hasSwap,
    problem: findProblem(history, byteOrdered, unfinished, missing, schema, policy),
    warnings: makeWarnings({ history, names, byteOrdered, prismaOrdered, missing, late }, policy),
  };
}

/** True when the app may be started at once: nothing to apply, nothing unfinished, nothing to refuse. */
export function isUpToDate(plan: Plan): boolean {
  return plan.pending.length === 0 && plan.problem === undefined;
}

function findProblem(
  history: History,
  pending: readonly string[],
  unfinished: readonly MigrationRow[],
  missing: readonly string[],
  schema: string,
  policy: PlanPolicy,
): AnyDeployError | undefined {
  if (unfinished.length > 0) {
    const migrations = unfinished.map(({ name, startedAt }) => ({ name, startedAt }));
    return new DeployError("HISTORY_FAILED", { migrations, engine: policy.engine });
  }
  const baseline = history.baseline;
  // Even with nothing to apply: what is applied is not ours to know.
  if (baseline?.hasContractLedger === true) return new DeployError("LEDGER_UNSUPPORTED", { schema: "prisma_contract" });
  if (baseline !== undefined && pending.length > 0) {
    const tables = baseline.tables.filter((table) => !IGNORED_TABLES.includes(table.toLowerCase()));
    if (tables.length > 0) {
      return new DeployError("BASELINE_NEEDED", { schema, tables, migrations: pending });
    }
  }
  if (missing.length > 0 && policy.onMissing === "refuse") {
    return new DeployError("HISTORY_MISSING", { migrations: missing });
  }
  return undefined;
}

interface WarningInputs {
  readonly history: History;
  readonly names: readonly string[];
  readonly byteOrdered: readonly string[];
  readonly prismaOrdered: readonly string[];
  readonly missing: readonly string[];
  readonly late: readonly string[];
}

function makeWarnings(inputs: WarningInputs, policy: PlanPolicy): Warning[] {
  const { history, names, byteOrdered, prismaOrdered, missing, late } = inputs;
  const warnings: Warning[] = [];
  if (history.fence !== undefined) warnings.push({ about: "fenced", id: history.fence, isHeld: history.lockHeld });
  if (history.hasSwap) warnings.push({ about: "swap-unfinished" });
  if (missing.length > 0) warnings.push({ about: "missing", migrations: missing });
  if (late.length > 0) warnings.push({ about: "late", migrations: late });
  if (byteOrdered.some((name, index) => name !== prismaOrdered[index])) {
    warnings.push({ about: "order", bytes: byteOrdered, prisma: prismaOrdered, followed: policy.migrationOrder });
  }
  const exact = new Set(history.rows.map((row) => row.name));
  const normalised = new Set(history.rows.map((row) => row.name.normalize("NFC")));
  const twins = names.filter((name) => !exact.has(name) && normalised.has(name.normalize("NFC")));
  if (twins.length > 0) warnings.push({ about: "normalisation", names: twins });
  return warnings;
}

/**
 * The order of Prisma 6.6 and later: `localeCompare` in the process' locale, here pinned to English.
 * @see packages/migrate/src/utils/listMigrations.ts
 */
function comparePrisma(a: string, b: string): number {
  return a.localeCompare(b, "en");
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)];
}
