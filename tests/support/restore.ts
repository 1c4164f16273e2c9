/** A real database with everything in it, its damage, its backup, and an oracle that tells whether it is as before. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { takeBackup } from "../../lib/backup/dump.ts";
import type { Backup } from "../../lib/backup/store.ts";
import { type Database, makeDatabase } from "../../lib/postgres/database.ts";
import type { Session } from "../../lib/postgres/session.ts";
import { type ClientTool, findTool } from "../../lib/postgres/tools.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import { confirmProof } from "../../lib/restore/confirmation.ts";
import { type InPlaceOptions, restoreInPlace } from "../../lib/restore/in-place.ts";
import { makeInstructions } from "../../lib/restore/instructions.ts";
import { type Mark, takeMark } from "../../lib/restore/mark.ts";
import { chooseRestore, type RestorePlan, type RestorePolicy } from "../../lib/restore/plan.ts";
import { judgeProof, type MarkedEvidence, type Proof, readEvidence } from "../../lib/restore/proof.ts";
import { type SwapOptions, type Swapped, swapIn } from "../../lib/restore/swap.ts";
import { readSwapFacts } from "../../lib/restore/swap-facts.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { type Cluster, temporaryDirectory } from "./cluster.ts";

export interface NastyOptions {
  readonly superuserObjects?: boolean;
  readonly largeObjects?: boolean;
  readonly extensionInSchema?: boolean;
  readonly oddNames?: boolean;
  readonly schemaPublication?: boolean;
}

const NASTY = readFileSync(join(import.meta.dirname, "../fixtures/nasty.sql"), "utf8");

/** Creates the fixture's roles, once a cluster. */
export async function createRoles(cluster: Cluster): Promise<void> {
  for (const role of ["app_owner", "app_ro", "app_rw", '"Odd ""Role"" %s"']) {
    await cluster.psql(
      "postgres",
      `DO $$ BEGIN CREATE ROLE ${role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`,
    );
  }
}

export async function createNasty(cluster: Cluster, options: NastyOptions = {}): Promise<string> {
  const database = await cluster.createDatabase({ owner: "app_owner" });
  const flags = {
    superuser_objects: options.superuserObjects,
    large_objects: options.largeObjects,
    extension_in_schema: options.extensionInSchema,
    odd_names: options.oddNames,
    schema_publication: options.schemaPublication,
  };
  const lines = Object.entries(flags).map(([name, isOn]) => `\\set ${name} ${isOn === true ? "on" : "off"}`);
  await cluster.psql(database, [`\\set db ${database}`, ...lines, NASTY].join("\n"));
  return database;
}

