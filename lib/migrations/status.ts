/** What the rows and the folder say, compared, in the shape of `status --json`. Pure. */
import type { Plan } from "./plan.ts";

/** The stable shape of `status --json`. */
export interface Status {
  readonly state: "up-to-date" | "pending" | "running" | "blocked";
  /** Why a deploy would be refused, as an error code. */
  readonly problem: string | null;
  /** How many migrations the folder holds. */
  readonly found: number;
  readonly applied: readonly string[];
  readonly pending: readonly string[];
  /** Unfinished while somebody holds the deploy lock. */
  readonly running: readonly string[];
  /** Unfinished while nobody does. */
  readonly failed: readonly string[];
  readonly rolledBack: readonly string[];
  readonly missing: readonly string[];
  readonly edited: readonly string[];
  readonly late: readonly string[];
  /** Of the folder, the one before the first that is pending. */
  readonly lastCommon: string | null;
  /** Id of the fence of a deploy with `--maintenance` that shuts writers out. */
  readonly fence: string | null;
}

export function makeStatus(plan: Plan, edited: readonly string[]): Status {
  const unfinished = plan.unfinished.map(({ name }) => name);
  return {
    state: stateOfPlan(plan),
    problem: plan.problem?.code ?? null,
    found: plan.found,
    applied: plan.applied,
    pending: plan.pending,
    running: plan.lockHeld ? unfinished : [],
    failed: plan.lockHeld ? [] : unfinished,
    rolledBack: plan.rolledBack,
    missing: plan.missing,
    edited,
    late: plan.late,
    lastCommon: plan.lastCommon ?? null,
    fence: plan.fence ?? null,
  };
}

function stateOfPlan(plan: Plan): Status["state"] {
  if (plan.lockHeld && plan.unfinished.length > 0) return "running";
  if (plan.problem !== undefined) return "blocked";
  return plan.pending.length > 0 ? "pending" : "up-to-date";
}
