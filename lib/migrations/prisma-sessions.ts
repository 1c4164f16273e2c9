/**
 * The database sessions of a Prisma engine. They can outlive the CLI: when it is killed, its engine goes on with the
 * script, writes the rows and even begins the next migration. A backend whose client is gone finishes its statement.
 */
import { DeployError, type LockHolder } from "../errors.ts";
import type { Report } from "../events.ts";
import type { Session } from "../postgres/session.ts";
import { pause } from "../system/pause.ts";
import type { MigrationScript } from "./folder.ts";

export interface EngineSession {
  readonly pid: number;
  /** Start of the session, ISO 8601: with the pid it names a session once and for all. */
  readonly startedAt: string;
}

/** What `pg_stat_activity` shows of a session. */
export interface Activity extends EngineSession {
  /** Null where our role may not see it. */
  readonly state: string | null;
  /** The current or last statement, without its end when it is long. */
  readonly query: string;
  /** How long it has been in that state. */
  readonly inStateMs: number;
  readonly applicationName: string;
  readonly clientAddress: string | null;
}

/** What of a script is needed to recognise its statements. */
type ScriptText = Pick<MigrationScript, "text">;

const QUERY_DEADLINE_MS = 30_000;
const POLL_MS = 250;
/** A session that closes by itself is given this long. */
const CLOSE_WAIT_MS = 2_000;
/** A cancelled statement lets the engine write down the failure; after this long the session itself is ended. */
const CANCEL_WAIT_MS = 5_000;
const STOP_DEADLINE_MS = 30_000;
const REPORT_EVERY_MS = 10_000;
const STATEMENT_SHOWN_LENGTH = 120;
/** An orphaned engine that has not connected yet, or is between two statements, shows up within so many polls. */
const QUIET_POLLS = 8;
/** A CLI that has had no session at work for so many polls, and does not end, is waited for no longer. */
const IDLE_POLLS = 20;

/** What Prisma's engines send about their table, in every version from 5 to 7. */
const BOOKKEEPING =
  /^\s*(INSERT INTO "_prisma_migrations"|UPDATE "_prisma_migrations"|CREATE TABLE _prisma_migrations)/;

/** An engine sends its next statement at once: a session that rests for longer after one is somebody else's. */
const BETWEEN_STATEMENTS_MS = 10_000;

const OTHER_CLIENTS = `
  SELECT pid, state, coalesce(query, '') AS "query", coalesce(application_name, '') AS "applicationName",
    host(client_addr) AS "clientAddress",
    (extract(epoch FROM clock_timestamp() - coalesce(state_change, clock_timestamp())) * 1000)::float8 AS "inStateMs",
    to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS "startedAt"
  FROM pg_stat_activity
  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND application_name NOT LIKE 'prisma-safe-deploy%'`;

/** A shorter one, such as COMMIT or SELECT 1, is everybody's. */
const STATEMENT_LENGTH_MIN = 12;

/** Sessions of an engine at work: they run part of one of these scripts, or their last statement is its bookkeeping. */
export async function readEngineSessions(session: Session, scripts: readonly ScriptText[]): Promise<Activity[]> {
  const others = await readOtherClients(session);
  return others.filter((activity) => isEngineAtWork(activity, scripts));
}

/** One of them, as the holder of a lock is described. */
export async function readEngine(session: Session, scripts: readonly ScriptText[]): Promise<LockHolder | undefined> {
  const [engine] = await readEngineSessions(session, scripts);
  return engine === undefined ? undefined : describeHolder(engine);
}

export function isEngineAtWork(
  { state, query, inStateMs }: Pick<Activity, "state" | "query" | "inStateMs">,
  scripts: readonly ScriptText[],
): boolean {
  const isResting = state === "idle" && inStateMs > BETWEEN_STATEMENTS_MS;
  if (BOOKKEEPING.test(query)) return !isResting;
  const statement = query.trim();
  if (state === "idle" || statement.length < STATEMENT_LENGTH_MIN) return false;
  return scripts.some((script) => script.text.includes(statement));
}

/**
 * Waits for engines that nobody waits for any more: where a deploy was killed, the lock is free, and the engine of its
 * CLI still migrates. To be called with the deploy lock, before the rows are believed.
 *
 * @throws LOCK_NOT_ACQUIRED after `waitMs`, and the signal's reason
 * @returns whether there was one, so that the history has to be read again
 */
