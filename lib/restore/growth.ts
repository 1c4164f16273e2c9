/** How far a restore is: by how much the database that it fills has grown. */
import type { Session } from "../postgres/session.ts";

/** What a database weighs that holds nothing but the system's own tables. */
const EMPTY_DATABASE_BYTES = 7_500_000;
const POLL_MS = 1_000;
const QUERY_DEADLINE_MS = 30_000;

/** Bytes by which it will have grown, if it was as tightly packed: an estimate. Undefined where it is next to nothing. */
export function expectGrowth(databaseSizeBytes: number): number | undefined {
  return databaseSizeBytes > EMPTY_DATABASE_BYTES ? databaseSizeBytes - EMPTY_DATABASE_BYTES : undefined;
}

export interface GrowthWatch {
  stop(): Promise<void>;
}

/**
 * @param session of any database of the cluster, and not at work meanwhile
 * @param database its SQL expression, `current_database()` or a literal
 * @param progress called about once a second with the bytes by which it has grown
 */
export function watchGrowth(session: Session, database: string, progress: (bytes: number) => void): GrowthWatch {
  let isStopped = false;
  let wake = () => {};
  const watching = (async () => {
    let firstBytes: number | undefined;
    let most = 0;
    while (!isStopped && session.isOpen) {
      const bytes = await readSize(session, database).catch(() => undefined);
      firstBytes ??= bytes;
      // At the very end what was dropped goes, and the database shrinks.
      if (bytes !== undefined && firstBytes !== undefined) most = Math.max(most, bytes - firstBytes);
      progress(most);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, POLL_MS);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  })();
  return {
    async stop() {
      isStopped = true;
      wake();
      await watching;
    },
  };
}

async function readSize(session: Session, database: string): Promise<number | undefined> {
  const [row] = await session.query<{ bytes: number }>(`SELECT pg_database_size(${database})::float8 AS "bytes"`, {
    during: "watch the restored database grow",
    deadlineMs: QUERY_DEADLINE_MS,
  });
  return row?.bytes;
}
