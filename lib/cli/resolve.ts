/** `resolve` and `baseline` on the command line: from flags to the procedure, and from its result to words. */
import type { Messages } from "../messages/messages.ts";
import type { OperationContext } from "../operations.ts";
import { renderResolution } from "../report/resolution.ts";
import { type ResolveRequest, resolve } from "../resolve.ts";
import type { Settings } from "./settings.ts";

/** @returns what is printed */
export async function runResolve(settings: Settings, context: OperationContext, messages: Messages): Promise<string> {
  const result = await resolve(requestOf(settings), { force: settings.force, dryRun: settings.dryRun }, context);
  return settings.json ? JSON.stringify(result) : renderResolution(result, messages);
}

function requestOf({ command, applied, rolledBack }: Settings): ResolveRequest {
  if (command === "baseline") return { as: "baseline" };
  return applied === "" ? { as: "rolled-back", migration: rolledBack } : { as: "applied", migration: applied };
}
