/**
 * What must hold: what is said of a script's statements is true of the database, wherever the script has stopped. Each
 * script is run up to each of its statements, and held against the catalog of a real server.
 */
import { describe, expect, test } from "bun:test";
import { lookUp } from "../../lib/migrations/catalog-lookup.ts";
import {
  type Diagnosis,
  examine,
  type ScriptToDiagnose,
  type StatementVerdict,
} from "../../lib/migrations/diagnosis.ts";
import { parseScript } from "../../lib/migrations/grammar.ts";
import { type Cluster, sharedCluster } from "../support/cluster.ts";
import { openDatabase } from "../support/restore.ts";

/**
 * A statement that can be told from the catalog, or one that can't. `undoes`: the number of the earlier one that it takes
 * back; behind both, the catalog looks as before both.
 */
type Step = readonly [can: "known" | "unknown", text: string, undoes?: number];

interface Progression {
  readonly name: string;
  /** What is there before. */
  readonly before?: string;
  readonly steps: readonly Step[];
}

const PROGRESSIONS: readonly Progression[] = [
  {
    name: "tables, columns, indexes, constraints",
    before: `CREATE TABLE "Old" (id integer PRIMARY KEY, gone text, "From" text); CREATE INDEX old_gone ON "Old" (gone);
      CREATE TABLE third (id integer PRIMARY KEY); CREATE INDEX kept ON third (id);`,
    steps: [
      ["known", 'CREATE TABLE "New" (id integer PRIMARY KEY, "b""c" text, CONSTRAINT "positive" CHECK (id > 0))'],
      ["known", 'CREATE UNIQUE INDEX "New_b_key" ON "New" ("b""c")'],
      ["unknown", "INSERT INTO \"New\" VALUES (1, 'x')"],
      ["known", 'ALTER TABLE "Old" ADD COLUMN "made" integer NOT NULL DEFAULT 0, ADD COLUMN "also" text'],
      ["known", 'ALTER TABLE "New" ADD CONSTRAINT "New_fk" FOREIGN KEY (id) REFERENCES "Old" (id) NOT VALID'],
      ["unknown", 'UPDATE "Old" SET "made" = 1'],
      ["known", 'ALTER TABLE "Old" RENAME COLUMN "From" TO "To"'],
      ["known", "ALTER TABLE third RENAME CONSTRAINT third_pkey TO third_key"],
      ["known", 'DROP INDEX "old_gone"'],
      ["known", 'ALTER TABLE "Old" DROP COLUMN "gone"'],
      ["known", 'ALTER INDEX "kept" RENAME TO "renamed"'],
      ["known", 'ALTER TABLE "New" DROP CONSTRAINT "New_fk"', 4],
    ],
  },
  {
    name: "types, schemas, extensions, functions, triggers, views, sequences, policies",
    before:
      "CREATE TABLE t (id integer); CREATE TYPE mood AS ENUM ('ok'); CREATE VIEW seen AS SELECT 1 AS x; CREATE SEQUENCE old_counter; CREATE TYPE old_type AS ENUM (); CREATE SCHEMA old_schema; CREATE SCHEMA kept; CREATE TABLE moved (id integer); CREATE FUNCTION only_one(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    steps: [
      ["known", "CREATE TYPE state AS ENUM ('on', 'off')"],
      ["known", "ALTER TYPE mood ADD VALUE 'it''s'"],
      ["known", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'"],
      ["known", "CREATE TYPE pair AS (a integer, b text)"],
      ["known", "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)"],
      ["known", 'CREATE SCHEMA "Other"'],
      ["known", 'CREATE TABLE "Other".t (id integer)'],
      ["known", "CREATE EXTENSION pgcrypto"],
      ["known", "CREATE FUNCTION f(a integer, b state[], OUT c text) LANGUAGE sql AS 'SELECT 1::text'"],
      ["known", "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"],
      ["known", "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"],
      ["known", "CREATE VIEW v AS SELECT id FROM t"],
      ["known", "CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x"],
      ["known", "CREATE SEQUENCE counter"],
      ["known", "CREATE POLICY p ON t USING (true)"],
      ["known", "DROP VIEW seen"],
      ["known", "ALTER TYPE old_type RENAME TO new_type"],
      ["known", "ALTER SEQUENCE old_counter RENAME TO new_counter"],
      ["known", "ALTER SCHEMA old_schema RENAME TO new_schema"],
      ["known", "ALTER TABLE moved SET SCHEMA kept"],
      ["known", "DROP FUNCTION f(integer, state[])", 8],
      ["known", "DROP TRIGGER tr ON t", 10],
      ["known", "DROP POLICY p ON t", 14],
      ["known", 'DROP TABLE "Other".t', 6],
      ["known", 'DROP SCHEMA "Other"', 5],
      ["known", "DROP EXTENSION pgcrypto", 7],
      ["known", "DROP MATERIALIZED VIEW mv", 12],
      ["known", "DROP DOMAIN positive", 4],
      ["known", "DROP FUNCTION only_one"],
    ],
  },
  {
    name: "what is made again under another name, step by step",
    before: "CREATE TABLE x (id integer)",
    steps: [
      ["known", "CREATE TABLE new_x (id integer, y integer)"],
      ["unknown", "INSERT INTO new_x (id) SELECT id FROM x"],
      ["known", "CREATE TABLE done (id integer)"],
    ],
  },
  {
    name: "a column that is replaced",
    before: "CREATE TABLE x (a text)",
    steps: [
      ["known", "ALTER TABLE x ADD COLUMN b integer"],
      ["unknown", "UPDATE x SET b = 1"],
      ["known", "ALTER TABLE x DROP COLUMN a"],
      ["known", "ALTER TABLE x ALTER COLUMN b SET NOT NULL, ADD COLUMN c integer"],
    ],
  },
  {
    name: "tables that are filled by a query, and columns of one that was made here",
    steps: [
      ["known", "CREATE TABLE a AS SELECT 1 AS x"],
      ["known", "SELECT 2 AS x INTO b"],
      ["known", "ALTER TABLE a ADD COLUMN y integer"],
      ["known", "CREATE INDEX a_x ON a (x)"],
      ["known", "ALTER TABLE b ADD CONSTRAINT b_pk PRIMARY KEY (x)"],
      ["known", "CREATE TABLE c (LIKE a)"],
      ["known", "CREATE TABLE d (id integer) PARTITION BY LIST (id)"],
      ["known", "CREATE TABLE d1 PARTITION OF d DEFAULT"],
    ],
  },
];

