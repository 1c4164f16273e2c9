/**
 * What may share a transaction, decided by PostgreSQL's own grammar: every statement that the server refuses inside of
 * one, every way to control transactions, and the places where scripts that are legal one by one are illegal together.
 */
import { describe, expect, test } from "bun:test";
import { parseScript } from "../lib/migrations/grammar.ts";
import { type Segment, splitSegment } from "../lib/migrations/segments.ts";
import { makeScriptFacts, makeSendText } from "../lib/migrations/statements.ts";
import { cut, SERVER_15 } from "./support/native.ts";

const TABLE = "CREATE TABLE t (id int);";
const CONCURRENTLY = "CREATE INDEX CONCURRENTLY i ON t (id);";

/** `atomic 1 2 | alone 3!` is two segments, and the second could be half applied. */
function describeSegments(segments: readonly Segment[]): string {
  return segments
    .map(({ mode, scripts, couldBeHalfApplied }) => {
      const names = scripts.map(({ name }) => name).join(" ");
      return `${mode} ${names}${couldBeHalfApplied ? "!" : ""}`;
    })
    .join(" | ");
}

async function describeCut(texts: readonly string[], serverVersionNumber?: number): Promise<string> {
  return describeSegments(await cut(texts, serverVersionNumber));
}

async function readFacts(text: string) {
  return makeScriptFacts(await parseScript(text));
}

describe("the grammar", () => {
  test("places are offsets of the text, although the parser counts bytes", async () => {
    const text = "-- é한𝄞\nSELECT 'é한𝄞';  /* 𝄞 */ SELECT 2 ;\nSELECT 3 -- no semicolon";
    const { statements } = await readFacts(text);
    expect(statements.map(({ start, end }) => text.slice(start, end))).toEqual([
      "SELECT 'é한𝄞'",
      "SELECT 2 ",
      "SELECT 3 -- no semicolon",
    ]);
  });

  test.each([
    ["a syntax error", "SELECT 1;\nSELEC 2", 11],
    ["behind characters of several bytes", "-- 한𝄞\nSELEC 2", 7],
    ["an open string", "SELECT 1; SELECT 'abc", 18],
    ["a byte order mark", "\uFEFFSELECT 1", 1],
    ["a NUL, behind which the parser would see nothing", "SELECT '𝄞';\0 DROP TABLE t", 12],
    ["a placeholder that is not SQL", "# recreated locally", 1],
  ])("%s has the position that the server would give", async (_, text, position) => {
    expect((await readFacts(text)).parseError?.position).toBe(position);
  });

  test("the parser survives what it gives up on", async () => {
    const deep = `SELECT ${"(".repeat(20_000)}1${")".repeat(20_000)}`;
    expect((await readFacts(deep)).parseError).toBeDefined();
    const chain = `SELECT ${Array.from({ length: 20_000 }, () => "'a'").join("||")}`;
    await readFacts(chain);
    expect((await readFacts("SELECT 1")).parseError).toBeUndefined();
  });

  test.each(["", "-- nothing here\n", ";;", "/* a */ ; -- b"])("%j holds no statement and is merged", async (text) => {
    expect((await readFacts(text)).statements).toEqual([]);
    expect(await describeCut([TABLE, text, TABLE])).toBe("atomic 1 2 3");
  });
});

