/** One sample or more of everything that the catalogues have words for. A kind without one is a compile error. */
import {
  DeployError,
  type ErrorCode,
  type ErrorFields,
  type ScriptLocation,
  type ServerMessage,
  type SettingProblem,
} from "../../lib/errors.ts";
import type { Event, Warning } from "../../lib/events.ts";
import type { WarningAbout } from "../../lib/messages/messages.ts";
import type { Diagnosis } from "../../lib/migrations/diagnosis.ts";
import type { RecoveryChoices } from "../../lib/restore/choices.ts";

/** Every text that is filled in; nothing that the catalogues say themselves looks like it. */
export const VALUE = "\u27E6value\u27E7";

const server: ServerMessage = {
  sqlState: VALUE,
  message: VALUE,
  detail: VALUE,
  hint: VALUE,
  position: 3,
  where: VALUE,
};
const bareServer: ServerMessage = {
  ...server,
  detail: undefined,
  hint: undefined,
  position: undefined,
  where: undefined,
};
const holder = {
  pid: 4242,
  applicationName: VALUE,
  clientAddress: VALUE,
  since: VALUE,
  statement: VALUE,
  state: VALUE,
};
const bareHolder = {
  pid: 4242,
  applicationName: "",
  clientAddress: undefined,
  since: undefined,
  statement: undefined,
  state: undefined,
};
const location: ScriptLocation = { path: VALUE, line: 3, column: 1, excerpt: [{ line: 3, text: VALUE }] };
const two = [VALUE, VALUE];
const many = Array.from({ length: 12 }, () => VALUE);

export const PROBLEMS: {
  readonly [K in SettingProblem["kind"]]: readonly Extract<SettingProblem, { kind: K }>[];
} = {
  "unknown-flag": [
    { kind: "unknown-flag", flag: VALUE, nearest: VALUE },
    { kind: "unknown-flag", flag: VALUE, nearest: undefined },
  ],
  "unknown-command": [
    { kind: "unknown-command", command: VALUE, nearest: VALUE },
    { kind: "unknown-command", command: VALUE, nearest: undefined },
  ],
  surplus: [{ kind: "surplus", argument: VALUE }],
  missing: [
    { kind: "missing", name: VALUE },
    { kind: "missing", name: VALUE, elsewhere: { path: VALUE, variable: VALUE } },
  ],
  "one-of-flags": [{ kind: "one-of-flags", flags: two }],
  "only-with": [{ kind: "only-with", flag: VALUE, commands: two }],
  "missing-value": [{ kind: "missing-value", flag: VALUE }],
  "unexpected-value": [{ kind: "unexpected-value", flag: VALUE }],
  invalid: (
    [
      { kind: "whole-number", minimum: 4242 },
      { kind: "duration" },
      { kind: "one-of", values: two },
      { kind: "path" },
      { kind: "text" },
    ] as const
  ).map((expected) => ({ kind: "invalid", name: VALUE, value: VALUE, expected })),
  "invalid-url": (
    [
      { kind: "empty" },
      { kind: "not-a-url" },
      { kind: "scheme", scheme: VALUE },
      { kind: "accelerate" },
      { kind: "several-hosts" },
      { kind: "port", value: VALUE },
      { kind: "percent-encoding", part: "user" },
      { kind: "percent-encoding", part: "password" },
      { kind: "percent-encoding", part: "host" },
      { kind: "parameter", name: VALUE, value: VALUE },
    ] as const
  ).map((reason) => ({ kind: "invalid-url", name: VALUE, reason })),
  "unreadable-file": [{ kind: "unreadable-file", name: VALUE, path: VALUE, reason: VALUE }],
};

