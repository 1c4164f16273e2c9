/** The native engine on a real server, with a session that holds the deploy lock as a deploy would. */

import type { Event } from "../../lib/events.ts";
import { analyseScripts } from "../../lib/migrations/analysis.ts";
import { makeChecksum } from "../../lib/migrations/checksum.ts";
import type { MigrationScript } from "../../lib/migrations/folder.ts";
import { tableIn } from "../../lib/migrations/migration-rows.ts";
import { applyNative, type NativeOptions, type NativeResult } from "../../lib/migrations/native-engine.ts";
import type { RunOptions } from "../../lib/migrations/native-run.ts";
import { makeSegments, type Segment } from "../../lib/migrations/segments.ts";
import { type Database, makeDatabase } from "../../lib/postgres/database.ts";
import { DEPLOY_LOCK_KEY } from "../../lib/postgres/deploy-lock-key.ts";
import { quoteLiteral } from "../../lib/postgres/identifier.ts";
import type { Session } from "../../lib/postgres/session.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import type { Cluster } from "./cluster.ts";

export const SERVER_15 = 150_000;

export function makeScript(name: string, text: string): MigrationScript {
  return { name, path: `prisma/migrations/${name}/migration.sql`, text, checksum: makeChecksum(text) };
}

/** Scripts named `1`, `2`, `3` ... as they would be cut for a server. */
export async function cut(texts: readonly string[], serverVersionNumber: number = SERVER_15): Promise<Segment[]> {
  const scripts = texts.map((text, index) => makeScript(String(index + 1), text));
  return makeSegments(await analyseScripts(scripts), serverVersionNumber);
}

export function openDatabase(url: string): Database {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error(`not a usable URL: ${url}`);
  return makeDatabase(parsed.target);
}

export interface Engine {
  readonly cluster: Cluster;
  readonly name: string;
  readonly database: Database;
  readonly session: Session;
  /** `server_version_num` of the server. */
  readonly versionNumber: number;
  readonly events: Event[];
  /** Ids that were told before their COMMIT was sent. */
  readonly committing: string[];
  /** Aborting it interrupts the engine. */
  readonly interruption: AbortController;
  readonly options: RunOptions;
  apply(texts: readonly string[], changes?: Partial<NativeOptions>): Promise<NativeResult>;
  applySegments(segments: readonly Segment[], changes?: Partial<NativeOptions>): Promise<NativeResult>;
  /** The value of one expression, in a session of psql. */
  ask(expression: string): Promise<string>;
  /** One line for each row: name, how it stands, steps and whether it has logs. */
  rows(): Promise<string[]>;
}

export interface EngineOptions {
  readonly url?: string;
  readonly schema?: string;
  readonly name?: string;
  readonly user?: string;
}

/** A fresh database, or the named one, and an engine on it. */
export async function startEngine(cluster: Cluster, choices: EngineOptions = {}): Promise<Engine> {
  const name = choices.name ?? (await cluster.createDatabase());
  const { schema = "public", user } = choices;
  const parameters: Record<string, string> = schema === "public" ? {} : { schema };
  const url = choices.url ?? cluster.url(name, user === undefined ? { parameters } : { parameters, user });
  const database = openDatabase(url);
  const session = await database.open("migrate", { isMigrating: true });
  await session.query(`SELECT pg_advisory_lock(${DEPLOY_LOCK_KEY})`, { during: "lock", deadlineMs: 60_000 });
  const events: Event[] = [];
  const committing: string[] = [];
  const interruption = new AbortController();
  const table = tableIn(schema);
  const ask = async (expression: string) => await cluster.psql(name, `SELECT ${expression}`);
  const versionNumber = Number(await ask("current_setting('server_version_num')"));
  const options = {
    session,
    schema,
    hasTable: (await ask(`to_regclass(${quoteLiteral(table)}) IS NOT NULL`)) === "t",
    lockTimeoutMs: 3_000,
    lockRetryMs: 60_000,
    signal: interruption.signal,
    tell: (event: Event) => {
      events.push(event);
    },
    now: () => performance.timeOrigin + performance.now(),
  };
  const applySegments = async (segments: readonly Segment[], changes: Partial<NativeOptions> = {}) =>
    await applyNative({
      ...options,
      segments,
      serverVersionNumber: versionNumber,
      onCommitting: async (id) => {
        committing.push(id);
      },
      approve: async () => undefined,
      ...changes,
    });
  return {
    cluster,
    name,
    database,
    session,
    versionNumber,
    events,
    committing,
    interruption,
    options,
    ask,
    applySegments,
    apply: async (texts, changes) => await applySegments(await cut(texts, versionNumber), changes),
    async rows() {
      const rows = await cluster.psql(
        name,
        `SELECT concat_ws(' ', migration_name, CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back'
           WHEN finished_at IS NULL THEN 'unfinished' ELSE 'finished' END, applied_steps_count,
           CASE WHEN logs IS NOT NULL THEN 'logs' END) FROM ${table} ORDER BY started_at`,
      );
      return rows === "" ? [] : rows.split("\n");
    },
  };
}
