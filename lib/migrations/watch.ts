/**
 * Looks at a migration from a second session while it runs, and tells every so often what it is at. A migration that is
 * over soon is never looked at, so that it costs no session.
 *
 * Nothing here may disturb the migration: whatever fails, it is looked at no more, and only its name and time are told.
 */
import { type Event, type Report, unfailing } from "../events.ts";
import type { Session } from "../postgres/session.ts";
import {
  type HeldRow,
  type HeldTables,
  type LockWait,
  type LongWork,
  makeHeldQuery,
  makeHeldTables,
  makeLockWait,
  makeLongWork,
  makeWaitQuery,
  makeWorkQuery,
  type WaitRow,
  type WorkRow,
} from "./activity.ts";

export interface WatchOptions {
  /** Its session is counted like every other, and closed before the watch is. */
  readonly openSession: () => Promise<Session>;
  /** The backend that migrates now. Undefined where there is none, or none that can be recognised. */
  readonly findBackend: (session: Session) => Promise<WatchedBackend | undefined>;
  /** Names of all that are to be applied, in order. */
  readonly migrations: readonly string[];
  readonly lockTimeoutMs: number;
  /** `server_version_num`. */
  readonly serverVersionNumber: number;
  readonly tell: Report;
}

export interface WatchedBackend {
  readonly pid: number;
  /** Undefined where the engine's own events tell it. */
  readonly migration: string | undefined;
}

export interface MigrationWatch {
  /** For the engine: from its events the watch knows which migration runs. Passes them on. */
  readonly tell: Report;
  /** Ends the watch and its session. Takes no longer than a query or a connection attempt, and never throws. */
  close(): Promise<void>;
}

const POLL_MS_MIN = 100;
const POLL_MS_MAX = 1_000;
/** A wait for a lock is seen this often before it is given up, so that it is always told. */
const POLLS_PER_LOCK_TIMEOUT = 3;
/** Measuring the database looks at each of its files: it may take this part of the time. */
const MEASURING_SHARE = 0.1;
const DURING = "watch the migration";
/** Far above what the queries take. The server's own limit is shorter, so that the session survives it. */
const QUERY_DEADLINE_MS = 5_000;
const SETTINGS =
  "SET statement_timeout = '2s'; SET lock_timeout = '500ms'; SET idle_in_transaction_session_timeout = 0";

/** The migration at work. */
interface Running {
  readonly name: string;
  readonly sinceMs: number;
}

/** What one look has shown. */
interface Sight {
  readonly migration: string | undefined;
  readonly waiting: LockWait | undefined;
  readonly work: LongWork | undefined;
  readonly held: HeldTables | undefined;
}

const NOTHING_SEEN: Sight = { migration: undefined, waiting: undefined, work: undefined, held: undefined };

export function watchMigration(options: WatchOptions): MigrationWatch {
  const tell = unfailing(options.tell);
  const startedMs = performance.now();
  const sleeper = makeSleeper();
  const observer = makeObserver(options);
  /** As the engine has told it, or else as it was seen. */
  let told: Running | undefined;
  let seen: Running | undefined;

  const watch = async () => {
    while (await sleeper.sleep(pollMsOf(options.lockTimeoutMs))) {
      const sight = await observer.look();
      if (sight.migration !== seen?.name) seen = startOf(sight.migration);
      const running = told ?? seen;
      // It may have ended meanwhile: what was seen of it is no news then.
      if (running !== undefined && !sleeper.isOver) tell(makeProgress(running, sight, startedMs, options.migrations));
    }
  };
  const watching = watch();

  return {
    tell: (event) => {
      if (event.kind === "migration-running") told = startOf(event.name);
      if (event.kind === "segment-retrying") {
        told = undefined;
        observer.forgetWait();
      }
      options.tell(event);
    },
    async close() {
      sleeper.end();
      await watching;
      await observer.close();
    },
  };
}

function startOf(name: string | undefined): Running | undefined {
  return name === undefined ? undefined : { name, sinceMs: performance.now() };
}

function pollMsOf(lockTimeoutMs: number): number {
  if (lockTimeoutMs === 0) return POLL_MS_MAX;
  return Math.min(POLL_MS_MAX, Math.max(POLL_MS_MIN, lockTimeoutMs / POLLS_PER_LOCK_TIMEOUT));
}

