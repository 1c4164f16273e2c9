/**
 * What a run of the Prisma CLI did, decided from the rows before and after it. Its exit code and its words decide
 * nothing: it exits 0 over a script that never commits, and 1 over one that did.
 */
import type { ConnectionTarget } from "../postgres/url.ts";
import type { MigrationRow } from "./history.ts";
import type { Datasource } from "./prisma-output.ts";

/** How one run of the CLI ended. */
export interface PrismaRun {
  /** Undefined where a signal ended it, or where it could not be started. */
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  /** Set where it could not be started, for example ENOENT. */
  readonly startError: string | undefined;
  /** It was made to stop because its time was over. */
  readonly timedOut: boolean;
  /** It was made to stop because the deploy was interrupted. */
  readonly interrupted: boolean;
  /** Its sessions that outlived it although they were told to end. Undefined where the server could not be asked. */
  readonly lingering: readonly number[] | undefined;
  /** The database that it said it works on. Undefined where it did not say. */
  readonly datasource: Datasource | undefined;
  /** The end of what it printed, without secrets and colours. */
  readonly output: string;
}

export type PrismaVerdict =
  /** Every pending migration has a finished row. */
  | { readonly kind: "applied"; readonly applied: readonly string[] }
  /** One migration began and did not finish. Only the database itself can tell what is left of it. */
  | {
      readonly kind: "failed";
      readonly row: MigrationRow;
      /** The script itself ran to its end; only Prisma's note of it failed. */
      readonly scriptFinished: boolean;
      readonly applied: readonly string[];
      readonly notApplied: readonly string[];
    }
  /** It stopped between two migrations: some are applied whole, the others have not begun. */
  | { readonly kind: "stopped"; readonly applied: readonly string[]; readonly notApplied: readonly string[] }
  /** No row was written, whatever the exit code says. */
  | { readonly kind: "nothing" }
  /** The rows can't be explained by this run, or are still being written. */
  | { readonly kind: "unknown"; readonly reason: UnknownReason };

export type UnknownReason =
  | { readonly kind: "still-running"; readonly pids: readonly number[] }
  | { readonly kind: "sessions-unread" }
  | { readonly kind: "rows-changed"; readonly migrations: readonly string[] }
  | { readonly kind: "not-planned"; readonly migrations: readonly string[] }
  | { readonly kind: "several-unfinished"; readonly migrations: readonly string[] };

/**
 * @param before the rows as they were before the CLI started
 * @param after the rows as they are now that it has ended
 * @param pending names that it was expected to apply, in any order
 */
export function judgePrismaRun(
  before: readonly MigrationRow[],
  after: readonly MigrationRow[],
  pending: readonly string[],
  run: Pick<PrismaRun, "lingering">,
): PrismaVerdict {
  if (run.lingering === undefined) return unknown({ kind: "sessions-unread" });
  if (run.lingering.length > 0) return unknown({ kind: "still-running", pids: run.lingering });
  const changed = before.filter((row) => !after.some((other) => isSameRow(row, other)));
  if (changed.length > 0) return unknown({ kind: "rows-changed", migrations: namesOf(changed) });

  const known = new Set(before.map((row) => row.id));
  const written = after.filter((row) => !known.has(row.id));
  const foreign = written.filter((row) => !pending.includes(row.name) || row.rolledBackAt !== null);
  if (foreign.length > 0) return unknown({ kind: "not-planned", migrations: namesOf(foreign) });

  const unfinished = written.filter((row) => row.finishedAt === null);
  if (unfinished.length > 1) return unknown({ kind: "several-unfinished", migrations: namesOf(unfinished) });

  const finished = new Set(written.filter((row) => row.finishedAt !== null).map((row) => row.name));
  const applied = pending.filter((name) => finished.has(name));
  const notApplied = pending.filter((name) => !finished.has(name));
  const [row] = unfinished;
  if (row !== undefined) {
    return { kind: "failed", row, scriptFinished: row.appliedStepsCount > 0, applied, notApplied };
  }
  if (applied.length === 0) return { kind: "nothing" };
  return notApplied.length === 0 ? { kind: "applied", applied } : { kind: "stopped", applied, notApplied };
}

function unknown(reason: UnknownReason): PrismaVerdict {
  return { kind: "unknown", reason };
}