describe.each([...PROGRESSIONS])("$name", ({ before = "", steps }) => {
  const statements = steps.map(([, text]) => text);
  const script = statements.map((text) => `-- a comment\n${text};`).join("\n");

  test.each(Array.from({ length: statements.length + 1 }, (_, done) => done))("%d done", async (done) => {
    const { cluster, database } = await makeDatabase(before);
    for (const text of statements.slice(0, done)) await cluster.psql(database, text);
    const diagnosis = await diagnose(cluster, database, script);
    expect(diagnosis.statements.map(({ verdict }) => verdict)).toEqual(
      steps.map(([can], index) =>
        can === "unknown" || isUndone(steps, index, done) ? "unknown" : verdictAt(index, done),
      ),
    );
    expect(diagnosis.statements.map(({ line }) => line)).toEqual(statements.map((_, index) => 2 * index + 2));
    const told = diagnosis.statements.map(({ verdict }) => verdict);
    expect(diagnosis.contradicted).toEqual([
      ...(told.includes("not-applied") ? (["applied"] as const) : []),
      ...(told.includes("applied") ? (["rolled-back"] as const) : []),
    ]);
    if (done === 0) expect(diagnosis.proposal).toBe("rolled-back");
    if (done > 0 && done < statements.length) expect(diagnosis.proposal).toBe("restore");
    if (done === statements.length) expect(diagnosis.proposal).toBe(told.at(-1) === "applied" ? "applied" : "restore");
  });
});

function verdictAt(index: number, done: number): StatementVerdict {
  return index < done ? "applied" : "not-applied";
}

/** Of two statements that take each other back, the catalog tells only the time between them. */
function isUndone(steps: readonly Step[], index: number, done: number): boolean {
  const other = steps[index]?.[2] ?? steps.findIndex(([, , undoes]) => undoes === index);
  const [first, second] = [Math.min(index, other), Math.max(index, other)];
  return other !== -1 && !(done > first && done <= second);
}

interface Finding {
  readonly name: string;
  readonly database?: string;
  readonly script: string;
  readonly hasError?: boolean;
  readonly verdicts: readonly string[];
  readonly contradicted?: readonly string[];
  readonly proposal: Diagnosis["proposal"];
  readonly invalidIndexes?: readonly string[];
}

