/**
 * The fence of `--maintenance`: from the mark to the verdict, whoever connects to the database may read and not write.
 *
 * It makes the proof of `proof.ts` likely and replaces none of it: a role's or a client's own setting overrides it, and
 * sessions of other roles can't always be ended. It is a setting of the database, so it outlives us. It therefore marks
 * itself in the same transaction, see `postgres/fence-mark.ts`, and the next start lifts what a killed deploy has left.
 */
import { randomBytes } from "node:crypto";
import { DeployError } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import {
  DATABASE_ENTRIES,
  FENCE_EXPRESSION,
  FENCE_WORDS,
  FENCED_NAMES,
  fenceExpressionOf,
  readFenceId,
} from "../postgres/fence-mark.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { prepareSession, readRow } from "./evidence.ts";

export interface RaisedFence {
  readonly id: string;
  /** Sessions of others that were ended. */
  readonly ended: number;
  /** Sessions of others that we may not end, or that did not end in time: they can go on writing. */
  readonly remaining: number;
  /** Roles with a setting of their own, which is stronger than the database's. */
  readonly overridingRoles: readonly string[];
  /** Of the transaction that has raised it. */
  readonly transactionId: string;
}

export interface LoweredFence {
  readonly id: string;
  /** Sessions of others that were ended: they would have stayed read-only for as long as they last. */
  readonly ended: number;
  /** Of the transaction that has lowered it. */
  readonly transactionId: string;
}

export interface FenceRights {
  readonly database: string;
  readonly owner: string;
  readonly user: string;
  /** The role may change settings of the database. */
  readonly isAllowed: boolean;
}

const DEADLINE_MS = 60_000;
/** A backend that is told to end does so at its next chance; one that is stuck in the system does not. */
const END_DEADLINE_MS = 5_000;
const END_POLL_MS = 50;

/** When it was raised, in UTC, and something that no other has. */
export function makeFenceId(now: Date): string {
  const time = now.toISOString().replace(/[-:]/g, "").slice(0, "20241219T143022".length);
  return `${time}Z_${randomBytes(3).toString("hex")}`;
}

/** @throws what the session throws */
export async function readFenceRights(session: Session): Promise<FenceRights> {
  const [row] = await session.query<FenceRights>(
    `SELECT datname::text AS "database", pg_get_userbyid(datdba)::text AS "owner", current_user::text AS "user",
       pg_has_role(datdba, 'USAGE') AS "isAllowed"
     FROM pg_database WHERE datname = current_database()`,
    { during: "read the rights for a fence", deadlineMs: DEADLINE_MS },
  );
  if (row === undefined) throw new Error("a statement that always answers one row has answered none");
  return row;
}

/**
 * Shuts writers out, and returns when those that could be ended have ended.
 *
 * @param id of letters, digits and "_"
 * @throws STATEMENT_FAILED or what the session throws: the fence may stand then, or not
 */
export async function raiseFence(database: Database, id: string): Promise<RaisedFence> {
  database.passFence();
  return await withSession(database, async (session) => {
    const transactionId = await runTransaction(session, makeRaiseBlock(id));
    const { ended, remaining } = await endOthers(session);
    return { id, ended, remaining, overridingRoles: await readOverridingRoles(session), transactionId };
  });
}

/**
 * Lets writers in again: the settings are as they were before the fence. Another fence than the one of that id is left.
 *
 * @returns undefined where there was nothing to lift
 * @throws FENCE_DENIED; STATEMENT_FAILED or what the session throws: the fence may stand then, or not
 */
export async function lowerFence(database: Database, id: string): Promise<LoweredFence | undefined> {
  database.passFence();
  return await withSession(database, async (session) => {
    const found = await readFence(session);
    if (found !== id) return undefined;
    const { isAllowed, ...fields } = await readFenceRights(session);
    if (!isAllowed) throw new DeployError("FENCE_DENIED", { ...fields, isLeft: true });
    const transactionId = await runTransaction(session, makeLowerBlock("current_database()"));
    const { ended } = await endOthers(session);
    return { id, ended, transactionId };
  });
}

/**
 * Lets us write behind a fence that a killed deploy has left, and leaves it: our session too, which may have connected
 * before anybody knew of it, and would be read-only for as long as it lasts.
 *
 * @param session holds the deploy lock
 */
export async function passLeftFence(database: Database, session: Session): Promise<void> {
  if ((await readFence(session)) === undefined) return;
  database.passFence();
  await session.query("SET default_transaction_read_only = off", {
    during: "set the session up to write",
    deadlineMs: DEADLINE_MS,
  });
}

/** Lifts whichever fence is there: under the deploy lock, only a killed deploy can have left one. */
export async function lowerAnyFence(database: Database): Promise<LoweredFence | undefined> {
  const session = await database.open("maintenance");
  const id = await readFence(session).finally(() => session.close());
  return id === undefined ? undefined : await lowerFence(database, id);
}

async function readFence(session: Session): Promise<string | undefined> {
  const [row] = await session.query<{ mark: string | null }>(`SELECT ${FENCE_EXPRESSION} AS "mark"`, {
    during: "read the fence",
    deadlineMs: DEADLINE_MS,
  });
  return readFenceId(row?.mark ?? null);
}