/** What a failed deploy may have committed: of every kind of change that a migration makes, half of it. */
export const DAMAGE = `
  ALTER TABLE app.users DROP COLUMN pwd;
  ALTER TABLE app.users ADD COLUMN brand_new jsonb DEFAULT '{}';
  ALTER TABLE audit.log_note ALTER COLUMN note TYPE varchar(9);
  ALTER TABLE app.users ADD CONSTRAINT brand_new_check CHECK (id > 0);
  DROP VIEW app.v_tree;
  CREATE OR REPLACE FUNCTION app.imm_upper(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'select lower($1)';
  CREATE TABLE app.added(id serial PRIMARY KEY, user_id int REFERENCES app.users);
  INSERT INTO app.added(user_id) SELECT id FROM app.users LIMIT 10;
  CREATE SCHEMA added; CREATE TABLE added.more(a int); CREATE TYPE added.kind AS ENUM ('x');
  CREATE EXTENSION fuzzystrmatch SCHEMA added;
  ALTER TYPE app.status ADD VALUE 'LOST';
  ALTER TYPE public.colour RENAME VALUE 'red' TO 'crimson';
  CREATE TABLE public.added(a int PRIMARY KEY, c public.colour); CREATE FUNCTION public.added() RETURNS int LANGUAGE sql AS 'select 2';
  CREATE DOMAIN public.added_word AS text; CREATE TYPE public.added_range AS RANGE (subtype = int4);
  DROP TABLE public.plain CASCADE;
  UPDATE app.users SET best_order = NULL; DELETE FROM app.orders WHERE id % 3 = 0; UPDATE app.orders SET qty = 4 WHERE id % 3 = 1;
  TRUNCATE app.texts; INSERT INTO audit.log(at, msg) VALUES ('2024-05-05', 'new');
  DROP TABLE audit.log_def CASCADE; ALTER TABLE audit.log DETACH PARTITION audit.log_2024;
  SELECT setval('app.loose', 50), nextval('app.untouched'), setval('app.orders_id_seq', 999999);
  ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT ALL ON TABLES TO app_rw;
  ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
  ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT USAGE ON TYPES TO app_ro;
  GRANT ALL ON app.tenants TO app_ro; REVOKE SELECT ON app.users FROM app_ro; GRANT ALL ON SCHEMA app TO app_ro;
  ALTER TABLE app.tenants DISABLE ROW LEVEL SECURITY; DROP POLICY p1 ON app.tenants;
  COMMENT ON TABLE app.users IS 'damaged'; COMMENT ON SCHEMA app IS NULL;
  DROP PUBLICATION pub_orders; CREATE PUBLICATION added FOR TABLE app.added;
  DROP DOMAIN public.pair_dom CASCADE; ALTER TABLE public.kinds DROP COLUMN r, ALTER COLUMN txt SET STORAGE PLAIN;
  ALTER TABLE app.wide REPLICA IDENTITY FULL; DELETE FROM public.kinds WHERE id > 11; UPDATE app.wide SET doc = 'short', raw = NULL WHERE id = 1;
  DROP OPERATOR public.<~% (text, text) CASCADE; DROP OPERATOR public.!+ (NONE, int) CASCADE; DROP AGGREGATE public.mycount(*);
  DROP CAST (public.colour AS app.money_t); DROP TEXT SEARCH DICTIONARY app.stem CASCADE; DROP CONVERSION app.conv2;
  DROP STATISTICS app.st_many; ALTER SEQUENCE audit.shared RESTART MAXVALUE 50; SELECT nextval('public.kinds_numbers');
  TRUNCATE app.to_parted; ALTER TABLE app.parted DETACH PARTITION app.parted_kr; DROP TABLE app.parted_else CASCADE; DROP TABLE app.mother CASCADE;
  DROP VIEW app.v_grouped CASCADE; DROP RULE several ON app.v_checked; DROP FUNCTION app.circle() CASCADE;
  ALTER TABLE public.kinds ENABLE TRIGGER transitions; DROP TRIGGER "odd trigger" ON public.kinds; DROP COLLATION public.ko_num;
  DROP FUNCTION public."odd ""fn"" %s"; ALTER PROCEDURE public.proc2(int, text) RENAME TO proc3; DROP POLICY "odd ""policy"" %" ON app.guarded;
  REFRESH MATERIALIZED VIEW app.mv_empty; REFRESH MATERIALIZED VIEW app.mv;
  CREATE TEXT SEARCH DICTIONARY public.added_dict (TEMPLATE = pg_catalog.simple); CREATE TEXT SEARCH CONFIGURATION public.added_ts (COPY = pg_catalog.simple);
  CREATE OPERATOR public.@+@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl); CREATE AGGREGATE public.added_count(*) (sfunc = int8inc, stype = int8, initcond = '0');
  CREATE COLLATION public.added_like FROM "C"; CREATE CONVERSION public.added_conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
  CREATE STATISTICS public.added_stats ON a, c FROM public.added; CREATE MATERIALIZED VIEW public.added_mv AS SELECT 1 AS one; CREATE SEQUENCE public.added_numbers;
  CREATE PROCEDURE public.added_proc() LANGUAGE sql AS 'select 1'; CREATE TYPE public.added_pair AS (a int, b public.added_range);
  CREATE CAST (public.added_pair AS text) WITH INOUT; CREATE VIEW public.added_view AS SELECT * FROM public.added;
  CREATE TABLE public.added_parted(a int PRIMARY KEY) PARTITION BY HASH (a); CREATE TABLE public.added_part PARTITION OF public.added_parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
  CREATE TABLE public.added_child() INHERITS (public.added); COMMENT ON FUNCTION public.twice IS 'damaged';
  REVOKE ALL ON public.kinds FROM "Odd ""Role"" %s" CASCADE; GRANT ALL ON ALL TABLES IN SCHEMA app TO "Odd ""Role"" %s"; GRANT USAGE ON TYPE public.colour TO PUBLIC;
  ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA public REVOKE EXECUTE ON FUNCTIONS FROM "Odd ""Role"" %s";
  ALTER DEFAULT PRIVILEGES FOR ROLE app_owner REVOKE CREATE ON SCHEMAS FROM app_rw;
  SELECT lo_put(oid, 0, 'damaged') FROM pg_largeobject_metadata; SELECT lo_unlink(min(oid)) FROM pg_largeobject_metadata HAVING count(*) > 0;
  SELECT lo_from_bytea(0, 'added');
  INSERT INTO public._prisma_migrations(id, checksum, migration_name, started_at) VALUES ('b', 'd', '20240202_half', now());`;

