/** What has failed is not tried again at once: a container that restarts in a loop would repeat the load each time. */
import { readOwner } from "./backup/room.ts";
import { DeployError } from "./errors.ts";
import { decideRetry, listDeploys } from "./journal/deploys.ts";
import { selectOwn } from "./journal/lines.ts";
import { readJournal } from "./journal/store.ts";
import { readScripts } from "./migrations/folder.ts";
import { DEFAULT_SCHEMA } from "./migrations/history.ts";
import type { Plan } from "./migrations/plan.ts";
import type { OperationSettings } from "./operations.ts";
import type { Session } from "./postgres/session.ts";

/** @throws FAILED_BEFORE until it is time, SCRIPT_MISSING and its like, or what the session throws */
export async function refuseRepetition(
  plan: Plan,
  session: Session,
  { backupDirectory, migrationsDirectory, target }: OperationSettings,
  now: Date,
): Promise<void> {
  const lines = readJournal(backupDirectory).filter(({ database }) => database === target.database);
  if (!lines.some(({ step }) => step === "ended")) return;
  const { schema = DEFAULT_SCHEMA } = target;
  const all = listDeploys(selectOwn(lines, await readOwner(session)));
  const deploys = all.filter((deploy) => deploy.schema === schema);
  const scripts = await readScripts(migrationsDirectory, plan.pending);
  const decision = decideRetry(deploys, scripts, now);
  if (decision.kind === "try") return;
  const { failures, lastFailedAt, retryAt, failure } = decision;
  const { code, migration, sqlState } = failure;
  throw new DeployError("FAILED_BEFORE", {
    failures,
    lastFailedAt,
    retryAt,
    waitMs: Date.parse(retryAt) - now.getTime(),
    failure: code,
    migration,
    sqlState,
  });
}