const WARNINGS: { readonly [K in Warning["about"]]: readonly WarningAbout<K>[] } = {
  edited: [{ about: "edited", migrations: two }],
  missing: [{ about: "missing", migrations: many }],
  late: [{ about: "late", migrations: two }],
  order: [
    { about: "order", bytes: two, prisma: two, followed: "bytes" },
    { about: "order", bytes: two, prisma: two, followed: "prisma" },
  ],
  normalisation: [{ about: "normalisation", names: two }],
  "other-folder": [{ about: "other-folder", path: VALUE, named: VALUE, namedBy: VALUE }],
  "empty-folder": [{ about: "empty-folder", path: VALUE }],
  "non-atomic": [
    {
      about: "non-atomic",
      migrations: two,
      reasons: [
        { kind: "enum-value", migration: VALUE, subject: VALUE, line: 3 },
        { kind: "not-parsed", migration: VALUE, subject: VALUE, line: undefined },
      ],
    },
  ],
  "backup-dir-in-container": [{ about: "backup-dir-in-container", path: VALUE }],
  "swap-unfinished": [{ about: "swap-unfinished" }],
  fenced: [
    { about: "fenced", id: VALUE, isHeld: true },
    { about: "fenced", id: VALUE, isHeld: false },
  ],
  "no-tls": [{ about: "no-tls", host: VALUE }],
  "invalid-index": [{ about: "invalid-index", indexes: two }],
  "restore-unproven": [{ about: "restore-unproven", reasons: ["clients-now"] }],
  "schema-changed-by-others": [{ about: "schema-changed-by-others" }],
  "state-file": [{ about: "state-file", path: VALUE, reason: VALUE }],
  "probe-port": [{ about: "probe-port", port: 4242, reason: VALUE }],
  prune: [{ about: "prune", reason: VALUE }],
  unlock: [{ about: "unlock", reason: VALUE }],
  fence: [{ about: "fence", reason: VALUE }],
  verify: [{ about: "verify", reason: VALUE }],
  journal: [{ about: "journal", reason: VALUE }],
  cleanup: [{ about: "cleanup", reason: VALUE }],
};

const statements = (["applied", "not-applied", "unknown"] as const).map((verdict) => ({
  line: 4242,
  text: VALUE,
  verdict,
}));
const diagnoses: readonly Diagnosis[] = [
  { migration: VALUE, statements, contradicted: ["applied"], proposal: "rolled-back", invalidIndexes: two },
  { migration: VALUE, statements: [], contradicted: [], proposal: "restore", invalidIndexes: [] },
  { migration: VALUE, statements, contradicted: ["rolled-back"], proposal: "applied", invalidIndexes: [] },
];

const segments = [
  { migrations: two, atomic: true },
  { migrations: [VALUE], atomic: false },
];

const blocker = { pid: 4242, applicationName: VALUE, state: VALUE, statement: VALUE, sinceMs: 125_000 };
const bareBlocker = { pid: 4242, applicationName: "", state: undefined, statement: undefined, sinceMs: undefined };
const preparedBlocker = { ...bareBlocker, pid: 0 };
const progress = {
  kind: "migration-progress" as const,
  name: VALUE,
  number: 2,
  total: 3,
  runningMs: 41_000,
  elapsedMs: 125_000,
  held: undefined,
};
const table = { name: VALUE, sizeBytes: 3_400_000_000 };

type EventSamples = { readonly [K in Event["kind"]]: readonly Extract<Event, { kind: K }>[] };

