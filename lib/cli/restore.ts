/** `restore` on the command line: which backup, whose consent, and how it ends. */
import { DeployError, isDeployError } from "../errors.ts";
import type { OperationContext } from "../operations.ts";
import { type RestoreChoice, restoreByHand } from "../restore.ts";
import type { CommandResult } from "./backups.ts";
import type { Settings } from "./settings.ts";

/** @param ask asks on the terminal; undefined where there is none */
export async function runRestore(
  settings: Settings,
  context: OperationContext,
  ask: (() => Promise<string>) | undefined,
): Promise<CommandResult> {
  const { operand = "latest", before, into, yesRestore, json } = settings;
  const request = { wanted: operand, before: before || undefined, into: into || undefined };
  const restored = await restoreByHand(request, context, async (choice) => {
    context.tell({ kind: "restore-chosen", ...choice });
    await requireConsent(choice, yesRestore, ask);
  });
  return { text: json ? JSON.stringify(restored) : restored.database, exitCode: 0 };
}

/** What was there is replaced only when somebody has said its name. */
async function requireConsent(
  { database, how }: RestoreChoice,
  given: string,
  ask: (() => Promise<string>) | undefined,
): Promise<void> {
  if (how === "aside" || given === database) return;
  if (given !== "") throw new DeployError("RESTORE_NOT_CONSENTED", { database, given });
  if (ask === undefined) throw new DeployError("RESTORE_NOT_CONSENTED", { database, given: undefined });
  const answer = (await ask()).trim();
  if (answer !== database) throw new DeployError("RESTORE_NOT_CONSENTED", { database, given: answer });
}

/** A restore that has failed has changed nothing, which is more than its code alone tells. */
export function hasChangedNothing(error: unknown): boolean {
  return isDeployError(error) && ["RESTORE_FAILED", "RESTORE_DIFFERS", "RESTORE_NOT_PROVEN"].includes(error.code);
}
