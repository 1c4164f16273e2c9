/**
 * The steps by which a database is taken out of service and replaced, each a transaction of its own in a maintenance
 * database. Any of them may be the last one that a process has made: what is next is read from the server.
 */
import { DeployError } from "../errors.ts";
import { DEPLOY_LOCK_KEY } from "../postgres/deploy-lock-key.ts";
import { quoteIdentifier, quoteLiteral } from "../postgres/identifier.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { addTrace, readTrace, type Trace } from "../postgres/swap-trace.ts";
import { readRow } from "./evidence.ts";
import { makeLowerBlock } from "./fence.ts";

export interface DatabaseRow {
  readonly oid: string;
  readonly name: string;
  /** Another one after every ALTER DATABASE: the row's transaction id, as text. */
  readonly row: string;
  readonly isOpen: boolean;
  /** As it is without the trace. */
  readonly comment: string | null;
  readonly trace: Trace | undefined;
  readonly sizeBytes: number;
}

const DEADLINE_MS = 60_000;
const DROP_DEADLINE_MS = 600_000;
const POLL_MS = 50;
/** Backends that were told to end do so at once, but for those that write their last. */
const EMPTY_MS = 20_000;
const RENAME_ATTEMPTS_MAX = 4;
const IN_USE = "55006";

/**
 * SQL: the lock of whoever swaps a database, or finishes what another one has left, as a condition about `l`, a row of
 * pg_locks. In whichever maintenance database: a lock belongs to one, and not every process goes by the same.
 */
export function swapLockOf(database: string): string {
  return `l.classid = ${DEPLOY_LOCK_KEY} AND l.objsubid = 2
    AND l.objid = (pg_catalog.hashtext(${quoteLiteral(database)})::bigint & 4294967295)::oid`;
}

/**
 * First taken in the database of the session, and then looked for in the others: of two that do so at once, at least one
 * sees the other, and lets go.
 */
export async function tryLockSwap(session: Session, database: string): Promise<boolean> {
  const key = `${DEPLOY_LOCK_KEY}, pg_catalog.hashtext(${quoteLiteral(database)})`;
  const isTrue = async (expression: string) =>
    (await readRow<{ isTrue: boolean }>(session, `SELECT ${expression} AS "isTrue"`)).isTrue;
  if (!(await isTrue(`pg_catalog.pg_try_advisory_lock(${key})`))) return false;
  const isHeldElsewhere = await isTrue(
    `EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted
       AND l.pid <> pg_catalog.pg_backend_pid() AND ${swapLockOf(database)})`,
  );
  if (isHeldElsewhere) await isTrue(`pg_catalog.pg_advisory_unlock(${key})`);
  return !isHeldElsewhere;
}

export async function readDatabase(session: Session, name: string): Promise<DatabaseRow | undefined> {
  const [row] = await session.query<Omit<DatabaseRow, "comment" | "trace"> & { text: string | null }>(
    `SELECT oid::text AS "oid", datname::text AS "name", xmin::text AS "row", datallowconn AS "isOpen",
       pg_catalog.shobj_description(oid, 'pg_database') AS "text", (CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') THEN pg_catalog.pg_database_size(oid) ELSE 0 END)::float8
         AS "sizeBytes"
     FROM pg_catalog.pg_database WHERE datname = ${quoteLiteral(name)}`,
    { during: "look at the database from beside it", deadlineMs: DEADLINE_MS },
  );
  if (row === undefined) return undefined;
  const { text, ...rest } = row;
  return { ...rest, ...readTrace(text) };
}

async function requireDatabase(session: Session, name: string): Promise<DatabaseRow> {
  const row = await readDatabase(session, name);
  if (row === undefined) throw failure(`database ${name} is not there any more`);
  return row;
}

/** Leaves the trace, and in the same transaction shuts the door where that is wanted. @returns the row from then on */
export async function beginSwap(
  session: Session,
  { live, scratch, failed, backup }: Omit<Renames, "live"> & { readonly live: string },
  { isShut }: { readonly isShut: boolean },
  record?: (transactionId: string) => void,
): Promise<DatabaseRow> {
  const { comment } = await requireDatabase(session, live);
  const statements = [
    commentOn(live, addTrace(comment, { swap: "started", scratch, failed, backup })),
    ...(isShut ? [`ALTER DATABASE ${quoteIdentifier(live)} ALLOW_CONNECTIONS false`] : []),
  ];
  await runTransaction(session, statements, record);
  return await requireDatabase(session, live);
}

/** In the trace: as long as the row is that one, nobody has written since, and any start may go on with the swap. */
export async function noteProof(
  session: Session,
  { scratch, failed, backup }: Pick<Renames, "scratch" | "failed" | "backup">,
  { name, comment, row }: DatabaseRow,
): Promise<void> {
  await runTransaction(session, [
    commentOn(name, addTrace(comment, { swap: "started", scratch, failed, backup, row })),
  ]);
}

export async function shutDatabase(session: Session, live: string): Promise<DatabaseRow> {
  await runTransaction(session, [`ALTER DATABASE ${quoteIdentifier(live)} ALLOW_CONNECTIONS false`]);
  return await requireDatabase(session, live);
}

/**
 * Ends everybody but those, and waits until they are gone.
 *
 * @throws RESTORE_NOT_PROVEN where somebody stays: another role's session, which only that role or a superuser can end
 */
export async function endBackends(session: Session, { oid }: DatabaseRow, own: readonly number[]): Promise<void> {
  await waitForBackends(session, oid, own, async (pids) => {
    for (const pid of pids) {
      await session
        .query(`SELECT pg_catalog.pg_terminate_backend(${pid})`, {
          during: "end the sessions of others",
          deadlineMs: DEADLINE_MS,
        })
        .catch((error: unknown) => {
          if (!(error instanceof ServerError)) throw error;
        });
    }
  });
}

