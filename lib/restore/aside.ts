/**
 * Restores a backup into a new database beside the live one, and checks that it holds what it should: what was there at
 * the mark, or where there is none, what the backup itself says. The live database is not touched.
 *
 * A database that is left behind half is worth nothing: whoever made it drops it (see `swap.ts`).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import type { Manifest } from "../backup/manifest.ts";
import { copyWithoutUnknownSetting, holdsUnknownSetting } from "../backup/readable-text.ts";
import { DeployError } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { quoteIdentifier, quoteLiteral } from "../postgres/identifier.ts";
import { besideDatabase } from "../postgres/maintenance.ts";
import { ServerError, type Session } from "../postgres/session.ts";
import { addTrace, type Trace } from "../postgres/swap-trace.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { writeContentsList } from "./archive-tool.ts";
import { CONTENT_SETTINGS } from "./content.ts";
import { selectEntries } from "./contents-list.ts";
import { makeCreateExpression } from "./database-template.ts";
import { prepareSession, readRow } from "./evidence.ts";
import { type FillOptions, fillDatabase } from "./filling.ts";
import { watchGrowth } from "./growth.ts";
import { chooseRestoreJobs } from "./jobs.ts";
import { WORK_PREFIX } from "./leftovers.ts";
import type { MarkedContent } from "./mark.ts";
import { makePropertiesBlock, moveProperty, PROPERTIES_QUERY } from "./properties.ts";
import { DIFFERS_STATE, makeVerifyBlock } from "./script.ts";

export interface AsideOptions {
  /** The live database, which the new one is made like. */
  readonly database: Pick<Database, "target">;
  /** A session in a maintenance database. */
  readonly maintenance: Session;
  readonly tools: { readonly psql: ClientTool; readonly pgRestore: ClientTool | undefined };
  readonly backup: { readonly path: string; readonly manifest: Manifest };
  /** Name of the new database, which must not exist. */
  readonly name: string;
  /** The state to come back to; undefined where only the backup tells. */
  readonly content: MarkedContent | undefined;
  /** Statements that set what belongs to the database as a whole, about whichever database. */
  readonly properties: readonly string[];
  /** Called about once a second with the bytes by which the new database has grown. */
  readonly progress?: ((bytes: number) => void) | undefined;
  /** Undefined for a database that is not to take the place of another one. */
  readonly trace: { readonly restoring: Trace; readonly ready: Trace } | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface ServerFacts {
  readonly serverMajor: number;
  readonly freeConnections: number;
}

const QUERY_DEADLINE_MS = 600_000;
const SERVER_FACTS = `
  SELECT pg_catalog.current_setting('server_version_num')::int / 10000 AS "serverMajor",
    pg_catalog.current_setting('max_connections')::int - pg_catalog.count(*)::int AS "freeConnections"
  FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'`;
const PRESENT_SCHEMAS = ["public", "pg_catalog"];

/**
 * Makes the database and restores into it; when this returns, all of it was checked.
 *
 * @throws RESTORE_FAILED, RESTORE_DIFFERS, TOOL_NOT_FOUND, or what connecting meets: the new database may be there, half
 */
export async function restoreAside(options: AsideOptions): Promise<void> {
  await createEmpty(options);
  const database = besideDatabase(options.database, options.name);
  const session = await database.open("restore", { settings: { default_transaction_read_only: "off" } });
  try {
    await prepareSession(session);
    const early = await prepareContent(session, options);
    await fill(database, session, early, options);
    await script(session, "RESET search_path; ANALYZE; SET search_path = ''", "analyze");
    await verify(session, options);
    await carryProperties(session, options);
  } finally {
    await session.close();
  }
}

