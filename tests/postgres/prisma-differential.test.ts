/**
 * What must hold: in each situation `deploy` leaves the rows, the schema and the success that the real
 * `prisma migrate deploy` leaves, and the real `prisma migrate status` says the same afterwards. Where we differ on
 * purpose, the row of the table says how and why, and that the difference is really there.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeChecksum } from "../../lib/migrations/checksum.ts";
import { type Cluster, sharedCluster } from "../support/cluster.ts";
import {
  type PrismaProject,
  preparePrismaProject,
  type Scripts,
  skipsPrisma,
  writeMigrations,
} from "../support/prisma-cli.ts";
import { makeProject, runDeploy } from "../support/project.ts";
import { dumpSchema } from "../support/schema-dump.ts";

setDefaultTimeout(300_000);

/** What can be done to a project and its database; both sides do the same. */
interface Side {
  /** The deploy under comparison. */
  deploy(): Promise<void>;
  /** The real CLI, on both sides: what somebody may have done before or between. */
  prisma(...args: string[]): Promise<void>;
  sql(text: string): Promise<void>;
  write(scripts: Scripts): void;
  remove(name: string): void;
  writeLockFile(text: string): void;
}

/** What is compared. */
interface Observation {
  /** Of each deploy. */
  readonly successes: readonly boolean[];
  /** Name, start of the checksum, steps, and whether it is finished or rolled back, in the order of their start. */
  readonly rows: readonly string[];
  /** Exit code of `prisma migrate status`. */
  readonly status: number;
  /** `pg_dump --schema-only`, Prisma's own table included. */
  readonly schema: string;
  /** Names of the tables, for differences that are meant. */
  readonly tables: string;
}

interface Situation {
  readonly name: string;
  readonly steps: (side: Side) => Promise<void>;
  /** As engines from 7.4 on: each statement by itself. */
  readonly split?: boolean;
  /** Prisma's `schema` parameter. */
  readonly schema?: string;
  readonly difference?: { readonly reason: string; readonly ours: Partial<Omit<Observation, "schema">> };
}

const A = 'CREATE TABLE "a" ("id" INTEGER PRIMARY KEY);\n';
const B = 'CREATE TABLE "b" ("id" INTEGER PRIMARY KEY);\n';
const C = 'CREATE TABLE "c" ("id" INTEGER PRIMARY KEY);\n';
const FAILING = 'CREATE TABLE "half" ("id" INTEGER);\nALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n';
const SEARCH_PATH = "CREATE SCHEMA s;\nSET search_path = s;\nCREATE TABLE t (id integer);\n";

const NOTHING_LEFT = "a failed transaction is rolled back whole, with its rows, and leaves a plain retry";
const REFUSED_FIRST = "what can't work is refused before the first script runs";

