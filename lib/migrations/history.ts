/**
 * The applied history: the rows of `_prisma_migrations` and what must be known about the server with them.
 *
 * One round trip when the table exists. Nothing here writes, and nobody else reads the rows: whatever decides works on
 * `History`, so that another record than this table can be read beside it.
 */
import type { ServerMessage } from "../errors.ts";
import { DeployError } from "../errors.ts";
import { DEPLOY_LOCK_KEY } from "../postgres/deploy-lock-key.ts";
import { FENCE_EXPRESSION, readFenceId } from "../postgres/fence-mark.ts";
import type { Session } from "../postgres/session.ts";
import { ServerError } from "../postgres/session.ts";
import { hasOpenTrace } from "../postgres/swap-trace.ts";

/** A row of `_prisma_migrations`. Times are ISO 8601 as the server renders them. */
export interface MigrationRow {
  readonly id: string;
  readonly name: string;
  readonly checksum: string;
  readonly startedAt: string;
  readonly finishedAt: string | null;
  readonly rolledBackAt: string | null;
  readonly appliedStepsCount: number;
}

export interface ServerFacts {
  /** `server_version_num`, for example 150018. */
  readonly versionNumber: number;
  readonly version: string;
  readonly database: string;
  readonly user: string;
  readonly inRecovery: boolean;
  /** New transactions are read-only for this session. */
  readonly readOnly: boolean;
}

export interface History {
  readonly server: ServerFacts;
  /** The schema that holds the table. Undefined where there is no table yet. */
  readonly schema: string | undefined;
  /** Ordered by start, then id. */
  readonly rows: readonly MigrationRow[];
  /** Somebody holds Prisma's lock, so an unfinished row may be a running migration. */
  readonly lockHeld: boolean;
  /** Id of the fence that shuts writers out of the database: of a deploy at work, or of one that was killed. */
  readonly fence: string | undefined;
  /** A swap of this database has begun and not ended: it is at work, or was killed. */
  readonly hasSwap: boolean;
  /** What is in the target schema; only read where there is no table. */
  readonly baseline: Baseline | undefined;
}

export interface Baseline {
  /** Ordinary tables of the target schema, as Prisma looks for them. */
  readonly tables: readonly string[];
  /** Where an unqualified CREATE TABLE would go. Null where no schema of the search path exists. */
  readonly currentSchema: string | null;
  /** Prisma 8 keeps its record here, in `prisma_contract`. */
  readonly hasContractLedger: boolean;
}

/**
 * Reads a history by a session of the target database.
 *
 * @param schema the `schema` parameter of the connection string, or `public`
 */
export type HistoryReader = (session: Session, schema: string, deadlineMs: number) => Promise<History>;

/** The default of Prisma's `schema` parameter. */
export const DEFAULT_SCHEMA = "public";

const UNDEFINED_TABLE = "42P01";

const SERVER_FACTS = `
  current_setting('server_version_num')::int AS "versionNumber",
  current_setting('server_version') AS "version",
  current_database() AS "database",
  current_user AS "user",
  pg_is_in_recovery() AS "inRecovery",
  current_setting('transaction_read_only') = 'on' AS "readOnly"`;

const TRACES = `
  EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 0 AND objid = ${DEPLOY_LOCK_KEY} AND objsubid = 1 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pid <> pg_backend_pid()
  ) AS "lockHeld", ${FENCE_EXPRESSION} AS "fence",
  (SELECT ${hasOpenTrace("shobj_description(oid, 'pg_database')")} FROM pg_database WHERE datname = current_database())
    AS "hasSwap"`;

/**
 * Unqualified on purpose: the table is where Prisma would find it, through the session's search path. The rows come first,
 * since that is where a restore is waited for that makes the table anew: a name that was looked up before is of the old one.
 */
