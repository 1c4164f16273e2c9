/**
 * Whether this container is alive, or ready to serve. Nothing is written, locked or tried again, and what a check does
 * not need is not loaded: it runs every few seconds for ever.
 */
import { type HeartbeatReading, readHeartbeat } from "./app/heartbeat.ts";
import { type AnyDeployError, DeployError, isDeployError } from "./errors.ts";
import type { UrlFailure } from "./health/url.ts";
import type { History } from "./migrations/history.ts";
import type { ConnectionTarget } from "./postgres/url.ts";

export interface HealthRequest {
  /** Alive, by the heartbeat and the URL alone; otherwise ready, with the database. */
  readonly isLive: boolean;
  readonly stateFilePath: string;
  readonly url: URL | undefined;
  /** Undefined where the database is not asked. */
  readonly database: DatabaseRequest | undefined;
  /** For everything together. */
  readonly deadlineMs: number;
}

export interface DatabaseRequest {
  readonly target: ConnectionTarget;
  /** Undefined: the database has to answer, whatever its migrations are. */
  readonly migrationsDirectory: string | undefined;
}

export type Finding =
  /** A deploy is at work in this container, or was and is silent now. */
  | {
      readonly check: "deploy";
      readonly isHealthy: boolean;
      readonly state: "working" | "stale";
      /** Undefined where the state file can't be read by us. */
      readonly step: string | undefined;
      readonly detail: string | undefined;
      /** Since the step began. */
      readonly stepMs: number | undefined;
      /** Since the last sign of life. */
      readonly ageMs: number;
    }
  | { readonly check: "deploy"; readonly isHealthy: true; readonly state: "none" }
  | { readonly check: "database"; readonly isHealthy: true; readonly durationMs: number }
  /** A deploy in maintenance mode lets the app read and not write; its id. */
  | { readonly check: "database"; readonly isHealthy: false; readonly fence: string }
  | {
      readonly check: "database" | "migrations";
      readonly isHealthy: false;
      readonly error: AnyDeployError;
      /** The role that the app signs in as. */
      readonly user: string;
    }
  | { readonly check: "migrations"; readonly isHealthy: true; readonly applied: number }
  | ({ readonly check: "migrations"; readonly isHealthy: false } & UnreadyMigrations)
  | { readonly check: "url"; readonly isHealthy: boolean; readonly url: URL; readonly httpStatus: number }
  | { readonly check: "url"; readonly isHealthy: false; readonly url: URL; readonly reason: UrlFailure };

/** Names of this folder only: what a newer or older release has applied is none of this one's business. */
export interface UnreadyMigrations {
  readonly pending: readonly string[];
  /** Begun and not finished, with nobody at work. */
  readonly failed: readonly string[];
  /** Begun and not finished, while somebody holds the deploy lock. */
  readonly running: readonly string[];
  /** A deploy is at work, here or elsewhere. */
  readonly lockHeld: boolean;
}

/** Never rejects for what it finds, and keeps to the deadline as far as the event loop can. */
export async function checkHealth(request: HealthRequest, now: Date): Promise<readonly Finding[]> {
  const heartbeat = readHeartbeat(request.stateFilePath, now);
  // A session of ours could cost the deploy its proof that nobody else was connected, so the database is left alone.
  if (heartbeat.kind === "fresh") return [describeDeploy(heartbeat, request.isLive, now)];
  const findings = await Promise.all([
    request.database === undefined || request.isLive ? [] : checkDatabase(request.database, request.deadlineMs),
    request.url === undefined ? [] : checkUrl(request.url, request.deadlineMs),
  ]);
  // What a dead deploy has left behind must not speak against an app that answers.
  if (request.isLive && request.url === undefined) return [describeDeploy(heartbeat, false, now)];
  return findings.flat();
}

function describeDeploy(heartbeat: HeartbeatReading, isHealthy: boolean, now: Date): Finding {
  if (heartbeat.kind === "none") return { check: "deploy", isHealthy: true, state: "none" };
  const { ageMs, content } = heartbeat;
  const sinceMs = Date.parse(content?.since ?? "");
  return {
    check: "deploy",
    isHealthy,
    state: heartbeat.kind === "fresh" ? "working" : "stale",
    step: content?.step,
    detail: content?.detail,
    stepMs: Number.isNaN(sinceMs) ? undefined : Math.max(0, now.getTime() - sinceMs),
    ageMs,
  };
}

