/** Runs the chosen engine over what was prepared, and tells what it did as a result that the procedure can act on. */
import type { MigrateResult } from "./deploy.ts";
import { type AnyDeployError, DeployError, type ErrorFields } from "./errors.ts";
import type { JournalConcurrent } from "./journal/lines.ts";
import { DEFAULT_SCHEMA, type History, readHistory } from "./migrations/history.ts";
import type { NativeResult } from "./migrations/native-engine.ts";
import type { ScriptStart } from "./migrations/native-run.ts";
import type { PrismaRun, PrismaVerdict } from "./migrations/prisma-engine.ts";
import type { Datasource } from "./migrations/prisma-output.ts";
import { sessionsOfSeenEngine } from "./migrations/prisma-verdict.ts";
import type { Segment } from "./migrations/segments.ts";
import type { MigrationWatch } from "./migrations/watch.ts";
import type { OperationContext, OperationSettings } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import type { Session } from "./postgres/session.ts";
import { addSessionOption } from "./postgres/url-options.ts";
import type { Prepared } from "./preflight.ts";
import { objectionTo, type RecoveryPoint } from "./recovery-point.ts";

export interface Migration {
  readonly database: Database;
  /** Holds the deploy lock. */
  readonly session: Session;
  readonly prepared: Prepared;
  /** As it was before. */
  readonly history: History;
  readonly point: RecoveryPoint;
}

const QUERY_DEADLINE_MS = 60_000;
/** The longest that a timer can wait: a migration may take as long as it takes. */
const NO_DEADLINE_MS = 2 ** 31 - 1;

/** @throws only for a bug, or where the database can't be asked; what is then true of it is found out by `settle` */
export async function migrate(migration: Migration, context: OperationContext): Promise<MigrateResult> {
  const { cli } = migration.prepared;
  migration.point.journal.record({ step: "migrating" });
  const engine = noteEngine(migration, context.settings);
  const watch = await startWatch(migration, context, engine);
  const watched = { ...context, tell: watch.tell };
  try {
    return await (cli === undefined
      ? migrateNatively(migration, watched)
      : migrateWithPrisma(migration, watched, engine));
  } finally {
    // Before anything is proven: its session is one that nobody must mistake for a stranger's.
    await watch.close();
  }
}

/** Looks at the backend that migrates: ours, or that of Prisma's engine, which is recognised by what it runs. */
async function startWatch(
  { database, session, prepared, history }: Migration,
  { settings, tell }: OperationContext,
  noted: NotedEngine,
): Promise<MigrationWatch> {
  const { watchMigration } = await import("./migrations/watch.ts");
  const { cli, scripts, plan } = prepared;
  const serverVersionNumber = history.server.versionNumber;
  const options = { openSession: () => database.open("watch"), migrations: plan.pending, serverVersionNumber, tell };
  if (cli === undefined) {
    const pid = await readBackendPid(session);
    const findBackend = async () => (pid === undefined ? undefined : { pid, migration: undefined });
    return watchMigration({ ...options, findBackend, lockTimeoutMs: settings.lockTimeoutMs });
  }
  const { readEngineSessions } = await import("./migrations/prisma-engine.ts");
  const findBackend = async (watcher: Session) => {
    const [engine] = await readEngineSessions(watcher, scripts);
    if (engine !== undefined) noted.isSeen();
    const running = scripts.find(({ text }) => engine !== undefined && text.includes(engine.query.trim()));
    return engine && { pid: engine.pid, migration: running?.name };
  };
  // The CLI waits for locks without an end.
  return watchMigration({ ...options, findBackend, lockTimeoutMs: 0 });
}

interface NotedEngine {
  /** It runs a script in our database. */
  isSeen(): void;
  hasSaid(datasource: Datasource | undefined): void;
}

/**
 * How many sessions the Prisma CLI has opened is on the disk as soon as it is certain, and not only when it has ended: where
 * we are killed meanwhile, the next run can tell them from a stranger's.
 */
function noteEngine({ database, point, prepared }: Migration, { target }: OperationSettings): NotedEngine {
  const cliVersion = prepared.cli?.version;
  const wereCounted = point.areSessionsCounted;
  let isSeen = false;
  let datasource: Datasource | undefined;
  const note = () => {
    if (!isSeen || datasource === undefined || point.childSessions > 0 || !wereCounted) return;
    const sessions = sessionsOfSeenEngine(datasource, { cliVersion, target });
    if (sessions === undefined) return;
    point.childSessions = sessions;
    database.onSessionOpened?.(database.sessionsOpened);
  };
  return {
    isSeen() {
      isSeen = true;
      note();
    },
    hasSaid(said) {
      datasource ??= said;
      note();
    },
  };
}

/** Undefined where the session is gone, which is for the engine to find out. */
async function readBackendPid(session: Session): Promise<number | undefined> {
  const options = { during: "read the backend's number", deadlineMs: QUERY_DEADLINE_MS };
  const [row] = await session.query<{ pid: number }>(`SELECT pg_backend_pid() AS "pid"`, options).catch(() => []);
  return row?.pid;
}

/**
 * After a lost connection: the rows tell whether all of it was committed, since each is in its script's transaction.
 * The session has got the lock that the old backend held, so that one has ended.
 */
export async function settleLost(
  { session, history, prepared }: Migration,
  result: MigrateResult,
  settings: OperationSettings,
): Promise<MigrateResult> {
  const { judgePrismaRun } = await import("./migrations/prisma-verdict.ts");
  const after = await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, QUERY_DEADLINE_MS);
  const verdict = judgePrismaRun(history.rows, after.rows, prepared.plan.pending, { lingering: [] });
  return verdict.kind === "applied" ? { kind: "applied", names: verdict.applied } : result;
}

