/** The commonest errors of migrations, really provoked: each is shown at its statement, with what to do about it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { AnyDeployError } from "../../lib/errors.ts";
import { en } from "../../lib/messages/en.ts";
import type { HintKind } from "../../lib/messages/hints.ts";
import { ko } from "../../lib/messages/ko.ts";
import { renderError, renderEvent } from "../../lib/report/human.ts";
import { openClient } from "../support/client.ts";
import { sharedCluster } from "../support/cluster.ts";
import { type Engine, startEngine } from "../support/native.ts";

setDefaultTimeout(120_000);

interface Case {
  readonly sqlState: string;
  readonly hint: HintKind;
  /** In the database before. */
  readonly before?: string;
  /** Put in front of the statement, which must then be shown all the same. */
  readonly earlier?: string;
  readonly statement: string;
  readonly role?: boolean;
}

const USERS =
  "CREATE TABLE users (id int PRIMARY KEY, name text, age text); INSERT INTO users VALUES (1, 'a', 'x'), (2, 'a', '2')";
const VIEW = "CREATE TABLE t (a int); CREATE VIEW v AS SELECT a FROM t";

const CASES: Readonly<Record<string, Case>> = {
  "NOT NULL over existing rows": {
    sqlState: "23502",
    hint: "not-null",
    before: USERS,
    statement: "ALTER TABLE users ADD email text NOT NULL",
  },
  "a unique index over duplicates": {
    sqlState: "23505",
    hint: "duplicate-key",
    before: USERS,
    statement: "CREATE UNIQUE INDEX users_name ON users (name)",
  },
  "a foreign key over orphans": {
    sqlState: "23503",
    hint: "foreign-key",
    before: "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int); INSERT INTO b VALUES (1)",
    statement: "ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a",
  },
  "a check that rows do not meet": {
    sqlState: "23514",
    hint: "check",
    before: USERS,
    statement: "ALTER TABLE users ADD CHECK (id > 1)",
  },
  "a type without a cast": {
    sqlState: "42804",
    hint: "type-mismatch",
    before: USERS,
    statement: "ALTER TABLE users ALTER age TYPE int",
  },
  "a value that is no number": {
    sqlState: "22P02",
    hint: "value-not-castable",
    before: USERS,
    statement: "ALTER TABLE users ALTER age TYPE int USING age::int",
  },
  "a value that is no date": {
    sqlState: "22007",
    hint: "value-not-castable",
    before: USERS,
    statement: "ALTER TABLE users ALTER age TYPE date USING age::date",
  },
  "a value that is too long": {
    sqlState: "22001",
    hint: "value-too-long",
    before: "CREATE TABLE t (a text); INSERT INTO t VALUES ('long')",
    statement: "ALTER TABLE t ALTER a TYPE varchar(2)",
  },
  "a value that is out of range": {
    sqlState: "22003",
    hint: "value-out-of-range",
    before: "CREATE TABLE t (a bigint); INSERT INTO t VALUES (5000000000)",
    statement: "ALTER TABLE t ALTER a TYPE int",
  },
  "a view that needs the table": {
    sqlState: "2BP01",
    hint: "dependent-objects",
    before: VIEW,
    statement: "DROP TABLE t",
  },
  "a view that needs the type of a column": {
    sqlState: "0A000",
    hint: "dependent-objects",
    before: VIEW,
    statement: "ALTER TABLE t ALTER a TYPE bigint",
  },
  "a table of somebody else": {
    sqlState: "42501",
    hint: "permission",
    before: "CREATE TABLE t (a int)",
    statement: "ALTER TABLE t ADD b int",
    role: true,
  },
  "an extension that is not installed": {
    sqlState: "0A000",
    hint: "extension-unavailable",
    statement: "CREATE EXTENSION no_such_extension",
  },
  "a library that is not there": {
    sqlState: "58P01",
    hint: "extension-unavailable",
    statement: "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/no_such_library', 'f'",
  },
  "what the server does not support": {
    sqlState: "0A000",
    hint: "not-supported",
    statement: "CREATE TABLE t (a int GENERATED ALWAYS AS ((SELECT 1)) STORED)",
  },
  "a table that is there": {
    sqlState: "42P07",
    hint: "already-exists",
    before: USERS,
    statement: "CREATE TABLE users ()",
  },
  "a column that is there": {
    sqlState: "42701",
    hint: "already-exists",
    before: USERS,
    statement: "ALTER TABLE users ADD name text",
  },
  "a type that is there": {
    sqlState: "42710",
    hint: "already-exists",
    before: "CREATE TYPE mood AS ENUM ('a')",
    statement: "CREATE TYPE mood AS ENUM ('b')",
  },
  "a schema that is there": { sqlState: "42P06", hint: "already-exists", statement: "CREATE SCHEMA public" },
  "a function that is there": {
    sqlState: "42723",
    hint: "already-exists",
    before: "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    statement: "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
  },
  "a table that is not there": {
    sqlState: "42P01",
    hint: "does-not-exist",
    statement: "ALTER TABLE nothing ADD a int",
  },
  "a column that is not there": {
    sqlState: "42703",
    hint: "does-not-exist",
    before: USERS,
    statement: "ALTER TABLE users DROP nothing",
  },
  "a type that is not there": { sqlState: "42704", hint: "does-not-exist", statement: "CREATE TABLE t (a nothing)" },
  "a schema that is not there": { sqlState: "3F000", hint: "schema-missing", statement: "CREATE TABLE nowhere.t ()" },
  "a function that is not there": {
    sqlState: "42883",
    hint: "function-missing",
    statement: "SELECT uuid_generate_v4()",
  },
  "CONCURRENTLY in a transaction of the script": {
    sqlState: "25001",
    hint: "in-transaction",
    before: USERS,
    earlier: "BEGIN;\n",
    statement: "CREATE INDEX CONCURRENTLY users_age ON users (age);\nCOMMIT",
  },
  "an enum value before its commit": {
    sqlState: "55P04",
    hint: "enum-value",
    before: "CREATE TYPE mood AS ENUM ('a')",
    earlier: "BEGIN;\nALTER TYPE mood ADD VALUE 'b';\n",
    statement: "SELECT 'b'::mood;\nCOMMIT",
  },
  "a statement that takes too long": {
    sqlState: "57014",
    hint: "cancelled",
    earlier: "SET statement_timeout = '50ms';\n",
    statement: "SELECT pg_sleep(60)",
  },
  "what the server's own grammar refuses": {
    sqlState: "42601",
    hint: "syntax",
    statement: "DO $$ BEGIN nonsense; END $$",
  },
};

