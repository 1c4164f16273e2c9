/** How a deploy can end: each exit code tells which state the database is in. */
import { describe, expect, test } from "bun:test";
import { type AnyDeployError, DeployError, type ErrorCode } from "../lib/errors.ts";
import {
  type DatabaseState,
  exitCodeOf,
  exitCodeOfError,
  type Outcome,
  stateOf,
  stateOfError,
} from "../lib/outcome.ts";
import { ERRORS } from "./support/message-samples.ts";

const CODES: { readonly [exitCode: number]: readonly ErrorCode[] } = {
  1: ["UNEXPECTED"],
  2: ["SETTINGS_INVALID", "MIGRATIONS_DIR_NOT_FOUND", "MIGRATIONS_DIR_UNREADABLE", "RESTORE_NOT_CONSENTED"],
  3: [
    "HISTORY_FAILED",
    "BASELINE_NEEDED",
    "SCRIPT_MISSING",
    "SCRIPT_UNREADABLE",
    "SCRIPT_NOT_UTF8",
    "PROVIDER_MISMATCH",
    "HISTORY_IN_OTHER_SCHEMA",
    "HISTORY_UNREADABLE",
    "HISTORY_EDITED",
    "HISTORY_MISSING",
    "LEDGER_UNSUPPORTED",
    "RESOLVE_SCRIPT_NOT_FOUND",
    "RESOLVE_ALREADY_APPLIED",
    "RESOLVE_NEVER_APPLIED",
    "RESOLVE_NOT_FAILED",
    "RESOLVE_CONTRADICTED",
    "BASELINE_CONTRADICTED",
  ],
  4: [
    "TOOL_NOT_FOUND",
    "TOOL_TOO_OLD",
    "TOOL_FAILED",
    "BACKUP_DIR_UNUSABLE",
    "BACKUP_NO_SPACE",
    "BACKUP_DENIED",
    "BACKUP_FAILED",
    "BACKUP_NOT_VERIFIED",
    "BACKUP_NOT_FOUND",
    "SCRIPT_INVALID",
    "POOLER_IN_TRANSACTION_MODE",
    "PRISMA_CLI_NOT_FOUND",
    "RIGHTS_MISSING",
    "FENCE_DENIED",
    "RESTORE_IMPOSSIBLE",
    "RESTORE_TARGET_EXISTS",
    "NO_AUTOMATIC_RESTORE",
    "BACKUP_FORMAT_UNSUITABLE",
  ],
  5: ["FAILED_BEFORE"],
  6: [
    "DEPLOY_INTERRUPTED",
    "MIGRATION_FAILED",
    "MIGRATION_BROKE_TRANSACTION",
    "MIGRATION_LEFT_SESSION_CHANGED",
    "PRISMA_CLI_FAILED",
    "COMMIT_UNKNOWN",
    "VERIFY_FAILED",
    "RESTORE_FAILED",
    "RESTORE_NOT_PROVEN",
    "RESTORE_DIFFERS",
  ],
  7: [
    "DATABASE_UNREACHABLE",
    "DATABASE_STARTING",
    "AUTHENTICATION_FAILED",
    "DATABASE_NOT_FOUND",
    "DATABASE_REFUSED",
    "DATABASE_READ_ONLY",
    "SWAP_UNFINISHED",
    "TLS_FAILED",
    "SERVER_TOO_OLD",
    "CONNECTION_LOST",
    "DEADLINE_EXCEEDED",
    "STATEMENT_FAILED",
  ],
  75: ["LOCK_NOT_ACQUIRED"],
  126: ["APP_NOT_EXECUTABLE"],
  127: ["APP_NOT_FOUND"],
};

/** What each exit code says of the database, where nothing was made into an outcome. */
const STATES: Readonly<Record<number, DatabaseState>> = {
  1: "unknown",
  2: "untouched",
  3: "untouched",
  4: "untouched",
  5: "untouched",
  6: "unknown",
  7: "untouched",
  75: "untouched",
  126: "migrated",
  127: "migrated",
};

describe("an error that ends a deploy outside of an outcome", () => {
  test("every code but the interruption is in one row here", () => {
    const listed = [...Object.values(CODES).flat(), "INTERRUPTED"];
    expect(listed.toSorted() as string[]).toEqual(Object.keys(ERRORS).toSorted());
  });

  for (const [exitCode, codes] of Object.entries(CODES)) {
    test.each([...codes])(`%s: exit ${exitCode}, ${STATES[Number(exitCode)]}`, (code) => {
      const error = makeError(code);
      expect(exitCodeOfError(error)).toBe(Number(exitCode));
      expect(stateOfError(error) as string | undefined).toBe(STATES[Number(exitCode)]);
    });
  }

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s: exit %d, untouched", (signal, exitCode) => {
    const error = new DeployError("INTERRUPTED", { signal }) as AnyDeployError;
    expect(exitCodeOfError(error)).toBe(exitCode);
    expect(stateOfError(error)).toBe("untouched");
  });
});

const failed = makeError("MIGRATION_FAILED");
const lost = makeError("CONNECTION_LOST");
const interrupted = new DeployError("INTERRUPTED", { signal: "SIGTERM" }) as AnyDeployError;
const interruptedByKey = new DeployError("INTERRUPTED", { signal: "SIGINT" }) as AnyDeployError;
const backupPath = "backup.sql";
const boundary = { kind: "at-boundary", applied: ["a"], notApplied: ["b"], backupPath } as const;
const unresolved = { kind: "unresolved", recoveryFailures: [], backupPath, instructions: [] } as const;

const OUTCOMES: [string, Outcome, number, DatabaseState][] = [
  ["up to date", { kind: "up-to-date", applied: 2, deployedByAnother: false }, 0, "migrated"],
  ["another one has deployed", { kind: "up-to-date", applied: 2, deployedByAnother: true }, 0, "migrated"],
  ["a dry run", { kind: "planned" }, 0, "untouched"],
  ["deployed", { kind: "deployed", applied: ["a"], backupPath }, 0, "migrated"],
  ["rolled back", { kind: "rolled-back", failure: failed, backupPath }, 5, "as-before"],
  ["rolled back with the connection", { kind: "rolled-back", failure: lost, backupPath }, 5, "as-before"],
  ["interrupted and rolled back", { kind: "rolled-back", failure: interrupted, backupPath }, 143, "as-before"],
  ["interrupted by Ctrl-C", { kind: "rolled-back", failure: interruptedByKey, backupPath }, 130, "as-before"],
  ["restored", { kind: "restored", failure: failed, backupPath }, 5, "as-before"],
  ["interrupted and restored", { kind: "restored", failure: interrupted, backupPath }, 143, "as-before"],
  ["stopped at a boundary", { ...boundary, failure: failed }, 8, "at-boundary"],
  ["interrupted at a boundary", { ...boundary, failure: interrupted }, 8, "at-boundary"],
  ["unresolved", { ...unresolved, failure: failed }, 6, "unknown"],
  ["interrupted and unresolved", { ...unresolved, failure: interrupted }, 6, "unknown"],
];

describe("an outcome", () => {
  test.each(OUTCOMES)("%s", (_, outcome, exitCode, state) => {
    expect(exitCodeOf(outcome)).toBe(exitCode);
    expect(stateOf(outcome)).toBe(state);
  });
});

function makeError(code: ErrorCode): AnyDeployError {
  return new DeployError(code, ERRORS[code][0] as never) as AnyDeployError;
}