const FINDINGS: readonly Finding[] = [
  { name: "an empty script", script: "-- nothing\n", verdicts: [], proposal: "rolled-back" },
  { name: "one that no server can parse", script: "\uFEFFCREATE TABLE a ();", verdicts: [], proposal: "rolled-back" },
  {
    name: "only control and settings",
    script: "BEGIN; SET LOCAL lock_timeout = '1s'; SELECT 1; COMMIT;",
    verdicts: [],
    proposal: "rolled-back",
  },
  { name: "data alone", script: "UPDATE a SET b = 1;", verdicts: ["unknown"], proposal: "restore" },
  {
    name: "data alone, and the row holds its error",
    script: "UPDATE a SET b = 1;",
    hasError: true,
    verdicts: ["unknown"],
    proposal: "rolled-back",
  },
  {
    name: "data before what is missing: it may have been committed by itself",
    script: "DELETE FROM a; CREATE TABLE b (id integer);",
    verdicts: ["unknown", "not-applied"],
    contradicted: ["applied"],
    proposal: "restore",
  },
  {
    name: "the same in a transaction of its own",
    script: "BEGIN; DELETE FROM a; CREATE TABLE b (id integer); COMMIT;",
    verdicts: ["unknown", "not-applied"],
    contradicted: ["applied"],
    proposal: "rolled-back",
  },
  {
    name: "data behind what is there: it may have failed",
    database: "CREATE TABLE b (id integer)",
    script: "CREATE TABLE b (id integer); INSERT INTO b VALUES (1);",
    verdicts: ["applied", "unknown"],
    contradicted: ["rolled-back"],
    proposal: "restore",
  },
  {
    name: "a table of another shape",
    database: "CREATE TABLE b (id integer)",
    script: "CREATE TABLE b (id integer, more text);",
    verdicts: ["unknown"],
    contradicted: ["applied", "rolled-back"],
    proposal: "restore",
  },
  {
    name: "a view in the place of a table",
    database: "CREATE VIEW b AS SELECT 1 AS id",
    script: "CREATE TABLE b (id integer);",
    verdicts: ["unknown"],
    contradicted: ["applied", "rolled-back"],
    proposal: "restore",
  },
  {
    name: "IF NOT EXISTS, with and without it",
    database: "CREATE TABLE b (id integer)",
    script: "CREATE TABLE IF NOT EXISTS b (id integer); CREATE TABLE IF NOT EXISTS c (id integer);",
    verdicts: ["applied", "not-applied"],
    contradicted: ["applied"],
    proposal: "restore",
  },
  {
    name: "repeatable statements that are all met",
    database: "CREATE TABLE b (id integer NOT NULL)",
    script:
      "CREATE TABLE IF NOT EXISTS b (id integer); DROP TABLE IF EXISTS c; ALTER TABLE b ALTER COLUMN id SET NOT NULL;",
    verdicts: ["applied", "applied", "applied"],
    proposal: "applied",
  },
  {
    name: "NOT NULL that is not there",
    database: "CREATE TABLE b (id integer)",
    script: "ALTER TABLE b ALTER COLUMN id SET NOT NULL;",
    verdicts: ["not-applied"],
    contradicted: ["applied"],
    proposal: "rolled-back",
  },
  {
    name: "a table that takes another one's name looks the same before and after",
    database: "CREATE TABLE x (id integer)",
    script: "CREATE TABLE new_x (id integer); DROP TABLE x; ALTER TABLE new_x RENAME TO x;",
    verdicts: ["unknown", "unknown", "unknown"],
    proposal: "restore",
  },
  {
    name: "the same, stopped in between",
    database: "CREATE TABLE new_x (id integer)",
    script: "CREATE TABLE new_x (id integer); DROP TABLE x; ALTER TABLE new_x RENAME TO x;",
    verdicts: ["applied", "applied", "not-applied"],
    contradicted: ["applied", "rolled-back"],
    proposal: "restore",
  },
  {
    name: "a constraint that is made anew under its name",
    database: "CREATE TABLE x (id integer, CONSTRAINT c CHECK (id > 0))",
    script: "ALTER TABLE x DROP CONSTRAINT c; ALTER TABLE x ADD CONSTRAINT c CHECK (id > 1);",
    verdicts: ["unknown", "unknown"],
    proposal: "restore",
  },
  {
    name: "an index whose name another table's had",
    database: "CREATE TABLE x (id integer); CREATE INDEX i ON x (id)",
    script: "DROP TABLE x; CREATE TABLE y (id integer); CREATE INDEX i ON y (id);",
    verdicts: ["not-applied", "not-applied", "unknown"],
    contradicted: ["applied"],
    proposal: "rolled-back",
  },
  {
    name: "CASCADE: what depends on it goes with it",
    database: "CREATE TABLE y (id integer)",
    script: "CREATE VIEW v AS SELECT 1 AS x; CREATE TABLE y (id integer); DROP TYPE e CASCADE;",
    verdicts: ["unknown", "applied", "applied"],
    contradicted: ["rolled-back"],
    proposal: "applied",
  },
  {
    name: "a block of code that names the object",
    script: "CREATE TABLE made (id integer); DO $$ BEGIN DROP TABLE IF EXISTS made; END $$;",
    verdicts: ["unknown", "unknown"],
    proposal: "restore",
  },
  {
    name: "a search path of its own",
    database: "CREATE SCHEMA s",
    script: "CREATE TABLE s.a (id integer); SET search_path = s; CREATE TABLE b (id integer);",
    verdicts: ["not-applied", "unknown"],
    contradicted: ["applied"],
    proposal: "rolled-back",
  },
  {
    name: "temporary tables",
    script: "CREATE TEMP TABLE t (id integer); ALTER TABLE t ADD COLUMN x integer; DROP TABLE t;",
    verdicts: ["unknown", "unknown", "unknown"],
    proposal: "restore",
  },
  {
    name: "a ROLLBACK of its own",
    script: "BEGIN; CREATE TABLE a (id integer); ROLLBACK; CREATE TABLE b (id integer);",
    verdicts: ["unknown", "unknown"],
    proposal: "restore",
  },
  {
    name: "a name of the default schema, written with it and without",
    database: "CREATE TABLE a (id integer)",
    script: 'CREATE TABLE "public"."a" (id integer); ALTER TABLE a ADD COLUMN b integer;',
    verdicts: ["applied", "not-applied"],
    contradicted: ["applied", "rolled-back"],
    proposal: "restore",
  },
  {
    name: "a function of other types under the same name",
    database: "CREATE FUNCTION f(text) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    script: "CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';",
    verdicts: ["not-applied"],
    contradicted: ["applied"],
    proposal: "rolled-back",
  },
  {
    name: "a secret is not shown",
    script: "CREATE ROLE r PASSWORD 'hidden';",
    verdicts: ["unknown"],
    proposal: "restore",
  },
];

