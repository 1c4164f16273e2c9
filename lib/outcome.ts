/** How a deploy can end, and the exit code that tells which state the database is in. */
import type { AnyDeployError, ErrorCode } from "./errors.ts";
import type { RecoveryChoices } from "./restore/choices.ts";

export type Outcome =
  | { readonly kind: "up-to-date"; readonly applied: number; readonly deployedByAnother: boolean }
  | { readonly kind: "planned" }
  | { readonly kind: "deployed"; readonly applied: readonly string[]; readonly backupPath: string }
  /** Nothing had been committed: the transaction was rolled back, and that was checked. */
  | { readonly kind: "rolled-back"; readonly failure: AnyDeployError; readonly backupPath: string }
  /** Committed changes were undone from the backup, and that was checked. */
  | { readonly kind: "restored"; readonly failure: AnyDeployError; readonly backupPath: string }
  /** The first migrations are applied whole, nothing is half. */
  | {
      readonly kind: "at-boundary";
      readonly failure: AnyDeployError;
      readonly applied: readonly string[];
      readonly notApplied: readonly string[];
      readonly backupPath: string;
    }
  /** Changed or unknown: a person is needed. */
  | {
      readonly kind: "unresolved";
      readonly failure: AnyDeployError;
      readonly recoveryFailures: readonly AnyDeployError[];
      readonly backupPath: string;
      /** What a person can choose, by commands of ours; undefined where nothing could be found out. */
      readonly choices?: RecoveryChoices | undefined;
      /** The way back by PostgreSQL's own tools. */
      readonly instructions: readonly string[];
    };

/** What is true of the database when we end. */
export type DatabaseState = "untouched" | "as-before" | "at-boundary" | "migrated" | "unknown";

/** Exit codes of errors that end a deploy outside of the migration itself. */
const ERROR_EXIT_CODES: { readonly [C in ErrorCode]: number } = {
  SETTINGS_INVALID: 2,
  MIGRATIONS_DIR_NOT_FOUND: 2,
  MIGRATIONS_DIR_UNREADABLE: 2,
  RESTORE_NOT_CONSENTED: 2,

  HISTORY_FAILED: 3,
  BASELINE_NEEDED: 3,
  SCRIPT_MISSING: 3,
  SCRIPT_UNREADABLE: 3,
  SCRIPT_NOT_UTF8: 3,
  PROVIDER_MISMATCH: 3,
  HISTORY_IN_OTHER_SCHEMA: 3,
  HISTORY_UNREADABLE: 3,
  HISTORY_EDITED: 3,
  HISTORY_MISSING: 3,
  LEDGER_UNSUPPORTED: 3,
  RESOLVE_SCRIPT_NOT_FOUND: 3,
  RESOLVE_ALREADY_APPLIED: 3,
  RESOLVE_NEVER_APPLIED: 3,
  RESOLVE_NOT_FAILED: 3,
  RESOLVE_CONTRADICTED: 3,
  BASELINE_CONTRADICTED: 3,

  TOOL_NOT_FOUND: 4,
  TOOL_TOO_OLD: 4,
  TOOL_FAILED: 4,
  BACKUP_DIR_UNUSABLE: 4,
  BACKUP_NO_SPACE: 4,
  BACKUP_DENIED: 4,
  BACKUP_FAILED: 4,
  BACKUP_NOT_VERIFIED: 4,
  BACKUP_NOT_FOUND: 4,
  SCRIPT_INVALID: 4,
  POOLER_IN_TRANSACTION_MODE: 4,
  PRISMA_CLI_NOT_FOUND: 4,
  RIGHTS_MISSING: 4,
  FENCE_DENIED: 4,
  RESTORE_IMPOSSIBLE: 4,
  RESTORE_TARGET_EXISTS: 4,
  NO_AUTOMATIC_RESTORE: 4,
  BACKUP_FORMAT_UNSUITABLE: 4,

  DATABASE_UNREACHABLE: 7,
  DATABASE_STARTING: 7,
  AUTHENTICATION_FAILED: 7,
  DATABASE_NOT_FOUND: 7,
  DATABASE_REFUSED: 7,
  SWAP_UNFINISHED: 7,
  DATABASE_READ_ONLY: 7,
  TLS_FAILED: 7,
  SERVER_TOO_OLD: 7,
  CONNECTION_LOST: 7,
  DEADLINE_EXCEEDED: 7,
  STATEMENT_FAILED: 7,

  LOCK_NOT_ACQUIRED: 75,
  APP_NOT_FOUND: 127,
  APP_NOT_EXECUTABLE: 126,
  INTERRUPTED: 143,

  UNEXPECTED: 1,

  FAILED_BEFORE: 5,

  MIGRATION_FAILED: 6,
  MIGRATION_BROKE_TRANSACTION: 6,
  MIGRATION_LEFT_SESSION_CHANGED: 6,
  PRISMA_CLI_FAILED: 6,
  DEPLOY_INTERRUPTED: 6,
  COMMIT_UNKNOWN: 6,
  VERIFY_FAILED: 6,
  RESTORE_FAILED: 6,
  RESTORE_NOT_PROVEN: 6,
  RESTORE_DIFFERS: 6,
};

/** The exit code of an error that was thrown rather than made into an outcome. */
export function exitCodeOfError(error: AnyDeployError): number {
  if (error.code === "INTERRUPTED") return error.fields.signal === "SIGINT" ? 130 : 143;
  return ERROR_EXIT_CODES[error.code];
}

export function exitCodeOf(outcome: Outcome): number {
  switch (outcome.kind) {
    case "up-to-date":
    case "planned":
    case "deployed":
      return 0;
    case "rolled-back":
    case "restored":
      return outcome.failure.code === "INTERRUPTED" ? exitCodeOfError(outcome.failure) : 5;
    case "at-boundary":
      return 8;
    case "unresolved":
      return 6;
  }
}

export function stateOfError(error: AnyDeployError): DatabaseState {
  const exitCode = exitCodeOfError(error);
  if (exitCode === 126 || exitCode === 127) return "migrated";
  return exitCode === 6 || exitCode === 1 ? "unknown" : "untouched";
}

export function stateOf(outcome: Outcome): DatabaseState {
  switch (outcome.kind) {
    case "up-to-date":
    case "deployed":
      return "migrated";
    case "planned":
      return "untouched";
    case "rolled-back":
    case "restored":
      return "as-before";
    case "at-boundary":
      return "at-boundary";
    case "unresolved":
      return "unknown";
  }
}
