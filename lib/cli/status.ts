/** `status`: reads what is compared. Changes nothing. */
import type { Report } from "../events.ts";
import { makeStatus, type Status } from "../migrations/status.ts";
import type { DeployOperations } from "../operations.ts";

export async function readStatus(
  operations: Pick<DeployOperations, "readPlan" | "readEdited" | "isEngineAtWork">,
  tell: Report,
): Promise<Status> {
  tell({ kind: "reading-status" });
  const plan = await operations.readPlan();
  const isAtWork =
    plan.unfinished.length > 0 && !plan.lockHeld && (await operations.isEngineAtWork(plan).catch(() => false));
  return makeStatus(isAtWork ? { ...plan, lockHeld: true } : plan, await operations.readEdited(plan));
}
