/** `status`: reads what is compared. Changes nothing. */
import type { AnyDeployError } from "../errors.ts";
import type { Report } from "../events.ts";
import { makeStatus, type Status } from "../migrations/status.ts";
import type { DeployOperations } from "../operations.ts";

export interface StatusReport {
  readonly status: Status;
  /** Why a deploy would be refused now, with what of a failed migration is in the database. */
  readonly problem: AnyDeployError | undefined;
  readonly hasHistory: boolean;
}

type StatusOperations = Pick<DeployOperations, "readPlan" | "readEdited" | "readWorker" | "explain">;

export async function readStatus(operations: StatusOperations, tell: Report): Promise<StatusReport> {
  tell({ kind: "reading-status" });
  const plan = await operations.readPlan();
  const worker = plan.unfinished.length === 0 ? undefined : await operations.readWorker(plan).catch(() => undefined);
  const status = makeStatus(plan, await operations.readEdited(plan), worker);
  // What is at work has not failed.
  const problem = status.state === "blocked" ? plan.problem : undefined;
  return { status, problem: problem && (await operations.explain(problem)), hasHistory: plan.hasHistory };
}