const READ_ROWS = `SELECT
  (SELECT coalesce(json_agg(json_build_object(
     'id', id, 'name', migration_name, 'checksum', checksum, 'startedAt', started_at, 'finishedAt', finished_at,
     'rolledBackAt', rolled_back_at, 'appliedStepsCount', applied_steps_count) ORDER BY started_at, id), '[]')
   FROM _prisma_migrations) AS "rows",
  (SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = '_prisma_migrations'::regclass) AS "schema",
  ${SERVER_FACTS}, ${TRACES}`;

type Answer = ServerFacts & { lockHeld: boolean; fence: string | null; hasSwap: boolean };
type RowsAnswer = Answer & { schema: string; rows: readonly MigrationRow[] };
type BaselineAnswer = Answer & Baseline;

/**
 * The history of Prisma 5 to 7, found as Prisma would find it, through the session's search path.
 *
 * @throws HISTORY_IN_OTHER_SCHEMA where the search path leads to another schema than Prisma checks (its `$user` trap)
 * @throws HISTORY_UNREADABLE where the table is there but can't be read
 * @see schema-engine/connectors/sql-schema-connector/src/flavour.rs, load_migrations_table
 */
export const readHistory: HistoryReader = async (session, schema, deadlineMs) => {
  const read = { during: "read _prisma_migrations", deadlineMs };
  try {
    const [answer] = await session.query<RowsAnswer>(READ_ROWS, read);
    if (answer === undefined) throw new Error("the history query returned no row");
    if (answer.schema !== schema) throw otherSchema(schema, answer.schema, answer.user);
    return { ...historyOf(answer), schema: answer.schema, rows: answer.rows, baseline: undefined };
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.server.sqlState !== UNDEFINED_TABLE) throw unreadable(error.server, error);
    return await readBaseline(session, schema, deadlineMs);
  }
};

/** Migrations whose failure was written down: a process that was killed could not. */
export async function readNamesWithError(session: Session): Promise<readonly string[]> {
  const [answer] = await session.query<{ names: readonly string[] }>(
    `SELECT coalesce(json_agg(migration_name), '[]') AS "names" FROM _prisma_migrations
     WHERE finished_at IS NULL AND rolled_back_at IS NULL AND logs <> ''`,
    { during: "read the logs of failed migrations", deadlineMs: 60_000 },
  );
  return answer?.names ?? [];
}

/** A history without a table: what stands in the schema decides between an empty database and one that needs a baseline. */
async function readBaseline(session: Session, schema: string, deadlineMs: number): Promise<History> {
  const [answer] = await session.query<BaselineAnswer>(
    `SELECT ${SERVER_FACTS}, ${TRACES}, current_schema() AS "currentSchema",
       EXISTS (
         SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'prisma_contract' AND c.relname = 'marker'
       ) AS "hasContractLedger",
       (SELECT coalesce(json_agg(c.relname ORDER BY c.relname), '[]')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname = $1) AS "tables"`,
    { during: "read the schema", deadlineMs, parameters: [schema] },
  );
  if (answer === undefined) throw new Error("the baseline query returned no row");
  const { tables, currentSchema, hasContractLedger } = answer;
  // The table is there, but not on the search path: Prisma would create a second one, and so would we.
  if (tables.includes("_prisma_migrations")) throw otherSchema(schema, currentSchema ?? "", answer.user);
  if (currentSchema !== null && currentSchema !== schema) throw otherSchema(schema, currentSchema, answer.user);
  return { ...historyOf(answer), schema: undefined, rows: [], baseline: { tables, currentSchema, hasContractLedger } };
}

function historyOf(answer: Answer): Pick<History, "server" | "lockHeld" | "fence" | "hasSwap"> {
  const { versionNumber, version, database, user, inRecovery, readOnly, lockHeld, fence, hasSwap } = answer;
  const server = { versionNumber, version, database, user, inRecovery, readOnly };
  return { server, lockHeld, fence: readFenceId(fence), hasSwap };
}

function otherSchema(expected: string, found: string, user: string): DeployError {
  return new DeployError("HISTORY_IN_OTHER_SCHEMA", { expected, found, user });
}

function unreadable(server: ServerMessage, cause: unknown): DeployError {
  return new DeployError("HISTORY_UNREADABLE", { server }, { cause });
}