/** The failure inside `migration-failed` is worded by itself, see ERRORS. */
export const EVENTS: Omit<EventSamples, "migration-failed"> = {
  "deploy-started": [{ kind: "deploy-started", version: VALUE }],
  "reading-status": [{ kind: "reading-status" }],
  "up-to-date": [{ kind: "up-to-date", applied: 4242 }],
  "pending-found": [
    { kind: "pending-found", pending: two, segments },
    { kind: "pending-found", pending: many, segments },
    { kind: "pending-found", pending: two, segments: [] },
  ],
  "backup-started": [
    { kind: "backup-started", format: "plain", reasons: [] },
    { kind: "backup-started", format: "custom", reasons: ["large-objects"] },
  ],
  "backup-finished": [
    { kind: "backup-finished", path: VALUE, sizeBytes: 12_345_678, durationMs: 1800 },
    { kind: "backup-finished", path: VALUE, sizeBytes: 12_345_678, durationMs: 1800, isReused: true },
  ],
  "migration-started": [
    { kind: "migration-started", engine: "native" },
    { kind: "migration-started", engine: "prisma" },
  ],
  "migration-finished": [{ kind: "migration-finished", applied: two, durationMs: 125_000 }],
  "prune-started": [{ kind: "prune-started" }],
  "app-starting": [{ kind: "app-starting", command: two }],
  "restore-started": [{ kind: "restore-started", backupPath: VALUE }],
  "restore-finished": [{ kind: "restore-finished", durationMs: 1800 }],
  "deploy-failed": [{ kind: "deploy-failed" }],
  "database-waiting": [{ kind: "database-waiting", reason: VALUE, waitedMs: 2000 }],
  "database-created": [{ kind: "database-created", database: VALUE }],
  "lock-waiting": [
    { kind: "lock-waiting", holder, waitedMs: 2000 },
    { kind: "lock-waiting", holder: bareHolder, waitedMs: 2000 },
    { kind: "lock-waiting", holder: { ...bareHolder, statement: "" }, waitedMs: 2000 },
    { kind: "lock-waiting", holder: undefined, waitedMs: 2000 },
  ],
  "work-found": [{ kind: "work-found" }],
  "deployed-by-another": [{ kind: "deployed-by-another" }],
  "interrupted-found": [{ kind: "interrupted-found", startedAt: VALUE, migrations: two }],
  "interrupted-whole": [
    { kind: "interrupted-whole", applied: two, notApplied: two },
    { kind: "interrupted-whole", applied: two, notApplied: [] },
  ],
  "interrupted-restored": [{ kind: "interrupted-restored", backupPath: VALUE }],
  "backup-planned": [{ kind: "backup-planned", directory: VALUE, format: "plain", sizeBytes: 1_048_576 }],
  "restore-plan": [
    { kind: "restore-plan", rungs: ["rollback", "in-place"], reasons: [], swapReasons: [] },
    { kind: "restore-plan", rungs: ["swap", "in-place"], reasons: [], swapReasons: ["create-database-denied"] },
    { kind: "restore-plan", rungs: [], reasons: ["subscriptions", "plain-format"], swapReasons: [] },
  ],
  "rung-failed": [
    {
      kind: "rung-failed",
      rung: "swap",
      error: new DeployError("RESTORE_FAILED", { tool: VALUE, exitCode: 1, output: VALUE }),
      next: "in-place",
    },
    {
      kind: "rung-failed",
      rung: "swap",
      error: new DeployError("LOCK_NOT_ACQUIRED", { holder: undefined, waitedMs: 0 }),
      next: "in-place",
    },
    {
      kind: "rung-failed",
      rung: "swap",
      error: new DeployError("RESTORE_FAILED", { tool: VALUE, exitCode: 1, output: VALUE }),
      next: undefined,
    },
  ],
  "restore-chosen": (["swap", "in-place", "aside"] as const).flatMap((how) => {
    const choice = { database: VALUE, how, path: VALUE, createdAt: VALUE, sizeBytes: 12_345_678 };
    return [
      { kind: "restore-chosen", ...choice, otherDatabase: VALUE, history: { applied: 4242, last: VALUE } },
      { kind: "restore-chosen", ...choice, otherDatabase: undefined, history: { applied: 0, last: null } },
      { kind: "restore-chosen", ...choice, otherDatabase: undefined, history: undefined },
    ] as const;
  }),
  "failed-database-kept": [{ kind: "failed-database-kept", database: VALUE, sizeBytes: 123_456, command: VALUE }],
  "swap-resolved": [
    { kind: "swap-resolved", how: "finished", database: VALUE, failed: VALUE },
    { kind: "swap-resolved", how: "undone", database: VALUE, failed: undefined },
  ],
  "migration-running": [{ kind: "migration-running", name: VALUE }],
  "migration-progress": [
    { ...progress, waiting: undefined, work: undefined },
    { ...progress, waiting: undefined, work: { command: VALUE, table: VALUE, phase: VALUE, percent: 42 } },
    { ...progress, waiting: undefined, work: { command: VALUE, table: undefined, phase: VALUE, percent: undefined } },
    { ...progress, waiting: undefined, work: undefined, held: { tables: [table], grownBytes: 12e8, percent: 35 } },
    {
      ...progress,
      waiting: undefined,
      work: undefined,
      held: { tables: [table, table, table, { name: VALUE, sizeBytes: undefined }], grownBytes: 0, percent: undefined },
    },
    {
      ...progress,
      waiting: undefined,
      work: undefined,
      held: { tables: [], grownBytes: undefined, percent: undefined },
    },
    { ...progress, waiting: { waitedMs: 3_200, blockers: [blocker, bareBlocker, preparedBlocker] }, work: undefined },
    { ...progress, waiting: { waitedMs: 3_200, blockers: Array.from({ length: 5 }, () => blocker) }, work: undefined },
  ],
  "data-progress": [
    { kind: "data-progress", work: "backup", bytes: 4242, totalBytes: 9999, bytesPerSecond: 42, elapsedMs: 4242 },
    { kind: "data-progress", work: "verify", bytes: 4242, totalBytes: undefined, bytesPerSecond: 42, elapsedMs: 4242 },
    { kind: "data-progress", work: "restore", bytes: 4242, totalBytes: 99, bytesPerSecond: 42, elapsedMs: 4242 },
  ],
  "migration-applied": [{ kind: "migration-applied", name: VALUE, durationMs: 340 }],
  notice: [{ kind: "notice", severity: VALUE, message: VALUE }],
  "segment-retrying": [{ kind: "segment-retrying", attempt: 3, waitMs: 2000, sqlState: VALUE, message: VALUE }],
  "segment-split": [{ kind: "segment-split", sqlState: VALUE, message: VALUE, segments }],
  "prisma-output": [
    { kind: "prisma-output", line: VALUE },
    { kind: "prisma-output", line: "  " },
  ],
  "invalid-index-dropped": [{ kind: "invalid-index-dropped", index: VALUE }],
  "rolled-back": [
    { kind: "rolled-back", transactionId: VALUE },
    { kind: "rolled-back", transactionId: undefined },
  ],
  "fence-raised": [
    { kind: "fence-raised", id: VALUE, ended: 4242, remaining: 0, overridingRoles: [] },
    { kind: "fence-raised", id: VALUE, ended: 4242, remaining: 3, overridingRoles: two },
  ],
  "fence-lowered": [
    { kind: "fence-lowered", id: VALUE, ended: 4242, wasLeft: true },
    { kind: "fence-lowered", id: VALUE, ended: 4242, wasLeft: false },
  ],
  "stopped-at-boundary": [{ kind: "stopped-at-boundary", applied: two, notApplied: many }],
  "restore-not-proven": [{ kind: "restore-not-proven", reasons: ["clients-now", "cluster-roles"] }],
  pruned: [
    { kind: "pruned", paths: two, kept: 4242 },
    { kind: "pruned", paths: [], kept: 4242 },
  ],
  diagnosed: [{ kind: "diagnosed", diagnoses }],
  warning: Object.values(WARNINGS)
    .flat()
    .map((warning) => ({ kind: "warning", warning })),
};

