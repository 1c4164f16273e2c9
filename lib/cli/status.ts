/** `status`: reads what is compared. Changes nothing. */
import type { AnyDeployError } from "../errors.ts";
import type { Report } from "../events.ts";
import type { Plan } from "../migrations/plan.ts";
import { makeStatus, type Status } from "../migrations/status.ts";
import type { DeployOperations } from "../operations.ts";

export interface StatusReport {
  readonly status: Status;
  /** Why a deploy would be refused now, with what of a failed migration is in the database. */
  readonly problem: AnyDeployError | undefined;
  readonly hasHistory: boolean;
}

type StatusOperations = Pick<DeployOperations, "readPlan" | "readEdited" | "isEngineAtWork" | "explain">;

export async function readStatus(operations: StatusOperations, tell: Report): Promise<StatusReport> {
  tell({ kind: "reading-status" });
  const plan = await operations.readPlan();
  const status = makeStatus(await markRunning(plan, operations), await operations.readEdited(plan));
  // What is at work has not failed.
  const problem = status.state === "blocked" ? plan.problem : undefined;
  return { status, problem: problem && (await operations.explain(problem)), hasHistory: plan.hasHistory };
}

/** An engine of Prisma's can outlive its CLI, and its lock. */
async function markRunning(plan: Plan, operations: StatusOperations): Promise<Plan> {
  if (plan.unfinished.length === 0 || plan.lockHeld) return plan;
  const isAtWork = await operations.isEngineAtWork(plan).catch(() => false);
  return isAtWork ? { ...plan, lockHeld: true } : plan;
}
