/**
 * Everything that can be refused or can fail, as data: a code and its fields.
 *
 * Words are put to a code in `messages/`, its exit code is in `outcome.ts`; a code without either is a compile error.
 */
import type { Choice, Diagnosis } from "./migrations/diagnosis.ts";
import type { ClusterDigests } from "./restore/cluster.ts";
import type { InPlaceReason, PlainReason, SwapReason } from "./restore/plan.ts";
import type { ProofReason } from "./restore/proof.ts";

/** Why a restore does not happen by itself, or not from every format. The words for it are in the catalogues. */
export type RestoreReason =
  | ProofReason
  | InPlaceReason
  | PlainReason
  | SwapReason
  | `cluster-${keyof ClusterDigests}`
  | "not-wanted"
  /** Of a swap at work: somebody who can't be ended by this role, and somebody who has let others in. */
  | "sessions-not-ended"
  | "database-reopened";

/** One thing that is wrong with the flags or the environment. All of them are reported at once. */
export type SettingProblem =
  | { readonly kind: "unknown-flag"; readonly flag: string; readonly nearest: string | undefined }
  | { readonly kind: "unknown-command"; readonly command: string; readonly nearest: string | undefined }
  /** A second word where only one command can stand. */
  | { readonly kind: "surplus"; readonly argument: string }
  /** `elsewhere`: a file of the project names another variable for the same thing. */
  | {
      readonly kind: "missing";
      readonly name: string;
      readonly elsewhere?: { readonly path: string; readonly variable: string } | undefined;
    }
  /** Exactly one of them has to be given. */
  | { readonly kind: "one-of-flags"; readonly flags: readonly string[] }
  /** A flag of other commands. */
  | { readonly kind: "only-with"; readonly flag: string; readonly commands: readonly string[] }
  | { readonly kind: "missing-value"; readonly flag: string }
  | { readonly kind: "unexpected-value"; readonly flag: string }
  | { readonly kind: "invalid"; readonly name: string; readonly value: string; readonly expected: SettingExpectation }
  | { readonly kind: "invalid-url"; readonly name: string; readonly reason: UrlProblem }
  | { readonly kind: "unreadable-file"; readonly name: string; readonly path: string; readonly reason: string };

/** What a value of a setting has to be; the words for it are in the catalogues. */
export type SettingExpectation =
  | { readonly kind: "whole-number"; readonly minimum: number }
  | { readonly kind: "duration" }
  | { readonly kind: "one-of"; readonly values: readonly string[] }
  | { readonly kind: "path" }
  | { readonly kind: "text" };

/** Why a connection string can't be used. Never holds a part of the string that could be a password. */
export type UrlProblem =
  | { readonly kind: "empty" }
  | { readonly kind: "not-a-url" }
  | { readonly kind: "scheme"; readonly scheme: string }
  | { readonly kind: "accelerate" }
  | { readonly kind: "several-hosts" }
  | { readonly kind: "port"; readonly value: string }
  | { readonly kind: "percent-encoding"; readonly part: "user" | "password" | "host" }
  | { readonly kind: "parameter"; readonly name: string; readonly value: string };

/** Who holds the deploy lock, as `pg_locks` and `pg_stat_activity` tell it. */
export interface LockHolder {
  readonly pid: number;
  readonly applicationName: string;
  readonly clientAddress: string | undefined;
  /** Start of the holder's session, ISO 8601. */
  readonly since: string | undefined;
  /** Current or last statement, cut short. Undefined where we may not see it. */
  readonly statement: string | undefined;
  readonly state: string | undefined;
}

/** What the server said about a statement that failed. */
export interface ServerMessage {
  /** SQLSTATE, five characters. */
  readonly sqlState: string;
  readonly message: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  /** 1-based position in characters of the text that was sent. */
  readonly position: number | undefined;
  readonly where: string | undefined;
  /** The server's own function that says so, the same in every language. Not told by all that has an answer of its. */
  readonly routine?: string | undefined;
}

/** Where in a script a statement failed, for the excerpt that is shown. */
export interface ScriptLocation {
  readonly path: string;
  /** 1-based. */
  readonly line: number;
  /** 1-based, in characters. */
  readonly column: number;
  /** The line itself with up to two lines before and after it, each with its number. */
  readonly excerpt: readonly { readonly line: number; readonly text: string }[];
}

/** A folder of migrations, and what made us look there. */
export interface MigrationsDirectoryHint {
  readonly path: string;
  /** The file that names it. Undefined where it is simply there. */
  readonly namedBy: string | undefined;
}

