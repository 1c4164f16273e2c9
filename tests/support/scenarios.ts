/** The situations of which golden files hold what a person sees, and how one is played. */
import { expect } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import { makeProject, type Project, runDeploy } from "./project.ts";

export interface Scenario {
  /** SQL that the database holds before anything is deployed. */
  readonly before?: string;
  /** Deployed first, without being shown. */
  readonly deployed?: Readonly<Record<string, string>>;
  /** SQL that is run between the two. */
  readonly between?: string;
  /** Changes the project after the first deploy. */
  readonly change?: (project: Project) => void;
  /** Added to the folder for the deploy that is shown. */
  readonly migrations?: Readonly<Record<string, string | undefined>>;
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

const USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);\n";
const ROWS = "INSERT INTO users VALUES (1, 'a'), (2, 'b');";
const APP = ["--", "echo", "the app has started"];

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  "first deploy": {
    migrations: { "20240101000000_users": USERS, "20240102000000_orders": "CREATE TABLE orders (id int);" },
  },
  "first deploy in English": { migrations: { "20240101000000_users": USERS }, args: ["--lang", "en"] },
  "up to date": { deployed: { "20240101000000_users": USERS } },
  "up to date in English": { deployed: { "20240101000000_users": USERS }, args: ["--lang", "en"] },
  "second deploy": {
    deployed: { "20240101000000_users": USERS },
    between: ROWS,
    migrations: { "20240102000000_email": "ALTER TABLE users ADD email text;\nUPDATE users SET email = name || '@x';" },
  },
  "failing migration": {
    deployed: { "20240101000000_users": USERS },
    between: ROWS,
    migrations: {
      "20240102000000_orders": "CREATE TABLE orders (id int);",
      "20240103000000_email": "CREATE TABLE tags (id int);\nALTER TABLE users\n  ADD email text NOT NULL;",
    },
  },
  "failing migration in English": {
    deployed: { "20240101000000_users": USERS },
    between: ROWS,
    migrations: {
      "20240103000000_email": "CREATE TABLE tags (id int);\nALTER TABLE users\n  ADD email text NOT NULL;",
    },
    args: ["--lang", "en"],
  },
  "stops at a boundary": {
    deployed: { "20240101000000_users": `${USERS}${ROWS.replace("'b'", "'a'")}` },
    migrations: {
      "20240102000000_orders": "CREATE TABLE orders (id int);",
      "20240103000000_index": "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (name);",
      "20240104000000_tags": "CREATE TABLE tags (id int);",
    },
  },
  "goes back from a boundary": {
    deployed: { "20240101000000_users": `${USERS}${ROWS.replace("'b'", "'a'")}` },
    migrations: {
      "20240102000000_orders": "CREATE TABLE orders (id int);",
      "20240103000000_index": "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (name);",
    },
    args: ["--on-partial", "restore"],
  },
  "notices of a server": {
    deployed: { "20240101000000_users": USERS },
    migrations: {
      "20240102000000_orders":
        "DROP TABLE IF EXISTS orders;\nDO $$ BEGIN RAISE NOTICE E'first\\nsecond\\n  third'; RAISE WARNING E'\\x1b[2Jcleared'; END $$;",
    },
  },
  "failing function": {
    deployed: { "20240101000000_users": USERS },
    between: ROWS,
    migrations: {
      "20240102000000_backfill":
        "-- fills the names\nDO $$\nDECLARE user_id int;\nBEGIN\n  FOR user_id IN SELECT id FROM users LOOP\n    UPDATE users SET name = (1 / (user_id - 2))::text WHERE id = user_id;\n  END LOOP;\nEND $$;\n",
    },
  },
  "failed before": {
    deployed: { "20240101000000_users": USERS },
    between:
      "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('11111111-1111-4111-8111-111111111111', repeat('0', 64), '20240102000000_orders');",
    migrations: { "20240102000000_orders": "CREATE TABLE orders (id int);" },
  },
  "rolled back before": {
    deployed: { "20240101000000_users": USERS },
    between:
      "INSERT INTO _prisma_migrations (id, checksum, migration_name, rolled_back_at) VALUES ('11111111-1111-4111-8111-111111111111', repeat('0', 64), '20240102000000_orders', now());",
    migrations: { "20240102000000_orders": "CREATE TABLE orders (id int);" },
  },
  "edited, which is refused": {
    deployed: { "20240101000000_users": USERS },
    change: (project) => project.add("20240101000000_users", `${USERS}-- edited\n`),
    migrations: { "20240103000000_tags": "CREATE TABLE tags (id int);" },
    args: ["--on-edited", "refuse"],
  },
  "edited, missing and late": {
    deployed: { "20240101000000_users": USERS, "20240103000000_tags": "CREATE TABLE tags (id int);" },
    between: "UPDATE _prisma_migrations SET migration_name = '20230101000000_gone' WHERE migration_name LIKE '%tags';",
    change: (project) => project.add("20240101000000_users", `${USERS}-- edited\n`),
    migrations: {
      "20220101000000_late": "CREATE TABLE late (id int);",
      "20240103000000_tags": "ALTER TABLE tags ADD name text;",
    },
  },
  "needs a baseline": { before: USERS, migrations: { "20240101000000_users": USERS } },
  "folder without a script": { migrations: { "20240101000000_users": USERS, "20240102000000_empty": undefined } },
  "broken SQL": { migrations: { "20240101000000_users": "CREATE TABLE users (id int;\n" } },
  "settings are wrong": {
    migrations: { "20240101000000_users": USERS },
    args: ["--wiat", "3s", "--lock-wait", "soon", ...APP],
    environment: { BACKUP_RETENTION_DAYS: "abc" },
  },
  plan: { migrations: { "20240101000000_users": USERS }, args: ["plan"] },
  status: {
    deployed: { "20240101000000_users": USERS },
    migrations: { "20240102000000_orders": "CREATE TABLE orders (id int);" },
    args: ["status"],
  },
  "app command that does not exist": { deployed: { "20240101000000_users": USERS }, args: ["--", "no-such-program"] },
};

