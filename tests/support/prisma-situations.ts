/**
 * Every situation in which `deploy` is compared with the real Prisma CLI, and where both differ on purpose: how, and
 * why. The differences are also the table of docs/prisma-differences.md.
 */

import type { Status } from "../../lib/migrations/status.ts";
import { type Engine, makeRow, type Observation, type Side } from "./prisma-side.ts";
import type { PrismaStatus } from "./prisma-status.ts";
import { until } from "./project.ts";

export interface Situation {
  readonly name: string;
  readonly steps: (side: Side) => Promise<void>;
  /** What Prisma leaves depends on its version: by LONG=1 every situation is compared with both. */
  readonly isVersionBound?: true;
  /** We restore: no other database of the server may be made meanwhile, or nothing is proven any more. */
  readonly isAlone?: true;
  /** Prisma's `schema` parameter. */
  readonly schema?: string;
  readonly difference?: Difference;
}

export interface Difference {
  /** Where both engines of Prisma differ from us, this is left out. */
  readonly only?: Engine["name"];
  /** What they do, for the documents. */
  readonly prisma: string;
  readonly deploy: string;
  readonly reason: string;
  /** The schemas differ as well, although the tables have the same names. */
  readonly otherSchema?: true;
  /** What is to be observed of us instead. */
  readonly ours: Partial<Omit<Observation, "schema" | "disagreements">>;
}

const A = 'CREATE TABLE "a" ("id" INTEGER PRIMARY KEY);\n';
const B = 'CREATE TABLE "b" ("id" INTEGER PRIMARY KEY);\n';
const C = 'CREATE TABLE "c" ("id" INTEGER PRIMARY KEY);\n';
const FAILING = 'CREATE TABLE "half" ("id" INTEGER);\nALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n';
const SEARCH_PATH = "CREATE SCHEMA s;\nSET search_path = s;\nCREATE TABLE t (id integer);\n";
const CONCURRENTLY = 'CREATE INDEX CONCURRENTLY "a_id" ON "a" ("id");\n';
const ENUM = "CREATE TYPE e AS ENUM ('x');\nCREATE TABLE a (v e);\n";
const ENUM_ADDED_AND_USED = "ALTER TYPE e ADD VALUE 'y';\nALTER TABLE a ALTER COLUMN v SET DEFAULT 'y';\n";
const PRISMA_LOCK = 72707369;
/** A script that is at work for as long as somebody holds that lock. */
const SCRIPT_LOCK = 4242;
const WAIT_FOR_LOCK = `DO $$ BEGIN
  WHILE NOT pg_try_advisory_xact_lock(${SCRIPT_LOCK}) LOOP PERFORM pg_sleep(0.2); END LOOP;
END $$;\n`;
const NOT_UTF8 = Buffer.concat([Buffer.from("-- "), Buffer.from([0xe9]), Buffer.from(`\n${A}`)]);

const UP_TO_DATE: PrismaStatus = { says: "up-to-date", exitCode: 0, pending: [], failed: [], missing: [] };
const pending = (...names: string[]): PrismaStatus => ({ ...UP_TO_DATE, says: "pending", exitCode: 1, pending: names });

const NOTHING_LEFT = "what failed is rolled back whole, with its rows: a plain retry is enough, and nothing is half";
const REFUSED_FIRST = "what can't work is refused before the first script runs";
const EVIDENCE = "a blind resolve makes the history lie about the database; `--force` records it all the same";

