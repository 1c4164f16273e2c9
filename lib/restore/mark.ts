/**
 * The mark: the exact state of the database that a failed deploy has to come back to, and the evidence by which it can be
 * proven later that nobody else has written since.
 */
import type { Database } from "../postgres/database.ts";
import { makeFingerprintQuery } from "../postgres/fingerprint.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import type { Session } from "../postgres/session.ts";
import { type ClusterDigests, readClusterDigests } from "./cluster.ts";
import { CONTENT_QUERY, CONTENT_SETTINGS } from "./content.ts";
import { flushOwnSessions, PLACE_QUERY, type Place, prepareSession, readPresence, readRow } from "./evidence.ts";
import { type RestoreFacts, readRestoreFacts } from "./facts.ts";
import { makeHistoryQuery } from "./history-digest.ts";
import { EXTENSION_DIGESTS } from "./inventory.ts";
import type { MarkedEvidence } from "./proof.ts";
import { PROPERTIES_QUERY } from "./properties.ts";
import { ROW_COUNTERS_QUERY, type RowCounters } from "./row-changes.ts";
import { SCHEMAS_QUERY } from "./schemas.ts";

export interface Mark extends MarkedEvidence {
  /** Of `pg_export_snapshot()`, for `pg_dump --snapshot`; good as long as the coordinator's session is open. */
  readonly exportedSnapshot: string;
  readonly fingerprint: string;
  readonly facts: RestoreFacts;
  readonly content: MarkedContent;
  /** Of what a database restore can't undo, by kind. */
  readonly cluster: ClusterDigests;
  /** Names of indexes that are invalid already, schema first. */
  readonly invalidIndexes: readonly string[];
  /** For a person. Absent in marks that an earlier version has written. */
  readonly rowCounters?: RowCounters | undefined;
}

/** The state to come back to. All but `history` are JSON as the server wrote it. */
export interface MarkedContent {
  readonly content: string;
  readonly schemas: string;
  readonly properties: string;
  readonly extensions: string;
  readonly hadPublic: boolean;
  /** Undefined where there is no table yet. */
  readonly history: { readonly schema: string; readonly digest: string } | undefined;
}

export interface MarkOptions {
  readonly database: Pick<Database, "sessionsOpened">;
  /** Opened for the mark alone. It is in a transaction afterwards, and is to be closed when pg_dump has ended. */
  readonly coordinator: Session;
  /** Our other sessions that are open. */
  readonly sessions: readonly Session[];
  /** Where Prisma's table is or would be. */
  readonly historySchema: string;
}

const DEADLINE_MS = 300_000;

/**
 * Takes the mark. Nobody is kept from writing: who does is in the backup, or is found out by the proof.
 *
 * @throws what the session throws
 */
export async function takeMark(options: MarkOptions): Promise<Mark> {
  const { coordinator, database } = options;
  await prepareSession(coordinator);
  const facts = await readRestoreFacts(coordinator);
  const serverMajor = Math.floor(facts.serverVersionNumber / 10_000);
  const cluster = await readClusterDigests(coordinator);
  const ownPids = await flushOwnSessions([coordinator, ...options.sessions], serverMajor);
  const { counters, presence } = await readPresence(coordinator, ownPids, serverMajor);
  const sessionsOpened = database.sessionsOpened;
  // Only now: whoever is neither in the count nor seen has ended, and all that he has written is in this snapshot.
  const snapshot = await beginSnapshot(coordinator);
  const place = await readRow<Place>(coordinator, PLACE_QUERY);
  const { fingerprint } = await read<{ fingerprint: string }>(
    coordinator,
    makeFingerprintQuery(facts.serverVersionNumber),
  );
  const invalidIndexes = await readInvalidIndexes(coordinator);
  const content = await readContent(coordinator, options.historySchema);
  const { counters: rowCounters } = await read<{ counters: RowCounters }>(coordinator, ROW_COUNTERS_QUERY);
  return {
    ...snapshot,
    serverMajor,
    place,
    counters,
    presence,
    sessionsOpened,
    fingerprint,
    facts,
    content,
    cluster,
    invalidIndexes,
    rowCounters,
  };
}