async function migrateNatively(migration: Migration, context: OperationContext): Promise<MigrateResult> {
  const { session, prepared, history, point } = migration;
  const { settings, signal, tell } = context;
  const { applyNative } = await import("./migrations/native-engine.ts");
  await setStatementTimeout(session, settings.statementTimeoutMs);
  const result = await applyNative({
    session,
    schema: history.schema ?? settings.target.schema ?? DEFAULT_SCHEMA,
    hasTable: history.schema !== undefined,
    segments: prepared.segments,
    serverVersionNumber: history.server.versionNumber,
    lockTimeoutMs: settings.lockTimeoutMs,
    lockRetryMs: settings.lockRetryMs,
    signal,
    tell,
    now: () => performance.timeOrigin + performance.now(),
    onCommitting: async (transactionId) => {
      point.journal.record({ step: "committing", transactionId });
      point.ownTransactionIds.push(transactionId);
    },
    onScript: (start) => point.journal.record({ step: "script", ...start, concurrent: describeConcurrent(start) }),
    approve: async (segments: readonly Segment[]) => objectionTo(segments, point, settings),
  });
  point.ownTransactionIds.push(...result.transactionIds);
  return describeNative(result);
}

function describeConcurrent({ concurrent }: ScriptStart): JournalConcurrent | null {
  if (concurrent === undefined) return null;
  const indexes = [...concurrent.indexes].map(([oid, { name, isValid }]) => [oid, name, isValid] as const);
  return { indexes, made: concurrent.made };
}

function describeNative(result: NativeResult): MigrateResult {
  if (result.kind === "applied") return { kind: "applied", names: result.committed };
  const { trace } = result;
  return {
    kind: "failed",
    error: result.error as AnyDeployError,
    transactionId: "transactionId" in trace ? trace.transactionId : undefined,
    concurrent: trace.kind === "row" ? trace.concurrent : undefined,
    hasUnsettledSessions: false,
  };
}

/** The CLI's own words decide nothing: the rows do. */
async function migrateWithPrisma(
  migration: Migration,
  context: OperationContext,
  noted: NotedEngine,
): Promise<MigrateResult> {
  const { database, session, prepared, history, point } = migration;
  const { settings, environment, signal, tell } = context;
  const { cli, scripts, plan } = prepared;
  const { applyWithPrisma, judgePrismaRun, prismaSessions, readDatasource, worksElsewhere } = await import(
    "./migrations/prisma-engine.ts"
  );
  if (cli === undefined) throw new Error("the Prisma CLI was not looked for");
  // How many sessions the CLI opens is known when it has ended.
  const wereCounted = point.areSessionsCounted;
  point.areSessionsCounted = false;
  point.journal.record({ step: "sessions", opened: database.sessionsOpened, isExact: false });
  const run = await applyWithPrisma({
    cli,
    directory: process.cwd(),
    schemaPath: settings.prismaSchema === "" ? undefined : settings.prismaSchema,
    environment: settings.maintenance ? passFence(environment) : environment,
    scripts,
    openSession: () => database.open("watch"),
    deadlineMs: settings.prismaTimeoutMs || NO_DEADLINE_MS,
    signal,
    tell: (event) => {
      tell(event);
      if (event.kind === "prisma-output") noted.hasSaid(readDatasource(event.line));
    },
  });
  point.childSessions = 0;
  const after = await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, QUERY_DEADLINE_MS);
  const verdict = judgePrismaRun(history.rows, after.rows, plan.pending, run);
  const sessions = prismaSessions({ run, verdict, cliVersion: cli.version, target: settings.target });
  if (sessions !== undefined) {
    point.areSessionsCounted = wereCounted;
    database.addSessions(sessions);
  }
  const problem = problemOf(verdict, run, worksElsewhere(run.datasource, settings.target));
  return describePrisma(verdict, run, problem, signal);
}

/** The CLI reads the connection string from a variable that the project names. */
function passFence(environment: OperationContext["environment"]): OperationContext["environment"] {
  const passing = ([name, value]: [string, string | undefined]) => [
    name,
    value === undefined ? value : addSessionOption(value, "-c default_transaction_read_only=off"),
  ];
  return Object.fromEntries(Object.entries(environment).map(passing));
}

function describePrisma(
  verdict: PrismaVerdict,
  run: PrismaRun,
  problem: PrismaProblem,
  signal: AbortSignal,
): MigrateResult {
  if (verdict.kind === "applied") return { kind: "applied", names: verdict.applied };
  const { exitCode, signal: endedBy, output, startError } = run;
  const migration = verdict.kind === "failed" ? verdict.row.name : undefined;
  const fields = { exitCode, signal: endedBy, output: startError ?? output, problem, migration };
  return {
    kind: "failed",
    error: run.interrupted ? signal.reason : new DeployError("PRISMA_CLI_FAILED", fields),
    transactionId: undefined,
    concurrent: undefined,
    hasUnsettledSessions: verdict.kind === "unknown",
  };
}

type PrismaProblem = ErrorFields["PRISMA_CLI_FAILED"]["problem"];

function problemOf(verdict: PrismaVerdict, run: PrismaRun, isElsewhere: boolean): PrismaProblem {
  if (isElsewhere) return "other-database";
  if (verdict.kind === "unknown") return "unexplained";
  if (run.timedOut) return "timed-out";
  return verdict.kind === "failed" && run.exitCode === 0 ? "unfinished" : "failed";
}

async function setStatementTimeout(session: Session, timeoutMs: number): Promise<void> {
  if (timeoutMs === 0) return;
  await session.query(`SELECT set_config('statement_timeout', '${timeoutMs}ms', false)`, {
    during: "set statement_timeout",
    deadlineMs: QUERY_DEADLINE_MS,
  });
}
