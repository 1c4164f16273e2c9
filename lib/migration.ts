/** Runs the chosen engine over what was prepared, and tells what it did as a result that the procedure can act on. */
import type { MigrateResult } from "./deploy.ts";
import { type AnyDeployError, DeployError, type ErrorFields } from "./errors.ts";
import { DEFAULT_SCHEMA, type History, readHistory } from "./migrations/history.ts";
import type { NativeResult } from "./migrations/native-engine.ts";
import type { PrismaRun, PrismaVerdict } from "./migrations/prisma-engine.ts";
import type { Segment } from "./migrations/segments.ts";
import type { OperationContext } from "./operations.ts";
import type { Database } from "./postgres/database.ts";
import type { Session } from "./postgres/session.ts";
import type { Prepared } from "./preflight.ts";
import { objectionTo, type RecoveryPoint } from "./recovery.ts";

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
  return cli === undefined ? await migrateNatively(migration, context) : await migrateWithPrisma(migration, context);
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
      point.ownTransactionIds.push(transactionId);
    },
    approve: async (segments: readonly Segment[]) => objectionTo(segments, point, settings),
  });
  point.ownTransactionIds.push(...result.transactionIds);
  return describeNative(result);
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
async function migrateWithPrisma(migration: Migration, context: OperationContext): Promise<MigrateResult> {
  const { database, session, prepared, history, point } = migration;
  const { settings, environment, signal, tell } = context;
  const { cli, scripts, plan } = prepared;
  const { applyWithPrisma, judgePrismaRun, prismaSessions, worksElsewhere } = await import(
    "./migrations/prisma-engine.ts"
  );
  if (cli === undefined) throw new Error("the Prisma CLI was not looked for");
  const run = await applyWithPrisma({
    cli,
    directory: process.cwd(),
    schemaPath: settings.prismaSchema === "" ? undefined : settings.prismaSchema,
    environment,
    scripts,
    openSession: () => database.open("watch"),
    deadlineMs: NO_DEADLINE_MS,
    signal,
    tell,
  });
  const after = await readHistory(session, settings.target.schema ?? DEFAULT_SCHEMA, QUERY_DEADLINE_MS);
  const verdict = judgePrismaRun(history.rows, after.rows, plan.pending, run);
  const sessions = prismaSessions({ run, verdict, cliVersion: cli.version, target: settings.target });
  if (sessions === undefined) point.areSessionsCounted = false;
  else database.addSessions(sessions);
  const problem = problemOf(verdict, run, worksElsewhere(run.datasource, settings.target));
  return describePrisma(verdict, run, problem, signal);
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
  return verdict.kind === "failed" && run.exitCode === 0 ? "unfinished" : "failed";
}

async function setStatementTimeout(session: Session, timeoutMs: number): Promise<void> {
  if (timeoutMs === 0) return;
  await session.query(`SELECT set_config('statement_timeout', '${timeoutMs}ms', false)`, {
    during: "set statement_timeout",
    deadlineMs: QUERY_DEADLINE_MS,
  });
}