test.each([...FINDINGS])("$name", async (finding) => {
  const { cluster, database } = await makeDatabase(finding.database ?? "");
  const diagnosis = await diagnose(cluster, database, finding.script, finding.hasError);
  expect({ ...diagnosis, statements: diagnosis.statements.map(({ verdict }) => verdict as string) }).toEqual({
    migration: "1_a",
    statements: [...finding.verdicts],
    contradicted: [...((finding.contradicted ?? []) as Diagnosis["contradicted"])],
    proposal: finding.proposal,
    invalidIndexes: [...(finding.invalidIndexes ?? [])],
  });
  expect(JSON.stringify(diagnosis)).not.toContain("hidden");
});

test("the index that a failed CONCURRENTLY has left does not count, and is named", async () => {
  const { cluster, database } = await makeDatabase("CREATE TABLE t (id integer); INSERT INTO t VALUES (1), (1);");
  const script = "CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id);";
  await cluster.psql(database, script).catch(() => {});
  const { statements, proposal, contradicted, invalidIndexes } = await diagnose(cluster, database, script);
  expect(statements.map(({ verdict }) => verdict)).toEqual(["not-applied"]);
  expect({ proposal, contradicted, invalidIndexes }).toEqual({
    proposal: "rolled-back",
    contradicted: ["applied"],
    invalidIndexes: ["t_id"],
  });
});

test("what a later script has undone is not held against an earlier one", async () => {
  const { cluster, database } = await makeDatabase("CREATE TABLE b (id integer)");
  const diagnoses = await diagnoseAll(cluster, database, [
    ["1_a", "CREATE TABLE a (id integer); CREATE TABLE b (id integer);"],
    ["2_b", "DROP TABLE a;"],
    ["3_c", "CREATE TABLE c (id integer);"],
  ]);
  expect(diagnoses.map(({ contradicted }) => contradicted)).toEqual([["rolled-back"], [], ["applied"]]);
});

async function makeDatabase(sql: string): Promise<{ cluster: Cluster; database: string }> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  if (sql !== "") await cluster.psql(database, sql);
  return { cluster, database };
}

async function diagnose(cluster: Cluster, database: string, text: string, hasError = false): Promise<Diagnosis> {
  const [diagnosis] = await diagnoseAll(cluster, database, [["1_a", text]], hasError);
  if (diagnosis === undefined) throw new Error("no diagnosis");
  return diagnosis;
}

async function diagnoseAll(
  cluster: Cluster,
  database: string,
  texts: readonly (readonly [string, string])[],
  hasError = false,
): Promise<readonly Diagnosis[]> {
  const scripts: ScriptToDiagnose[] = [];
  for (const [name, text] of texts) scripts.push({ name, text, parsed: await parseScript(text), hasError });
  const { objects, judge } = examine(scripts, "public");
  const session = await openDatabase(cluster, database).open("diagnosis");
  try {
    return judge(await lookUp(session, objects));
  } finally {
    await session.close();
  }
}