const EARLIER = "CREATE TABLE earlier (id int);\nSELECT 1;;\n-- what fails:\n";

for (const [name, { sqlState, hint, before, earlier = EARLIER, statement, role = false }] of Object.entries(CASES)) {
  test(`${sqlState}: ${name}`, async () => {
    const cluster = await sharedCluster();
    const user = `ordinary_${sqlState.toLowerCase()}`;
    const database = await cluster.createDatabase();
    if (role) await cluster.psql(database, `CREATE ROLE ${user} LOGIN; GRANT ALL ON SCHEMA public TO ${user}`);
    if (before !== undefined) await cluster.psql(database, before);
    const engine = await startEngine(cluster, { name: database, ...(role ? { user } : {}) });
    const script = `${earlier}${statement};\n`;
    const error = await failureOf(engine, script);
    expectShown(error, sqlState, hint);
    const line = earlier.split("\n").length;
    expect(error.fields).toMatchObject({ location: { line } });
    // The statement itself stands in the excerpt, with the caret right under it.
    const shown = renderEvent({ kind: "migration-failed", error }, ko);
    const at = shown.findIndex((text) => text.startsWith(`     ${line} | ${statement.split("\n")[0]}`));
    expect(shown[at + 1], shown.join("\n")).toMatch(/^ +\| +\^$/);
  });
}

