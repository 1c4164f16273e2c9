/** What a journal's lines say: which deploys there were, which one was killed, and which have failed in vain. Pure. */
import {
  type JournalConcurrent,
  type JournalEvidence,
  type JournalFailure,
  type JournalHistory,
  type JournalLine,
  type JournalMigration,
  type JournalOutcome,
  type JournalTransaction,
  selectOwn,
} from "./lines.ts";

/** A deploy as its lines tell it. */
export interface JournaledDeploy extends JournalHistory {
  readonly id: string;
  /** ISO 8601 in UTC, as all times here. */
  readonly startedAt: string;
  readonly program: string;
  readonly engine: "native" | "prisma";
  readonly migrations: readonly JournalMigration[];
  /** Under which it has begun to write, whether it came to an end or not. */
  readonly claimedBackup: string | undefined;
  /** Verified. */
  readonly backup: string | undefined;
  readonly isBackupReused: boolean;
  /** The database may have been changed. */
  readonly isMigrating: boolean;
  /** Ids that may have committed since what was `proven`: those before it have ended, or a crash has lost them. */
  readonly transactionIds: readonly string[];
  readonly sessions: { readonly opened: number; readonly isExact: boolean } | undefined;
  /** The last one that ran outside of our transactions. */
  readonly script:
    | { readonly migration: string; readonly rowId: string; readonly concurrent: JournalConcurrent | null }
    | undefined;
  readonly failure: JournalFailure | undefined;
  /** That nobody else had written, as the last proof found it. */
  readonly proven: JournalEvidence | undefined;
  readonly isRestoring: boolean;
  readonly restoreTransactions: readonly JournalTransaction[];
  /** Ids of those that have lowered its fence. */
  readonly fenceTransactions: readonly string[];
  /** Undefined for one that is at work, or was killed. */
  readonly end: JournaledEnd | undefined;
}