const EVERYDAY: readonly Situation[] = [
  {
    name: "an empty folder",
    steps: async (side) => {
      side.write({});
      await side.status();
      await side.deploy();
    },
    difference: {
      prisma: "creates `_prisma_migrations`; before that, `status` fails",
      deploy: "writes nothing; `status` is up to date",
      reason: "a start with nothing to do changes nothing",
      ours: { outcomes: ["ok", "ok"], status: { ...UP_TO_DATE, says: "unmanaged", exitCode: 1 }, tables: "" },
    },
  },
  {
    name: "no folder",
    steps: async (side) => {
      side.removeFolder();
      await side.deploy();
    },
    difference: {
      prisma: "takes it for «no migrations» and succeeds",
      deploy: "stops with `MIGRATIONS_DIR_NOT_FOUND` and names likely folders",
      reason: "a wrong path must not look like success",
      ours: {
        outcomes: ["MIGRATIONS_DIR_NOT_FOUND"],
        status: { ...UP_TO_DATE, says: "unmanaged", exitCode: 1 },
        tables: "",
      },
    },
  },
  {
    name: "three pending, then nothing pending",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B, "3_c": C });
      await side.status();
      await side.deploy();
      await side.deploy();
    },
  },
  {
    name: "some applied by the CLI, some pending",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.prisma("migrate", "deploy");
      side.write({ "2_b": B, "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "edited after it was applied",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.deploy();
      side.write({ "1_a": `${A}-- edited\n` });
      await side.status();
      await side.deploy();
      side.write({ "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "applied and missing in the folder",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
      side.remove("2_b");
      await side.deploy();
    },
  },
  {
    name: "diverged: one missing, another pending",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
      side.remove("2_b");
      side.write({ "3_c": C });
    },
  },
  {
    name: "diverged, and deployed",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
      side.remove("2_b");
      side.write({ "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "the first one is missing",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
      side.remove("1_a");
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
    name: "names whose order differs between bytes and Prisma 6.6 and later",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_foo": A, "10_bar": B, a_1: C, a1: "" });
      await side.deploy();
    },
    difference: {
      prisma: "the order of `localeCompare`: `1_foo` before `10_bar`",
      deploy: "byte order: `10_bar` before `1_foo`, with a warning; `MIGRATION_ORDER=prisma` follows Prisma",
      reason: "byte order is the same on every machine, and that of Prisma up to 6.5",
      ours: {
        rows: [
          makeRow("10_bar", B, "finished"),
          makeRow("1_foo", A, "finished"),
          makeRow("a1", "", "finished"),
          makeRow("a_1", C, "finished"),
        ],
      },
    },
  },
  {
    name: "names whose order differs, with MIGRATION_ORDER=prisma",
    steps: async (side) => {
      side.write({ "1_foo": A, "10_bar": B, a_1: C, a1: "", B_x: "", b_x: "" });
      await side.deploy({ MIGRATION_ORDER: "prisma" });
    },
  },
  {
    name: "files, links and folders of other kinds beside the migrations",
    steps: async (side) => {
      side.write({ "1_a": A, zzz_b: B, ".hidden": C });
      side.writeFile("README.md", "text");
      side.writeFile("1_a/down.sql", "DROP TABLE a;");
      side.writeFile("1_a/notes.txt", "text");
      side.link("9_link", "1_a");
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
];

const FAILURES: readonly Situation[] = [
  {
    name: "the first one fails",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": FAILING, "2_b": B });
      await side.deploy();
    },
    difference: {
      prisma: "leaves a failed row; from 7.4 on also the statements before the one that failed",
      deploy: "leaves nothing",
      reason: NOTHING_LEFT,
      ours: { rows: [], tables: "", status: pending("1_a", "2_b") },
    },
  },
  {
    name: "the middle one fails, is deployed again, mended, and deployed",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING, "3_c": C });
      await side.deploy();
      await side.deploy();
      side.write({ "2_b": B });
      await side.deploy();
    },
    difference: {
      prisma: "the ones before it stay applied; P3009 from then on, until somebody resolves it",
      deploy:
        "nothing of the deploy stays; `FAILED_BEFORE` for a while, or `--retry`; it succeeds once the script is mended",
      reason: NOTHING_LEFT,
      ours: {
        outcomes: ["P3018", "FAILED_BEFORE", "ok"],
        rows: [makeRow("1_a", A, "finished"), makeRow("2_b", B, "finished"), makeRow("3_c", C, "finished")],
        tables: "_prisma_migrations,a,b,c",
        status: UP_TO_DATE,
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
    name: "P3009 while another is pending",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING, "3_c": C });
      await side.prisma("migrate", "deploy");
      await side.deploy();
    },
  },
  {
    name: "P3009: the failed one is missing in the folder",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      side.remove("2_b");
      await side.deploy();
      await side.resolve(["--rolled-back", "2_b"]);
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
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": `BEGIN;\n${FAILING}COMMIT;\n` });
      await side.deploy();
    },
    difference: {
      prisma: "leaves a failed row, and tells «current transaction is aborted» instead of what failed",
      deploy: "leaves nothing, and tells what failed",
      reason: NOTHING_LEFT,
      ours: { outcomes: ["P3018"], rows: [], tables: "", status: pending("1_a") },
    },
  },
  {
    name: "BEGIN without COMMIT",
    isVersionBound: true,
    isAlone: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `BEGIN;\n${B}` });
      await side.deploy();
    },
    difference: {
      prisma: "reports success; all of it is lost when it disconnects",
      deploy: "fails, and leaves nothing",
      reason: "a success that is lost is none",
      ours: { outcomes: ["MIGRATION_BROKE_TRANSACTION"], rows: [], tables: "", status: pending("1_a", "2_b") },
    },
  },
  {
    name: "a search path that is left behind",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": SEARCH_PATH, "2_b": B });
      await side.deploy();
    },
    difference: {
      prisma: "P1014: it does not find its own table any more",
      deploy: "puts the session back between scripts, and applies both",
      reason: "a script's settings must not reach the next one or the rows",
      ours: {
        outcomes: ["ok"],
        rows: [makeRow("1_a", SEARCH_PATH, "finished"), makeRow("2_b", B, "finished")],
        tables: "_prisma_migrations,b",
        status: UP_TO_DATE,
      },
    },
  },
  {
    name: "killed in the middle of a script, then deployed again",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `${B}SELECT pg_sleep(600);\n`, "3_c": C });
      const started = await side.start();
      await untilAsleep(side);
      await started.kill();
      side.write({ "2_b": B });
      await side.deploy();
    },
    difference: {
      prisma: "leaves an unfinished row: P3009 from then on",
      deploy: "leaves nothing; the next one succeeds",
      reason: NOTHING_LEFT,
      ours: {
        outcomes: ["ok"],
        rows: [makeRow("1_a", A, "finished"), makeRow("2_b", B, "finished"), makeRow("3_c", C, "finished")],
        tables: "_prisma_migrations,a,b,c",
        status: UP_TO_DATE,
      },
    },
  },
  {
    name: "a second deployer while the first is at work",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `${B}SELECT pg_sleep(4);\n`, "3_c": C });
      const first = await side.start();
      await untilAsleep(side);
      await side.deploy();
      await first.finish();
    },
  },
  {
    name: "a deploy while the CLI of Prisma is at work",
    steps: async (side) => {
      side.write({ "1_a": `${A}SELECT pg_sleep(4);\n` });
      await side.startPrisma();
      await untilAsleep(side);
      side.write({ "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "somebody holds the lock for too long, and gives it back",
    steps: async (side) => {
      side.write({ "1_a": A });
      const release = await side.holdLock(PRISMA_LOCK);
      // Prisma's ten seconds can't be changed.
      await side.deploy({ DEPLOY_LOCK_WAIT: "10s" });
      await release();
      await side.deploy();
    },
  },
  {
    name: "a second deployer that does not wait for long enough",
    steps: async (side) => {
      const release = await side.holdLock(SCRIPT_LOCK);
      side.write({ "1_a": `${A}${WAIT_FOR_LOCK}` });
      const first = await side.start();
      await untilAsleep(side);
      await side.deploy({ DEPLOY_LOCK_WAIT: "10s" });
      await release();
      await first.finish();
    },
  },
];

/** The start of the CLI takes a second, and many where the machine is busy. */
async function untilAsleep(side: Side): Promise<void> {
  await until("the script sleeps", () => side.isAsleep(), 300_000);
}

const SCRIPTS: readonly Situation[] = [
  {
    name: "CREATE INDEX CONCURRENTLY alone",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `-- alone\n${CONCURRENTLY}`, "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "CREATE INDEX CONCURRENTLY beside another statement",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `${B}${CONCURRENTLY}` });
      await side.deploy();
    },
    difference: {
      only: "6.19",
      prisma: "up to 7.3 it fails (25001); from 7.4 on it runs statement by statement",
      deploy: "runs it statement by statement",
      reason: "it can't work in any other way",
      ours: {
        outcomes: ["ok"],
        rows: [makeRow("1_a", A, "finished"), makeRow("2_b", `${B}${CONCURRENTLY}`, "finished")],
        tables: "_prisma_migrations,a,b",
        status: UP_TO_DATE,
      },
    },
  },
  {
    name: "VACUUM alone, DROP INDEX CONCURRENTLY alone",
    steps: async (side) => {
      side.write({
        "1_a": `${A}CREATE INDEX i ON a (id);\n`,
        "2_b": "VACUUM a;\n",
        "3_c": "DROP INDEX CONCURRENTLY i;\n",
      });
      await side.deploy();
    },
  },
  {
    name: "an enum value added and used in one script",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": ENUM, "2_b": ENUM_ADDED_AND_USED });
      await side.deploy();
    },
    difference: {
      only: "6.19",
      prisma: "up to 7.3 it fails (55P04); from 7.4 on it runs statement by statement",
      deploy: "runs it statement by statement",
      reason: "it can't work in any other way",
      otherSchema: true,
      ours: {
        outcomes: ["ok"],
        rows: [makeRow("1_a", ENUM, "finished"), makeRow("2_b", ENUM_ADDED_AND_USED, "finished")],
        status: UP_TO_DATE,
      },
    },
  },
  {
    name: "an enum value added in one script and used in the next",
    steps: async (side) => {
      side.write({
        "1_a": ENUM,
        "2_b": "ALTER TYPE e ADD VALUE 'y';\n",
        "3_c": "ALTER TABLE a ALTER COLUMN v SET DEFAULT 'y';\n",
      });
      await side.deploy();
    },
  },
  {
    name: "dollar quotes, semicolons in strings and comments, blocks of code",
    steps: async (side) => {
      side.write({
        "1_a": "CREATE FUNCTION f() RETURNS integer LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; -- ;\nEND $f$;",
        "2_b": "/* ; */ CREATE TABLE s (t text DEFAULT ';'); -- ;\nINSERT INTO s VALUES ('a;b');\n",
        "3_c": "DO $$ BEGIN CREATE TABLE d (id integer); END $$;\n",
      });
      await side.deploy();
    },
  },
  {
    name: "CRLF, no newline at the end, empty and comment-only scripts, names in Hangul",
    steps: async (side) => {
      side.write({
        "1_a": A.replaceAll("\n", "\r\n"),
        "2_b": B.trimEnd(),
        "3_c": "",
        "4_d": "-- nothing",
        "5_e": "\r\n \t\n",
        "6_한글 이름.x": C,
      });
      await side.deploy();
    },
  },
  {
    name: "CRLF that became LF after it was applied",
    steps: async (side) => {
      side.write({ "1_a": A.replaceAll("\n", "\r\n") });
      await side.deploy();
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "a byte order mark",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": `\uFEFF${B}` });
      await side.deploy();
    },
    difference: {
      prisma: "applies the ones before it; the server refuses the mark, and a failed row is left",
      deploy: "refuses it in preflight",
      reason: REFUSED_FIRST,
      ours: { outcomes: ["P3018"], rows: [], tables: "", status: pending("1_a", "2_b") },
    },
  },
  {
    name: "a script that is not UTF-8",
    steps: async (side) => {
      side.write({ "1_a": NOT_UTF8 });
      await side.deploy();
    },
    difference: {
      prisma: "replaces what it can't read by U+FFFD, and runs that",
      deploy: "refuses it with the place of the byte",
      reason: "data would be changed silently",
      ours: { outcomes: ["SCRIPT_NOT_UTF8"], rows: [], tables: "", status: pending("1_a") },
    },
  },
  {
    name: "a folder without a script",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": null });
      await side.deploy();
    },
    difference: {
      prisma: "P3015, after the ones before it were applied",
      deploy: "refuses it before anything runs",
      reason: REFUSED_FIRST,
      ours: { rows: [], tables: "", status: pending("1_a", "2_b") },
    },
  },
  {
    name: "a script that is gone after it was applied",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.deploy();
      side.remove("1_a");
      side.write({ "1_a": null, "2_b": B });
      await side.deploy();
      side.write({ "1_a": A });
    },
  },
];

