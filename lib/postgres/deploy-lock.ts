/**
 * The deploy lock: Prisma's own advisory lock, taken by polling and held by the session that migrates.
 *
 * A blocking `pg_advisory_lock` deadlocks with a CREATE INDEX CONCURRENTLY of the holder, since the waiter's snapshot
 * is one that the index build waits for. A poll has no snapshot between two tries.
 *
 * Who waits does so in another database where one lets him in, and looks from there whether the lock is still held: in
 * this one a session of his, opened whenever, would be a stranger's, and nobody could prove any more that he was alone.
 */
import { DeployError, isDeployError, type LockHolder } from "../errors.ts";
import type { Report } from "../events.ts";
import { pause } from "../system/pause.ts";
import { isShut } from "./connection-error.ts";
import type { Database } from "./database.ts";
import { DEPLOY_LOCK_KEY, DEPLOY_TURN_KEY } from "./deploy-lock-key.ts";
import { quoteLiteral } from "./identifier.ts";
import { readHolder } from "./lock-holder.ts";
import type { Session } from "./session.ts";

export interface LockOptions {
  /** How long to wait for the holder. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  readonly tell: Report;
  /** A session in another database of the cluster, to wait in. Undefined where none lets us in. */
  readonly openBeside?: (() => Promise<Session | undefined>) | undefined;
  /** Called when the database lets nobody in: a swap, which may have been cut off. What it throws ends the waiting. */
  readonly onShut?: (() => Promise<void>) | undefined;
}

const POLL_MS = 500;
const REPORT_EVERY_MS = 10_000;
const QUERY_DEADLINE_MS = 30_000;

const lockOf = (databaseExpression: string) =>
  `l.classid = 0 AND l.objid = ${DEPLOY_LOCK_KEY} AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = ${databaseExpression})`;

/** The lock belongs to a backend; behind a pooler the next statement may run on another one. */
const STILL_OURS = `
  SELECT pg_backend_pid() AS "pid", EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = ${DEPLOY_LOCK_KEY} AND objsubid = 1
      AND granted AND pid = pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS "held"`;

/**
 * Waits for the deploy lock and returns the session that holds it.
 *
 * A connection that is cut while waiting is opened again: a holder that swaps databases ends every other session.
 *
 * @throws LOCK_NOT_ACQUIRED after `waitMs`, INTERRUPTED, POOLER_IN_TRANSACTION_MODE
 */
export async function acquireDeployLock(
  database: Database,
  openSession: () => Promise<Session>,
  options: LockOptions,
): Promise<Session> {
  const wait = makeWait(database, options);
  let session: Session | undefined;
  let turn: Session | undefined;
  for (;;) {
    try {
      if (session?.isOpen !== true) session = await openSession();
      const pid = await tryLock(session);
      await turn?.close();
      if (pid !== undefined) return await confirmLock(database, session, pid);
      await wait.report(session, "current_database()");
      // Where it can't wait beside the database, it keeps its session.
      turn = await wait.beside(session);
      if (turn !== undefined) continue;
    } catch (error) {
      await turn?.close();
      if (!isCutByHolder(error) || wait.isOver()) {
        await session?.close();
        throw error;
      }
      if (isShut(error)) await options.onShut?.();
    }
    await pause(POLL_MS, options.signal);
  }
}

interface Wait {
  isOver(): boolean;
  /** Says who holds the lock, from time to time. @throws LOCK_NOT_ACQUIRED when the time is over */
  report(session: Session, databaseExpression: string): Promise<void>;
  /**
   * Closes the session and waits in another database until nobody holds the lock, and it is our turn to try: whoever
   * enters while another one has got the lock would be a stranger to the proof that nobody else has written.
   *
   * @returns the session that has the turn for as long as it lasts; undefined, and at once, where no database lets us in
   */
  beside(session: Session): Promise<Session | undefined>;
}

function makeWait({ target }: Database, { waitMs, signal, tell, openBeside }: LockOptions): Wait {
  const startedMs = performance.now();
  let holder: LockHolder | undefined;
  let reportedMs = Number.NEGATIVE_INFINITY;
  const isOver = () => performance.now() - startedMs >= waitMs;
  const report = async (session: Session, databaseExpression: string) => {
    const waitedMs = performance.now() - startedMs;
    if (performance.now() - reportedMs >= REPORT_EVERY_MS) {
      holder = await readHolder(session, lockOf(databaseExpression));
      tell({ kind: "lock-waiting", holder, waitedMs });
      reportedMs = performance.now();
    }
    if (isOver()) throw new DeployError("LOCK_NOT_ACQUIRED", { holder, waitedMs });
  };
  let isPossible = true;
  const beside = async (session: Session) => {
    const watcher = isPossible ? await openBeside?.() : undefined;
    isPossible = watcher !== undefined;
    if (watcher === undefined) return undefined;
    try {
      await session.close();
      const name = quoteLiteral(target.database);
      while ((await readHolder(watcher, lockOf(name))) !== undefined || !(await tryTurn(watcher, name))) {
        await report(watcher, name);
        await pause(POLL_MS, signal);
      }
      return watcher;
    } catch (error) {
      await watcher.close();
      throw error;
    }
  };
  return { isOver, report, beside };
}

/** A holder that swaps databases lets nobody into the old one; for a moment there may be none of that name. */
function isCutByHolder(error: unknown): boolean {
  return isDeployError(error) && ["CONNECTION_LOST", "DATABASE_REFUSED", "DATABASE_NOT_FOUND"].includes(error.code);
}

/** Releases the lock explicitly, so that a waiting deploy does not depend on when the server notices our end. */
export async function releaseDeployLock(session: Session): Promise<void> {
  if (!session.isOpen) return;
  await session.query(`SELECT pg_advisory_unlock(${DEPLOY_LOCK_KEY})`, {
    during: "release the deploy lock",
    deadlineMs: QUERY_DEADLINE_MS,
  });
}

/** Who holds the lock, as far as our role may see it. */
export async function readLockHolder(session: Session): Promise<LockHolder | undefined> {
  return await readHolder(session, lockOf("current_database()"));
}

/** Between those who wait in the same database, about the one of that name. */
async function tryTurn(watcher: Session, name: string): Promise<boolean> {
  const [row] = await watcher.query<{ isHeld: boolean }>(
    `SELECT pg_try_advisory_lock(${DEPLOY_TURN_KEY}, hashtext(${name})) AS "isHeld"`,
    { during: "take a turn at the deploy lock", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.isHeld === true;
}

/** The backend that got the lock, or undefined when somebody else holds it. */
async function tryLock(session: Session): Promise<number | undefined> {
  const [row] = await session.query<{ held: boolean; pid: number }>(
    `SELECT pg_try_advisory_lock(${DEPLOY_LOCK_KEY}) AS "held", pg_backend_pid() AS "pid"`,
    { during: "take the deploy lock", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.held ? row.pid : undefined;
}

async function confirmLock(database: Database, session: Session, pid: number): Promise<Session> {
  for (let statement = 0; statement < 3; statement += 1) {
    const [row] = await session.query<{ pid: number; held: boolean }>(STILL_OURS, {
      during: "confirm the deploy lock",
      deadlineMs: QUERY_DEADLINE_MS,
    });
    if (row?.pid === pid && row.held) continue;
    await session.close();
    const { host, port } = database.target;
    throw new DeployError("POOLER_IN_TRANSACTION_MODE", { host, port });
  }
  return session;
}