export interface JournaledEnd {
  readonly at: string;
  readonly outcome: JournalOutcome;
  readonly exitCode: number;
  readonly applied: readonly string[];
  readonly failure: JournalFailure | null;
  readonly isFoundLater: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Every deploy that has begun, in the order of its first line. */
export function listDeploys(lines: readonly JournalLine[]): JournaledDeploy[] {
  const deploys = new Map<string, Mutable<JournaledDeploy>>();
  for (const line of lines) {
    const deploy = deploys.get(line.deploy);
    if (line.step === "begun" && deploy === undefined) deploys.set(line.deploy, begin(line));
    else if (deploy !== undefined) apply(deploy, line);
  }
  return [...deploys.values()];
}

function begin(line: Extract<JournalLine, { step: "begun" }>): Mutable<JournaledDeploy> {
  const { deploy, time, systemIdentifier, database, schema, program, engine, migrations } = line;
  return {
    id: deploy,
    startedAt: time,
    systemIdentifier,
    database,
    schema,
    program,
    engine,
    migrations,
    claimedBackup: undefined,
    backup: undefined,
    isBackupReused: false,
    isMigrating: false,
    transactionIds: [],
    sessions: undefined,
    script: undefined,
    failure: undefined,
    proven: undefined,
    isRestoring: false,
    restoreTransactions: [],
    fenceTransactions: [],
    end: undefined,
  };
}

function apply(deploy: Mutable<JournaledDeploy>, line: JournalLine): void {
  switch (line.step) {
    case "backing-up":
      deploy.claimedBackup = line.backup;
      break;
    case "backed-up":
      deploy.backup = line.backup;
      deploy.isBackupReused = line.isReused;
      break;
    case "migrating":
      deploy.isMigrating = true;
      break;
    case "sessions":
      deploy.sessions = { opened: line.opened, isExact: line.isExact };
      break;
    case "script":
      deploy.script = { migration: line.migration, rowId: line.rowId, concurrent: line.concurrent };
      break;
    case "committing":
      deploy.transactionIds = [...deploy.transactionIds, line.transactionId];
      break;
    case "failed":
      deploy.failure = line.failure;
      break;
    case "proven":
      deploy.proven = line.evidence;
      deploy.transactionIds = [line.evidence.durableTransactionId].filter((id) => id !== undefined);
      break;
    case "restoring":
      deploy.isRestoring = true;
      break;
    case "restore-transaction":
      deploy.restoreTransactions = [...deploy.restoreTransactions, line.transaction];
      deploy.transactionIds = [...deploy.transactionIds, line.transaction.id];
      break;
    case "fence-lowered":
      deploy.fenceTransactions = [...deploy.fenceTransactions, line.transactionId];
      break;
    case "ended": {
      const { time, outcome, exitCode, applied, failure, isFoundLater } = line;
      deploy.end = { at: time, outcome, exitCode, applied, failure, isFoundLater };
      break;
    }
    default:
      break;
  }
}

/**
 * The deploy that was killed, to be asked with the deploy lock: then nobody is at work on that database. Only the last one
 * of a history can be: each that works finishes what it finds. By the rows of another history nothing could be told.
 */
export function readUnfinished(lines: readonly JournalLine[], history: JournalHistory): JournaledDeploy | undefined {
  const last = listDeploys(selectOwn(lines, history)).findLast(({ schema }) => schema === history.schema);
  return last?.end === undefined ? last : undefined;
}

/** Whether the same is tried again now, or later. */
export type RetryDecision =
  | { readonly kind: "try" }
  | {
      readonly kind: "wait";
      /** How often in a row it has failed. */
      readonly failures: number;
      readonly lastFailedAt: string;
      readonly retryAt: string;
      readonly failure: JournalFailure;
    };

const MINUTE_MS = 60_000;
const INTERVAL_MINUTES_MAX = 10;

/**
 * What has failed on its own error is tried again after 1, 2, 4, 8, 10, 10 ... minutes. Another list or another checksum
 * is something else, and tried at once.
 *
 * @param deploys those of one database, in order
 * @param attempt what would be applied, in order
 */
export function decideRetry(
  deploys: readonly JournaledDeploy[],
  attempt: readonly JournalMigration[],
  now: Date,
): RetryDecision {
  let failures = 0;
  let last: JournaledEnd | undefined;
  for (const deploy of deploys.toReversed()) {
    // What was killed, or was refused before it tried, says nothing about the migrations.
    const { end } = deploy;
    if (end === undefined) continue;
    // Behind these two nothing is as it was: a person has been at work where one was called.
    if (end.outcome === "deployed" || end.outcome === "unresolved") break;
    if (end.failure?.isRepeatable !== true) continue;
    if (!isSameList(listLeft(deploy, end), attempt)) break;
    failures += 1;
    last ??= end;
  }
  if (last?.failure == null) return { kind: "try" };
  const intervalMs = Math.min(2 ** (failures - 1), INTERVAL_MINUTES_MAX) * MINUTE_MS;
  const failedMs = Date.parse(last.at);
  const elapsedMs = now.getTime() - failedMs;
  // A clock that was put back must not stop anybody for longer than the interval.
  if (elapsedMs >= intervalMs || elapsedMs < 0) return { kind: "try" };
  const retryAt = new Date(failedMs + intervalMs).toISOString();
  return { kind: "wait", failures, lastFailedAt: last.at, retryAt, failure: last.failure };
}

/** What the next deploy finds pending: at a boundary, the rest. */
function listLeft({ migrations }: JournaledDeploy, { applied }: JournaledEnd): JournalMigration[] {
  return migrations.filter(({ name }) => !applied.includes(name));
}

function isSameList(one: readonly JournalMigration[], other: readonly JournalMigration[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ name, checksum }, index) => other[index]?.name === name && other[index]?.checksum === checksum)
  );
}

/**
 * Ids of backups that a failure may still need: since the last success of each history, those of deploys that a person
 * has to look at or that were killed, and that of the last failure, which the next try uses again.
 *
 * @param deploys those of a whole journal, in order
 */
export function listNeededBackups(deploys: readonly JournaledDeploy[]): string[] {
  const needed = [...groupByHistory(deploys).values()].flatMap((own) => {
    const since = own.slice(own.findLastIndex(({ end }) => end?.outcome === "deployed") + 1);
    return since.filter((deploy) => isUnsettled(deploy) || deploy === since.at(-1));
  });
  return [...new Set(needed.flatMap(({ backup }) => (backup === undefined ? [] : [backup])))];
}

/** The last deploy of each history, where it was killed or has called a person. @param deploys in order */
export function listUnsettled(deploys: readonly JournaledDeploy[]): JournaledDeploy[] {
  return [...groupByHistory(deploys).values()].flatMap((own) => own.slice(-1)).filter(isUnsettled);
}

function isUnsettled({ end }: JournaledDeploy): boolean {
  return end === undefined || end.outcome === "unresolved";
}

function groupByHistory(deploys: readonly JournaledDeploy[]): Map<string, JournaledDeploy[]> {
  const groups = new Map<string, JournaledDeploy[]>();
  for (const deploy of deploys) {
    const key = JSON.stringify([deploy.systemIdentifier, deploy.database, deploy.schema]);
    groups.set(key, [...(groups.get(key) ?? []), deploy]);
  }
  return groups;
}