const SITUATIONS: readonly Situation[] = [
  {
    name: "no migrations at all",
    steps: async (side) => {
      side.write({});
      await side.deploy();
    },
    difference: { reason: "a start with nothing to do writes nothing", ours: { status: 1, tables: "" } },
  },
  {
    name: "three pending, then nothing pending",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B, "3_c": C });
      await side.deploy();
      await side.deploy();
    },
  },
  {
    name: "the first one fails",
    steps: async (side) => {
      side.write({ "1_a": FAILING, "2_b": B });
      await side.deploy();
    },
    difference: { reason: NOTHING_LEFT, ours: { rows: [], tables: "" } },
  },
  {
    name: "the middle one fails, is mended and deployed again",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING, "3_c": C });
      await side.deploy();
      side.write({ "2_b": B });
      await side.deploy();
    },
    difference: {
      reason: NOTHING_LEFT,
      ours: {
        successes: [false, true],
        rows: [finished("1_a", A), finished("2_b", B), finished("3_c", C)],
        status: 0,
        tables: "_prisma_migrations,a,b,c",
      },
    },
  },
  {
    name: "P3009: the CLI has failed before",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      await side.deploy();
    },
  },
  {
    name: "the CLI has failed, it was marked rolled back, mended and deployed",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      await side.prisma("migrate", "resolve", "--rolled-back", "2_b");
      side.write({ "2_b": B, "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "the CLI has failed and it was marked applied",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      await side.prisma("migrate", "resolve", "--applied", "2_b");
      side.write({ "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "edited after it was applied",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.deploy();
      side.write({ "1_a": `${A}-- edited\n`, "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "applied and missing in the folder",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
      side.remove("2_b");
      side.write({ "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "late: an earlier name comes after a later one",
    steps: async (side) => {
      side.write({ "2_b": B });
      await side.deploy();
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "P3005: a database with tables and no history",
    steps: async (side) => {
      await side.sql("CREATE TABLE other (id integer)");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "a baseline, then the next one",
    steps: async (side) => {
      await side.sql(A);
      side.write({ "1_a": A });
      await side.prisma("migrate", "resolve", "--applied", "1_a");
      side.write({ "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "only a view, or only another schema's table, is no content",
    steps: async (side) => {
      await side.sql("CREATE VIEW v AS SELECT 1 AS x; CREATE SCHEMA s; CREATE TABLE s.t (id integer);");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "a schema parameter",
    schema: "app",
    steps: async (side) => {
      await side.sql("CREATE SCHEMA app");
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "its own BEGIN and COMMIT",
    steps: async (side) => {
      side.write({ "1_a": `BEGIN;\n${A}COMMIT;\n`, "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "its own BEGIN, failing",
    steps: async (side) => {
      side.write({ "1_a": `BEGIN;\n${FAILING}COMMIT;\n` });
      await side.deploy();
    },
    difference: { reason: NOTHING_LEFT, ours: { rows: [], tables: "" } },
  },
  {
    name: "CREATE INDEX CONCURRENTLY alone",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": '-- alone\nCREATE INDEX CONCURRENTLY "a_id" ON "a" ("id");\n', "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "CREATE INDEX CONCURRENTLY beside another statement, as engines from 7.4 on run it",
    split: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `${B}CREATE INDEX CONCURRENTLY "a_id" ON "a" ("id");\n` });
      await side.deploy();
    },
  },
  {
    name: "an enum value added and used in one script, as engines from 7.4 on run it",
    split: true,
    steps: async (side) => {
      side.write({
        "1_a": "CREATE TYPE e AS ENUM ('x');\nCREATE TABLE a (v e);\n",
        "2_b": "ALTER TYPE e ADD VALUE 'y';\nALTER TABLE a ALTER COLUMN v SET DEFAULT 'y';\n",
      });
      await side.deploy();
    },
  },
  {
    name: "an enum value added in one script and used in the next",
    steps: async (side) => {
      side.write({
        "1_a": "CREATE TYPE e AS ENUM ('x');\nCREATE TABLE a (v e);\n",
        "2_b": "ALTER TYPE e ADD VALUE 'y';\n",
        "3_c": "ALTER TABLE a ALTER COLUMN v SET DEFAULT 'y';\n",
      });
      await side.deploy();
    },
  },
  {
    name: "BEGIN without COMMIT",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `BEGIN;\n${B}` });
      await side.deploy();
    },
    difference: {
      reason: "what the CLI calls a success is lost when it disconnects",
      ours: { successes: [false], rows: [], tables: "" },
    },
  },
  {
    name: "a search path that is left behind",
    steps: async (side) => {
      side.write({ "1_a": SEARCH_PATH, "2_b": B });
      await side.deploy();
    },
    difference: {
      reason: "the session is put back between scripts",
      ours: {
        successes: [true],
        rows: [finished("1_a", SEARCH_PATH), finished("2_b", B)],
        status: 0,
        tables: "_prisma_migrations,b",
      },
    },
  },
  {
    name: "CRLF, no newline at the end, empty and comment-only scripts, dollar quotes",
    steps: async (side) => {
      side.write({
        "1_a": A.replaceAll("\n", "\r\n"),
        "2_b": B.trimEnd(),
        "3_c": "",
        "4_d": "-- nothing",
        "5_e": "CREATE FUNCTION f() RETURNS integer LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; -- ;\nEND $f$;",
        "6_한글 이름.x": C,
      });
      await side.deploy();
    },
  },
  {
    name: "a byte order mark",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `\uFEFF${B}` });
      await side.deploy();
    },
    difference: { reason: REFUSED_FIRST, ours: { rows: [], tables: "" } },
  },
  {
    name: "a folder without a script",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": null });
      await side.deploy();
    },
    difference: { reason: REFUSED_FIRST, ours: { rows: [], tables: "" } },
  },
  {
    name: "a lock file of another provider",
    steps: async (side) => {
      side.write({ "1_a": A });
      side.writeLockFile('provider = "mysql"\n');
      await side.deploy();
    },
  },
];

describe.skipIf(skipsPrisma("prisma-differential.test.ts"))("as prisma migrate deploy", () => {
  for (const situation of SITUATIONS) {
    test(situation.name, async () => {
      const prisma = await observe(situation, "prisma");
      const ours = await observe(situation, "ours");
      const { schema: ourSchema, ...comparable } = ours;
      const { schema: prismaSchema, ...expected } = prisma;
      expect(comparable).toEqual({ ...expected, ...situation.difference?.ours });
      if (expected.tables === comparable.tables) expect(ourSchema).toBe(prismaSchema);
      for (const key of Object.keys(situation.difference?.ours ?? {}) as (keyof Observation)[]) {
        expect({ [key]: ours[key] }).not.toEqual({ [key]: prisma[key] });
      }
    });
  }
});

function finished(name: string, script: string): string {
  return `${name} ${makeChecksum(script).slice(0, 8)} 1 finished`;
}

async function observe(situation: Situation, by: "prisma" | "ours"): Promise<Observation> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const { schema: place } = situation;
  // The engine that stands in for the native one does not know the parameter, but passes the options on.
  const parameters: Record<string, string> =
    place === undefined ? {} : { schema: place, options: `-csearch_path=${place}` };
  const url = cluster.url(database, { parameters });
  const project = await preparePrismaProject({ version: 7, migrationsFrom: {}, databaseUrl: url });
  const successes: boolean[] = [];
  const more: Record<string, string> = situation.split === true ? { ENGINE_SPLIT: "1" } : {};
  await situation.steps({
    async deploy() {
      const exitCode = by === "ours" ? await deployOurs(project, url) : await deployPrisma(project, more);
      successes.push(exitCode === 0);
    },
    async prisma(...args) {
      await project.run(args, more);
    },
    async sql(text) {
      await cluster.psql(database, text);
    },
    write: (scripts) => writeMigrations(project.migrations, scripts),
    writeLockFile: (text) => writeFileSync(join(project.migrations, "migration_lock.toml"), text),
    remove: (name) => rmSync(join(project.migrations, name), { recursive: true }),
  });
  const status = (await project.run(["migrate", "status"])).exitCode;
  const schema = await dumpSchema(cluster, database);
  return { successes, status, schema, ...(await readState(cluster, database, place ?? "public")) };
}

async function deployPrisma(project: PrismaProject, environment: Record<string, string>): Promise<number> {
  return (await project.run(["migrate", "deploy"], environment)).exitCode;
}

async function deployOurs(project: PrismaProject, url: string): Promise<number | null> {
  const { backupDirectory, add } = makeProject();
  const ours = { directory: project.directory, backupDirectory, add };
  return (await runDeploy(ours, { url, args: ["--lang", "en"] })).exitCode;
}

async function readState(cluster: Cluster, database: string, schema: string) {
  const tables = await cluster.psql(
    database,
    `SELECT string_agg(relname, ',' ORDER BY relname COLLATE "C") FROM pg_class
     WHERE relkind = 'r' AND relnamespace = '${schema}'::regnamespace`,
  );
  if (!tables.includes("_prisma_migrations")) return { tables, rows: [] };
  const rows = await cluster.psql(
    database,
    `SELECT concat_ws(' ', migration_name, left(checksum, 8), applied_steps_count,
       CASE WHEN finished_at IS NOT NULL THEN 'finished' END, CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back' END)
     FROM "${schema}"._prisma_migrations ORDER BY started_at, migration_name COLLATE "C"`,
  );
  return { tables, rows: rows === "" ? [] : rows.split("\n") };
}