async function fill(database: Database, session: Session, early: Early, options: AsideOptions): Promise<void> {
  const { backup, tools, progress, signal } = options;
  const { format, sizeBytes, tables } = backup.manifest;
  const { serverMajor, freeConnections } = await readRow<ServerFacts>(session, SERVER_FACTS);
  const jobs = chooseRestoreJobs({ format, sizeBytes, tables, processors: availableParallelism(), freeConnections });
  const isAsItIs =
    format === "custom" ? early.extensions.length === 0 : !(await holdsUnknownSetting(backup.path, serverMajor));
  const directory = isAsItIs ? undefined : await mkdtemp(join(dirname(backup.path), WORK_PREFIX));
  try {
    const source =
      directory === undefined ? { path: backup.path, list: undefined } : await prepareSource(directory, early, options);
    const growth = progress === undefined ? undefined : watchGrowth(session, "current_database()", progress);
    await fillDatabase({ database, tools, ...source, format, jobs, serverMajor, signal }).finally(() => growth?.stop());
  } finally {
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  }
}

/** An archive with the list of what is wanted of it, or a script that the server knows. */
async function prepareSource(
  directory: string,
  early: Early,
  options: AsideOptions,
): Promise<Pick<FillOptions, "path" | "list">> {
  const { path, manifest } = options.backup;
  if (manifest.format === "custom") return { path, list: await writeList(directory, early, options) };
  return { path: await copyWithoutUnknownSetting(path, directory), list: undefined };
}

async function createEmpty({ maintenance, database, name, trace }: AsideOptions): Promise<void> {
  const live = quoteLiteral(database.target.database);
  const { statement } = await readRow<{ statement: string }>(
    maintenance,
    `SELECT ${makeCreateExpression(name)} AS "statement" FROM pg_catalog.pg_database AS d WHERE datname = ${live}`,
  );
  await script(maintenance, statement, "create the database");
  if (trace === undefined) return;
  await script(maintenance, comment(name, addTrace(null, trace.restoring)), "mark the database");
}

/** What the dump would not bring back as it was, and who may connect, before there is anything to see. */
async function prepareContent(session: Session, { content, properties }: AsideOptions): Promise<Early> {
  const grants = properties.filter((statement) => statement.startsWith("GRANT "));
  await setProperties(session, grants);
  if (content === undefined) return { schemas: [], extensions: [] };
  if (!content.hadPublic) await script(session, "DROP SCHEMA public", "prepare the database");
  const { role } = await readRow<{ role: string }>(session, `SELECT quote_ident(current_user) AS "role"`);
  const early = await findEarly(session, content, role);
  for (const { name: schema, owner } of early.schemas) {
    await script(session, `CREATE SCHEMA ${quoteIdentifier(schema)} AUTHORIZATION ${owner}`, "prepare the schemas");
  }
  for (const extension of early.extensions) {
    const { name: extensionName, schema, version, owner } = extension;
    const create = `CREATE EXTENSION ${quoteIdentifier(extensionName)} SCHEMA ${schema} VERSION ${quoteLiteral(version)}`;
    await script(session, `SET ROLE ${owner}; ${create}; RESET ROLE`, "prepare the extensions");
  }
  return early;
}

interface MarkedExtension {
  readonly oid: string;
  readonly name: string;
  /** As the server writes a name in SQL. */
  readonly schema: string;
  readonly version: string;
  readonly owner: string;
}

/** What is made before the dump, and is left out of it. */
interface Early {
  readonly schemas: readonly { readonly name: string; readonly owner: string }[];
  readonly extensions: readonly MarkedExtension[];
}

/** Extensions that the dump would give to another owner, or in another version, and the schemas that they are in. */
async function findEarly(session: Session, content: MarkedContent, role: string): Promise<Early> {
  const marked = (JSON.parse(content.extensions) as MarkedExtension[]).filter(({ name }) => name !== "plpgsql");
  const { versions } = await readRow<{ versions: Record<string, string> }>(
    session,
    `SELECT coalesce(json_object_agg(name, default_version), '{}') AS "versions" FROM pg_available_extensions`,
  );
  const extensions = marked.filter(({ name, owner, version }) => owner !== role || versions[name] !== version);
  const owners = new Map(
    (JSON.parse(content.schemas) as [string, string][]).flatMap(([schema, statement]) => {
      const owner = / OWNER TO (.*)$/u.exec(statement)?.[1];
      return statement.startsWith("ALTER SCHEMA ") && owner !== undefined ? [[schema, owner] as const] : [];
    }),
  );
  const needed = new Set(extensions.map(({ schema }) => unquote(schema)));
  const schemas = [...needed]
    .filter((name) => !PRESENT_SCHEMAS.includes(name))
    .flatMap((name) => {
      const owner = owners.get(name);
      return owner === undefined ? [] : [{ name, owner }];
    });
  return { schemas, extensions };
}