export async function waitForEngines(
  session: Session,
  scripts: readonly ScriptText[],
  options: { readonly waitMs: number; readonly signal: AbortSignal; readonly tell: Report },
): Promise<boolean> {
  const startedMs = performance.now();
  let reportedMs = Number.NEGATIVE_INFINITY;
  let hasWaited = false;
  for (;;) {
    const [engine] = await readEngineSessions(session, scripts);
    if (engine === undefined) return hasWaited;
    hasWaited = true;
    const waitedMs = performance.now() - startedMs;
    const holder = describeHolder(engine);
    if (waitedMs >= options.waitMs) throw new DeployError("LOCK_NOT_ACQUIRED", { holder, waitedMs });
    if (performance.now() - reportedMs >= REPORT_EVERY_MS) {
      options.tell({ kind: "lock-waiting", holder, waitedMs });
      reportedMs = performance.now();
    }
    await pause(POLL_MS, options.signal);
  }
}

function describeHolder(engine: Activity): LockHolder {
  return {
    pid: engine.pid,
    applicationName: engine.applicationName,
    clientAddress: engine.clientAddress ?? undefined,
    since: engine.startedAt,
    statement: engine.query.replaceAll(/\s+/g, " ").trim().slice(0, STATEMENT_SHOWN_LENGTH),
    state: engine.state ?? undefined,
  };
}

async function readOtherClients(session: Session): Promise<Activity[]> {
  return await session.query<Activity>(OTHER_CLIENTS, {
    during: "read the sessions of the Prisma CLI",
    deadlineMs: QUERY_DEADLINE_MS,
  });
}

/** Tells the sessions of one CLI run from those that were there before it, and ends them. */
export interface SessionWatch {
  /**
   * Makes the CLI stop: cancels what its sessions run, then ends them, until it has ended, or that takes too long, or it
   * has nothing at work and goes on all the same.
   */
  stop(hasEnded: () => boolean): Promise<void>;
  /**
   * Waits for the sessions of a CLI that has ended, then makes them end. Answers those that are left, undefined where
   * the server could not be asked.
   *
   * @param isOrphaned its engine may have outlived it
   */
  settle(isOrphaned: boolean): Promise<readonly number[] | undefined>;
  close(): Promise<void>;
}

/** @param openSession used at once, and again when that session is lost */
export async function watchSessions(
  openSession: () => Promise<Session>,
  scripts: readonly MigrationScript[],
): Promise<SessionWatch> {
  let session = await openSession();
  const keyOf = ({ pid, startedAt }: EngineSession) => `${pid} ${startedAt}`;
  const known = new Set((await readOtherClients(session)).map(keyOf));

  async function readLeft(): Promise<number[]> {
    if (!session.isOpen) session = await openSession();
    const left = await readEngineSessions(session, scripts);
    return left.filter((engine) => !known.has(keyOf(engine))).map(({ pid }) => pid);
  }

  async function end(pids: readonly number[], verb: "pg_cancel_backend" | "pg_terminate_backend"): Promise<void> {
    for (const pid of pids) {
      // Sessions of another role are not ours to end: they are reported as left.
      await session
        .query(`SELECT ${verb}(${pid})`, { during: "stop the Prisma CLI", deadlineMs: QUERY_DEADLINE_MS })
        .catch(() => {});
    }
  }

  return {
    async stop(hasEnded) {
      await endSessions({ readLeft, end, patienceMs: 0, quietPolls: () => (hasEnded() ? 1 : IDLE_POLLS) });
    },
    settle(isOrphaned) {
      const [patienceMs, quietPolls] = isOrphaned ? [0, QUIET_POLLS] : [CLOSE_WAIT_MS, 1];
      return endSessions({ readLeft, end, patienceMs, quietPolls: () => quietPolls });
    },
    close: () => session.close(),
  };
}

interface EndOptions {
  readonly readLeft: () => Promise<number[]>;
  readonly end: (pids: readonly number[], verb: "pg_cancel_backend" | "pg_terminate_backend") => Promise<void>;
  /** How long they are only waited for. */
  readonly patienceMs: number;
  /** So many polls without one of them mean that they are gone. */
  readonly quietPolls: () => number;
}

async function endSessions(options: EndOptions): Promise<readonly number[] | undefined> {
  const startedMs = performance.now();
  let left: number[] | undefined;
  let quietPolls = 0;
  for (;;) {
    // A server that restarts takes the sessions with it, and answers again later.
    left = await options.readLeft().catch(() => undefined);
    quietPolls = left?.length === 0 ? quietPolls + 1 : 0;
    if (quietPolls >= options.quietPolls()) return [];
    const elapsedMs = performance.now() - startedMs;
    if (elapsedMs >= STOP_DEADLINE_MS) return left;
    if (left !== undefined && elapsedMs >= options.patienceMs) {
      const isCancelEnough = elapsedMs < options.patienceMs + CANCEL_WAIT_MS;
      await options.end(left, isCancelEnough ? "pg_cancel_backend" : "pg_terminate_backend");
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