async function withSession<Result>(database: Database, act: (session: Session) => Promise<Result>): Promise<Result> {
  const session = await database.open("maintenance");
  try {
    await prepareSession(session);
    return await act(session);
  } finally {
    await session.close();
  }
}

/**
 * Nothing of it holds where any of it fails. The fence itself makes transactions read-only that do not say otherwise.
 *
 * @returns the transaction's id
 */
async function runTransaction(session: Session, block: string): Promise<string> {
  const during = "change the fence";
  const options = { during, deadlineMs: DEADLINE_MS };
  try {
    await session.script(`BEGIN READ WRITE;\n${block}`, options);
    const { id } = await readRow<{ id: string }>(session, `SELECT pg_current_xact_id()::text AS "id"`);
    await session.script("COMMIT", options);
    return id;
  } catch (cause) {
    if (!(cause instanceof ServerError)) throw cause;
    throw new DeployError("STATEMENT_FAILED", { during, server: cause.server }, { cause });
  }
}

function makeRaiseBlock(id: string): string {
  return `DO $fence$
DECLARE
  kept text := (SELECT encode(convert_to(json_agg(entry)::text, 'UTF8'), 'hex')
    FROM ${DATABASE_ENTRIES} AND split_part(entry, '=', 1) IN (${FENCED_NAMES}));
BEGIN
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
  EXECUTE format('ALTER DATABASE %I SET application_name = %L', current_database(),
    concat_ws(' ', ${FENCE_WORDS} || ${quoteLiteral(id)}, kept));
END
$fence$`;
}

/**
 * SQL: the settings are as they were before the fence, where there is one.
 *
 * @param database SQL of its name
 */
export function makeLowerBlock(database: string): string {
  return `DO $fence$
DECLARE
  mark text := ${fenceExpressionOf(database)};
  kept text := split_part(mark, ' ', 2);
  entry text;
BEGIN
  IF mark IS NULL THEN RETURN; END IF;
  EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', ${database});
  EXECUTE format('ALTER DATABASE %I RESET application_name', ${database});
  FOR entry IN SELECT json_array_elements_text(convert_from(decode(kept, 'hex'), 'UTF8')::json) WHERE kept <> '' LOOP
    EXECUTE format('ALTER DATABASE %I SET %I = %L', ${database}, split_part(entry, '=', 1),
      substr(entry, strpos(entry, '=') + 1));
  END LOOP;
END
$fence$`;
}

/**
 * Sessions of others with whether we may end them, which is the server's rule for it. What a role may not see of others
 * is taken for a client's. Our own, of other deploys that wait, are left: they do not write without the lock.
 */
const OTHERS = `
  SELECT a.pid, coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = current_user), false)
    OR NOT r.rolsuper AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')) AS "isOurs"
  FROM pg_stat_get_activity(NULL) AS a JOIN pg_roles AS r ON r.oid = a.usesysid
  WHERE a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND a.pid <> pg_backend_pid()
    AND coalesce(a.backend_type, 'client backend') = 'client backend'
    AND (NOT starts_with(a.application_name, 'prisma-safe-deploy ') OR starts_with(a.application_name, ${FENCE_WORDS}))`;

/** Ends the sessions of others that we may end, and waits for them. */
async function endOthers(session: Session): Promise<{ readonly ended: number; readonly remaining: number }> {
  const options = { during: "end the sessions of others", deadlineMs: DEADLINE_MS };
  const told = await session.query<{ pid: number; isEnding: boolean }>(
    `SELECT pid, CASE WHEN "isOurs" THEN pg_terminate_backend(pid) ELSE false END AS "isEnding" FROM (${OTHERS}) AS o`,
    options,
  );
  const ending = told.filter(({ isEnding }) => isEnding).map(({ pid }) => pid);
  let left = ending.length;
  const deadline = performance.now() + END_DEADLINE_MS;
  while (left > 0) {
    const [row] = await session.query<{ left: number }>(
      `SELECT count(*)::int AS "left" FROM pg_stat_get_activity(NULL) WHERE pid IN (${ending.join(", ")})`,
      options,
    );
    left = row?.left ?? 0;
    if (left === 0 || performance.now() >= deadline) break;
    await new Promise((resolve) => setTimeout(resolve, END_POLL_MS));
  }
  return { ended: ending.length - left, remaining: told.length - ending.length + left };
}

async function readOverridingRoles(session: Session): Promise<readonly string[]> {
  const [row] = await session.query<{ roles: readonly string[] }>(
    `SELECT coalesce(json_agg(DISTINCT r.rolname ORDER BY r.rolname), '[]') AS "roles"
     FROM pg_db_role_setting AS s JOIN pg_roles AS r ON r.oid = s.setrole, unnest(s.setconfig) AS entry
     WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
       AND split_part(entry, '=', 1) = 'default_transaction_read_only'
       AND NOT split_part(entry, '=', 2)::bool`,
    { during: "read settings of roles", deadlineMs: DEADLINE_MS },
  );
  return row?.roles ?? [];
}