/** The same of what only a superuser makes. */
export const SUPERUSER_DAMAGE = `
  DROP ACCESS METHOD heap_too CASCADE; DROP TYPE public.label CASCADE; DROP EVENT TRIGGER evt_ddl; ALTER EVENT TRIGGER evt_off ENABLE;
  DROP SERVER elsewhere CASCADE; DROP FOREIGN DATA WRAPPER none_at_all CASCADE; DROP OPERATOR FAMILY app.fam_hash USING hash;
  DROP TEXT SEARCH PARSER app.prs; DROP TEXT SEARCH TEMPLATE app.tmpl; DROP PUBLICATION pub_all; CREATE PUBLICATION added_all FOR ALL TABLES;
  DROP OPERATOR CLASS public.ops USING btree; DROP EXTENSION pgcrypto; DROP FUNCTION public.leakproof(int);
  CREATE ACCESS METHOD added_am TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE public.added_am_table(a int) USING added_am;
  CREATE TEXT SEARCH TEMPLATE public.added_tmpl (LEXIZE = dsimple_lexize); CREATE FOREIGN DATA WRAPPER added_wrapper;
  CREATE SERVER added_server FOREIGN DATA WRAPPER added_wrapper; CREATE USER MAPPING FOR app_ro SERVER added_server; CREATE FOREIGN TABLE public.added_foreign(a int) SERVER added_server;
  CREATE OPERATOR FAMILY public.added_fam USING gist; CREATE FUNCTION public.added_evt() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';
  CREATE EVENT TRIGGER added_evt ON ddl_command_start EXECUTE FUNCTION public.added_evt(); CREATE CAST (bytea AS json) WITHOUT FUNCTION AS ASSIGNMENT;
  ALTER DEFAULT PRIVILEGES FOR ROLE app_rw IN SCHEMA public REVOKE SELECT ON TABLES FROM app_ro;
  ALTER DEFAULT PRIVILEGES FOR ROLE app_rw GRANT ALL ON TABLES TO PUBLIC;`;

/** Needs the owner of the database. */
export const DATABASE_DAMAGE = `
  DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = elsewhere', current_database());
    EXECUTE format('ALTER DATABASE %I RESET statement_timeout', current_database());
    EXECUTE format('ALTER DATABASE %I SET work_mem = ''99MB''', current_database());
    EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'damaged');
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM app_ro', current_database());
    EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 7', current_database());
    EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
    EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET default_statistics_target = 77', current_database());
    EXECUTE format('ALTER ROLE app_owner IN DATABASE %I RESET work_mem', current_database());
  END $$;`;

const ORACLE_SETTINGS =
  "SET search_path = ''; SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET statement_timeout = 0;";