describe("statements that can't run inside of a transaction block", () => {
  test.each([
    ["CREATE INDEX CONCURRENTLY i ON t (id)", ""],
    ["CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (id)", ""],
    ["DROP INDEX CONCURRENTLY i", ""],
    ["REINDEX INDEX CONCURRENTLY i", ""],
    ["REINDEX TABLE CONCURRENTLY t", ""],
    ["REINDEX (VERBOSE, CONCURRENTLY) TABLE t", ""],
    ["REINDEX (CONCURRENTLY) SCHEMA s", ""],
    ["REINDEX SCHEMA s", ""],
    ["REINDEX DATABASE d", ""],
    ["REINDEX SYSTEM d", ""],
    ["CLUSTER", ""],
    ["CLUSTER VERBOSE", ""],
    ["VACUUM", ""],
    ["VACUUM t", ""],
    ["VACUUM FULL t", ""],
    ["VACUUM (ANALYZE) t", ""],
    ["CREATE DATABASE d", ""],
    ["DROP DATABASE d", "!"],
    ["ALTER DATABASE d SET TABLESPACE x", "!"],
    ["CREATE TABLESPACE x LOCATION '/x'", "!"],
    ["DROP TABLESPACE x", "!"],
    ["ALTER SYSTEM SET work_mem = '1MB'", ""],
    ["DISCARD ALL", ""],
    ["ALTER TABLE p DETACH PARTITION c CONCURRENTLY", "!"],
    ["CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "!"],
    ["CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (copy_data = false)", "!"],
    ["DROP SUBSCRIPTION s", "!"],
    ["ALTER SUBSCRIPTION s REFRESH PUBLICATION", "!"],
    ["ALTER SUBSCRIPTION s SET PUBLICATION p", "!"],
    ["ALTER SUBSCRIPTION s ADD PUBLICATION p WITH (refresh = true)", "!"],
    ["ALTER SUBSCRIPTION s DROP PUBLICATION p", "!"],
    ["ALTER SUBSCRIPTION s SET (failover = true)", "!"],
    ["ALTER SUBSCRIPTION s SET (two_phase = false)", "!"],
  ])("%s stands alone, and beside others has to be sent statement by statement", async (text, half) => {
    expect(await describeCut([TABLE, `-- a comment\n${text};`, TABLE])).toBe(`atomic 1 | alone 2${half} | atomic 3`);
    expect(await describeCut([`${TABLE}\n${text};`])).toBe("statement-by-statement 1!");
    // Inside of a block of its own the server refuses it, and the block with it.
    expect(await describeCut([`BEGIN; ${text}; COMMIT;`])).toBe("alone 1");
  });

  test.each([
    "CREATE INDEX i ON t (id)",
    "DROP INDEX i",
    "REINDEX TABLE t",
    "REINDEX INDEX i",
    "REINDEX (CONCURRENTLY false) TABLE t",
    "REINDEX (CONCURRENTLY off) TABLE t",
    "CLUSTER t USING i",
    "ANALYZE",
    "ANALYZE t",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    "TRUNCATE t",
    "ALTER TYPE e ADD VALUE 'a'",
    "ALTER TABLE p DETACH PARTITION c",
    "ALTER TABLE p DETACH PARTITION c FINALIZE",
    "ALTER DATABASE d SET work_mem = '1MB'",
    "ALTER DATABASE d RENAME TO e",
    "ALTER DATABASE d WITH ALLOW_CONNECTIONS false",
    "CREATE ROLE r",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false)",
    "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (create_slot = off)",
    "ALTER SUBSCRIPTION s SET PUBLICATION p WITH (refresh = false)",
    "ALTER SUBSCRIPTION s ENABLE",
    "LOCK TABLE t",
    "NOTIFY c",
    "CHECKPOINT",
    "DISCARD TEMP",
    "DO $$ BEGIN PERFORM 1; END $$",
    "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$",
    "SELECT 'CREATE INDEX CONCURRENTLY i ON t (id)'",
  ])("%s may share one", async (text) => {
    expect(await describeCut([TABLE, `${text};`, TABLE])).toBe("atomic 1 2 3");
  });
});