export interface FailedMigration {
  readonly name: string;
  /** ISO 8601, as the row says. */
  readonly startedAt: string;
  /** What of its script is in the database. Absent where nobody has looked, or there is no script. */
  readonly diagnosis?: Diagnosis | undefined;
}

export interface ErrorFields {
  // Settings and folder: exit 2
  SETTINGS_INVALID: { problems: readonly SettingProblem[] };
  /** `candidates`: folders of the project that look like the one that is meant, as values of MIGRATIONS_DIR. */
  MIGRATIONS_DIR_NOT_FOUND: { path: string; candidates?: readonly MigrationsDirectoryHint[] | undefined };
  MIGRATIONS_DIR_UNREADABLE: { path: string; reason: string };

  /** A restore by hand wants the database's name; `given` is what it got instead. */
  RESTORE_NOT_CONSENTED: { database: string; given: string | undefined };

  // The history does not allow a deploy: exit 3
  HISTORY_FAILED: { migrations: readonly FailedMigration[]; engine: "native" | "prisma" };
  BASELINE_NEEDED: { schema: string; tables: readonly string[]; migrations: readonly string[] };
  SCRIPT_MISSING: { migrations: readonly string[] };
  SCRIPT_UNREADABLE: { migration: string; path: string; reason: string };
  SCRIPT_NOT_UTF8: { migration: string; path: string; byteOffset: number };
  PROVIDER_MISMATCH: { path: string; found: string };
  HISTORY_IN_OTHER_SCHEMA: { expected: string; found: string; user: string };
  HISTORY_UNREADABLE: { server: ServerMessage };
  HISTORY_EDITED: { migrations: readonly string[] };
  HISTORY_MISSING: { migrations: readonly string[] };
  LEDGER_UNSUPPORTED: { schema: string };
  RESOLVE_SCRIPT_NOT_FOUND: { migration: string };
  RESOLVE_ALREADY_APPLIED: { migration: string };
  RESOLVE_NEVER_APPLIED: { migration: string };
  RESOLVE_NOT_FAILED: { migration: string };
  /** The catalog says otherwise; `diagnoses` are those that do. */
  RESOLVE_CONTRADICTED: { choice: Choice; command: "resolve" | "baseline"; diagnoses: readonly Diagnosis[] };
  BASELINE_CONTRADICTED: { failed: readonly string[]; rolledBack: readonly string[]; deployed: readonly string[] };

  // Preflight and backup: exit 4
  TOOL_NOT_FOUND: { tool: string };
  TOOL_TOO_OLD: { tool: string; path: string; toolVersion: string; serverVersion: string };
  TOOL_FAILED: { tool: string; reason: string };
  BACKUP_DIR_UNUSABLE: { path: string; reason: string };
  BACKUP_NO_SPACE: { path: string; availableBytes: number; neededBytes: number };
  /** What the role may not read, of which a dump would be needed. Names as SQL has them, a few of each. */
  BACKUP_DENIED: {
    user: string;
    schemas: readonly string[];
    tables: readonly string[];
    sequences: readonly string[];
    /** Row-level security hides rows of them. */
    hidden: readonly string[];
    largeObjects: readonly string[];
  };
  BACKUP_FAILED: { tool: string; exitCode: number | undefined; output: string };
  BACKUP_NOT_VERIFIED: { path: string; reason: string };
  /** `wanted`: the file, or `latest` and the like. */
  BACKUP_NOT_FOUND: { path: string; wanted: string };
  SCRIPT_INVALID: { migration: string; server: ServerMessage; location: ScriptLocation | undefined };
  POOLER_IN_TRANSACTION_MODE: {
    host: string;
    port: number;
    /** The variable that a file of the project names as Prisma's `directUrl`. */
    direct?: { readonly path: string; readonly variable: string } | undefined;
  };
  PRISMA_CLI_NOT_FOUND: { directory: string };
  RIGHTS_MISSING: { reason: string };
  /** `--maintenance` is for the owner of the database. */
  FENCE_DENIED: {
    database: string;
    owner: string;
    user: string;
    /** A killed deploy has left a fence, which this role may not lift. */
    isLeft: boolean;
  };
  /** Of a restore by hand. */
  RESTORE_IMPOSSIBLE: { reasons: readonly RestoreReason[] };
  RESTORE_TARGET_EXISTS: { database: string };
  NO_AUTOMATIC_RESTORE: { migrations: readonly string[]; reasons: readonly RestoreReason[] };
  BACKUP_FORMAT_UNSUITABLE: { reasons: readonly RestoreReason[] };