const child = [
  { tool: VALUE, exitCode: 3, output: `${VALUE}\n${VALUE}\n` },
  { tool: VALUE, exitCode: undefined, output: "" },
];

export const ERRORS: { readonly [C in ErrorCode]: readonly ErrorFields[C][] } = {
  SETTINGS_INVALID: [{ problems: [{ kind: "missing", name: VALUE }] }, { problems: Object.values(PROBLEMS).flat() }],
  MIGRATIONS_DIR_NOT_FOUND: [
    { path: VALUE },
    {
      path: VALUE,
      candidates: [
        { path: VALUE, namedBy: VALUE },
        { path: VALUE, namedBy: undefined },
      ],
    },
  ],
  MIGRATIONS_DIR_UNREADABLE: [{ path: VALUE, reason: VALUE }],

  HISTORY_FAILED: [
    { migrations: [{ name: VALUE, startedAt: VALUE }], engine: "native" },
    { migrations: [{ name: VALUE, startedAt: VALUE }], engine: "prisma" },
    {
      migrations: diagnoses.map((diagnosis) => ({ name: VALUE, startedAt: VALUE, diagnosis })),
      engine: "native",
    },
  ],
  BASELINE_NEEDED: [{ schema: VALUE, tables: many, migrations: many }],
  SCRIPT_MISSING: [{ migrations: two }],
  SCRIPT_UNREADABLE: [{ migration: VALUE, path: VALUE, reason: VALUE }],
  SCRIPT_NOT_UTF8: [{ migration: VALUE, path: VALUE, byteOffset: 4242 }],
  PROVIDER_MISMATCH: [{ path: VALUE, found: VALUE }],
  HISTORY_IN_OTHER_SCHEMA: [
    { expected: VALUE, found: VALUE, user: VALUE },
    { expected: VALUE, found: "", user: VALUE },
  ],
  HISTORY_UNREADABLE: [{ server }, { server: bareServer }],
  HISTORY_EDITED: [{ migrations: two }],
  HISTORY_MISSING: [{ migrations: two }],
  LEDGER_UNSUPPORTED: [{ schema: VALUE }],
  RESOLVE_SCRIPT_NOT_FOUND: [{ migration: VALUE }],
  RESOLVE_ALREADY_APPLIED: [{ migration: VALUE }],
  RESOLVE_NEVER_APPLIED: [{ migration: VALUE }],
  RESOLVE_NOT_FAILED: [{ migration: VALUE }],
  RESOLVE_CONTRADICTED: diagnoses.flatMap((diagnosis) => [
    { choice: "applied", command: "resolve", diagnoses: [diagnosis] },
    { choice: "rolled-back", command: "resolve", diagnoses: [diagnosis] },
    { choice: "applied", command: "baseline", diagnoses: [diagnosis, diagnosis] },
  ]),
  BASELINE_CONTRADICTED: [
    { failed: two, rolledBack: [], deployed: [] },
    { failed: [], rolledBack: two, deployed: many },
  ],

  TOOL_NOT_FOUND: [{ tool: VALUE }],
  TOOL_TOO_OLD: [{ tool: VALUE, path: VALUE, toolVersion: VALUE, serverVersion: VALUE }],
  TOOL_FAILED: [{ tool: VALUE, reason: VALUE }],
  BACKUP_DIR_UNUSABLE: [{ path: VALUE, reason: VALUE }],
  BACKUP_NO_SPACE: [{ path: VALUE, availableBytes: 1234, neededBytes: 4321 }],
  BACKUP_DENIED: [
    { user: VALUE, schemas: two, tables: two, sequences: two, hidden: two, largeObjects: two },
    { user: VALUE, schemas: [], tables: [], sequences: [], hidden: [VALUE], largeObjects: [] },
    { user: VALUE, schemas: [], tables: [], sequences: [], hidden: [], largeObjects: [VALUE] },
  ],
  BACKUP_FAILED: child,
  BACKUP_NOT_FOUND: [{ path: VALUE, wanted: VALUE }],
  BACKUP_NOT_VERIFIED: [{ path: VALUE, reason: VALUE }],
  SCRIPT_INVALID: [{ migration: VALUE, server, location }],
  POOLER_IN_TRANSACTION_MODE: [
    { host: VALUE, port: 6432 },
    { host: VALUE, port: 6432, direct: { path: VALUE, variable: VALUE } },
  ],
  PRISMA_CLI_NOT_FOUND: [{ directory: VALUE }],
  RIGHTS_MISSING: [{ reason: VALUE }],
  FENCE_DENIED: [
    { database: VALUE, owner: VALUE, user: VALUE, isLeft: false },
    { database: VALUE, owner: VALUE, user: VALUE, isLeft: true },
  ],
  RESTORE_IMPOSSIBLE: [{ reasons: ["subscriptions"] }],
  RESTORE_TARGET_EXISTS: [{ database: VALUE }],
  RESTORE_NOT_CONSENTED: [
    { database: VALUE, given: VALUE },
    { database: VALUE, given: undefined },
  ],
  NO_AUTOMATIC_RESTORE: [{ migrations: two, reasons: ["subscriptions"] }],
  BACKUP_FORMAT_UNSUITABLE: [{ reasons: ["large-objects"] }],

  DATABASE_UNREACHABLE: [{ host: VALUE, port: 5432, reason: VALUE, waitedMs: 2000 }],
  DATABASE_STARTING: [{ host: VALUE, port: 5432, waitedMs: 2000 }],
  AUTHENTICATION_FAILED: [{ user: VALUE, host: VALUE, reason: VALUE }],
  DATABASE_NOT_FOUND: [{ database: VALUE, host: VALUE }],
  DATABASE_REFUSED: [{ server }],
  SWAP_UNFINISHED: [
    { database: VALUE, isAtWork: true, reason: undefined },
    { database: VALUE, isAtWork: false, reason: VALUE },
  ],
  DATABASE_READ_ONLY: [{ inRecovery: true }, { inRecovery: false }],
  TLS_FAILED: [{ host: VALUE, reason: VALUE }],
  SERVER_TOO_OLD: [{ serverVersion: VALUE, minimum: VALUE }],
  CONNECTION_LOST: [{ during: VALUE, reason: VALUE }],
  DEADLINE_EXCEEDED: [{ during: VALUE, deadlineMs: 2000 }],
  STATEMENT_FAILED: [{ during: VALUE, server }],

  LOCK_NOT_ACQUIRED: [
    { holder, waitedMs: 2000 },
    { holder: bareHolder, waitedMs: 2000 },
    { holder: undefined, waitedMs: 2000 },
  ],
  APP_NOT_FOUND: [{ command: VALUE }],
  APP_NOT_EXECUTABLE: [{ path: VALUE, reason: VALUE }],
  INTERRUPTED: [{ signal: "SIGINT" }, { signal: "SIGTERM" }],

  MIGRATION_FAILED: [
    { migration: VALUE, path: VALUE, server, location: undefined },
    { migration: VALUE, path: VALUE, server: { ...server, sqlState: "23505" }, location },
  ],
  MIGRATION_BROKE_TRANSACTION: [{ migration: VALUE, reason: VALUE }],
  MIGRATION_LEFT_SESSION_CHANGED: [{ migration: VALUE, reason: VALUE }],
  PRISMA_CLI_FAILED: [
    { exitCode: 1, signal: undefined, output: `${VALUE}\n`, problem: "failed", migration: VALUE },
    { exitCode: undefined, signal: VALUE, output: "", problem: "failed", migration: undefined },
    { exitCode: undefined, signal: undefined, output: "", problem: "unexplained", migration: undefined },
    { exitCode: 0, signal: undefined, output: "", problem: "unfinished", migration: VALUE },
    { exitCode: 1, signal: undefined, output: "", problem: "timed-out", migration: VALUE },
    { exitCode: 0, signal: undefined, output: "", problem: "other-database", migration: undefined },
  ],
  FAILED_BEFORE: [
    {
      failures: 4242,
      lastFailedAt: VALUE,
      retryAt: VALUE,
      waitMs: 60_000,
      failure: VALUE,
      migration: VALUE,
      sqlState: VALUE,
    },
    {
      failures: 1,
      lastFailedAt: VALUE,
      retryAt: VALUE,
      waitMs: 60_000,
      failure: VALUE,
      migration: undefined,
      sqlState: undefined,
    },
  ],
  DEPLOY_INTERRUPTED: [
    { startedAt: VALUE, migration: VALUE },
    { startedAt: VALUE, migration: undefined },
  ],
  COMMIT_UNKNOWN: [{ transactionId: VALUE, reason: VALUE }],
  VERIFY_FAILED: [{ migrations: two }],

  UNEXPECTED: [{ during: "migrate", stack: `Error: ${VALUE}\n    at ${VALUE}` }],
  RESTORE_FAILED: child,
  RESTORE_NOT_PROVEN: [{ reasons: ["clients-now"] }],
  RESTORE_DIFFERS: [{ differences: two }],
};