describe("transaction control", () => {
  test.each([
    ["BEGIN; CREATE TABLE t (id int); COMMIT;", "wholly wrapped"],
    ["begin work;\nCREATE TABLE t (id int);\nend", "in other words"],
    ["-- a\nSTART TRANSACTION;\nCREATE TABLE t (id int);\nCOMMIT TRANSACTION;\n-- b\n", "between comments"],
    ["BEGIN; SAVEPOINT a; SELECT 1; RELEASE a; COMMIT;", "with savepoints inside"],
    ["BEGIN; SET LOCAL lock_timeout = '1s'; SELECT 1; COMMIT;", "with settings of its own"],
    ["BEGIN; COMMIT;", "around nothing"],
    ["BEGIN; SELECT 1; COMMIT; SELECT 2;", "a block, and statements after it"],
    ["SELECT 1; BEGIN; SELECT 2; COMMIT;", "statements before a block"],
    ["BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 2; COMMIT; BEGIN; COMMIT; BEGIN; COMMIT;", "four blocks"],
  ])("%j is merged, its words blanked: %s", async (text) => {
    expect(await describeCut([TABLE, text, TABLE])).toBe("atomic 1 2 3");
  });

  test.each([
    ["ALTER TYPE e ADD VALUE 'a';\nCOMMIT;\nSELECT 1;", "!", "a bare COMMIT"],
    ["SELECT 1; COMMIT;", "!", "a bare COMMIT at the end"],
    ["BEGIN; SELECT 1;", "!", "never committed"],
    ["BEGIN; SELECT 1; ROLLBACK;", "!", "rolled back"],
    ["ROLLBACK;", "!", "a bare ROLLBACK"],
    ["BEGIN; SELECT 1; COMMIT; COMMIT;", "!", "one COMMIT too many"],
    ["BEGIN; BEGIN; SELECT 1; COMMIT;", "!", "one BEGIN too many"],
    ["BEGIN; SELECT 1; COMMIT AND CHAIN;", "!", "a chain"],
    ["BEGIN; SELECT 1; PREPARE TRANSACTION 'x';", "!", "prepared"],
    ["COMMIT PREPARED 'x';", "!", "another one's transaction"],
    ["ROLLBACK PREPARED 'x';", "!", "another one's transaction"],
    ["SAVEPOINT a; SELECT 1;", "!", "a savepoint outside of any block"],
    ["BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT;", "", "a whole block with an isolation level"],
    ["START TRANSACTION READ ONLY; SELECT 1; COMMIT;", "", "a whole block that may not write"],
    ["BEGIN; SET LOCAL search_path = s; SELECT 1; COMMIT; SELECT 2;", "!", "a setting that ends with the block"],
    ["BEGIN; SELECT set_config('a.b', 'c', true); COMMIT; SELECT 2;", "!", "the same as a function"],
    ["BEGIN; DO $$ BEGIN SET LOCAL a.b = 'c'; END $$; COMMIT; SELECT 2;", "!", "the same in code"],
    ["BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP; COMMIT; SELECT 2;", "!", "a table that ends with the block"],
    ["BEGIN; SET CONSTRAINTS ALL DEFERRED; COMMIT; SELECT 2;", "!", "deferred until the end of the block"],
    ["BEGIN; ALTER TYPE e ADD VALUE 'a'; COMMIT; UPDATE t SET e = 'a';", "!", "a value that the COMMIT makes usable"],
  ])("%j is sent as it is: %s%s", async (text, half) => {
    const segments = await cut([TABLE, text, TABLE]);
    expect(describeSegments(segments)).toBe(`atomic 1 | alone 2${half} | atomic 3`);
    expect(segments[1]?.scripts[0]?.sendText).toBe(text);
  });

  test("only the two words are blanked, and every character stays at its place", async () => {
    const text = "-- 𝄞\r\nBEGIN\r\n  TRANSACTION;\r\nSELECT 'BEGIN; COMMIT;';\r\nCOMMIT;\r\n-- COMMIT;";
    const sent = makeSendText(text, await readFacts(text));
    expect(sent).toBe("-- 𝄞\r\n     \r\n             ;\r\nSELECT 'BEGIN; COMMIT;';\r\n      ;\r\n-- COMMIT;");
    expect([...sent]).toHaveLength([...text].length);
  });

  test("what follows the last word without a semicolon is blanked with it, character by character", async () => {
    const text = "BEGIN; SELECT 1; COMMIT -- 𝄞\n";
    expect(makeSendText(text, await readFacts(text))).toBe("     ; SELECT 1;            \n");
  });

  test.each([
    ["CALL p();", "alone 1!", "a procedure"],
    ["DO $$ BEGIN COMMIT; END $$;", "alone 1!", "code"],
    ["DO $$ BEGIN IF false THEN ROLLBACK; END IF; END $$;", "alone 1!", "code that may roll back"],
    ["DO $$ BEGIN CALL p(); END $$;", "alone 1!", "code that calls a procedure"],
    ["DO LANGUAGE plpython3u $$ plpy.commit() $$;", "alone 1!", "another language"],
    [
      "DO $$ BEGIN -- COMMIT, later\n PERFORM 'ROLLBACK'; /* CALL */ END $$;",
      "atomic 1",
      "only in comments and strings",
    ],
    ["DO $$ BEGIN CREATE TEMP TABLE x (a int) ON COMMIT PRESERVE ROWS; END $$;", "atomic 1", "another COMMIT"],
    // Beside others, or in a block, its COMMIT is refused whoever sends it (2D000).
    ["SELECT 1; CALL p();", "atomic 1", "a procedure beside others"],
    ["BEGIN; DO $$ BEGIN COMMIT; END $$; COMMIT;", "atomic 1", "code in a block"],
  ])("%j may commit: %s (%s)", async (text, expected) => {
    expect(await describeCut([text])).toBe(expected);
  });

  test.each([
    ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1;", "atomic 1 | atomic 2 | atomic 3", true],
    [
      "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1; COMMIT;",
      "atomic 1 | atomic 2 | atomic 3",
      true,
    ],
    ["SET transaction_isolation = 'serializable'; SELECT 1;", "atomic 1 | atomic 2 | atomic 3", true],
    ["SET TRANSACTION READ ONLY; SELECT 1;", "atomic 1 | alone 2 | atomic 3", false],
    ["SET TRANSACTION SNAPSHOT '1'; SELECT 1;", "atomic 1 | alone 2 | atomic 3", false],
    ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE;", "atomic 1 2 3", false],
  ])("%j has a transaction of its own", async (text, expected, setsTransaction) => {
    const segments = await cut([TABLE, text, TABLE]);
    expect(describeSegments(segments)).toBe(expected);
    expect(segments.some((segment) => segment.setsTransaction)).toBe(setsTransaction);
  });
});