function makeProgress(
  { name, sinceMs }: Running,
  { waiting, work, held }: Sight,
  startedMs: number,
  migrations: readonly string[],
): Event {
  const nowMs = performance.now();
  return {
    kind: "migration-progress",
    name,
    number: migrations.indexOf(name) + 1,
    total: migrations.length,
    runningMs: nowMs - sinceMs,
    elapsedMs: nowMs - startedMs,
    waiting,
    work,
    held,
  };
}

/** The session that looks on, opened at the first look. Once it is lost there is none any more. */
function makeObserver({ openSession, findBackend, serverVersionNumber }: WatchOptions) {
  const gauge = makeGauge();
  let session: Session | undefined;
  let isBlind = false;
  let waitingSinceMs: number | undefined;

  const open = async (): Promise<Session> => {
    session = await openSession();
    await session.script(SETTINGS, { during: DURING, deadlineMs: QUERY_DEADLINE_MS });
    return session;
  };

  const readSight = async (): Promise<Sight> => {
    const watcher = session ?? (await open());
    const backend = await findBackend(watcher);
    if (backend === undefined) return NOTHING_SEEN;
    const options = { during: DURING, deadlineMs: QUERY_DEADLINE_MS };
    const [wait] = await watcher.query<WaitRow>(makeWaitQuery(backend.pid), options);
    const sinceMs = waitingSinceMs;
    waitingSinceMs = wait?.isWaiting === true ? (sinceMs ?? performance.now()) : undefined;
    const [work] = await watcher.query<WorkRow>(makeWorkQuery(backend.pid, serverVersionNumber), options);
    const [held] = await watcher.query<HeldRow>(makeHeldQuery(backend.pid), options);
    const grownBytes = await gauge.measure(watcher, work === undefined ? held?.unseen : undefined);
    return {
      migration: backend.migration,
      // Everybody waits for a moment now and then: told is what was seen before.
      waiting: wait && sinceMs !== undefined ? makeLockWait(wait, performance.now() - sinceMs) : undefined,
      work: work && makeLongWork(work),
      held: held && makeHeldTables(held, grownBytes),
    };
  };

  return {
    /** Never throws. */
    async look(): Promise<Sight> {
      if (isBlind) return NOTHING_SEEN;
      try {
        return await readSight();
      } catch {
        isBlind = session?.isOpen !== true;
        return NOTHING_SEEN;
      }
    },
    forgetWait() {
      waitingSinceMs = undefined;
    },
    async close() {
      await session?.close();
    },
  };
}

/** How much the database has grown since a relation was first seen to be written. Any role may ask for its size. */
function makeGauge() {
  let subject: number | undefined;
  let startBytes = 0;
  let grownBytes: number | undefined;
  let nextMs = 0;
  let isBroken = false;

  return {
    /** @param unseen the newest relation that is written; undefined or null where there is none */
    async measure(session: Session, unseen: number | null | undefined): Promise<number | undefined> {
      if (unseen === null || unseen === undefined) {
        subject = undefined;
        return undefined;
      }
      const isNew = subject !== unseen;
      if (isBroken || (!isNew && performance.now() < nextMs)) return grownBytes;
      const askedMs = performance.now();
      const query = `SELECT pg_database_size(current_database())::float8 AS "bytes"`;
      const options = { during: DURING, deadlineMs: QUERY_DEADLINE_MS };
      const [row] = await session.query<{ bytes: number }>(query, options).catch(() => []);
      const nowMs = performance.now();
      nextMs = nowMs + (nowMs - askedMs) / MEASURING_SHARE;
      // So many files that it takes longer than the watch may: it is not tried again.
      isBroken = row === undefined;
      if (isNew) [subject, startBytes] = [unseen, row?.bytes ?? 0];
      grownBytes = row === undefined ? undefined : Math.max(0, row.bytes - startBytes);
      return grownBytes;
    },
  };
}

/** A sleep that can be ended for good. Answers false when it was. */
function makeSleeper() {
  let isOver = false;
  let wake = () => {};
  return {
    get isOver() {
      return isOver;
    },
    end() {
      isOver = true;
      wake();
    },
    async sleep(durationMs: number): Promise<boolean> {
      if (isOver) return false;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, durationMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      return !isOver;
    },
  };
}
