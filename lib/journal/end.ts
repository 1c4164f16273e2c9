/** How a deploy ended, as a step of the journal. Pure. */
import type { AnyDeployError, ErrorCode } from "../errors.ts";
import { exitCodeOf, exitCodeOfError, type Outcome } from "../outcome.ts";
import type { JournalFailure, JournalOutcome, JournalStep } from "./lines.ts";

/** How a deploy has ended, an error that stopped it included. */
export type EndedDeploy = Outcome | { readonly kind: "stopped"; readonly error: AnyDeployError };

/** What a script does again on the same data. A lost connection, a signal, a full disk of ours are none of its own. */
const REPEATABLE: readonly ErrorCode[] = [
  "MIGRATION_FAILED",
  "MIGRATION_BROKE_TRANSACTION",
  "MIGRATION_LEFT_SESSION_CHANGED",
  "PRISMA_CLI_FAILED",
];

export function describeFailure(error: AnyDeployError): JournalFailure {
  const { fields } = error;
  return {
    code: error.code,
    isRepeatable: REPEATABLE.includes(error.code),
    ...("migration" in fields ? { migration: fields.migration } : {}),
    ...("server" in fields ? { sqlState: fields.server.sqlState } : {}),
  };
}

/**
 * @param killed set where it had been killed, and a later deploy has found out or brought about this end; with what had
 * failed before, which is what will fail again
 */
export function makeEndStep(
  end: EndedDeploy,
  killed?: { readonly failure: JournalFailure | undefined },
): Extract<JournalStep, { step: "ended" }> {
  const failure = failureOf(end);
  const described = failure && (killed?.failure ?? describeFailure(failure));
  return {
    step: "ended",
    outcome: outcomeOf(end),
    exitCode: exitCodeOfEnd(end),
    applied: end.kind === "deployed" || end.kind === "at-boundary" ? end.applied : [],
    failure: described ?? null,
    isFoundLater: killed !== undefined,
  };
}

function exitCodeOfEnd(end: EndedDeploy): number {
  if (end.kind !== "stopped") return exitCodeOf(end);
  // One that was killed before it changed anything calls nobody: the database is as before.
  if (end.error.code === "DEPLOY_INTERRUPTED")
    return exitCodeOf({ kind: "rolled-back", failure: end.error, backupPath: "" });
  return exitCodeOfError(end.error);
}

function failureOf(end: EndedDeploy): AnyDeployError | undefined {
  if (end.kind === "stopped") return end.error;
  return "failure" in end ? end.failure : undefined;
}

function outcomeOf({ kind }: EndedDeploy): JournalOutcome {
  // A deploy that has begun is neither of these two.
  return kind === "up-to-date" || kind === "planned" ? "stopped" : kind;
}