const PLACES: readonly Situation[] = [
  {
    name: "P3005: a database with tables and no history",
    steps: async (side) => {
      await side.sql("CREATE TABLE other (id integer)");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "only a view, a partitioned table, a sequence or another schema's table is no content",
    steps: async (side) => {
      await side.sql(`CREATE VIEW v AS SELECT 1 AS x; CREATE SCHEMA s; CREATE TABLE s.t (id integer); CREATE SEQUENCE q;
        CREATE TABLE p (id integer) PARTITION BY LIST (id); CREATE TABLE "Spatial_Ref_Sys" (id integer);`);
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "P3005: the partition of a partitioned table is content",
    steps: async (side) => {
      await side.sql("CREATE TABLE p (id integer) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p DEFAULT;");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "an empty history in a database with tables",
    steps: async (side) => {
      side.write({});
      await side.prisma("migrate", "deploy");
      await side.sql("CREATE TABLE other (id integer)");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "a history with more columns than Prisma's",
    steps: async (side) => {
      side.write({});
      await side.prisma("migrate", "deploy");
      await side.sql("ALTER TABLE _prisma_migrations ADD COLUMN who text DEFAULT 'x'");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "the ledger of Prisma 8 alone",
    steps: async (side) => {
      await side.sql("CREATE SCHEMA prisma_contract; CREATE TABLE prisma_contract.marker (id integer)");
      side.write({ "1_a": A });
      await side.deploy();
    },
    difference: {
      prisma: "5 to 7 do not look there, and apply everything",
      deploy: "stops with `LEDGER_UNSUPPORTED`",
      reason: "the migrations would be applied a second time beside another history",
      ours: { outcomes: ["LEDGER_UNSUPPORTED"], rows: [], tables: "", status: pending("1_a") },
    },
  },
  {
    name: "no lock file, and one with CRLF",
    steps: async (side) => {
      side.write({ "1_a": A });
      side.remove("migration_lock.toml");
      await side.deploy();
      side.writeFile("migration_lock.toml", '# Prisma\r\nprovider = "postgresql"\r\n');
      side.write({ "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "a lock file of another provider",
    steps: async (side) => {
      side.write({ "1_a": A });
      side.writeFile("migration_lock.toml", 'provider = "mysql"\n');
      await side.status();
      await side.deploy();
      await side.resolve(["--applied", "1_a"]);
      side.writeFile("migration_lock.toml", 'provider="postgresql"\n');
      await side.deploy();
      side.writeFile("migration_lock.toml", "nothing\n");
      await side.deploy();
    },
  },
  {
    name: "a server that does not answer",
    steps: async (side) => {
      side.write({ "1_a": A });
      side.connectTo((url) => withPort(url, "1"));
      await side.status();
      await side.deploy({ DATABASE_WAIT: "0" });
    },
  },
  {
    name: "a database that is not there",
    steps: async (side) => {
      side.write({ "1_a": A });
      side.connectTo((url) => url.replace(side.database, `${side.database}_not`));
      await side.status();
      await side.deploy();
    },
    difference: {
      prisma: "`deploy` creates it",
      deploy: "stops with `DATABASE_NOT_FOUND`; `--create-database` creates it",
      reason: "a wrong name must not become an empty database in which the app starts",
      ours: { outcomes: ["P1003", "P1003"] },
    },
  },
  {
    name: "a database that is not there, with CREATE_DATABASE",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.dropDatabase();
      await side.deploy({ CREATE_DATABASE: "1" });
    },
  },
];

function withPort(url: string, port: string): string {
  return url.includes("port=") ? url.replace(/port=\d+/, `port=${port}`) : url.replace(/:\d+\//, `:${port}/`);
}

const RESOLUTIONS: readonly Situation[] = [
  {
    name: "resolve --rolled-back after a failure of the CLI that left nothing, mended and deployed",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": 'ALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n' });
      await side.prisma("migrate", "deploy");
      await side.resolve(["--rolled-back", "2_b"]);
      // Again, it changes nothing.
      await side.resolve(["--rolled-back", "2_b"]);
      side.write({ "2_b": B, "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "resolve --rolled-back, failed again, rolled back again",
    steps: async (side) => {
      side.write({ "1_a": 'ALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n' });
      await side.prisma("migrate", "deploy");
      await side.resolve(["--rolled-back", "1_a"]);
      await side.prisma("migrate", "deploy");
      await side.resolve(["--rolled-back", "1_a"]);
    },
  },
  {
    name: "resolve --rolled-back where half of it is left",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": FAILING });
      await side.prisma("migrate", "deploy");
      await side.resolve(["--rolled-back", "1_a"]);
    },
    difference: {
      only: "7.10",
      prisma: "marks it, although what the first statements made is there",
      deploy: "shows what is there, and refuses",
      reason: EVIDENCE,
      ours: {
        outcomes: ["RESOLVE_CONTRADICTED"],
        rows: [makeRow("1_a", FAILING, "failed")],
        status: { ...UP_TO_DATE, says: "failed", exitCode: 1, failed: ["1_a"] },
      },
    },
  },
  {
    name: "resolve --rolled-back with --force where half of it is left",
    steps: async (side) => {
      side.write({ "1_a": FAILING });
      await side.prisma("migrate", "deploy");
      await side.resolve(["--rolled-back", "1_a"], ["--force"]);
      await side.sql("DROP TABLE IF EXISTS half");
      side.write({ "1_a": A });
      await side.deploy();
    },
  },
  {
    name: "resolve --applied after the database was completed by hand",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      await side.sql("CREATE TABLE IF NOT EXISTS half (id integer); CREATE TABLE nope (x integer)");
      await side.resolve(["--applied", "2_b"]);
      side.write({ "3_c": C });
      await side.deploy();
    },
  },
  {
    name: "resolve --applied where it is not in the database",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      await side.resolve(["--applied", "2_b"]);
    },
    difference: {
      prisma: "marks it",
      deploy: "shows what is missing, and refuses",
      reason: EVIDENCE,
      ours: {
        outcomes: ["RESOLVE_CONTRADICTED"],
        rows: [makeRow("1_a", A, "finished"), makeRow("2_b", FAILING, "failed")],
        status: { ...UP_TO_DATE, says: "failed", exitCode: 1, failed: ["2_b"] },
      },
    },
  },
  {
    name: "resolve --applied with --force of one that has failed twice",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": FAILING });
      await side.prisma("migrate", "deploy");
      await side.prisma("migrate", "resolve", "--rolled-back", "2_b");
      await side.sql("DROP TABLE IF EXISTS half");
      await side.prisma("migrate", "deploy");
      await side.resolve(["--applied", "2_b"], ["--force"]);
      await side.deploy();
    },
  },
  {
    name: "resolve --applied of one that was edited after its row was written",
    steps: async (side) => {
      side.write({ "1_a": 'ALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n' });
      await side.prisma("migrate", "deploy");
      await side.sql(A);
      side.write({ "1_a": A });
      await side.resolve(["--applied", "1_a"]);
    },
  },
  {
    name: "resolve and its errors, without a history",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": null });
      await side.resolve(["--rolled-back", "1_a"]);
      await side.resolve([]);
      await side.resolve(["--applied", "1_a", "--rolled-back", "1_a"]);
      await side.resolve(["--applied", "nope"]);
      await side.resolve(["--applied", "../migrations"]);
      await side.resolve(["--applied", "2_b"]);
      await side.resolve(["--rolled-back", "nope"]);
    },
  },
  {
    name: "resolve and its errors, with a history",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.deploy();
      side.write({ "2_b": B });
      await side.resolve(["--applied", "nope"]);
      await side.resolve(["--rolled-back", "nope"]);
      await side.resolve(["--applied", "1_a"]);
      await side.resolve(["--rolled-back", "1_a"]);
      await side.resolve(["--rolled-back", "2_b"]);
      await side.resolve(["--applied", ""]);
    },
  },
  {
    name: "resolve --applied of one that was applied and rolled back (P3008), which is deployed again",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.deploy();
      await side.sql("UPDATE _prisma_migrations SET rolled_back_at = now(); DROP TABLE a");
      await side.resolve(["--applied", "1_a"]);
      await side.resolve(["--rolled-back", "1_a"]);
      await side.deploy();
    },
  },
  {
    name: "resolve --rolled-back without the folder",
    steps: async (side) => {
      side.write({ "1_a": 'ALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n' });
      await side.prisma("migrate", "deploy");
      side.removeFolder();
      await side.resolve(["--rolled-back", "1_a"]);
    },
  },
  {
    name: "resolve --rolled-back with a lock file of another provider",
    steps: async (side) => {
      side.write({ "1_a": 'ALTER TABLE "nope" ADD COLUMN "x" INTEGER;\n' });
      await side.prisma("migrate", "deploy");
      side.writeFile("migration_lock.toml", 'provider = "mysql"\n');
      await side.resolve(["--rolled-back", "1_a"]);
      side.writeFile("migration_lock.toml", 'provider = "postgresql"\n');
    },
  },
  {
    name: "resolve waits for a deploy at work",
    steps: async (side) => {
      side.write({ "1_a": `${A}SELECT pg_sleep(4);\n` });
      const first = await side.start();
      await untilAsleep(side);
      await side.resolve(["--applied", "1_a"]);
      await first.finish();
    },
  },
  {
    name: "a baseline by resolve, then the next one",
    steps: async (side) => {
      await side.sql(A);
      side.write({ "1_a": A });
      await side.resolve(["--applied", "1_a"]);
      side.write({ "2_b": B });
      await side.deploy();
    },
  },
  {
    name: "a baseline of three, of which one is marked already",
    steps: async (side) => {
      await side.sql(A + B + C);
      side.write({ "1_a": A, "2_b": B, "3_c": C });
      await side.prisma("migrate", "resolve", "--applied", "1_a");
      await side.baseline(["2_b", "3_c"]);
      side.write({ "4_d": "CREATE TABLE d (id integer);\n" });
      await side.deploy();
    },
  },
  {
    name: "a baseline of a history whose scripts undo each other",
    steps: async (side) => {
      await side.sql('CREATE TABLE "b" ("id" INTEGER PRIMARY KEY, "y" INTEGER); CREATE TABLE "b2" ("id" INTEGER)');
      side.write({
        "1_a": `${A}${B}`,
        "2_b": 'DROP TABLE "a";\nALTER TABLE "b" ADD COLUMN "x" INTEGER;\n',
        "3_c": 'ALTER TABLE "b" RENAME COLUMN "x" TO "y";\nCREATE TABLE "b1" ("id" INTEGER);\n',
        "4_d": 'ALTER TABLE "b1" RENAME TO "b2";\n',
      });
      await side.baseline(["1_a", "2_b", "3_c", "4_d"]);
      await side.deploy();
    },
  },
  {
    name: "a baseline of something that is not there",
    steps: async (side) => {
      await side.sql(A);
      side.write({ "1_a": A, "2_b": B });
      await side.baseline(["1_a", "2_b"]);
    },
    difference: {
      prisma: "marks everything",
      deploy: "shows what is missing, and refuses",
      reason: EVIDENCE,
      ours: { outcomes: ["RESOLVE_CONTRADICTED"], rows: [], tables: "a", status: pending("1_a", "2_b") },
    },
  },
];

/** Where our status tells what Prisma's does not, over the same database and folder. */
export interface StatusDifference {
  readonly name: string;
  readonly isVersionBound?: true;
  readonly steps: (side: Side) => Promise<void>;
  /** What ends what the steps have begun. */
  readonly end?: (side: Side) => Promise<void>;
  readonly prisma: string;
  readonly deploy: string;
  readonly theirs: (engine: Engine["name"]) => Partial<PrismaStatus>;
  readonly ours: Partial<Status>;
}

export const STATUS_DIFFERENCES: readonly StatusDifference[] = [
  {
    name: "edited after it was applied",
    steps: async (side) => {
      side.write({ "1_a": A });
      await side.deploy();
      side.write({ "1_a": `${A}-- edited\n` });
    },
    prisma: "says nothing",
    deploy: "`edited`",
    theirs: () => UP_TO_DATE,
    ours: { state: "up-to-date", edited: ["1_a"] },
  },
  {
    name: "applied and missing in the folder",
    steps: async (side) => {
      side.write({ "1_a": A, "2_b": B });
      await side.deploy();
      side.remove("2_b");
    },
    prisma: "says nothing, unless something is pending as well",
    deploy: "`missing`",
    theirs: () => UP_TO_DATE,
    ours: { state: "up-to-date", missing: ["2_b"] },
  },
  {
    name: "an earlier name that comes late",
    steps: async (side) => {
      side.write({ "2_b": B });
      await side.deploy();
      side.write({ "1_a": A });
    },
    prisma: "says that it is pending",
    deploy: "`pending` and `late`",
    theirs: () => pending("1_a"),
    ours: { state: "pending", pending: ["1_a"], late: ["1_a"] },
  },
  {
    name: "failed while another is pending",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": FAILING, "2_b": B });
      await side.prisma("migrate", "deploy");
    },
    prisma: "tells the pending one only",
    deploy: "`failed` and `pending`; the state is `blocked`",
    theirs: () => pending("2_b"),
    ours: { state: "blocked", problem: "HISTORY_FAILED", failed: ["1_a"], pending: ["2_b"] },
  },
  {
    name: "a migration at work",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": "SELECT pg_sleep(600);\n" });
      await side.startPrisma();
      await untilAsleep(side);
    },
    end: (side) => side.endSessions(),
    prisma: "calls it failed",
    deploy: "`running`, while somebody holds the deploy lock",
    theirs: () => ({ says: "failed", failed: ["1_a"], exitCode: 1 }),
    ours: { state: "running", running: ["1_a"], failed: [] },
  },
  {
    name: "marked rolled back, and not applied since",
    isVersionBound: true,
    steps: async (side) => {
      side.write({ "1_a": FAILING });
      await side.prisma("migrate", "deploy");
      await side.prisma("migrate", "resolve", "--rolled-back", "1_a");
    },
    prisma: "up to 7.8 it says that the schema is up to date, although its `deploy` would run it",
    deploy: "`pending` and `rolledBack`",
    theirs: (engine) => (engine === "6.19" ? UP_TO_DATE : pending("1_a")),
    ours: { state: "pending", pending: ["1_a"], rolledBack: ["1_a"] },
  },
  {
    name: "tables and no history",
    steps: async (side) => {
      await side.sql("CREATE TABLE other (id integer)");
      side.write({ "1_a": A });
    },
    prisma: "says that it is pending; only its `deploy` refuses",
    deploy: "`pending`; the state is `blocked` with `BASELINE_NEEDED`",
    theirs: () => pending("1_a"),
    ours: { state: "blocked", problem: "BASELINE_NEEDED", pending: ["1_a"] },
  },
];

export const SITUATIONS: readonly Situation[] = [...EVERYDAY, ...FAILURES, ...SCRIPTS, ...PLACES, ...RESOLUTIONS];