/** When our own have been closed. */
export async function waitUntilEmpty(session: Session, { oid }: DatabaseRow): Promise<void> {
  await waitForBackends(session, oid, [], async () => {});
}

async function waitForBackends(
  session: Session,
  oid: string,
  own: readonly number[],
  act: (pids: readonly number[]) => Promise<void>,
): Promise<void> {
  const deadline = performance.now() + EMPTY_MS;
  for (;;) {
    const pids = (await readBackends(session, oid)).filter((pid) => !own.includes(pid));
    if (pids.length === 0) return;
    if (performance.now() >= deadline) throw new DeployError("RESTORE_NOT_PROVEN", { reasons: ["sessions-not-ended"] });
    await act(pids);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Autovacuum leaves by itself when a database is renamed. */
async function readBackends(session: Session, oid: string): Promise<readonly number[]> {
  const { pids } = await readRow<{ pids: readonly number[] }>(
    session,
    `SELECT coalesce(json_agg(a.pid), '[]') AS "pids" FROM pg_catalog.pg_stat_get_activity(NULL) AS a
     WHERE a.datid = ${oid}::oid AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker')
       AND NOT (a.backend_type IS NULL AND coalesce(a.usesysid, 0) = 0)`,
  );
  return pids;
}

export interface Renames {
  /** As it was when it was shut. */
  readonly live: DatabaseRow;
  readonly scratch: string;
  readonly failed: string;
  readonly backup: string;
}

/**
 * Both renames, or none: the restored database takes the live one's name, and the live one the name that it is kept by.
 *
 * While they are done and not yet committed, nobody can enter the database or alter it. Then another session looks at
 * what is committed of its row: when that is still what it was when it was shut, nobody was let in since.
 *
 * @param observer another session in a maintenance database
 * @throws RESTORE_NOT_PROVEN where somebody has opened or altered the database since it was shut
 */
export async function finishSwap(session: Session, observer: Session, renames: Renames): Promise<void> {
  const { live, scratch, failed, backup } = renames;
  const { comment, oid: by } = await requireDatabase(session, scratch);
  const statements = [
    `ALTER DATABASE ${quoteIdentifier(live.name)} RENAME TO ${quoteIdentifier(failed)}`,
    `ALTER DATABASE ${quoteIdentifier(scratch)} RENAME TO ${quoteIdentifier(live.name)}`,
    commentOn(failed, addTrace(live.comment, { swap: "replaced", backup, by })),
    // The deploy's own fence went with it, and nobody would lift it there.
    makeLowerBlock(`(SELECT datname FROM pg_database WHERE oid = ${live.oid})`),
    commentOn(live.name, comment),
  ];
  for (let attempt = 1; ; attempt += 1) {
    try {
      await runTransaction(session, statements, async () => await requireUnchanged(observer, live));
      return;
    } catch (error) {
      const isInUse = error instanceof ServerError && error.server.sqlState === IN_USE;
      // The server itself has waited for five seconds.
      if (!isInUse || attempt >= RENAME_ATTEMPTS_MAX) throw asFailure(error);
    }
  }
}

/**
 * Nobody was let in since the database was shut.
 *
 * @param live as it was then
 * @throws RESTORE_NOT_PROVEN
 */
export async function requireUnchanged(session: Session, live: DatabaseRow): Promise<void> {
  const now = await readDatabase(session, live.name);
  if (now?.oid === live.oid && now.row === live.row && !now.isOpen) return;
  throw new DeployError("RESTORE_NOT_PROVEN", { reasons: ["database-reopened"] });
}

/**
 * Puts everything back to before the swap: the door first, then what was restored beside it, and the trace at last, so
 * that an undoing that is cut off is found as well. Does nothing where there is no trace.
 */
export async function undoSwap(session: Session, live: string): Promise<void> {
  const row = await requireDatabase(session, live);
  if (row.trace?.swap !== "started") return;
  if (!row.isOpen) {
    await runTransaction(session, [`ALTER DATABASE ${quoteIdentifier(live)} ALLOW_CONNECTIONS true`]);
  }
  await dropScratch(session, row.trace.scratch);
  await runTransaction(session, [commentOn(live, row.comment)]);
}

export async function dropScratch(session: Session, scratch: string): Promise<void> {
  await session.script(`DROP DATABASE IF EXISTS ${quoteIdentifier(scratch)} WITH (FORCE)`, {
    during: "drop the database that was being restored",
    deadlineMs: DROP_DEADLINE_MS,
  });
}

function commentOn(database: string, text: string | null): string {
  return `COMMENT ON DATABASE ${quoteIdentifier(database)} IS ${text === null ? "NULL" : quoteLiteral(text)}`;
}

/** @param beforeCommit told the transaction's id; what it throws rolls everything back */
async function runTransaction(
  session: Session,
  statements: readonly string[],
  beforeCommit: (transactionId: string) => void | Promise<void> = () => {},
): Promise<void> {
  const options = { during: "swap databases", deadlineMs: DEADLINE_MS };
  try {
    await session.script(`BEGIN; ${statements.join("; ")}`, options);
    const { id } = await readRow<{ id: string }>(session, `SELECT pg_catalog.pg_current_xact_id()::text AS "id"`);
    await beforeCommit(id);
    await session.script("COMMIT", options);
  } catch (error) {
    if (session.isOpen) await session.script("ROLLBACK", options).catch(() => {});
    throw error;
  }
}

function failure(output: string): DeployError {
  return new DeployError("RESTORE_FAILED", { tool: "SQL", exitCode: undefined, output });
}

function asFailure(error: unknown): unknown {
  return error instanceof ServerError ? failure(`${error.server.message} (${error.server.sqlState})`) : error;
}