function namesOf(rows: readonly MigrationRow[]): readonly string[] {
  return [...new Set(rows.map((row) => row.name))];
}

export function isSameRow(a: MigrationRow, b: MigrationRow): boolean {
  return (
    a.id === b.id &&
    a.name === b.name &&
    a.checksum === b.checksum &&
    a.startedAt === b.startedAt &&
    a.finishedAt === b.finishedAt &&
    a.rolledBackAt === b.rolledBackAt &&
    a.appliedStepsCount === b.appliedStepsCount
  );
}

/** What `prismaSessions` goes by. */
export interface SessionEvidence {
  readonly run: PrismaRun;
  readonly verdict: PrismaVerdict;
  /** The CLI's own version, from its package.json. */
  readonly cliVersion: string | undefined;
  /** Where we work. */
  readonly target: ConnectionTarget;
}

/** A connectivity probe by a helper process, then the engine's only session. */
const SESSIONS_PER_RUN = 2;

/** Every `migrate deploy` of these goes through `ensureDatabaseExists`, then through one engine with one connection. */
const MAJOR_VERSIONS = [5, 6, 7];

/** The engine has read the rows, and so is connected, before it can say one of these. */
const SAID_WHEN_CONNECTED = /^(Error: P3005|Error: P3009|Error: P3015|No pending migrations to apply\.)$/m;

/**
 * How many sessions of the database one run of the CLI has opened: exact, or undefined where that can't be known.
 *
 * Measured with 6.19.3 and 7.10.1 by `pg_stat_database.sessions`: 2 for a success, for nothing to do, for P3005, P3009,
 * P3015, P3018, P1014, a script without COMMIT, and a session that the server ended; with and without a split script.
 * A claim that is too high would hide a stranger's session, so it is made only where both sessions are certain: the CLI
 * ended by itself, said that it works where we do (Prisma 6 with a driver adapter words that differently, has no probe
 * and opened 1), and the engine wrote a row or answered what it can only say after reading the rows.
 *
 * @see packages/migrate/src/utils/ensureDatabaseExists.ts (probe), packages/migrate/src/SchemaEngineCLI.ts (engine)
 * @see schema-engine/connectors/sql-schema-connector/src/flavour/postgres (one connection, no pool)
 */
export function prismaSessions({ run, verdict, cliVersion, target }: SessionEvidence): number | undefined {
  const endedByItself = (run.exitCode === 0 || run.exitCode === 1) && run.lingering?.length === 0;
  if (!endedByItself || !isMeasured(cliVersion, target) || run.datasource === undefined) return undefined;
  const wroteHere = verdict.kind === "applied" || verdict.kind === "failed" || verdict.kind === "stopped";
  const isHere = isSameAddress(run.datasource, target, wroteHere);
  return isHere && (wroteHere || SAID_WHEN_CONNECTED.test(run.output)) ? SESSIONS_PER_RUN : undefined;
}

/**
 * The same of a CLI that is still at work, whose engine was seen with a script in our database: it has opened all that it
 * will open, also where it is killed later.
 */
export function sessionsOfSeenEngine(
  said: Datasource,
  { cliVersion, target }: Pick<SessionEvidence, "cliVersion" | "target">,
): number | undefined {
  return isMeasured(cliVersion, target) && isSameAddress(said, target, true) ? SESSIONS_PER_RUN : undefined;
}

function isMeasured(cliVersion: string | undefined, target: ConnectionTarget): boolean {
  return MAJOR_VERSIONS.includes(Number.parseInt(cliVersion ?? "", 10)) && !target.pgbouncer;
}

/** True when the CLI said that it works on another database than we do: then it has done nothing to ours. */
export function worksElsewhere(said: Datasource | undefined, target: ConnectionTarget): boolean {
  return said !== undefined && (said.database !== target.database || said.port !== target.port);
}

/** Another address of the same database may lead through a pooler, which opens as many sessions as it likes. */
function isSameAddress(said: Datasource, target: ConnectionTarget, wroteHere: boolean): boolean {
  if (said.database !== target.database || said.port !== target.port) return false;
  // The CLI does not name the folder of a socket, so its words alone could mean another server.
  return target.host.startsWith("/") ? wroteHere : said.host.toLowerCase() === target.host.toLowerCase();
}
