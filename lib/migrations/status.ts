/** What the rows and the folder say, compared, in the shape of `status --json`. Pure. */
import type { LockHolder } from "../errors.ts";
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
  /** Unfinished while somebody is at work. */
  readonly running: readonly string[];
  /** The session that is at work, as far as our role may see it. */
  readonly runningBy: RunningSession | null;
  /** Unfinished while nobody is. */
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

export type RunningSession = Pick<LockHolder, "pid" | "applicationName" | "clientAddress" | "since">;

/** @param worker who may be at work on what is unfinished, the holder of the lock or somebody without it */
export function makeStatus(plan: Plan, edited: readonly string[], worker?: LockHolder): Status {
  const unfinished = plan.unfinished.map(({ name }) => name);
  const isAtWork = plan.lockHeld || worker !== undefined;
  return {
    state: stateOfPlan(plan, isAtWork),
    problem: plan.problem?.code ?? null,
    found: plan.found,
    applied: plan.applied,
    pending: plan.pending,
    running: isAtWork ? unfinished : [],
    runningBy: isAtWork && unfinished.length > 0 ? makeRunningSession(worker) : null,
    failed: isAtWork ? [] : unfinished,
    rolledBack: plan.rolledBack,
    missing: plan.missing,
    edited,
    late: plan.late,
    lastCommon: plan.lastCommon ?? null,
    fence: plan.fence ?? null,
  };
}

function makeRunningSession(worker: LockHolder | undefined): RunningSession | null {
  if (worker === undefined) return null;
  const { pid, applicationName, clientAddress, since } = worker;
  return { pid, applicationName, clientAddress, since };
}

function stateOfPlan(plan: Plan, isAtWork: boolean): Status["state"] {
  if (isAtWork && plan.unfinished.length > 0) return "running";
  if (plan.problem !== undefined) return "blocked";
  return plan.pending.length > 0 ? "pending" : "up-to-date";
}
