/** `backup`, `backups`, `verify` and `prune` on the command line: from settings to the work, and from its result to words. */
import { checkBackup, findTargets, readTextBytes } from "../backup/check.ts";
import { makeListing } from "../backup/listing.ts";
import { listAllBackups } from "../backup/store.ts";
import { makeDataProgress, type Report } from "../events.ts";
import { readNeededBackups } from "../journal/store.ts";
import type { Messages } from "../messages/messages.ts";
import type { OperationContext } from "../operations.ts";
import { renderChecks, renderListing, renderPruned } from "../report/backups.ts";
import type { OfflineSettings, Settings } from "./settings.ts";

/** What is printed, and how the program ends. */
export interface CommandResult {
  readonly text: string;
  readonly exitCode: number;
}

const EXIT_NOT_VERIFIED = 4;

/** Takes a backup; its path alone is printed, so that a script can go on with it. */
export async function runBackup({ json }: Settings, context: OperationContext): Promise<CommandResult> {
  const { takeBackupNow } = await import("../backups.ts");
  const { path, manifest } = await takeBackupNow(context);
  return { text: json ? JSON.stringify({ path, ...manifest }) : path, exitCode: 0 };
}

export async function runPrune(
  { json, dryRun }: Settings,
  context: OperationContext,
  messages: Messages,
): Promise<CommandResult> {
  const { pruneNow } = await import("../backups.ts");
  const pruned = await pruneNow(context, { dryRun });
  return { text: json ? JSON.stringify(pruned) : renderPruned(pruned, messages), exitCode: 0 };
}

/** Works on files alone: when backups are needed the database may be down. */
export async function runBackups(settings: OfflineSettings, messages: Messages, now: Date): Promise<CommandResult> {
  const { backupDirectory, backupRetentionDays, backupMinimumKeep, json } = settings;
  const neededBy = readNeededBackups(backupDirectory);
  const policy = { retentionDays: backupRetentionDays, keepMinimum: backupMinimumKeep, neededBy };
  const list = makeListing(await listAllBackups(backupDirectory), policy, now);
  return { text: json ? JSON.stringify(list) : renderListing(list, backupDirectory, messages), exitCode: 0 };
}

/** Works on files alone. All are checked, whatever the first ones are like. */
export async function runVerify(
  settings: OfflineSettings,
  messages: Messages,
  context: { readonly now: () => Date; readonly signal: AbortSignal; readonly tell: Report },
): Promise<CommandResult> {
  const targets = await findTargets(settings.backupDirectory, settings.operand ?? "latest");
  const checks = [];
  for (const target of targets) {
    const progress = makeDataProgress(context.tell, "verify", await readTextBytes(target));
    checks.push(await checkBackup(target, { ...context, progress }));
  }
  const exitCode = checks.every(({ isGood }) => isGood) ? 0 : EXIT_NOT_VERIFIED;
  return { text: settings.json ? JSON.stringify(checks) : renderChecks(checks, messages), exitCode };
}
