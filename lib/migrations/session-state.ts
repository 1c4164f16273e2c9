/**
 * What a script may have changed in the session besides the database, and how it is put back: no setting, role or lock
 * may reach the next script or our own rows.
 */
import { DEPLOY_LOCK_KEY } from "../postgres/deploy-lock-key.ts";
import { quoteIdentifier, quoteLiteral } from "../postgres/identifier.ts";
import type { Session } from "../postgres/session.ts";

export interface SessionSettings {
  readonly sessionUser: string;
  /** `none` where SET ROLE is not in force. */
  readonly role: string;
  /** What was set in the session, by name; what came with the connection is not among it, and comes back by RESET. */
  readonly values: Readonly<Record<string, string>>;
}

export interface SessionState {
  readonly sessionUser: string;
  readonly role: string;
  /** The current transaction's id, once it has one. */
  readonly transactionId: string | null;
  /** Set by us in the transaction where its id may not be asked for at once. */
  readonly marker: string | null;
  readonly constraints: readonly DeferrableConstraint[];
}

/** Constraints go by schema and name, which several tables may use for different ones. */
export interface DeferrableConstraint {
  readonly schema: string;
  readonly name: string;
  readonly initiallyDeferred: boolean;
  /** One of the same name can't be deferred, or not in the same way. */
  readonly isAmbiguous: boolean;
}

/** A setting of ours that only lives as long as the transaction in which it was set. */
export const MARKER = "prisma_safe_deploy.segment";

const DEADLINE_MS = 60_000;

/**
 * A transaction's own properties can't be put back; a script that sets them gets a transaction of its own. Roles are read
 * by themselves.
 */
const UNSETTABLE = [
  "transaction_isolation",
  "transaction_read_only",
  "transaction_deferrable",
  "role",
  "session_authorization",
  MARKER,
];

/** Everything is qualified: the script may have changed the search path. */
const ROLES = `session_user::text AS "sessionUser", pg_catalog.current_setting('role') AS "role"`;

const VALUES = `
  (SELECT coalesce(json_object_agg(name, setting), '{}') FROM pg_catalog.pg_settings
   WHERE source = 'session' AND name NOT IN (${UNSETTABLE.map((name) => `'${name}'`).join(", ")})) AS "values"`;

const STATE = `
  pg_catalog.pg_current_xact_id_if_assigned()::text AS "transactionId",
  pg_catalog.current_setting('${MARKER}', true) AS "marker",
  (SELECT coalesce(json_agg(json_build_object(
     'schema', n.nspname, 'name', c.conname, 'initiallyDeferred', c.condeferred, 'isAmbiguous', EXISTS (
       SELECT FROM pg_catalog.pg_constraint o
       WHERE o.conname = c.conname AND o.connamespace = c.connamespace
         AND (NOT o.condeferrable OR o.condeferred <> c.condeferred)))), '[]')
   FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
   WHERE c.condeferrable AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
     AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)) AS "constraints"`;

export async function readSettings(session: Session): Promise<SessionSettings> {
  const options = { during: "read the session's settings", deadlineMs: DEADLINE_MS };
  return onlyRow(await session.query<SessionSettings>(`SELECT ${ROLES}, ${VALUES}`, options));
}

/** One round trip; what is read belongs to one moment. Fails in an aborted transaction (25P02). */
export async function readSessionState(session: Session): Promise<SessionState> {
  const options = { during: "check the session", deadlineMs: DEADLINE_MS };
  return onlyRow(await session.query<SessionState>(`SELECT ${ROLES}, ${STATE}`, options));
}

/** Whether the session still holds the deploy lock. Costs more the more locks there are: thousands in a long segment. */
export async function holdsDeployLock(session: Session): Promise<boolean> {
  const row = onlyRow(
    await session.query<{ held: boolean }>(
      `SELECT EXISTS (
         SELECT FROM pg_catalog.pg_locks
         WHERE locktype = 'advisory' AND classid = 0 AND objid = ${DEPLOY_LOCK_KEY} AND objsubid = 1 AND granted
           AND pid = pg_catalog.pg_backend_pid()
           AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
       ) AS "held"`,
      { during: "check the deploy lock", deadlineMs: DEADLINE_MS },
    ),
  );
  return row.held;
}

/** True inside of a transaction block, for a session that should not be in one. Fails in an aborted one (25P02). */
export async function isInTransaction(session: Session): Promise<boolean> {
  // A statement outside of a block is its own transaction, and begins with it.
  const row = onlyRow(
    await session.query<{ isOpen: boolean }>(
      `SELECT pg_catalog.now() <> pg_catalog.statement_timestamp() AS "isOpen"`,
      { during: "check the session", deadlineMs: DEADLINE_MS },
    ),
  );
  return row.isOpen;
}

/** The names of settings, and of roles, that differ. */
export function differingSettings(before: SessionSettings, now: SessionSettings): string[] {
  const names = [...new Set([...Object.keys(before.values), ...Object.keys(now.values)])];
  return [
    ...(before.sessionUser === now.sessionUser ? [] : ["session_authorization"]),
    ...(before.role === now.role ? [] : ["role"]),
    ...names.filter((name) => before.values[name] !== now.values[name]),
  ];
}

/**
 * Statements that put the settings back, inside of a transaction or not. Settings whose names PostgreSQL does not know
 * are in no view, so all are reset, and our own set again.
 */
export function makePutBack(before: SessionSettings, now: Pick<SessionState, "sessionUser" | "role">): string[] {
  const isOtherUser = now.sessionUser !== before.sessionUser;
  return [
    // Roles first: the other one may not change every setting.
    ...(isOtherUser ? ["RESET SESSION AUTHORIZATION"] : []),
    ...(isOtherUser || now.role !== before.role ? [setRole(before.role)] : []),
    "RESET ALL",
    ...Object.entries(before.values).map(
      ([name, value]) => `SELECT pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`,
    ),
  ];
}

function setRole(role: string): string {
  return role === "none" ? "RESET ROLE" : `SET ROLE ${quoteIdentifier(role)}`;
}

/**
 * Lets deferred constraints check now what a commit would have checked. By name: SET CONSTRAINTS ALL would also rule
 * over constraints that a later script creates.
 */
export function makeCheckConstraints(constraints: readonly DeferrableConstraint[]): string | undefined {
  return setConstraints(constraints, "IMMEDIATE");
}

/** Defers again what is deferred at the start of every transaction. */
export function makeDeferAgain(constraints: readonly DeferrableConstraint[]): string | undefined {
  return setConstraints(
    constraints.filter(({ initiallyDeferred }) => initiallyDeferred),
    "DEFERRED",
  );
}

function setConstraints(
  constraints: readonly DeferrableConstraint[],
  mode: "IMMEDIATE" | "DEFERRED",
): string | undefined {
  if (constraints.length === 0) return undefined;
  const names = constraints.map(({ schema, name }) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`);
  return `SET CONSTRAINTS ${[...new Set(names)].join(", ")} ${mode}`;
}

function onlyRow<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("the server answered no row");
  return row;
}