/** Of every table: its rows. Materialized views and sequences too. */
const ROWS = `
  SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(t::text, E''\\n'' ORDER BY t::text COLLATE "C"), '''')) FROM %s %s AS t',
    c.oid::regclass, CASE WHEN relkind = 'r' THEN 'ONLY' ELSE '' END, c.oid::regclass)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
  WHERE (relkind = 'r' OR relkind = 'm' AND relispopulated) AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  ORDER BY c.oid::regclass::text COLLATE "C" \\gexec
  SELECT format('SELECT %L, last_value, is_called FROM %s', c.oid::regclass, c.oid::regclass)
  FROM pg_class AS c WHERE relkind = 'S' ORDER BY c.oid::regclass::text COLLATE "C" \\gexec`;

const REST = `
  SELECT 'large object', oid, lomowner::regrole, lomacl, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid;
  SELECT 'database', datdba::regrole, encoding, datcollate, datctype, datconnlimit, datistemplate, datallowconn, shobj_description(oid, 'pg_database'),
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) AS a) FROM pg_database WHERE datname = current_database();
  SELECT 'setting', setrole::regrole, entry FROM pg_db_role_setting, unnest(setconfig) AS entry
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 2, 3;
  SELECT 'extension', extname, extversion, extnamespace::regnamespace, extowner::regrole, obj_description(oid, 'pg_extension')
    FROM pg_extension ORDER BY extname;
  SELECT 'schema', nspname, nspowner::regrole, obj_description(oid, 'pg_namespace'),
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) AS a)
    FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY nspname;
  SELECT 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolconnlimit, rolvaliduntil, rolconfig,
    shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname;
  SELECT 'membership', roleid::regrole, member::regrole, grantor::regrole, admin_option FROM pg_auth_members ORDER BY 2, 3, 4;
  SELECT 'default rights', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl FROM pg_default_acl ORDER BY 2, 3, 4;
  SELECT 'member rights', i.identity, proacl FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
    AND d.deptype = 'e', LATERAL pg_identify_object('pg_proc'::regclass, p.oid, 0) AS i WHERE proacl IS NOT NULL ORDER BY 2;`;

/** Everything about a database that has to be as before, as text. */
export async function readState(cluster: Cluster, database: string): Promise<string> {
  const rows = await cluster.psql(database, `${ORACLE_SETTINGS}${ROWS}\n${REST}`);
  const tool = findClientTool("pg_dump");
  const args = ["--schema-only", "--restrict-key=oracle"];
  const env = {
    PGHOST: cluster.host,
    PGPORT: String(cluster.port),
    PGUSER: "postgres",
    PGDATABASE: database,
    LC_ALL: "C",
  };
  const schema = spawnSync(tool?.path ?? "pg_dump", args, { env, encoding: "utf8", maxBuffer: 2 ** 28 });
  if (schema.status !== 0) throw new Error(schema.stderr);
  return `${rows}\n${schema.stdout}`;
}

/** A deploy that has marked and backed up its database, and has a session of its own that is open. */
export interface Deploy {
  readonly cluster: Cluster;
  readonly name: string;
  readonly database: Database;
  readonly session: Session;
  readonly mark: Mark;
  readonly plan: RestorePlan;
  readonly backup: Backup;
  readonly tools: { readonly pgDump: ClientTool; readonly psql: ClientTool; readonly pgRestore: ClientTool };
  readonly transactionIds: string[];
  /** Writes as the deploy itself would, and records the transaction. */
  migrate(sql: string): Promise<void>;
  prove(): Promise<Proof>;
  /** As the deploy does before it restores: what comes later is proven from here. */
  confirm(): Promise<MarkedEvidence>;
  restore(changes?: Partial<InPlaceOptions>): Promise<{ readonly transactionId: string }>;
  /** Ends the session. */
  swap(changes?: Partial<SwapOptions>): Promise<Swapped>;
}

export interface DeployOptions {
  readonly user?: string;
  readonly format?: "auto" | "plain" | "custom";
  readonly isRecorded?: boolean;
  /** Plans for a swap too; it is for such a one that nobody else may be in the cluster's way. */
  readonly restore?: RestorePolicy;
}