async function beginSnapshot(session: Session): Promise<{ snapshot: string; exportedSnapshot: string }> {
  return await read(
    session,
    `BEGIN ISOLATION LEVEL REPEATABLE READ; ${CONTENT_SETTINGS};
     SELECT pg_current_snapshot()::text AS "snapshot", pg_export_snapshot() AS "exportedSnapshot"`,
  );
}

const INVALID_INDEXES_QUERY = `
  SELECT coalesce(json_agg(name ORDER BY name), '[]') AS "invalidIndexes" FROM (
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i'
  ) AS indexes(name)`;

/** Names of indexes that no query may use: what a failed CREATE INDEX CONCURRENTLY leaves. */
export async function readInvalidIndexes(session: Session): Promise<readonly string[]> {
  return (await read<{ invalidIndexes: readonly string[] }>(session, INVALID_INDEXES_QUERY)).invalidIndexes;
}

/** Whether the database holds what it held at the mark, its rows left out. @throws what the session throws */
export async function isContentOf(session: Session, mark: Mark): Promise<boolean> {
  const transaction = { during: "compare with the mark", deadlineMs: DEADLINE_MS };
  await session.script(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ${CONTENT_SETTINGS}`, transaction);
  try {
    const { content } = await read<{ content: string }>(session, CONTENT_QUERY);
    const { history } = mark.content;
    return (
      content === mark.content.content &&
      (history === undefined || (await readDigest(session, history.schema)) === history.digest)
    );
  } finally {
    await session.script("ROLLBACK", transaction);
  }
}

async function readDigest(session: Session, schema: string): Promise<string> {
  return (await read<{ digest: string }>(session, makeHistoryQuery(schema))).digest;
}

/** In the order in which they were made: one may need another. */
const EXTENSIONS_QUERY = `
  SELECT coalesce(json_agg(json_build_object('oid', v.oid, 'digest', v.digest, 'name', e.extname,
      'schema', e.extnamespace::regnamespace, 'version', e.extversion, 'owner', e.extowner::regrole) ORDER BY v.oid), '[]')::text
      AS "extensions",
    to_regnamespace('public') IS NOT NULL AS "hadPublic"
  FROM (${EXTENSION_DIGESTS}) AS v JOIN pg_extension AS e ON e.oid = v.oid`;

async function readContent(session: Session, historySchema: string): Promise<MarkedContent> {
  const { content } = await read<{ content: string }>(session, CONTENT_QUERY);
  const { schemas } = await read<{ schemas: string }>(session, asText("schemas", SCHEMAS_QUERY));
  const { properties } = await read<{ properties: string }>(session, asText("properties", PROPERTIES_QUERY));
  const extensions = await read<{ extensions: string; hadPublic: boolean }>(session, EXTENSIONS_QUERY);
  const history = await readHistory(session, historySchema);
  return { content, schemas, properties, ...extensions, history };
}

/** The driver would turn JSON into values, and back it might be another text. */
function asText(name: string, query: string): string {
  return `SELECT "${name}"::text FROM (${query}) AS x`;
}

async function readHistory(session: Session, schema: string): Promise<MarkedContent["history"]> {
  const { isThere } = await read<{ isThere: boolean }>(
    session,
    `SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
       WHERE relname = '_prisma_migrations' AND nspname = ${quoteLiteral(schema)} AND relkind IN ('r', 'p')) AS "isThere"`,
  );
  if (!isThere) return undefined;
  return { schema, digest: await readDigest(session, schema) };
}

async function read<Row extends object>(session: Session, query: string): Promise<Row> {
  const rows = await session.query<Row>(query, { during: "mark the state before the deploy", deadlineMs: DEADLINE_MS });
  if (rows[0] === undefined) throw new Error("a statement that always answers one row has answered none");
  return rows[0];
}