describe("what lasts until the transaction's end ends a segment", () => {
  test.each([
    ["SET CONSTRAINTS ALL DEFERRED;", "atomic 1 2 | atomic 3"],
    ["DO $$ BEGIN SET CONSTRAINTS ALL DEFERRED; END $$;", "atomic 1 2 | atomic 3"],
    ["SET CONSTRAINTS s.c DEFERRED;", "atomic 1 2 3"],
    ["CREATE TEMP TABLE x (a int) ON COMMIT DROP;", "atomic 1 2 | atomic 3"],
    ["CREATE TEMP TABLE x ON COMMIT DELETE ROWS AS SELECT 1;", "atomic 1 2 | atomic 3"],
    ["CREATE TEMP TABLE x (a int);", "atomic 1 2 3"],
    ["SELECT 1 INTO TEMP x;", "atomic 1 2 3"],
  ])("%j", async (text, expected) => {
    expect(await describeCut([TABLE, text, TABLE])).toBe(expected);
  });
});

describe("enum values", () => {
  const add = "ALTER TYPE role ADD VALUE 'ADMIN';";

  test.each([
    ["UPDATE u SET role = 'ADMIN';"],
    ["INSERT INTO u VALUES (1, 'ADMIN');"],
    ["ALTER TABLE u ALTER COLUMN role SET DEFAULT 'ADMIN';"],
    ["ALTER TABLE u ADD COLUMN r role DEFAULT 'ADMIN';"],
    ["ALTER TABLE u ADD COLUMN r role[] DEFAULT ARRAY['USER', 'ADMIN']::role[];"],
    ["UPDATE u SET roles = '{USER,ADMIN}';"],
    ["SELECT 'ADMIN'::s.role;"],
    ["SELECT role 'ADMIN';"],
    ["SELECT 'ADMIN'::text::role;"],
    ["CREATE INDEX i ON u (id) WHERE role = 'ADMIN';"],
    ["CREATE VIEW v AS SELECT 1 WHERE EXISTS (SELECT FROM u WHERE role IN ('USER', 'ADMIN'));"],
    ["CREATE POLICY p ON u USING (role = 'ADMIN');"],
    ["CREATE TABLE x (r role CHECK (r <> 'ADMIN'));"],
    ["DO $$ BEGIN UPDATE u SET role = 'ADMIN'; END $$;"],
    ["CREATE FUNCTION f() RETURNS role LANGUAGE sql AS $$ SELECT 'ADMIN'::role $$;"],
    ["CREATE FUNCTION f() RETURNS role LANGUAGE sql RETURN 'ADMIN'::role;"],
    ["SELECT array_append(roles, 'ADMIN') FROM u;"],
  ])("a value that is added and then used: %s", async (use) => {
    expect(await describeCut([add, TABLE, use, TABLE])).toBe("atomic 1 2 | atomic 3 4");
    expect(await describeCut([`${add} ${use}`])).toBe("statement-by-statement 1!");
    // Before it is added, it is somebody else's.
    expect(await describeCut([use, add])).toBe("atomic 1 2");
  });

  test.each([
    ["UPDATE u SET role = 'USER';"],
    ["ALTER TYPE role ADD VALUE 'OWNER' AFTER 'ADMIN';"],
    ["ALTER TYPE role RENAME VALUE 'ADMIN' TO 'ROOT';"],
    ["CREATE TYPE other AS ENUM ('ADMIN');"],
    ["SELECT 'ADMIN'::other;"],
    ["ALTER TABLE u ADD COLUMN r other DEFAULT 'ADMIN';"],
    ["ALTER TABLE u ADD COLUMN r text DEFAULT 'ADMIN';"],
    ["COMMENT ON TABLE u IS 'ADMIN';"],
    ["SET application_name = 'ADMIN';"],
    ["UPDATE u SET texts = jsonb_set(texts, '{role,ADMIN}', '\"x\"');"],
    ['INSERT INTO u (texts) VALUES (\'{"role": "ADMIN"}\');'],
    ["CREATE FUNCTION f() RETURNS role LANGUAGE plpgsql AS $$ BEGIN RETURN 'ADMIN'; END $$;"],
    ['SELECT 1 AS "ADMIN";'],
  ])("no use of it: %s", async (text) => {
    expect(await describeCut([add, text])).toBe("atomic 1 2");
    expect(await describeCut([`${add} ${text}`])).toBe("atomic 1");
  });

  test("values of a type that was made in the same transaction may be used, added ones from 17 on", async () => {
    const create = "CREATE TYPE role AS ENUM ('USER');";
    const useOld = "SELECT 'USER'::role;";
    const useNew = "SELECT 'ADMIN'::role;";
    expect(await describeCut([create, useOld])).toBe("atomic 1 2");
    expect(await describeCut([create, add, useNew], 160_000)).toBe("atomic 1 2 | atomic 3");
    expect(await describeCut([create, add, useNew], 170_000)).toBe("atomic 1 2 3");
    expect(await describeCut([add, useNew], 180_000)).toBe("atomic 1 | atomic 2");
    expect(await describeCut([`${create} ${add} ${useNew}`], 170_000)).toBe("atomic 1");
  });

  test("a type that is made anew, as Prisma does to drop values, takes the place of the old one", async () => {
    const anew = [
      "BEGIN;",
      "CREATE TYPE role_new AS ENUM ('USER', 'ADMIN');",
      "ALTER TABLE u ALTER COLUMN role TYPE role_new USING (role::text::role_new);",
      "ALTER TYPE role RENAME TO role_old;",
      "ALTER TYPE role_new RENAME TO role;",
      "DROP TYPE role_old;",
      "ALTER TABLE u ALTER COLUMN role SET DEFAULT 'ADMIN';",
      "COMMIT;",
    ].join("\n");
    expect(await describeCut([add, anew, "SELECT 'ADMIN'::role;"])).toBe("atomic 1 2 3");
    const withoutDrop = anew.replace("DROP TYPE role_old;", "");
    expect(await describeCut([add, withoutDrop])).toBe("atomic 1 | atomic 2");
  });

  test("after a cut the value is committed", async () => {
    expect(await describeCut([add, "SELECT 'ADMIN'::role;", "SELECT 'ADMIN'::role;"])).toBe("atomic 1 | atomic 2 3");
    expect(await describeCut([add, CONCURRENTLY, "SELECT 'ADMIN'::role;"])).toBe("atomic 1 | alone 2 | atomic 3");
  });
});