async function checkUrl(url: URL, deadlineMs: number): Promise<Finding[]> {
  const { probeUrl } = await import("./health/url.ts");
  const answer = await probeUrl(url, deadlineMs);
  if ("reason" in answer) return [{ check: "url", isHealthy: false, url, reason: answer.reason }];
  const { status: httpStatus } = answer;
  return [{ check: "url", isHealthy: httpStatus >= 200 && httpStatus < 300, url, httpStatus }];
}

async function checkDatabase(request: DatabaseRequest, deadlineMs: number): Promise<Finding[]> {
  const startedMs = performance.now();
  const { target, migrationsDirectory } = request;
  const answer = await readDatabase(target, migrationsDirectory !== undefined, deadlineMs);
  const answered: Finding = { check: "database", isHealthy: true, durationMs: performance.now() - startedMs };
  if ("error" in answer) {
    const isAboutHistory = answer.error.code.startsWith("HISTORY_");
    const check = isAboutHistory ? "migrations" : "database";
    const failed: Finding = { check, isHealthy: false, error: answer.error, user: target.user };
    return isAboutHistory ? [answered, failed] : [failed];
  }
  const { history } = answer;
  if (history === undefined || migrationsDirectory === undefined) return [answered];
  const migrations = await compareFolder(history, migrationsDirectory, target);
  // A role may have a setting of its own that is stronger than the fence: then the app can write.
  const isFenced = history.fence !== undefined && history.server.readOnly;
  return [isFenced ? { check: "database", isHealthy: false, fence: history.fence } : answered, migrations];
}

type DatabaseAnswer = { readonly history: History | undefined } | { readonly error: AnyDeployError };

/** Asks for the history as a deploy does, or only for a sign of life. */
async function readDatabase(
  target: ConnectionTarget,
  withHistory: boolean,
  deadlineMs: number,
): Promise<DatabaseAnswer> {
  const { makeDatabase } = await import("./postgres/database.ts");
  const { DEFAULT_SCHEMA, readHistory } = await import("./migrations/history.ts");
  const session = await makeDatabase(target).open("health-check");
  const during = "database";
  // The server would go on with what nobody waits for, for example behind a lock on the table: so it is cancelled.
  const giveUpMs = deadlineMs - Math.min(500, deadlineMs / 4);
  let hasGivenUp = false;
  const timer = setTimeout(() => {
    hasGivenUp = true;
    void session.cancel();
  }, giveUpMs);
  try {
    if (withHistory) return { history: await readHistory(session, target.schema ?? DEFAULT_SCHEMA, deadlineMs) };
    await session.query("SELECT 1", { during, deadlineMs });
    return { history: undefined };
  } catch (error) {
    const known = hasGivenUp ? new DeployError("DEADLINE_EXCEEDED", { during, deadlineMs: giveUpMs }) : error;
    if (!isDeployError(known)) throw known;
    return { error: known };
  } finally {
    clearTimeout(timer);
    await session.leave();
  }
}

async function compareFolder(history: History, directory: string, target: ConnectionTarget): Promise<Finding> {
  const { readMigrationsFolder } = await import("./migrations/folder.ts");
  const { makePlan } = await import("./migrations/plan.ts");
  try {
    const { names } = readMigrationsFolder(directory);
    const plan = makePlan(history, names, target.schema ?? "public", {
      migrationOrder: "bytes",
      onMissing: "warn",
      engine: "native",
    });
    const unfinished = plan.unfinished.map(({ name }) => name).filter((name) => names.includes(name));
    if (plan.pending.length === 0 && unfinished.length === 0) {
      return { check: "migrations", isHealthy: true, applied: plan.applied.length };
    }
    const { pending, lockHeld } = plan;
    const [running, failed] = lockHeld ? [unfinished, []] : [[], unfinished];
    return { check: "migrations", isHealthy: false, pending, failed, running, lockHeld };
  } catch (error) {
    if (!isDeployError(error)) throw error;
    return { check: "migrations", isHealthy: false, error, user: target.user };
  }
}
