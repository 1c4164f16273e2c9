/** `status`: reads what is compared. Changes nothing. */
import type { Report } from "../events.ts";
import { makeStatus, type Status } from "../migrations/status.ts";
import type { DeployOperations } from "../operations.ts";

export async function readStatus(
  operations: Pick<DeployOperations, "readPlan" | "readEdited">,
  tell: Report,
): Promise<Status> {
  tell({ kind: "reading-status" });
  const plan = await operations.readPlan();
  return makeStatus(plan, await operations.readEdited(plan));
}