/** With `UPDATE=1` the golden file is written instead. */
export function expectGolden(name: string, shown: string): void {
  const golden = join(import.meta.dirname, "..", "scenarios", `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.txt`);
  if (process.env.UPDATE === "1") writeFileSync(golden, shown);
  expect(existsSync(golden) ? readFileSync(golden, "utf8") : "(no golden file: run with UPDATE=1)").toBe(shown);
}

/**
 * What there is to see of it, in the form of the golden files.
 *
 * @param makeProgram the command that is run instead of the script in Bun
 */
export async function play(
  scenario: Scenario,
  cluster: Cluster,
  makeProgram: (project: Project) => readonly string[] | undefined = () => undefined,
): Promise<string> {
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const project = makeProject(scenario.deployed);
  const program = makeProgram(project);
  const run = async (args: readonly string[], environment: Scenario["environment"] = {}) =>
    await runDeploy(project, { url, args, environment, ...(program === undefined ? {} : { program }) });
  if (scenario.before !== undefined) await cluster.psql(database, scenario.before);
  if (scenario.deployed !== undefined) {
    const first = await run([]);
    expect(first.exitCode, first.stderr).toBe(0);
  }
  if (scenario.between !== undefined) await cluster.psql(database, scenario.between);
  scenario.change?.(project);
  for (const [name, sql] of Object.entries(scenario.migrations ?? {})) project.add(name, sql);
  const args = scenario.args ?? [];
  const complete = args.includes("--") || args.includes("status") || args.includes("plan") ? args : [...args, ...APP];
  const shown = await run(complete, scenario.environment);
  const sections = [
    `$ deploy ${complete.join(" ")}`,
    shown.stderr.trimEnd(),
    ...(shown.stdout === "" ? [] : ["-- standard output", shown.stdout.trimEnd()]),
    `-- exit code ${shown.exitCode}`,
    "-- rows",
    await readRows(cluster, database),
    "-- schema",
    await readSchema(cluster, database),
  ];
  return `${normalise(sections.join("\n"), project, cluster, database)}\n`;
}

async function readRows(cluster: Cluster, database: string): Promise<string> {
  const hasTable = await cluster.psql(database, "SELECT to_regclass('public._prisma_migrations') IS NOT NULL");
  if (hasTable === "f") return "(no table)";
  return await cluster.psql(
    database,
    `SELECT migration_name, CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back' WHEN finished_at IS NULL THEN 'unfinished'
       ELSE 'finished' END, applied_steps_count, coalesce(left(logs, 40), '-')
     FROM _prisma_migrations ORDER BY migration_name, started_at`,
  );
}

async function readSchema(cluster: Cluster, database: string): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT c.relname || ' (' || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) || ')'
       || CASE WHEN bool_and(coalesce(i.indisvalid, true)) THEN '' ELSE ' INVALID' END
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       LEFT JOIN pg_index i ON i.indexrelid = c.oid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '\\_prisma%' GROUP BY c.oid ORDER BY c.relname COLLATE "C"`,
  );
}

/** What differs from run to run: places, times, sizes, ids. */
function normalise(text: string, project: Project, cluster: Cluster, database: string): string {
  return text
    .replaceAll(project.directory, "<project>")
    .replaceAll(`${cluster.host}:${cluster.port}`, "<server>")
    .replaceAll(database, "<database>")
    .replaceAll(/backup_\d{8}_\d{6}(_\d+)?/g, "backup_<timestamp>")
    .replaceAll(/_failed_\d{8}_\d{6}(_\d+)?/g, "_failed_<timestamp>")
    .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^\s)]*/g, "<time>")
    .replaceAll(/\b\d+(\.\d)? (B|KB|MB)\b/g, "<size>")
    .replaceAll(/\b\d+m \d+s\b|\b\d+\.\ds\b|\b\d+ms\b/g, "<duration>");
}