export function openDatabase(cluster: Cluster, name: string, user = "postgres"): Database {
  const parsed = parseConnectionUrl(cluster.url("postgres", { user }));
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed.problem));
  // A database's name is taken from a URL as it stands there, percent signs and all.
  return makeDatabase({ ...parsed.target, database: name });
}

export async function beginDeploy(cluster: Cluster, name: string, options: DeployOptions = {}): Promise<Deploy> {
  const { user = "postgres", format = "auto", isRecorded = true } = options;
  const database = openDatabase(cluster, name, user);
  const session = await database.open("deploy", { isMigrating: true });
  const coordinator = await database.open("backup");
  const mark = await takeMark({ database, coordinator, sessions: [session], historySchema: "public" });
  const { restore } = options;
  const swap = restore === undefined ? undefined : await readSwapFacts(database, session, undefined);
  const plan = chooseRestore({ ...mark.facts, swap }, { format, restore: restore ?? "in-place" });
  const version = mark.facts.serverVersionNumber;
  const tools = {
    pgDump: await findTool("pg_dump", version),
    pgRestore: await findTool("pg_restore", version),
    psql: await findTool("psql", version),
  };
  const backup = await takeBackup(
    {
      directory: join(temporaryDirectory(), "backups"),
      format: plan.format,
      database: name,
      systemIdentifier: mark.place.systemIdentifier,
      serverVersion: mark.facts.serverVersion,
      snapshot: mark.exportedSnapshot,
      lockWaitMs: 30_000,
      history: { applied: 1, last: "20240101_init" },
      precedes: ["20240202_half"],
    },
    { database, pgDump: tools.pgDump, pgRestore: tools.pgRestore, now: () => new Date("2024-12-19T14:30:22Z") },
  );
  await coordinator.close();
  const transactionIds: string[] = [];
  const own = () => ({ transactionIds, sessions: [session], sessionsOpened: database.sessionsOpened });
  return {
    cluster,
    name,
    database,
    session,
    mark,
    plan,
    backup,
    tools,
    transactionIds,
    migrate: (sql) => migrate(session, sql, isRecorded ? transactionIds : []),
    prove: async () => judgeProof(mark, await readEvidence(session, mark, own()), own()),
    confirm: async () => {
      const { evidence, reasons } = await confirmProof(session, mark, database, own);
      if (evidence?.durableTransactionId === undefined) throw new Error(`not proven: ${reasons}`);
      transactionIds.push(evidence.durableTransactionId);
      return evidence;
    },
    restore: async (changes = {}) =>
      await restoreInPlace({
        database,
        tools,
        backup,
        mark,
        own: { transactionIds, sessions: [session], areSessionsCounted: true },
        ...changes,
      }),
    swap: async (changes = {}) =>
      await swapIn({
        database,
        tools,
        backup,
        content: mark.content,
        proof: { cluster: mark.cluster, base: mark, transactionIds },
        sessions: [session],
        ...changes,
      }),
  };
}

async function migrate(session: Session, sql: string, transactionIds: string[]): Promise<void> {
  const options = { during: "migrate", deadlineMs: 60_000 };
  await session.script("BEGIN", options);
  await session.script(sql, options);
  const [row] = await session.query<{ id: string }>(`SELECT pg_current_xact_id()::text AS "id"`, options);
  if (row !== undefined) transactionIds.push(row.id);
  await session.script("COMMIT; RESET ALL", options);
}

/** Runs what a person would copy, in the shell that every system has. */
export async function runInstructions({ backup, database, mark, tools }: Deploy): Promise<void> {
  const commands = makeInstructions(backup, database.target, { properties: mark.content.properties });
  const env = { PATH: `${dirname(tools.psql.path)}:${process.env.PATH}`, LC_ALL: "C" };
  const result = spawnSync("sh", ["-eu", "-c", commands.join("\n")], { env, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${result.stderr}\n${commands.join("\n")}`);
}