describe("the reasons", () => {
  test("name the migration, the statement and its line", async () => {
    const [segment] = await cut([`${TABLE}\n\n-- why\nVACUUM t;`]);
    expect(segment?.reasons).toEqual([{ kind: "outside-transaction", migration: "1", subject: "VACUUM", line: 4 }]);
  });

  test.each([
    ["SELEC 1;", "not-parsed"],
    [CONCURRENTLY, "outside-transaction"],
    ["COMMIT;", "transaction-control"],
    ["CALL p();", "may-commit"],
    ["SET TRANSACTION READ ONLY;", "sets-transaction"],
    ["ALTER TYPE e ADD VALUE 'a'; SELECT 'a'::e;", "enum-value"],
    ["SET CONSTRAINTS ALL DEFERRED;", "lasts-until-commit"],
  ] as const)("%j: %s", async (text, kind) => {
    const segments = await cut([text]);
    expect(segments.flatMap(({ reasons }) => reasons.map((reason) => reason.kind))).toEqual([kind]);
  });

  test("a merged segment has none", async () => {
    const segments = await cut([TABLE, TABLE]);
    expect(segments.flatMap(({ reasons }) => reasons)).toEqual([]);
  });
});

describe("a script of a newer grammar, or a broken one", () => {
  test("is sent whole and alone", async () => {
    expect(await describeCut([TABLE, "REPACK t;", TABLE])).toBe("atomic 1 | alone 2! | atomic 3");
  });
});