const CHOICE: RecoveryChoices = {
  database: VALUE,
  backup: VALUE,
  backupSizeBytes: 12_345_678,
  restore: { how: "swap" },
  mayRestoreInto: true,
  againstTools: [],
  isHeld: false,
  isForAnotherRole: false,
  restoreMs: 125_000,
  backupMs: 46_000,
  changes: Array.from({ length: 5 }, () => ({ table: VALUE, rows: 4242 })),
  unfinished: two,
};

export const CHOICES: readonly RecoveryChoices[] = [
  CHOICE,
  {
    ...CHOICE,
    restore: { how: "in-place" },
    againstTools: ["create-database-denied"],
    isForAnotherRole: true,
    restoreMs: undefined,
    backupMs: undefined,
    changes: [],
    unfinished: [],
  },
  {
    ...CHOICE,
    restore: { how: "impossible", reasons: ["replication-slots"] },
    againstTools: ["replication-slots"],
    changes: undefined,
    unfinished: [VALUE],
  },
  {
    ...CHOICE,
    restore: { how: "impossible", reasons: ["not-owner", "foreign-writable"] },
    mayRestoreInto: false,
    againstTools: ["not-owner"],
    isForAnotherRole: true,
  },
  { ...CHOICE, againstTools: ["sessions-not-ended"], isHeld: true, isForAnotherRole: true },
  { ...CHOICE, restore: undefined, mayRestoreInto: false, againstTools: undefined, unfinished: undefined },
];