function unquote(identifier: string): string {
  return identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier;
}

async function writeList(directory: string, early: Early, { backup, tools, signal }: AsideOptions): Promise<string> {
  const entries = early.extensions.map(({ oid }) => `3079 ${oid}`);
  const schemas = new Set(early.schemas.map(({ name, owner }) => `SCHEMA - ${name} ${unquote(owner)}`));
  const select = (list: string) =>
    selectEntries(list, { entries, extensionNames: [], roles: [] })
      .split("\n")
      .map((line) => {
        const rest = /^\d+; \d+ \d+ (?<rest>.*)$/u.exec(line)?.groups?.rest?.trimEnd();
        return rest !== undefined && schemas.has(rest) ? `;${line}` : line;
      })
      .join("\n");
  return await writeContentsList(directory, select, { path: backup.path, pgRestore: tools.pgRestore, signal });
}

async function verify(session: Session, { content, backup }: AsideOptions): Promise<void> {
  const { tables, largeObjects } = backup.manifest;
  const expected = { content: content?.content, tables, largeObjects, history: content?.history };
  const settings = `BEGIN; ${CONTENT_SETTINGS}; SET LOCAL row_security = off`;
  try {
    await session.script(`${settings}; ${makeVerifyBlock(expected)}; ROLLBACK`, {
      during: "verify what was restored",
      deadlineMs: undefined,
    });
  } catch (error) {
    if (!(error instanceof ServerError) || error.server.sqlState !== DIFFERS_STATE) throw asFailure(error);
    throw new DeployError("RESTORE_DIFFERS", { differences: JSON.parse(error.server.message) as string[] });
  }
}

/** All of them, checked against what the server then says; with them the trace that says that it is ready. */
async function carryProperties(session: Session, { properties, name, trace }: AsideOptions): Promise<void> {
  const wanted = await setProperties(session, properties);
  const { properties: there } = await readRow<{ properties: string[] }>(session, PROPERTIES_QUERY);
  const differences = [
    ...wanted.filter((statement) => !there.includes(statement)),
    ...there.filter((statement) => !wanted.includes(statement)),
  ];
  if (differences.length > 0) throw new DeployError("RESTORE_DIFFERS", { differences });
  if (trace === undefined) return;
  const { text } = await readRow<{ text: string | null }>(
    session,
    `SELECT shobj_description(oid, 'pg_database') AS "text" FROM pg_database WHERE datname = current_database()`,
  );
  await script(session, comment(name, addTrace(text, trace.ready)), "mark the database");
}

/** @returns the statements as they are about this database */
async function setProperties(session: Session, properties: readonly string[]): Promise<readonly string[]> {
  const { here } = await readRow<{ here: string }>(session, `SELECT quote_ident(current_database()) AS "here"`);
  const moved = properties.map((statement) => moveProperty(statement, here));
  const block = makePropertiesBlock(quoteLiteral(JSON.stringify(moved)));
  await script(session, `DO $properties$\nDECLARE\n  line text;\nBEGIN${block}\nEND\n$properties$`, "set properties");
  return moved;
}

function comment(name: string, text: string): string {
  return `COMMENT ON DATABASE ${quoteIdentifier(name)} IS ${quoteLiteral(text)}`;
}

async function script(session: Session, text: string, during: string): Promise<void> {
  await session.script(text, { during, deadlineMs: QUERY_DEADLINE_MS }).catch((error: unknown) => {
    throw asFailure(error);
  });
}

/** What the server refuses fails the restore, and is no bug of ours. */
function asFailure(error: unknown): unknown {
  if (!(error instanceof ServerError)) return error;
  const { message, sqlState } = error.server;
  return new DeployError("RESTORE_FAILED", { tool: "SQL", exitCode: undefined, output: `${message} (${sqlState})` });
}