  // The database can't be reached, or refuses us: exit 7
  DATABASE_UNREACHABLE: { host: string; port: number; reason: string; waitedMs: number };
  DATABASE_STARTING: { host: string; port: number; waitedMs: number };
  AUTHENTICATION_FAILED: { user: string; host: string; reason: string };
  DATABASE_NOT_FOUND: { database: string; host: string };
  DATABASE_REFUSED: { server: ServerMessage };
  /** `isAtWork`: another process is at it. Else `reason` says why it could be neither finished nor undone, if it was tried. */
  SWAP_UNFINISHED: { database: string; isAtWork: boolean; reason: string | undefined };
  DATABASE_READ_ONLY: { inRecovery: boolean };
  TLS_FAILED: { host: string; reason: string };
  SERVER_TOO_OLD: { serverVersion: string; minimum: string };
  CONNECTION_LOST: { during: string; reason: string };
  DEADLINE_EXCEEDED: { during: string; deadlineMs: number };
  STATEMENT_FAILED: { during: string; server: ServerMessage };

  // Another deploy: exit 75
  LOCK_NOT_ACQUIRED: { holder: LockHolder | undefined; waitedMs: number };

  // The app: exit 126, 127
  APP_NOT_FOUND: { command: string };
  APP_NOT_EXECUTABLE: { path: string; reason: string };

  // Exit 130, 143
  INTERRUPTED: { signal: "SIGINT" | "SIGTERM" };

  // Tried again later: exit 5
  FAILED_BEFORE: {
    /** How often in a row. */
    failures: number;
    /** ISO 8601, as the next. */
    lastFailedAt: string;
    retryAt: string;
    waitMs: number;
    /** The code of the last failure. */
    failure: string;
    migration: string | undefined;
    sqlState: string | undefined;
  };

  // A migration: 5, 6 or 8, told by the outcome and not by the code
  MIGRATION_FAILED: {
    migration: string;
    /** Of its script. */
    path: string;
    server: ServerMessage;
    /** Of the statement that failed. Undefined where it was not a statement, but a check of what they have left. */
    location: ScriptLocation | undefined;
  };
  MIGRATION_BROKE_TRANSACTION: { migration: string; reason: string };
  MIGRATION_LEFT_SESSION_CHANGED: { migration: string; reason: string };
  PRISMA_CLI_FAILED: {
    exitCode: number | undefined;
    signal: string | undefined;
    output: string;
    /** By the rows and not by the CLI's words: it may exit 0 over a script that never commits. */
    problem: "failed" | "timed-out" | "unfinished" | "other-database" | "unexplained";
    /** The migration that is left unfinished. */
    migration: string | undefined;
  };
  /** An earlier deploy was killed, and could be neither finished nor undone. */
  DEPLOY_INTERRUPTED: {
    /** ISO 8601. */
    startedAt: string;
    /** The one that began and did not finish. */
    migration: string | undefined;
  };
  COMMIT_UNKNOWN: { transactionId: string; reason: string };
  VERIFY_FAILED: { migrations: readonly string[] };

  // A bug of ours in the middle of a deploy: the database is looked at all the same
  UNEXPECTED: { during: "migrate" | "restore" | "verify"; stack: string };

  // Recovery: 6
  RESTORE_FAILED: { tool: string; exitCode: number | undefined; output: string };
  RESTORE_NOT_PROVEN: { reasons: readonly RestoreReason[] };
  RESTORE_DIFFERS: { differences: readonly string[] };
}

export type ErrorCode = keyof ErrorFields;

/** An expected failure. Anything else that is thrown is a bug and is shown with its stack. */
export class DeployError<C extends ErrorCode = ErrorCode> extends Error {
  readonly code: C;
  readonly fields: ErrorFields[C];

  constructor(code: C, fields: ErrorFields[C], options?: { cause?: unknown }) {
    super(code, options);
    this.name = "DeployError";
    this.code = code;
    this.fields = fields;
  }
}

/** A value that can be matched on `code` with the right fields for each, which a generic class can't offer. */
export type AnyDeployError = { [C in ErrorCode]: DeployError<C> }[ErrorCode];

export function isDeployError(value: unknown): value is AnyDeployError {
  return value instanceof DeployError;
}

export function hasCode<C extends ErrorCode>(value: unknown, code: C): value is DeployError<C> {
  return value instanceof DeployError && value.code === code;
}

/** The innermost message of an error and its causes: the outer one alone is often empty of content. */
export function describeCause(value: unknown): string {
  if (value instanceof AggregateError && value.errors.length > 0) return describeCause(value.errors[0]);
  if (value instanceof Error) return value.cause === undefined ? value.message : describeCause(value.cause);
  return String(value);
}
