/** Why each error happens, in a sentence or two for docs/errors.md. A code without one is a compile error. */
import type { ErrorCode } from "../../lib/errors.ts";

export const CAUSES: Readonly<Record<ErrorCode, string>> = {
  SETTINGS_INVALID:
    "A flag or an environment variable is missing, unknown or has a value that can't be used. All problems are listed at once.",
  MIGRATIONS_DIR_NOT_FOUND:
    "The migrations folder does not exist at that path. A wrong path is never taken for «no migrations».",
  MIGRATIONS_DIR_UNREADABLE: "The folder exists and can't be read: rights, or a file where a folder should be.",
  RESTORE_NOT_CONSENTED:
    "`restore` replaces what is in the database, and asks for its name as consent: on a terminal, or by `--yes-restore`.",

  HISTORY_FAILED:
    "A row of `_prisma_migrations` says that a migration was begun and never finished, and nobody is at work on it: a failed `prisma migrate deploy`, or a killed one. What of its script is in the database is shown statement by statement.",
  BASELINE_NEEDED:
    "The schema has tables and no history, so the migrations would be applied over what is there (Prisma's P3005).",
  SCRIPT_MISSING: "A pending migration's folder has no `migration.sql`.",
  SCRIPT_UNREADABLE: "A script is there and can't be read.",
  SCRIPT_NOT_UTF8: "A script has bytes that are not UTF-8. Prisma would replace them silently.",
  PROVIDER_MISMATCH: "`migration_lock.toml` names another database than PostgreSQL.",
  HISTORY_IN_OTHER_SCHEMA:
    "`_prisma_migrations` is in another schema than the one that the connection string names or the role's search path begins with.",
  HISTORY_UNREADABLE: "The role may not read `_prisma_migrations`, or the table is not Prisma's.",
  HISTORY_EDITED: "With `--on-edited refuse`: a migration's script is no longer the one that was applied.",
  HISTORY_MISSING:
    "With `--on-missing refuse`: applied migrations are not in the folder, for example because the image is older than the database.",
  LEDGER_UNSUPPORTED: "The database is managed by Prisma 8, which keeps its history elsewhere.",
  RESOLVE_SCRIPT_NOT_FOUND: "`resolve --applied` names a migration that is not in the folder (P3017).",
  RESOLVE_ALREADY_APPLIED: "`resolve` names a migration that is recorded as applied (P3008).",
  RESOLVE_NEVER_APPLIED: "`resolve --rolled-back` names a migration that has no row (P3011).",
  RESOLVE_NOT_FAILED: "`resolve --rolled-back` names a migration that has not failed (P3012).",
  RESOLVE_CONTRADICTED: "The catalog of the database says something else than what was to be recorded.",
  BASELINE_CONTRADICTED:
    "A baseline is for a database without a history, and this one has one that a baseline would overrule.",

  TOOL_NOT_FOUND: "`pg_dump`, `pg_restore` or `psql` is not installed, or not in `PATH`.",
  TOOL_TOO_OLD: "A client tool of an older major version can't dump a newer server.",
  TOOL_FAILED: "A client tool can't be started, for example because it is for another libc.",
  BACKUP_DIR_UNUSABLE: "The backup folder can't be created or written: the owner, the mode, or a read-only root.",
  BACKUP_NO_SPACE: "The file system of the backup folder has less free space than the backup is estimated to need.",
  BACKUP_DENIED: "The role may not read everything that a backup must hold. `pg_dump` would fail, so nothing is begun.",
  BACKUP_FAILED: "`pg_dump` has failed. Nothing of the backup is left, and nothing was migrated.",
  BACKUP_NOT_FOUND: "`verify` or `restore` was given a file that is not there, or the folder has no backups.",
  BACKUP_NOT_VERIFIED: "A backup was read back and found damaged or cut short. It does not count as one.",
  SCRIPT_INVALID:
    "A pending script is no valid SQL for any server that this grammar knows: it is refused before anything is touched.",
  POOLER_IN_TRANSACTION_MODE:
    "Statements of one session run on changing backends, so that no lock can be held: a pooler such as PgBouncer in transaction mode is in between.",
  PRISMA_CLI_NOT_FOUND:
    "With `MIGRATE_ENGINE=prisma`: the project has no installed `prisma` package. Nothing is ever downloaded.",
  RIGHTS_MISSING: "The role lacks a right that the deploy needs.",
  FENCE_DENIED:
    "`--maintenance` changes settings of the database, which its owner and superusers may do, and the role is neither. The same where a killed deploy has left the database shut to writers, and the next start is to let them in again.",
  RESTORE_IMPOSSIBLE:
    "`restore` can put the backup neither in the place of the database nor into it: the rights of the role, or what the database is used by.",
  RESTORE_TARGET_EXISTS: "`restore --into` names a database that is there already. None is ever overwritten.",
  NO_AUTOMATIC_RESTORE:
    "A pending migration can't run in a transaction and could be left half-applied, and nothing could restore the database automatically.",
  BACKUP_FORMAT_UNSUITABLE:
    "`BACKUP_FORMAT=plain` was asked for, and an automatic restore can't work from a plain file in this database.",

  DATABASE_UNREACHABLE: "No connection to the server came about within `DATABASE_WAIT`.",
  DATABASE_STARTING: "The server answers that it is starting up, longer than `DATABASE_WAIT`.",
  AUTHENTICATION_FAILED: "The server refuses the role or its password.",
  DATABASE_NOT_FOUND: "The database of the connection string does not exist.",
  DATABASE_REFUSED:
    "The server accepts no connection to this database: too many clients, no access by pg_hba.conf, or not accepting connections.",
  SWAP_UNFINISHED:
    "The database is being replaced by a restored one, or that was cut off and the role at hand can't finish or undo it. It admits nobody, or has a restored copy beside it.",
  DATABASE_READ_ONLY: "The server is a replica, or the database is set to read-only.",
  TLS_FAILED: "TLS could not be set up as the connection string demands.",
  SERVER_TOO_OLD: "The server is older than PostgreSQL 13.",
  CONNECTION_LOST: "The connection broke before anything was changed.",
  DEADLINE_EXCEEDED: "The server did not answer a query in time.",
  STATEMENT_FAILED: "A query of `deploy` itself was refused.",

  LOCK_NOT_ACQUIRED: "Another deploy, or a `prisma migrate deploy`, held the lock for longer than `DEPLOY_LOCK_WAIT`.",
  APP_NOT_FOUND: "The app's command is not in `PATH`.",
  APP_NOT_EXECUTABLE: "The app's command is no executable file for this user and platform.",
  INTERRUPTED: "SIGTERM or SIGINT has ended the deploy in order.",

  FAILED_BEFORE:
    "The same migrations have failed on their own error a short while ago. So that a container that restarts in a loop does not repeat the load, they are tried again after 1, 2, 4, 8, and then every 10 minutes.",
  MIGRATION_FAILED:
    "A statement of a migration has failed. What became of the database is said by the exit code: 5 as before, 8 at a boundary, 6 a person is needed.",
  MIGRATION_BROKE_TRANSACTION: "A script has ended the transaction that it ran in, or left its own open.",
  MIGRATION_LEFT_SESSION_CHANGED: "A script has changed the session in a way that would reach the next one.",
  PRISMA_CLI_FAILED:
    "With `MIGRATE_ENGINE=prisma`: by the rows of `_prisma_migrations`, the CLI has not applied everything.",
  DEPLOY_INTERRUPTED:
    "An earlier deploy was killed in the middle of a migration, and nothing proves any more that only it has written since its backup.",
  COMMIT_UNKNOWN: "The connection broke at the very moment of a COMMIT, and the server could not be asked afterwards.",
  VERIFY_FAILED: "After the last COMMIT the history does not hold what was applied.",

  UNEXPECTED: "A bug of this program. The database is looked at all the same before the exit code is chosen.",
  RESTORE_FAILED: "The restore was rolled back: the database is as the failed migration left it.",
  RESTORE_NOT_PROVEN:
    "Committed changes are left, and it could not be proven that nobody else has written since the backup. A restore would have destroyed their writes, so nothing more was touched.",
  RESTORE_DIFFERS:
    "What was restored was compared with what was there before, and differs. The restore was rolled back.",
};
