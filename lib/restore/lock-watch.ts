/**
 * Ends a statement of the restore that waits for a lock too long. A dump sets `lock_timeout` to none for itself, and all
 * the while the app queues behind the tables that are locked already.
 */
import type { Session } from "../postgres/session.ts";

const POLL_MS = 250;
const QUERY_DEADLINE_MS = 30_000;

export interface LockWatch {
  stop(): Promise<void>;
}

/** @param readPid the backend that restores, once it is known */
export function watchLocks(session: Session, readPid: () => number | undefined, lockTimeoutMs: number): LockWatch {
  let isStopped = false;
  const watching = (async () => {
    let waitsFor: string | undefined;
    let sinceMs = 0;
    while (!isStopped && session.isOpen) {
      const pid = readPid();
      const now = pid === undefined ? undefined : await readWait(session, pid).catch(() => undefined);
      if (now !== waitsFor) sinceMs = performance.now();
      waitsFor = now;
      if (pid !== undefined && waitsFor !== undefined && performance.now() - sinceMs >= lockTimeoutMs) {
        await cancel(session, pid).catch(() => {});
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  })();
  return {
    async stop() {
      isStopped = true;
      await watching;
    },
  };
}

/** What it waits for, in which statement; undefined when it does not wait. */
async function readWait(session: Session, pid: number): Promise<string | undefined> {
  const [row] = await session.query<{ wait: string | null }>(
    `SELECT (SELECT query_start::text || l::text FROM pg_locks AS l, pg_stat_activity AS a
       WHERE l.pid = ${pid} AND NOT l.granted AND a.pid = l.pid LIMIT 1) AS "wait"`,
    { during: "watch the restore's locks", deadlineMs: QUERY_DEADLINE_MS },
  );
  return row?.wait ?? undefined;
}

async function cancel(session: Session, pid: number): Promise<void> {
  await session.query(`SELECT pg_cancel_backend(${pid})`, {
    during: "end the restore's waiting",
    deadlineMs: QUERY_DEADLINE_MS,
  });
}
