/**
 * English, the twin of Korean.
 *
 * Summaries have no full stop, state and advice are sentences, and nothing is contracted.
 */
import type { SettingExpectation, SettingProblem, UrlProblem } from "../errors.ts";
import { enBackups } from "./backups-en.ts";
import { describeDiagnosis } from "./diagnosis.ts";
import { describeData, formatBytes, formatDuration, formatList, formatNames, quoteWord } from "./format.ts";
import { makeGrants } from "./grants.ts";
import { hintLines } from "./hints.ts";
import { enHints } from "./hints-en.ts";
import { enHistory } from "./history.ts";
import {
  describeBlockers,
  describeChanges,
  describeHeld,
  describeServer,
  describeWork,
  type Line,
  type Messages,
} from "./messages.ts";
import { enDiagnosis, enResolution, enResolveErrors } from "./resolve-en.ts";

const detail = (text: string): Line => ({ detail: text });
const details = (lines: readonly string[]): Line[] => lines.map(detail);
const count = (number: number, one: string, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
const backupIsKept = "The backup is still there.";
const BLOCKER_WORDS = { unnamed: "unnamed", prepared: "prepared transaction (PREPARE TRANSACTION)", others: "more" };
const HELD_WORDS = {
  held: "Locked for everybody else",
  others: "more",
  grown: "The database has grown by",
  about: "about",
};

export const en: Messages = {
  events: {
    "deploy-started": () => ["🚀 Starting the safe deploy..."],
    "reading-status": () => ["📊 Checking for schema changes..."],
    "up-to-date": () => ["✅ The database schema is up to date. No migration is needed."],
    "pending-found": ({ pending, segments }) => [
      "⚠️  Schema changes detected.",
      detail(
        `Pending: ${count(pending.length, "migration")}${
          segments.length === 0 ? "" : ` in ${count(segments.length, "transaction")}`
        }`,
      ),
      ...details(formatList(pending)),
    ],
    "backup-planned": ({ directory, format, sizeBytes }) => [
      detail(`Backup: ${directory} (${format}, about ${formatBytes(sizeBytes)})`),
    ],
    "backup-started": ({ reasons }) => [
      "📦 Starting the data backup...",
      ...details(reasons.map((reason) => `pg_dump --format=custom: ${en.reasons[reason]}`)),
    ],
    "backup-finished": ({ path, sizeBytes, durationMs, isReused = false }) => [
      `✅ PostgreSQL backup finished: ${path}`,
      detail(`${formatBytes(sizeBytes)}, ${formatDuration(durationMs)}, verified in full`),
      ...(isReused ? [detail("The backup of an earlier deploy: proven that nothing has changed since")] : []),
    ],
    "migration-started": ({ engine }) => [
      "🔄 Starting the migration...",
      ...(engine === "prisma" ? [detail("Running: prisma migrate deploy")] : []),
    ],
    "migration-finished": ({ durationMs, applied }) => [
      "✅ The migration finished successfully.",
      detail(`${count(applied.length, "migration")}, ${formatDuration(durationMs)}`),
    ],
    "prune-started": () => ["🧹 Cleaning up old backup files..."],
    "app-starting": () => ["🚀 Starting the application..."],
    "migration-failed": () => ["❌ Migration failed!"],
    "restore-started": ({ backupPath }) => ["🔄 Trying to restore from the backup...", detail(backupPath)],
    "restore-finished": ({ durationMs }) => [
      "✅ Restored from the backup",
      detail(`${formatDuration(durationMs)}, verified`),
    ],
    "deploy-failed": () => ["❌ Deploy failed. Please check it by hand."],

    "database-waiting": ({ reason, waitedMs }) => [
      detail(`Waiting for the database to answer (${formatDuration(waitedMs)}): ${reason}`),
    ],
    "database-created": ({ database }) => [detail(`Created the database: ${database}`)],
    "lock-waiting": ({ holder, waitedMs }) => [
      detail(
        `Waiting for another deploy to finish (${formatDuration(waitedMs)})${
          holder === undefined
            ? ""
            : `: pid ${holder.pid}, ${holder.applicationName || "unnamed"}, ${
                holder.clientAddress ?? "local"
              }, since ${holder.since ?? "?"}`
        }`,
      ),
      ...(holder?.statement === undefined || holder.statement === ""
        ? []
        : [detail(`  Running statement: ${holder.statement}`)]),
    ],
    "work-found": () => [],
    diagnosed: ({ diagnoses }) =>
      diagnoses.flatMap((diagnosis) => [
        detail(diagnosis.migration),
        ...details(describeDiagnosis(diagnosis, enDiagnosis)),
      ]),
    "deployed-by-another": () => [detail("Another deploy has just finished the migration.")],
    "interrupted-found": ({ startedAt, migrations }) => [
      detail(`An earlier deploy was interrupted, and is finished or undone first (begun ${startedAt})`),
      ...details(formatList(migrations)),
    ],
    "interrupted-whole": ({ applied, notApplied }) => [
      detail(`The interrupted deploy had applied whole: ${formatNames(applied)}`),
      ...(notApplied.length === 0 ? [] : [detail(`Not applied: ${formatNames(notApplied)}`)]),
    ],
    "interrupted-restored": ({ backupPath }) => [
      detail(
        "The interrupted deploy had restored the database already: it is as it was before, compared with its mark.",
      ),
      detail(backupPath),
    ],
    "restore-plan": ({ rungs, reasons, swapReasons }) => [
      detail(
        rungs.length > 0
          ? `On failure: ${rungs.map((rung) => en.rungs[rung]).join(" → ")}`
          : "On failure: no automatic restore is possible",
      ),
      ...details(swapReasons.map((reason) => `  ${en.rungs.swap}: not possible. ${en.reasons[reason]}`)),
      ...details(reasons.map((reason) => `  ${en.reasons[reason]}`)),
    ],
    "migration-running": () => [],
    "migration-progress": ({ name, number, total, runningMs, waiting, work, held }) => [
      detail(`Running: ${name} (${number}/${total}), ${formatDuration(runningMs)}`),
      ...(work === undefined ? [] : [detail(`  ${describeWork(work)}`)]),
      ...(held === undefined ? [] : details(describeHeld(held, HELD_WORDS))),
      ...(waiting === undefined
        ? []
        : [
            detail(`  Waiting for a lock, ${formatDuration(waiting.waitedMs)}, held by:`),
            ...details(describeBlockers(waiting, BLOCKER_WORDS)),
          ]),
    ],
    "data-progress": ({ work, bytes, totalBytes, bytesPerSecond, elapsedMs }) => [
      detail(
        `${{ backup: "Backing up", verify: "Verifying the backup", restore: "Restoring" }[work]}: ${describeData(bytes, totalBytes, "about")}, ${formatBytes(bytesPerSecond)}/s, ${formatDuration(elapsedMs)}`,
      ),
    ],
    "migration-applied": ({ name, durationMs }) => [detail(`Applied: ${name} (${formatDuration(durationMs)})`)],
    notice: ({ severity, message }) => [detail(`${severity}: ${message}`)],
    "segment-retrying": ({ attempt, waitMs, sqlState, message }) => [
      detail(`Rolled back, since a lock was not available: ${message} (${sqlState})`),
      detail(`Trying again in ${formatDuration(waitMs)} (attempt ${attempt}).`),
    ],
    "segment-split": ({ sqlState, message, segments }) => [
      detail(`Rolled back and split, since one transaction is not possible: ${message} (${sqlState})`),
      ...details(
        segments.map((segment) => `  ${segment.atomic ? "Transaction" : "Alone"}: ${formatNames(segment.migrations)}`),
      ),
    ],
    "prisma-output": ({ line }) => (line.trim() === "" ? [] : [detail(`prisma: ${line}`)]),
    "invalid-index-dropped": ({ index }) => [
      detail(`Dropped the INVALID index that a failed CONCURRENTLY left behind: ${index}`),
    ],
    "rolled-back": ({ transactionId }) => [
      transactionId === undefined
        ? "↩️  Nothing was left behind, so the database is as it was before the deploy. Nothing needs to be restored."
        : "↩️  The transaction was rolled back, so the database is as it was before the deploy. Nothing needs to be restored.",
    ],
    "fence-raised": ({ ended, remaining, overridingRoles }) => [
      detail(`Maintenance: other clients may read and not write. Disconnected: ${ended}`),
      ...(remaining > 0 ? [detail(`  ⚠️  Could not be disconnected and may go on writing: ${remaining}`)] : []),
      ...(overridingRoles.length > 0
        ? [detail(`  ⚠️  Roles that a setting of their own lets write: ${overridingRoles.join(", ")}`)]
        : []),
    ],
    "fence-lowered": ({ ended, wasLeft }) => [
      detail(
        wasLeft
          ? `Let writers in again whom a killed deploy had shut out. Disconnected: ${ended}`
          : `Let writers in again. Disconnected: ${ended}`,
      ),
    ],
    "stopped-at-boundary": ({ applied, notApplied }) => [
      "⏸️  Stopped at a migration boundary. Every applied migration is whole.",
      detail(`Applied: ${formatNames(applied)}`),
      detail(`Not applied: ${formatNames(notApplied)}`),
    ],
    "restore-not-proven": ({ reasons }) => [
      detail("No automatic restore, since nothing proves that no other client has written:"),
      ...details(reasons.map((reason) => `  ${en.reasons[reason]}`)),
    ],
    "rung-failed": ({ rung, error, next }) => {
      const words = en.errors[error.code](error.fields as never);
      return [
        detail(`Failed (${en.rungs[rung]}): ${words.summary}`),
        ...details((words.details ?? []).map((line) => `  ${line}`)),
        ...(next === undefined ? [] : [detail(`The database is as it was. Next: ${en.rungs[next]}`)]),
      ];
    },
    "restore-chosen": ({ database, how, path, createdAt, sizeBytes, otherDatabase, history }) => [
      detail(`Backup: ${path} (${createdAt}, ${formatBytes(sizeBytes)})`),
      ...(otherDatabase === undefined ? [] : [detail(`  ⚠️  It is a backup of another database: ${otherDatabase}`)]),
      ...(history === undefined
        ? []
        : [detail(`  Applied migrations: ${history.applied}, the last one: ${history.last ?? "-"}`)]),
      detail(
        {
          swap: `A restored copy takes its place, and the present database is kept by another name: ${database}`,
          "in-place": `⚠️  It is restored in place, and everything written since the backup is lost: ${database}`,
          aside: `It is restored into a new database: ${database}`,
        }[how],
      ),
    ],
    "failed-database-kept": ({ database, sizeBytes, command }) => [
      detail(`The failed database is kept: ${database} (${formatBytes(sizeBytes)})`),
      detail("  While it is there, no deploy swaps the database by itself. Look into it, and then remove it:"),
      detail(`  ${command}`),
    ],
    "swap-resolved": ({ how, database, failed }) => [
      ...(how === "finished"
        ? [detail(`Finished a restore that was interrupted. The restored database: ${database}`)]
        : [detail(`Undid a restore that was interrupted. As it was before: ${database}`)]),
      ...(failed === undefined ? [] : [detail(`The failed database is kept: ${failed}`)]),
    ],
    pruned: ({ paths, kept }) => [
      detail(
        paths.length === 0
          ? `No backup to delete, ${count(kept, "backup")} kept`
          : `Deleted ${count(paths.length, "backup")}, kept ${kept}`,
      ),
      ...details(paths.map((path) => `  ${path}`)),
    ],
    warning: ({ warning }) =>
      // The union is matched by its own key, which the compiler can't see through.
      en.warnings[warning.about](warning as never).map((line, index) =>
        detail(index === 0 ? `⚠️  ${line}` : `   ${line}`),
      ),
  },

  warnings: {
    edited: ({ migrations }) => [
      `Edited after they were applied: ${count(migrations.length, "migration")}`,
      ...formatList(migrations),
    ],
    missing: ({ migrations }) => [
      `Applied, but not in the folder: ${count(migrations.length, "migration")}`,
      ...formatList(migrations),
    ],
    late: ({ migrations }) => [
      `Named before one that is already applied: ${count(migrations.length, "migration")} (applied all the same, as Prisma does)`,
      ...formatList(migrations),
    ],
    order: ({ bytes, prisma, followed }) => [
      `The order of the names differs. Order followed: ${followed === "bytes" ? "byte order" : "Prisma 6.6 and later"} (MIGRATION_ORDER)`,
      `Byte order: ${bytes.join(", ")}`,
      `Prisma 6.6 and later: ${prisma.join(", ")}`,
    ],
    normalisation: ({ names }) => [
      "The history has names that differ only in Unicode normalisation. They count as different migrations.",
      ...formatList(names),
    ],
    "other-folder": ({ path, named, namedBy }) => [
      `${namedBy} leads the CLI of Prisma to another folder: ${named} (this deploy: ${path}, --migrations-dir)`,
    ],
    "empty-folder": ({ path }) => [`The migrations folder is empty: ${path}`],
    "non-atomic": ({ migrations, reasons }) => [
      `PostgreSQL does not allow one transaction for: ${migrations.join(", ")}`,
      ...reasons.map(
        ({ kind, migration, subject, line }) =>
          `  ${migration}${line === undefined ? "" : `:${line}`}: ${en.segmentReasons[kind]} (${subject})`,
      ),
    ],
    "backup-dir-in-container": ({ path }) => [
      `The backup folder is inside the container and disappears with it. Mount a volume there: ${path}`,
    ],
    "swap-unfinished": () => ["A restored copy is being put in the place of the database, or that was interrupted."],
    fenced: ({ id, isHeld }) => [
      isHeld
        ? `A deploy in maintenance mode shuts writers out: ${id}`
        : `A killed deploy has shut writers out. The next deploy lets them in: ${id}`,
    ],
    "no-tls": ({ host }) => [`Connecting to a remote server without TLS: ${host} (sslmode=require is advised)`],
    "invalid-index": ({ indexes }) => [`There are INVALID indexes: ${indexes.join(", ")}`],
    "restore-unproven": ({ reasons }) => [
      "It can not be proven that no other client has written. Both databases are kept (--restore=always).",
      ...reasons.map((reason) => `  ${en.reasons[reason]}`),
    ],
    "schema-changed-by-others": () => ["Another client changed the schema during the deploy."],
    "state-file": ({ path, reason }) => [`Health checks do not see this deploy. No state file at ${path}: ${reason}`],
    "probe-port": ({ port, reason }) => [`No answers to probes on port ${port}: ${reason}`],
    prune: ({ reason }) => [`Could not clean up old backups (the deploy is not affected): ${reason}`],
    unlock: ({ reason }) => [`Could not release the deploy lock (it ends with the connection): ${reason}`],
    fence: ({ reason }) => [
      `Could not let writers in again: ${reason}`,
      "Deploy again, which lets them in even where nothing is pending.",
    ],
    verify: ({ reason }) => [`Could not check the result after applying: ${reason}`],
    journal: ({ reason }) => [`Could not write the end of the deploy into the journal: ${reason}`],
    cleanup: ({ reason }) => [`Could not clean up: ${reason}`],
  },

  errors: {
    SETTINGS_INVALID: ({ problems }) => ({
      summary: `${count(problems.length, "problem")} with the settings`,
      details: problems.map(describeProblem),
      next: ["deploy --help"],
    }),
    MIGRATIONS_DIR_NOT_FOUND: ({ path, candidates = [] }) => ({
      summary: `Migrations folder not found: ${path}`,
      next: [
        ...candidates
          .slice(0, 3)
          .map(
            (candidate) =>
              `It may be this one: --migrations-dir ${candidate.path}${candidate.namedBy === undefined ? "" : ` (named by ${candidate.namedBy})`}`,
          ),
        "Check the value of MIGRATIONS_DIR or --migrations-dir.",
      ],
    }),
    MIGRATIONS_DIR_UNREADABLE: ({ path, reason }) => ({
      summary: `Cannot read the migrations folder: ${path} (${reason})`,
      next: ["Check the permissions and the owner of the folder."],
    }),
    ...enResolveErrors,
    SCRIPT_MISSING: ({ migrations }) => ({
      summary: `${count(migrations.length, "migration")} without a migration.sql file`,
      details: formatList(migrations),
      next: ["Bring the file back, or delete the folder."],
    }),
    SCRIPT_UNREADABLE: ({ path, reason }) => ({
      summary: `Cannot read the file: ${path} (${reason})`,
      next: ["Check the permissions and the owner of the file."],
    }),
    SCRIPT_NOT_UTF8: ({ path, byteOffset }) => ({
      summary: `The file is not UTF-8: ${path} (byte ${byteOffset})`,
      next: ["Save the file as UTF-8 without a byte order mark."],
    }),
    PROVIDER_MISMATCH: ({ path, found }) => ({
      summary: `The provider in migration_lock.toml is not postgresql: ${found}`,
      details: [path],
      next: ['The file must have this line: provider = "postgresql"'],
    }),
    HISTORY_IN_OTHER_SCHEMA: ({ expected, found, user }) => ({
      summary: `The schema of the history is ambiguous: expected ${expected}, search path leads to ${found || "none"}`,
      next: [
        `Name the schema in the connection string: ?schema=${expected}`,
        `Check for a schema named like the role, and for a search_path setting (role: ${user}).`,
      ],
    }),
    HISTORY_UNREADABLE: ({ server }) => ({
      summary: "Cannot read the table _prisma_migrations",
      details: describeServer(server),
      next: ["Check the rights on the table, and its columns."],
    }),
    HISTORY_EDITED: ({ migrations }) => ({
      summary: `${count(migrations.length, "migration")} edited after being applied`,
      details: formatList(migrations),
      next: [
        "Put each file back as it was when it was applied, and put the change in a new migration.",
        "To allow it: --on-edited warn",
      ],
    }),
    HISTORY_MISSING: ({ migrations }) => ({
      summary: `${count(migrations.length, "applied migration")} not in the folder`,
      details: formatList(migrations),
      next: ["Bring the folder of each migration back.", "To allow it: --on-missing warn"],
    }),
    LEDGER_UNSUPPORTED: ({ schema }) => ({
      summary: `The database has only the history of Prisma 8 (schema ${schema})`,
      next: [
        "This version reads the table _prisma_migrations of Prisma 5 to 7. The history of Prisma 8 is another one.",
        "Migrate with Prisma 8's own command, or check that DATABASE_URL names the database that you mean.",
      ],
    }),
    TOOL_NOT_FOUND: ({ tool }) => ({
      summary: `PostgreSQL client program not found: ${tool}`,
      next: ["Alpine: apk add --no-cache postgresql-client", "Debian/Ubuntu: apt-get install -y postgresql-client"],
    }),
    TOOL_TOO_OLD: ({ tool, path, toolVersion, serverVersion }) => ({
      summary: `${tool} ${toolVersion} cannot back up a PostgreSQL ${serverVersion} server`,
      details: [path],
      next: ["Install a postgresql-client package of the server's major version, or a newer one."],
    }),
    TOOL_FAILED: ({ tool, reason }) => ({ summary: `Cannot run ${tool}: ${reason}`, next: [`${tool} --version`] }),
    BACKUP_DIR_UNUSABLE: ({ path, reason }) => ({
      summary: `Cannot write to the backup folder: ${path} (${reason})`,
      next: [`mkdir -p ${path}`, "Set its owner with chown -R <app user>, or change BACKUP_DIR."],
    }),
    BACKUP_NO_SPACE: ({ path, availableBytes, neededBytes }) => ({
      summary: `Not enough space for the backup: ${path} (${formatBytes(availableBytes)} left, ${formatBytes(neededBytes)} needed)`,
      next: ["Free some space, or change BACKUP_DIR."],
    }),
    BACKUP_DENIED: ({ user, schemas, tables, sequences, hidden, largeObjects }) => ({
      summary: `The role ${user} may not read all that a backup must hold`,
      details: [
        ...(schemas.length > 0 ? [`Schemas without USAGE: ${schemas.join(", ")}`] : []),
        ...(tables.length > 0 ? [`Tables without SELECT: ${tables.join(", ")}`] : []),
        ...(sequences.length > 0 ? [`Sequences without SELECT: ${sequences.join(", ")}`] : []),
        ...(hidden.length > 0 ? [`Tables of which row-level security hides rows: ${hidden.join(", ")}`] : []),
        ...(largeObjects.length > 0 ? [`Large objects that can not be read: ${largeObjects.join(", ")}`] : []),
      ],
      next: [
        ...makeGrants({ user, schemas, tables, sequences, hidden, largeObjects }),
        "Or deploy as the role that owns everything (DATABASE_URL).",
      ],
    }),
    BACKUP_FAILED: ({ tool, exitCode, output }) => ({
      summary: `Backup failed: ${tool}${exitCode === undefined ? "" : ` (exit code ${exitCode})`}`,
      details: output.trim().split("\n").slice(-6),
      next: ["Fix the cause, then deploy again."],
    }),
    BACKUP_NOT_VERIFIED: ({ path, reason }) => ({
      summary: `The backup did not pass verification: ${path}`,
      details: [reason],
      next: ["Check the disk, then deploy again."],
    }),
    BACKUP_NOT_FOUND: ({ path, wanted }) => ({
      summary: `No such backup: ${wanted} (folder ${path})`,
      next: ["deploy backups", "Check BACKUP_DIR, or the path of the file."],
    }),
    SCRIPT_INVALID: ({ migration, server }) => ({
      summary: `The migration cannot run: ${migration}`,
      details: describeServer(server),
      next: ["Fix its migration.sql file.", ...hintLines(server, en.hints)],
    }),
    POOLER_IN_TRANSACTION_MODE: ({ host, port, direct }) => ({
      summary: `The connection goes through a pooler in transaction mode: ${host}:${port}`,
      next: [
        "Set DIRECT_URL to an address that does not go through the pooler.",
        ...(direct === undefined ? [] : [`${direct.path} names one: DIRECT_URL="$${direct.variable}"`]),
      ],
    }),
    PRISMA_CLI_NOT_FOUND: ({ directory }) => ({
      summary: `Prisma CLI not found: ${directory}`,
      next: ["npm install prisma", "Or set MIGRATE_ENGINE=native."],
    }),
    RIGHTS_MISSING: ({ reason }) => ({
      summary: `Rights missing: ${reason}`,
      next: ["Check the role of DATABASE_URL."],
    }),
    FENCE_DENIED: ({ database, owner, user, isLeft }) => ({
      summary: `No right to ${isLeft ? "let writers in again whom a killed deploy has shut out" : "shut writers out"}: database ${database}, owner ${owner}, role ${user}`,
      next: [
        isLeft
          ? "Deploy once as the owner of the database, which lets them in even where nothing is pending."
          : "Deploy as the owner of the database, or without --maintenance.",
        `To change the owner: ALTER DATABASE "${database}" OWNER TO "${user}"`,
      ],
    }),
    RESTORE_IMPOSSIBLE: ({ reasons }) => ({
      summary: "This backup cannot be restored",
      details: reasons.map((reason) => en.reasons[reason]),
      next: [
        "Run it as the owner of the database with the right CREATEDB, or as a superuser.",
        "To restore into a new database: deploy restore --into <name>",
      ],
    }),
    RESTORE_TARGET_EXISTS: ({ database }) => ({
      summary: `The database is there already: ${database}`,
      next: ["Choose another name with --into."],
    }),
    RESTORE_NOT_CONSENTED: ({ database, given }) => ({
      summary:
        given === undefined
          ? `Consent is needed to restore: ${database}`
          : `Not the name of the database: ${given} (to be restored: ${database})`,
      next: [`To consent: --yes-restore ${database}`],
    }),
    NO_AUTOMATIC_RESTORE: ({ migrations, reasons }) => ({
      summary: `Migrations that could be left half-applied, with no automatic restore: ${migrations.join(", ")}`,
      details: reasons.map((reason) => en.reasons[reason]),
      next: ["Split the migrations, or accept the risk with: --accept-manual-restore"],
    }),
    BACKUP_FORMAT_UNSUITABLE: ({ reasons }) => ({
      summary: `The plain format does not allow an automatic restore`,
      details: reasons.map((reason) => en.reasons[reason]),
      next: ["Set BACKUP_FORMAT=auto or BACKUP_FORMAT=custom."],
    }),
    DATABASE_UNREACHABLE: ({ host, port, reason, waitedMs }) => ({
      summary: `Cannot reach the database: ${host}:${port} (${reason}, tried for ${formatDuration(waitedMs)})`,
      next: ["Check that the server is running, and that the address and the firewall are right."],
    }),
    DATABASE_STARTING: ({ host, port, waitedMs }) => ({
      summary: `The database is still starting up: ${host}:${port} (waited ${formatDuration(waitedMs)})`,
      next: ["To wait longer: --wait 5m"],
    }),
    AUTHENTICATION_FAILED: ({ user, host, reason }) => ({
      summary: `Authentication failed: role ${user}, server ${host}`,
      details: [reason],
      next: ["Check the role and the password of DATABASE_URL."],
    }),
    DATABASE_NOT_FOUND: ({ database, host }) => ({
      summary: `Database not found: ${database} (server ${host})`,
      next: ["deploy --create-database", `Or: createdb ${database}`],
    }),
    DATABASE_REFUSED: ({ server }) => ({
      summary: "The database refuses the connection",
      details: describeServer(server),
      next: ["Check the state of the server, then deploy again."],
    }),
    SWAP_UNFINISHED: ({ database, isAtWork, reason }) => ({
      summary: isAtWork
        ? `Another deploy is restoring the database: ${database}`
        : `A restore of the database was interrupted: ${database}`,
      details: reason === undefined ? [] : [reason],
      next: [
        isAtWork
          ? "Run it again when the restore has ended."
          : "Run deploy as the role that owns the database: it finishes the restore, or undoes it.",
      ],
    }),
    DATABASE_READ_ONLY: ({ inRecovery }) => ({
      summary: inRecovery ? "The server is read-only (a replica)" : "The database is read-only",
      next: [
        inRecovery ? "Use the address of the primary server." : "Check the setting default_transaction_read_only.",
      ],
    }),
    TLS_FAILED: ({ host, reason }) => ({
      summary: `TLS connection failed: ${host}`,
      details: [reason],
      next: ["Check the values of sslmode, sslaccept and sslcert."],
    }),
    SERVER_TOO_OLD: ({ serverVersion, minimum }) => ({
      summary: `Unsupported PostgreSQL version: ${serverVersion} (at least ${minimum})`,
      next: ["Upgrade the server."],
    }),
    CONNECTION_LOST: ({ during, reason }) => ({
      summary: `Lost the connection to the database: ${during}`,
      details: [reason],
      next: ["Check the server and the network, then deploy again."],
    }),
    DEADLINE_EXCEEDED: ({ during, deadlineMs }) => ({
      summary: `Deadline exceeded (${formatDuration(deadlineMs)}): ${during}`,
      next: ["Check the load of the server and the network, then deploy again."],
    }),
    STATEMENT_FAILED: ({ during, server }) => ({
      summary: `Database error: ${during}`,
      details: describeServer(server),
      next: ["Fix the cause, then deploy again."],
    }),
    LOCK_NOT_ACQUIRED: ({ holder, waitedMs }) => ({
      summary: `Another deploy has not finished (waited ${formatDuration(waitedMs)})`,
      ...(holder === undefined
        ? {}
        : {
            details: [`pid ${holder.pid}, ${holder.applicationName || "unnamed"}, ${holder.clientAddress ?? "local"}`],
          }),
      next: ["Run it again when the other deploy has finished.", "To wait longer: --lock-wait 30m"],
    }),
    APP_NOT_FOUND: ({ command }) => ({
      summary: `App command not found: ${command}`,
      next: ["Check the command after -- and the value of PATH."],
    }),
    APP_NOT_EXECUTABLE: ({ path, reason }) => ({
      summary: `Cannot execute the app command: ${path} (${reason})`,
      next: [`chmod +x ${path}`],
    }),
    INTERRUPTED: ({ signal }) => ({ summary: `Interrupted: ${signal}`, next: ["Deploy again."] }),
    FAILED_BEFORE: ({ failures, lastFailedAt, retryAt, waitMs, failure, migration, sqlState }) => ({
      summary: `The same migrations failed before, and are tried again in ${formatDuration(waitMs)}`,
      details: [
        `Failed ${count(failures, "time")}, the last time at ${lastFailedAt}: ${[failure, migration, sqlState].filter(Boolean).join(", ")}`,
        `Next try: ${retryAt} or later`,
      ],
      next: [
        "Fix the script or the data. A changed script is tried at once.",
        "To try the same at once: deploy --retry",
      ],
    }),
    MIGRATION_FAILED: ({ migration, path, server, location }) => ({
      summary: `Failed migration: ${migration}`,
      details: describeServer(server),
      next: [`Fix: ${path}${location === undefined ? "" : `:${location.line}`}`, ...hintLines(server, en.hints)],
    }),
    MIGRATION_BROKE_TRANSACTION: ({ migration, reason }) => ({
      summary: `The migration ended its transaction or left one open: ${migration}`,
      details: [reason],
      next: [`Pair every BEGIN with a COMMIT in ${migration}/migration.sql.`],
    }),
    MIGRATION_LEFT_SESSION_CHANGED: ({ migration, reason }) => ({
      summary: `The migration changed settings of the session and did not put them back: ${migration}`,
      details: [reason],
      next: ["Use SET LOCAL instead of SET."],
    }),
    PRISMA_CLI_FAILED: ({ exitCode, signal, output, problem, migration }) => ({
      summary: {
        failed: `prisma migrate deploy failed (${exitCode === undefined ? `signal ${signal ?? "?"}` : `exit code ${exitCode}`})`,
        "timed-out": "prisma migrate deploy took longer than --prisma-timeout allows",
        unfinished: "Prisma reports success, but a migration was never committed",
        "other-database": "The Prisma CLI worked on another database",
        unexplained: "The result of prisma migrate deploy is not certain",
      }[problem],
      details: [
        ...(migration === undefined ? [] : [`Unfinished migration: ${migration}`]),
        ...output.trim().split("\n").slice(-8),
      ],
      next: [
        {
          failed: "Check the output of Prisma above.",
          "timed-out": "Find out what held it up, or allow it more: --prisma-timeout 1h",
          unfinished: "Check the output of Prisma above.",
          "other-database": "Check that the URL in schema.prisma or prisma.config.ts is that of DATABASE_URL.",
          unexplained: "Check the output of Prisma above.",
        }[problem],
      ],
    }),
    DEPLOY_INTERRUPTED: ({ startedAt, migration }) => ({
      summary: `An earlier deploy was interrupted and cannot be undone automatically (begun ${startedAt})`,
      ...(migration === undefined ? {} : { details: [`Unfinished migration: ${migration}`] }),
      next: ["Look at what is left, then restore the backup, or record it: deploy resolve --rolled-back | --applied"],
    }),
    COMMIT_UNKNOWN: ({ transactionId, reason }) => ({
      summary: `The outcome of the COMMIT is unknown (transaction ${transactionId})`,
      details: [reason],
      next: [`SELECT pg_xact_status('${transactionId}'::xid8);`],
    }),
    VERIFY_FAILED: ({ migrations }) => ({
      summary: "The history after applying is not the expected one",
      details: formatList(migrations),
      next: ["npx prisma migrate status"],
    }),
    UNEXPECTED: ({ during, stack }) => ({
      summary: `Unexpected error: ${during}`,
      details: stack.split("\n"),
      next: ["This is a bug in this program. Please report it with the text above."],
    }),
    RESTORE_FAILED: ({ tool, exitCode, output }) => ({
      summary: `Restore failed: ${tool}${exitCode === undefined ? "" : ` (exit code ${exitCode})`}`,
      details: output.trim().split("\n").slice(-6),
      next: [backupIsKept],
    }),
    RESTORE_NOT_PROVEN: ({ reasons }) => ({
      summary: "Nothing proves that no other client has written",
      details: reasons.map((reason) => en.reasons[reason]),
      next: [backupIsKept],
    }),
    RESTORE_DIFFERS: ({ differences }) => ({
      summary: "The restored database differs from the backup",
      details: differences,
      next: [backupIsKept],
    }),
  },

  reasons: {
    "other-server": "This is another server, or a recovered one.",
    "transactions-committed": "Another transaction has committed since the backup.",
    "transactions-unknown": "The server can no longer tell what became of transactions since the backup.",
    "server-before-15": "Sessions can not be counted exactly before PostgreSQL 15.",
    "clients-at-mark": "Another client was connected when the backup was taken.",
    "clients-now": "Another client is connected now.",
    "sessions-uncounted": "Another client has connected since the backup.",
    "sessions-unknown": "The number of sessions that were opened for this deploy is not known exactly.",
    "statistics-reset": "The statistics of the server were reset.",
    "server-restarted": "The server was restarted.",
    "prepared-transactions": "There are prepared transactions.",
    subscriptions: "There are subscriptions.",
    "worker-extensions": "An extension with background workers is installed.",
    "replication-connections": "A replication connection has used the database.",
    "large-objects": "There are large objects.",
    "foreign-objects": "Some objects do not belong to this role.",
    "publications-for-all-tables": "There is a publication FOR ALL TABLES.",
    "extensions-in-schemas": "Extensions are installed in other schemas.",
    "replication-slots": "There are replication slots.",
    "too-many-objects": "There are too many objects for one transaction (max_locks_per_transaction).",
    "extensions-with-own-restore": "An extension needs restore steps of its own.",
    "create-denied": "The role may not create schemas.",
    "foreign-large-objects": "Some large objects do not belong to this role.",
    "foreign-dependents": "Objects of another role depend on ours.",
    "foreign-writable": "The role may write to tables of another role, which could not be undone.",
    "foreign-grantors": "Another role has granted rights on our objects.",
    "superuser-made":
      "Some of the role's objects can only be made by a superuser, as whom a deploy could restore them.",
    "not-giveable":
      "Some objects belong to other roles that do not own their schema. A restore needs one owner for both, or a superuser.",
    "plain-format": "A plain dump can not be restored here.",
    "not-wanted": "The settings exclude it (--restore).",
    "not-owner": "The role does not own the database (ALTER DATABASE ... OWNER TO).",
    "create-database-denied": "The role may not create databases (ALTER ROLE ... CREATEDB).",
    "tablespace-denied": "The role may not use the database's tablespace (GRANT CREATE ON TABLESPACE).",
    "no-maintenance-database": "Neither postgres nor template1 lets the role in (--maintenance-database).",
    "failed-database-kept":
      "A database that failed before is still there (*_failed_*). Look into it, and then drop it.",
    "properties-not-settable": "The database has settings that the role can not carry over (a superuser can).",
    "database-grantors": "Rights on the database were granted by others than its owner.",
    "extensions-not-creatable": "There are extensions that could not be created again.",
    "sessions-not-ended": "There are sessions that the role can not end (pg_signal_backend).",
    "database-reopened": "Somebody has opened the database again, or altered it, during the restore.",
    "cluster-roles": "Roles were changed.",
    "cluster-memberships": "Role memberships were changed.",
    "cluster-databases": "Another database was changed.",
    "cluster-tablespaces": "Tablespaces were changed.",
    "cluster-settings": "Settings of roles or of another database were changed.",
  },

  rungs: {
    rollback: "roll back the transaction",
    swap: "swap in a restored copy",
    "in-place": "restore in place, in one transaction",
  },

  segmentReasons: {
    "not-parsed": "it can not be parsed",
    "outside-transaction": "it can not run inside a transaction",
    "transaction-control": "it controls transactions itself",
    "may-commit": "it may commit by itself",
    "sets-transaction": "it sets properties of its transaction",
    "enum-value": "it uses an enum value before its commit",
    "lasts-until-commit": "it leaves something that lasts until the commit",
    "refused-by-server": "the server has refused it",
  },

  states: {
    untouched: "The database was not changed. The app was not started.",
    "as-before": "The database is as it was before the deploy. The app was not started.",
    "at-boundary": "The first migrations are applied whole and the others are not applied. The app was not started.",
    migrated: "The database is up to date. The app could not be started.",
    unknown: "The database may have been changed. Nothing more was touched, and the app was not started.",
  },

  hints: enHints,

  diagnosis: enDiagnosis,
  resolution: enResolution,
  backups: enBackups,
  history: enHistory,

  settingProblem: describeProblem,

  labels: {
    stopped: (summary) => `❌ Deploy stopped: ${summary}`,
    state: "State",
    next: "Next ",
    code: (code, exitCode) => `Code   ${code} (exit code ${exitCode})`,
    bug: "Unexpected error. This is a bug of this program: please report it with what follows.",
    consent: "To restore it, type the name of the database",
    usage: "Usage: deploy [command] [flags] [-- app command...]",
    commands: "Commands",
    settings: "Settings (flag, environment variable, default)",
    default: "default",
    required: "required",
    exitCodes:
      "Exit codes: 0 success, 2 settings, 3 history, 4 preflight or backup, 5 failed (database as before), 6 a person is needed, 7 connection, 8 boundary, 75 another deploy",
  },
  choices: {
    restore: (choices) => {
      const changed = describeChanges(choices, { rows: (rows) => count(rows, "row") });
      const { backup, database, backupSizeBytes, restoreMs, restore, changes } = choices;
      const command = `deploy restore ${backup}`;
      const consenting = `${command} --yes-restore ${quoteWord(database)}`;
      return [
        "To go back to the backup:",
        ...(restore?.how === "impossible"
          ? [
              "  The command deploy restore cannot go back to it now:",
              ...restore.reasons.map((reason) => `    ${en.reasons[reason]}`),
              ...(choices.isForAnotherRole
                ? [
                    `  As the owner of the database with the right CREATEDB, or as a superuser (DATABASE_URL): ${consenting}`,
                  ]
                : []),
              ...(choices.mayRestoreInto ? [`  To restore into a new database: ${command} --into <name>`] : []),
            ]
          : [`  ${restore === undefined ? command : consenting}`]),
        `  Backup ${formatBytes(backupSizeBytes)}, expected time: ${restoreMs === undefined ? "not known" : `about ${formatDuration(restoreMs)}`}`,
        changes === undefined
          ? "  Rows written since the backup: not known"
          : `  Rows written since the backup (this deploy and others, by the statistics of the server): ${changed ?? "none"}`,
        ...(restore?.how === "swap" ? ["  The present database is kept by another name, so nothing is lost."] : []),
        ...(choices.isHeld ? [`  ${en.reasons["sessions-not-ended"]}`, "  Run it when they have left."] : []),
        ...(restore?.how === "in-place"
          ? ["  It is restored in place, so everything written since the backup is lost."]
          : []),
        ...(restore === undefined
          ? ["  Whether the present database is kept is not known: the command says so first, and asks for consent."]
          : []),
      ];
    },
    goOn: ({ unfinished, backupMs }) => [
      "To leave it and go on:",
      ...(unfinished === undefined ? ["  To see which migrations are unfinished: deploy status"] : []),
      ...(unfinished ?? []).flatMap((name) => [
        `  If nothing of it is left: deploy resolve --rolled-back ${quoteWord(name)}`,
        `  If all of it is there: deploy resolve --applied ${quoteWord(name)}`,
      ]),
      "  deploy",
      `  Expected time (where something is pending): backup ${backupMs === undefined ? "not known" : `about ${formatDuration(backupMs)}`}, and the migrations`,
      "  Whatever other clients wrote stays.",
    ],
    byTools: (choices) => [
      "To restore by PostgreSQL's own tools:",
      ...(choices?.againstTools === undefined ? ["  Whether this role has the rights for it is not known."] : []),
      ...(choices?.againstTools?.length ? ["  Not possible with this role, or as things are:"] : []),
      ...(choices?.againstTools ?? []).map((reason) => `    ${en.reasons[reason]}`),
      ...(choices?.isForAnotherRole
        ? ["  So the commands ask for the name of another role first, such as a superuser."]
        : []),
    ],
  },
  commandHelp: {
    deploy: "Check the status, back up, migrate, clean up, start the app.",
    status: "Compare the history with the folder (exit 0 up to date, 3 blocked, 10 pending).",
    resolve: "Record a migration as applied or rolled back, after a look at the database.",
    baseline: "Record all migrations of the folder as applied, for a database without history.",
    plan: "Show what would be done (--json: for machines). Nothing is changed.",
    backup: "Take a backup now and verify it in full; prints its path.",
    backups: "List the backups: time, size, format, verified, when they are pruned.",
    history: "Past deploys: when, what, how long, how each ended, which backup.",
    restore: "Restore a backup: a file or latest (default); --before, --into, --yes-restore.",
    verify: "Read a backup to its end: a file, latest (default) or all (exit 4: damaged).",
    prune: "Delete old backups by the policy (--dry-run: only show them).",
    healthCheck: "The health check, also as deploy health-check (see its --help).",
  },
  status: {
    database: "Database",
    schema: "schema",
    found: (number) => `Migrations in the folder: ${number}`,
    applied: (number) => `Applied: ${number}`,
    pending: (number) => `Pending: ${number}`,
    running: (number) => `Running: ${number}`,
    runningBy: "At work",
    failed: (number) => `Failed: ${number}`,
    rolledBack: (number) => `Marked rolled back: ${number}`,
    missing: (number) => `Not in the folder: ${number}`,
    edited: (number) => `Edited: ${number}`,
    late: (number) => `Out of order: ${number}`,
    lastCommon: "Last common migration",
    noHistory: "There is no history yet (_prisma_migrations).",
    fenced: "Writers are shut out by a deploy with --maintenance, at work or killed:",
    upToDate: "The database schema is up to date.",
    blocked: "A deploy would be refused",
    toApply: "To apply them: deploy",
  },
};

function describeProblem(problem: SettingProblem): string {
  switch (problem.kind) {
    case "unknown-flag":
      return `Unknown flag: ${problem.flag}${problem.nearest === undefined ? "" : ` (did you mean ${problem.nearest}?)`}`;
    case "unknown-command":
      return `Unknown command: ${problem.command}${
        problem.nearest === undefined ? " (the app command goes after --)" : ` (did you mean ${problem.nearest}?)`
      }`;
    case "surplus":
      return `Unexpected argument: ${problem.argument} (the app command goes after --)`;
    case "missing":
      return problem.elsewhere === undefined
        ? `Required environment variable is missing: ${problem.name}`
        : `Required environment variable is missing: ${problem.name} (${problem.elsewhere.path} names ${problem.elsewhere.variable})`;
    case "one-of-flags":
      return `Exactly one of these is needed: ${problem.flags.join(", ")}`;
    case "only-with":
      return `The flag is only for ${problem.commands.join(", ")}: ${problem.flag}`;
    case "missing-value":
      return `A value is needed: ${problem.flag}`;
    case "unexpected-value":
      return `The flag takes no value: ${problem.flag}`;
    case "invalid":
      return `${problem.name}: invalid value '${problem.value}', ${describeExpectation(problem.expected)}`;
    case "invalid-url":
      return `${problem.name}: ${describeUrlProblem(problem.reason)}`;
    case "unreadable-file":
      return `${problem.name}: cannot read the file: ${problem.path} (${problem.reason})`;
  }
}

function describeExpectation(expected: SettingExpectation): string {
  switch (expected.kind) {
    case "whole-number":
      return `it must be a whole number of at least ${expected.minimum}.`;
    case "duration":
      return "it must be a duration (for example 500ms, 3s, 15m, 1h).";
    case "one-of":
      return `it must be one of: ${expected.values.join(", ")}`;
    case "path":
      return "it must be a path.";
    case "text":
      return "it must not be empty.";
  }
}

function describeUrlProblem(problem: UrlProblem): string {
  switch (problem.kind) {
    case "empty":
      return "it is empty.";
    case "not-a-url":
      return "it is not a connection string (for example postgresql://user:password@host:5432/database).";
    case "scheme":
      return `it must begin with postgresql:// or postgres:// (now: ${problem.scheme}://).`;
    case "accelerate":
      return "a Prisma Accelerate address cannot be used to deploy. Use the direct address of the database.";
    case "several-hosts":
      return "only one host is possible.";
    case "port":
      return `invalid port: ${problem.value}`;
    case "percent-encoding":
      return `special characters must be percent-encoded (for example # → %23, % → %25). Where: ${problem.part}`;
    case "parameter":
      return `invalid value of a parameter: ${problem.name}=${problem.value}`;
  }
}