test("55P03: a table that somebody holds", async () => {
  const cluster = await sharedCluster();
  const engine = await startEngine(cluster);
  await cluster.psql(engine.name, "CREATE TABLE t (a int)");
  const client = await openClient(cluster, engine.name);
  await client.run("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE");
  const error = await failureOf(engine, `${EARLIER}ALTER TABLE t ADD b int;\n`, { lockTimeoutMs: 200, lockRetryMs: 0 });
  await client.end();
  expectShown(error, "55P03", "lock-timeout");
  expect(error.fields).toMatchObject({ location: { line: 4, column: 1 } });
});

test("40P01: two sessions that wait for each other", async () => {
  const cluster = await sharedCluster();
  const engine = await startEngine(cluster);
  await cluster.psql(engine.name, "CREATE TABLE a (id int); CREATE TABLE b (id int)");
  const client = await openClient(cluster, engine.name);
  await client.run("SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE b");
  const applied = failureOf(engine, "LOCK TABLE a;\nLOCK TABLE b;\n", { lockTimeoutMs: 60_000, lockRetryMs: 0 });
  const waiting = `SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'b'::regclass`;
  const deadline = performance.now() + 60_000;
  while ((await cluster.psql(engine.name, waiting)) !== "t") expect(performance.now()).toBeLessThan(deadline);
  const other = client.run("LOCK TABLE a");
  const error = await applied;
  await other;
  await client.end();
  expectShown(error, "40P01", "deadlock");
  expect(error.fields).toMatchObject({ location: { line: 2, column: 1 } });
});

test("a check behind the script blames no statement of it", async () => {
  const cluster = await sharedCluster();
  const engine = await startEngine(cluster);
  await cluster.psql(
    engine.name,
    "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED)",
  );
  const error = await failureOf(engine, "INSERT INTO b VALUES (1);\nSELECT 1;\n");
  expectShown(error, "23503", "foreign-key");
  expect(error.fields).toMatchObject({ location: undefined, path: "prisma/migrations/1/migration.sql" });
});

test("the words of a BEGIN that was blanked are no statement for the server", async () => {
  const cluster = await sharedCluster();
  const engine = await startEngine(cluster);
  const script =
    "BEGIN;\nCREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\nALTER TABLE t ADD b int NOT NULL;\nCOMMIT;\n";
  const error = await failureOf(engine, script);
  expect(error.fields).toMatchObject({ server: { sqlState: "23502" }, location: { line: 4, column: 1 } });
});

test("a statement on its own is found in its file", async () => {
  const cluster = await sharedCluster();
  const engine = await startEngine(cluster);
  const script = `CREATE TABLE t (a int);\nCREATE INDEX CONCURRENTLY t_a ON t (a);\nINSERT INTO t VALUES (1);\n  ALTER TABLE t ADD b int NOT NULL;\n`;
  const error = await failureOf(engine, script);
  expect(error.fields).toMatchObject({ server: { sqlState: "23502" }, location: { line: 4, column: 3 } });
});

async function failureOf(
  engine: Engine,
  script: string,
  changes: { readonly lockTimeoutMs?: number; readonly lockRetryMs?: number } = {},
): Promise<AnyDeployError> {
  const result = await engine.apply([script], changes);
  await engine.session.close();
  if (result.kind !== "failed") throw new Error("the migration did not fail");
  return result.error;
}

function expectShown(error: AnyDeployError, sqlState: string, hint: HintKind): void {
  expect(error).toMatchObject({ code: "MIGRATION_FAILED", fields: { server: { sqlState } } });
  for (const messages of [ko, en]) {
    expect(renderEvent({ kind: "migration-failed", error }, messages).join("\n")).toContain(`(${sqlState})`);
    const end = renderError(error, "as-before", 5, messages).join("\n");
    for (const line of messages.hints[hint]) expect(end).toContain(line);
  }
}