describe("a refusal by the server", () => {
  const scripts = [TABLE, "SELECT 1; SELECT 2;", "ALTER TYPE e ADD VALUE 'a'; SELECT f();", "SELECT 4;", "VACUUM;"];

  async function describeSplit(
    texts: readonly string[],
    index: number,
    sqlState: string,
    message = "",
  ): Promise<string | undefined> {
    const [segment] = await cut(texts);
    if (segment === undefined) throw new Error("no segment");
    const parts = splitSegment(segment, { index, sqlState, message }, SERVER_15);
    return parts && describeSegments(parts);
  }

  test.each([
    ["55P04", 1, "", "atomic 1 | atomic 2 3 4"],
    ["55P04", 2, 'unsafe use of new value "b" of enum type e', "atomic 1 2 | atomic 3 4"],
    ["55P04", 2, 'unsafe use of new value "a" of enum type e', "atomic 1 2 | statement-by-statement 3! | atomic 4"],
    ["55P04", 2, "unsichere Verwendung des neuen Werts »a«", "atomic 1 2 | statement-by-statement 3! | atomic 4"],
    ["55P04", 0, "", undefined],
    ["55006", 1, "", "atomic 1 | atomic 2 3 4"],
    ["55006", 0, "", undefined],
    ["53200", 3, "", "atomic 1 2 | atomic 3 4"],
    ["25001", 0, "", "alone 1 | atomic 2 3 4"],
    ["25001", 1, "", "atomic 1 | statement-by-statement 2! | atomic 3 4"],
    ["2D000", 0, "", "alone 1! | atomic 2 3 4"],
    ["2D000", 1, "", "atomic 1 | statement-by-statement 2! | atomic 3 4"],
    ["42P01", 1, "", undefined],
    ["23503", 1, "", undefined],
    ["55P03", 1, "", undefined],
  ])("%s of script %d (%s)", async (sqlState, index, message, expected) => {
    expect(await describeSplit(scripts.slice(0, 4), index, sqlState, message)).toBe(expected as string);
  });

  test("a segment of one script is not cut for memory, and a whole block is refused in any case", async () => {
    expect(await describeSplit([TABLE], 0, "53200")).toBeUndefined();
    const wrapped = "BEGIN; SELECT 1; SELECT 2; COMMIT;";
    expect(await describeSplit([wrapped], 0, "25001")).toBeUndefined();
    expect(await describeSplit([wrapped], 0, "2D000")).toBeUndefined();
    expect(await describeSplit([wrapped], 0, "55P04")).toBeUndefined();
  });

  test("a script with blocks of its own is sent as it is where it may have needed its COMMIT", async () => {
    const blocks = "BEGIN; UPDATE t SET id = 1; COMMIT; ALTER TABLE t ADD COLUMN a int;";
    expect(await describeSplit([blocks], 0, "55006")).toBe("alone 1!");
    expect(await describeSplit([blocks], 0, "55P04")).toBe("alone 1!");
    expect(await describeSplit([blocks], 0, "25001")).toBe("statement-by-statement 1!");
  });

  test("the smaller plan says why", async () => {
    const [segment] = await cut(scripts.slice(0, 2));
    if (segment === undefined) throw new Error("no segment");
    const parts = splitSegment(segment, { index: 1, sqlState: "55006", message: "" }, SERVER_15);
    expect(parts?.[1]?.reasons).toEqual([
      { kind: "refused-by-server", migration: "2", subject: "55006", line: undefined },
    ]);
  });
});
