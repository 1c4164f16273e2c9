/**
 * The native engine on a real server. What must hold: an atomic segment is in whole or not at all, rows included; what
 * can't be atomic is recorded before it begins; no script changes the session for the next one; and nobody else waits.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { DeployError } from "../../lib/errors.ts";
import type { Event } from "../../lib/events.ts";
import { cleanUpConcurrently, type NativeResult, type Trace } from "../../lib/migrations/native-engine.ts";
import { despiteCancel, makeTimestamps } from "../../lib/migrations/native-run.ts";
import type { Segment } from "../../lib/migrations/segments.ts";
import { DEPLOY_LOCK_KEY } from "../../lib/postgres/deploy-lock-key.ts";
import { ServerError } from "../../lib/postgres/session.ts";
import { sharedCluster, startCluster } from "../support/cluster.ts";
import { cut, type Engine, openDatabase, startEngine } from "../support/native.ts";
import { until } from "../support/project.ts";
import { startForgetfulNetwork } from "../support/tcp-proxy.ts";

setDefaultTimeout(120_000);

const WAIT_MS = 60_000;

async function start(options: Parameters<typeof startEngine>[1] = {}): Promise<Engine> {
  return await startEngine(await sharedCluster(), options);
}

/** A client of its own that does as it is told, until it is closed. */
async function openClient(engine: Engine, statements: string) {
  const session = await openDatabase(engine.cluster.url(engine.name)).open("test");
  await session.script(statements, { during: "test", deadlineMs: WAIT_MS });
  return session;
}

function failureOf(result: NativeResult): Extract<NativeResult, { kind: "failed" }> {
  if (result.kind !== "failed") throw new Error(`expected a failure, got ${JSON.stringify(result)}`);
  return result;
}

function rowOf(trace: Trace): Extract<Trace, { kind: "row" }> {
  if (trace.kind !== "row") throw new Error(`expected a row, got ${JSON.stringify(trace)}`);
  return trace;
}

function lostOf(trace: Trace): Extract<Trace, { kind: "unknown" }> {
  if (trace.kind !== "unknown") throw new Error(`expected a lost connection, got ${JSON.stringify(trace)}`);
  return trace;
}

function kindsOf(events: readonly Event[]): string[] {
  return events.map(({ kind }) => kind);
}

/** A segment whose scripts the grammar would not have merged: what a parser can't see must be seen by the engine. */
function forceAtomic(segments: readonly Segment[]): Segment {
  const scripts = segments.flatMap((segment) => segment.scripts);
  return { scripts, mode: "atomic", reasons: [], couldBeHalfApplied: false, setsTransaction: false };
}

describe("an atomic segment", () => {
  test("commits all scripts with Prisma's rows in one transaction, whose id is told before", async () => {
    const engine = await start();
    const beforeMs = Date.now() - 1;
    const result = await engine.apply(["CREATE TABLE a (id int);", "BEGIN; CREATE TABLE b (id int); COMMIT;", "-- no"]);
    expect(result).toEqual({
      kind: "applied",
      committed: ["1", "2", "3"],
      transactionIds: engine.committing,
      hasUnknownTransactions: false,
    });
    expect(engine.committing).toHaveLength(1);
    expect(await engine.ask("string_agg(DISTINCT xmin::text, ',') FROM _prisma_migrations")).toBe(
      engine.committing[0] ?? "",
    );
    expect(await engine.rows()).toEqual(["1 finished 1", "2 finished 1", "3 finished 1"]);
    const uuid = "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
    const isAsPrismas = `bool_and(id ~ '${uuid}' AND length(checksum) = 64 AND logs IS NULL AND rolled_back_at IS NULL
      AND started_at < finished_at AND started_at >= to_timestamp(${beforeMs / 1_000})
      AND finished_at <= clock_timestamp() + interval '1 second') FROM _prisma_migrations`;
    expect(await engine.ask(isAsPrismas)).toBe("t");
    // They run one after the other; applied they are when all of it is.
    const [running, applied] = ["migration-running", "migration-applied"];
    expect(kindsOf(engine.events)).toEqual([running, running, running, applied, applied, applied]);
  });

  test("creates the table, and the schema where it is missing, as Prisma does", async () => {
    const engine = await start({ schema: 'App "x"' });
    expect((await engine.apply(["CREATE TABLE a (id int);"])).kind).toBe("applied");
    expect(
      await engine.ask(
        `string_agg(concat_ws(' ', column_name, data_type, character_maximum_length, is_nullable, column_default), E'\\n'
           ORDER BY ordinal_position) FROM information_schema.columns
         WHERE table_schema = 'App "x"' AND table_name = '_prisma_migrations'`,
      ),
    ).toBe(
      [
        "id character varying 36 NO",
        "checksum character varying 64 NO",
        "finished_at timestamp with time zone YES",
        "migration_name character varying 255 NO",
        "logs text YES",
        "rolled_back_at timestamp with time zone YES",
        "started_at timestamp with time zone NO now()",
        "applied_steps_count integer NO 0",
      ].join("\n"),
    );
    expect(await engine.ask(`to_regclass('"App ""x""".a') IS NOT NULL`)).toBe("t");
  });

  test("a failing third script leaves nothing: no object, no row, no table", async () => {
    const engine = await start();
    const result = failureOf(
      await engine.apply(["CREATE TABLE a (id int);", "CREATE TABLE b (id int);", "-- ü\n\nSELECT 1;\n  SELECT x;"]),
    );
    expect(result.error).toMatchObject({
      code: "MIGRATION_FAILED",
      fields: {
        migration: "3",
        server: { sqlState: "42703", position: 26 },
        location: { path: "prisma/migrations/3/migration.sql", line: 4, column: 10 },
      },
    });
    expect(result).toMatchObject({ failed: "3", committed: [], transactionIds: [], hasUnknownTransactions: false });
    expect(await engine.ask("count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")).toBe("0");
    if (result.trace.kind !== "none") throw new Error("expected no trace");
    expect(await engine.ask(`pg_xact_status('${result.trace.transactionId}'::xid8)`)).toBe("aborted");
    expect(engine.committing).toEqual([]);
    // The session is as before, and can go on.
    expect((await engine.apply(["CREATE TABLE a (id int);"])).kind).toBe("applied");
  });

  test("the segments before a failure stay", async () => {
    const engine = await start();
    const texts = ["CREATE TABLE a (id int);", "CREATE INDEX CONCURRENTLY i ON a (id);", "SELECT x;"];
    const result = failureOf(await engine.apply(texts));
    expect(result).toMatchObject({ failed: "3", committed: ["1", "2"], trace: { kind: "none" } });
    expect(result.hasUnknownTransactions).toBe(true);
    expect(await engine.rows()).toEqual(["1 finished 1", "2 finished 1"]);
  });

  test("an error in a script whose words were blanked is shown at its place in the file", async () => {
    const engine = await start();
    const result = failureOf(await engine.apply(["BEGIN;\nSELECT 'é𝄞';\nSELECT x;\nCOMMIT;"]));
    expect(result.error).toMatchObject({ fields: { location: { line: 3, column: 8 } } });
  });

  test("a bug of whoever is told rolls back as well, and is not hidden", async () => {
    const engine = await start();
    const bug = new TypeError("a bug");
    const applying = engine.apply(["CREATE TABLE a (id int);"], { onCommitting: () => Promise.reject(bug) });
    await expect(applying).rejects.toBe(bug);
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
    expect((await engine.apply(["CREATE TABLE a (id int);"])).kind).toBe("applied");
  });

  test("what refuses to be told of the COMMIT rolls it back", async () => {
    const engine = await start();
    const refusal = new DeployError("VERIFY_FAILED", { migrations: [] });
    const result = failureOf(
      await engine.apply(["CREATE TABLE a (id int);"], { onCommitting: () => Promise.reject(refusal) }),
    );
    expect(result).toMatchObject({ error: refusal, trace: { kind: "none" } });
    expect(await engine.ask("to_regclass('a') IS NULL AND to_regclass('_prisma_migrations') IS NULL")).toBe("t");
  });

  test("a script that sets the isolation level of its own transaction can do so", async () => {
    const engine = await start();
    const texts = [
      "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nCREATE TABLE a AS SELECT current_setting('transaction_isolation') AS v;",
      "CREATE TABLE b AS SELECT current_setting('transaction_isolation') AS v;",
      "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT x; COMMIT;",
    ];
    const result = failureOf(await engine.apply(texts));
    expect(await engine.ask("(SELECT v FROM a) || ' ' || (SELECT v FROM b)")).toBe("serializable read committed");
    expect(result).toMatchObject({ failed: "3", committed: ["1", "2"], trace: { kind: "none" } });
    expect(await engine.rows()).toEqual(["1 finished 1", "2 finished 1"]);
  });

  test("blocks around halves of a script are one transaction as well", async () => {
    const engine = await start();
    const half = "BEGIN; CREATE TABLE a (id int); COMMIT;\nCREATE TABLE b (id int);\n";
    expect(failureOf(await engine.apply([`${half}SELECT x;`])).trace.kind).toBe("none");
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
    expect((await engine.apply([half])).kind).toBe("applied");
  });

  test("the database's owner needs no further rights", async () => {
    const cluster = await sharedCluster();
    const owner = `owner_${crypto.randomUUID().slice(0, 8)}`;
    await cluster.psql("postgres", `CREATE ROLE ${owner} LOGIN`);
    const engine = await startEngine(cluster, {
      name: await cluster.createDatabase({ owner }),
      user: owner,
      schema: "x",
    });
    const tables = `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int REFERENCES a DEFERRABLE);`;
    const result = await engine.apply([tables, "SET search_path = public;", "VACUUM a;", "CREATE TABLE c (id int);"]);
    expect(result.kind).toBe("applied");
    expect(await engine.ask("to_regclass('x.c') IS NOT NULL")).toBe("t");
  });

  test("times of rows are microseconds, each later than the one before, even while the clock stands still", () => {
    const next = makeTimestamps(() => 1_700_000_000_000.25);
    expect([next(), next(), next()]).toEqual([
      "2023-11-14T22:13:20.000250Z",
      "2023-11-14T22:13:20.000251Z",
      "2023-11-14T22:13:20.000252Z",
    ]);
  });
});

describe("the session between two scripts", () => {
  test.each([
    ["SET lock_timeout = '5s';", "lock_timeout", "3s"],
    ["SET LOCAL lock_timeout = '5s';", "lock_timeout", "3s"],
    ["RESET ALL;", "lock_timeout", "3s"],
    ["SET statement_timeout TO 300000;", "statement_timeout", "0"],
    ["SET search_path = pg_catalog;", "search_path", '"$user", public'],
    ["SELECT pg_catalog.set_config('search_path', '', false);", "search_path", '"$user", public'],
    ["SET TimeZone = 'Asia/Seoul'; SET DateStyle = 'German';", "datestyle", "ISO, MDY"],
    ["SET ROLE other;", "role", "none"],
    ["SET SESSION AUTHORIZATION other;", "session_authorization", "postgres"],
    ["SET my.own = 'x';", "my.own", ""],
    ["SET session_replication_role = replica;", "session_replication_role", "origin"],
  ])("is put back after %s", async (text, name, expected) => {
    const engine = await start();
    const role = "DO $$ BEGIN CREATE ROLE other; EXCEPTION WHEN duplicate_object THEN NULL; END $$;";
    const read = (table: string) => `CREATE TABLE ${table} AS SELECT current_setting('${name}') AS v;`;
    const result = await engine.apply([role, text, read("merged"), text, "VACUUM;", text, read("later")]);
    expect(result.kind).toBe("applied");
    expect(await engine.ask("(SELECT v FROM merged)")).toBe(expected);
    expect(await engine.ask("(SELECT v FROM later)")).toBe(expected);
  });

  test("is put back after a script that stood alone", async () => {
    const engine = await start();
    const alone = "SET search_path = pg_catalog; SET lock_timeout = '7s'; SELECT 1; COMMIT;";
    const read = "CREATE TABLE a AS SELECT current_setting('lock_timeout') AS v;";
    expect((await engine.apply([alone, read])).kind).toBe("applied");
    expect(await engine.ask("(SELECT v FROM public.a)")).toBe("3s");
    expect(await engine.rows()).toEqual(["1 finished 1", "2 finished 1"]);
  });

  test("keeps what the connection and its opener had set", async () => {
    const engine = await start({ schema: "app" });
    const options = { during: "test", deadlineMs: WAIT_MS };
    await engine.session.script("SET lock_timeout = '77s'; SET work_mem = '5MB'", options);
    const read = `CREATE TABLE a AS SELECT current_setting('search_path') AS path, current_setting('work_mem') AS memory,
      current_setting('client_connection_check_interval', true) AS checks;`;
    await engine.apply(["RESET ALL; SET work_mem = '9MB'; SET search_path = pg_catalog;", read]);
    const checks = engine.versionNumber < 140_000 ? "" : " 2s";
    expect(await engine.ask("concat_ws(' ', path, memory, checks) FROM app.a")).toBe(`"app" 5MB${checks}`);
    const [now] = await engine.session.query<{ lock_timeout: string }>("SHOW lock_timeout", options);
    expect(now?.lock_timeout).toBe("77s");
  });

  test.each([
    ["seen", "SELECT pg_advisory_unlock_all();", "1"],
    ["unseen", "DO $$ BEGIN EXECUTE 'SELECT pg_ad' || 'visory_unlock_all()'; END $$;", "2"],
  ])("a script that releases the deploy lock, %s, is rolled back", async (_, release, failed) => {
    const engine = await start();
    const result = failureOf(await engine.apply([`CREATE TABLE a (id int); ${release}`, "SELECT 1;"]));
    expect(result).toMatchObject({
      failed,
      error: { code: "MIGRATION_LEFT_SESSION_CHANGED" },
      trace: { kind: "none" },
    });
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
  });

  test("DISCARD ALL lets the lock go, which is taken again", async () => {
    const engine = await start();
    expect((await engine.apply(["DISCARD ALL;", "CREATE TABLE a (id int);"])).kind).toBe("applied");
    expect(
      await engine.ask(`count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = ${DEPLOY_LOCK_KEY}
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`),
    ).toBe("1");
  });

  test("an open cursor and a table ON COMMIT DROP end with their script", async () => {
    const engine = await start();
    const table = "CREATE TEMP TABLE x (a int) ON COMMIT DROP;";
    const cursor = "CREATE TABLE IF NOT EXISTS t (id int); DECLARE c CURSOR FOR SELECT * FROM t; FETCH c;";
    const result = await engine.apply([table, table, cursor, "ALTER TABLE t ADD COLUMN b int;", cursor]);
    expect(result.kind).toBe("applied");
    expect(kindsOf(engine.events)).not.toContain("segment-split");
  });
});

describe("deferred constraints", () => {
  const tables = `CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);`;

  test("are deferred for every script, and checked at the end of each", async () => {
    const engine = await start();
    const childFirst = (id: number) => `INSERT INTO child VALUES (${id}); INSERT INTO parent VALUES (${id});`;
    const alter = "ALTER TABLE child ADD COLUMN a int;";
    const later = `CREATE TABLE other (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
      INSERT INTO other VALUES (9); INSERT INTO parent VALUES (9);`;
    const result = await engine.apply([tables, childFirst(1), childFirst(2), alter, later, childFirst(3)]);
    expect(result.kind).toBe("applied");
    expect(engine.committing).toHaveLength(1);
  });

  test("a violation is the fault of the script that made it, and nothing of the segment stays", async () => {
    const engine = await start();
    const result = failureOf(
      await engine.apply([tables, "INSERT INTO child VALUES (1);", "INSERT INTO parent VALUES (1);"]),
    );
    expect(result).toMatchObject({
      failed: "2",
      committed: [],
      error: { code: "MIGRATION_FAILED", fields: { server: { sqlState: "23503" } } },
    });
    expect(await engine.ask("to_regclass('child') IS NULL")).toBe("t");
  });

  test("those that can't be told apart by name get a transaction each", async () => {
    const engine = await start();
    const twins = `${tables} ALTER TABLE child RENAME CONSTRAINT child_id_fkey TO same;
      CREATE TABLE twin (id int CONSTRAINT same REFERENCES parent);`;
    const childFirst = "INSERT INTO child VALUES (1); INSERT INTO parent VALUES (1);";
    expect((await engine.apply([twins, childFirst, "CREATE TABLE c (id int);"])).kind).toBe("applied");
    expect(kindsOf(engine.events).filter((kind) => kind === "segment-split")).toHaveLength(2);
    expect(engine.committing).toHaveLength(3);
  });
});

/** The grammar does not see that the function uses a value which is yet to be added. */
const ENUM_AND_FUNCTION = `CREATE TYPE e AS ENUM ('a');
  CREATE FUNCTION f() RETURNS e LANGUAGE plpgsql AS $$ BEGIN RETURN 'b'; END $$;`;

describe("what the server refuses although the grammar has merged it", () => {
  test("a new enum value that is used unseen: everything is rolled back, and a smaller plan runs", async () => {
    const engine = await start();
    const plans: string[][] = [];
    await engine.cluster.psql(engine.name, ENUM_AND_FUNCTION);
    const result = await engine.apply(
      ["CREATE TABLE a (id int);", "CREATE TABLE kept (id int);", "ALTER TYPE e ADD VALUE 'b';", "SELECT f();"],
      {
        approve: async (segments) => {
          plans.push(segments.map(({ scripts }) => scripts.map(({ name }) => name).join("+")));
          return undefined;
        },
      },
    );
    expect(result).toMatchObject({ kind: "applied", committed: ["1", "2", "3", "4"] });
    expect(plans).toEqual([["1+2+3", "4"]]);
    expect(engine.events.find(({ kind }) => kind === "segment-split")).toMatchObject({
      sqlState: "55P04",
      segments: [
        { migrations: ["1", "2", "3"], atomic: true },
        { migrations: ["4"], atomic: true },
      ],
    });
    expect(engine.committing).toHaveLength(2);
  });

  test("in one script: statement by statement", async () => {
    const engine = await start();
    const text = "ALTER TYPE e ADD VALUE 'b';\nSELECT f();";
    await engine.cluster.psql(engine.name, ENUM_AND_FUNCTION);
    expect((await engine.apply(["CREATE TABLE a (id int);", text])).kind).toBe("applied");
    expect(kindsOf(engine.events)).toContain("segment-split");
    expect(await engine.rows()).toEqual(["1 finished 1", "2 finished 1"]);
  });

  test("REINDEX of a partitioned table: alone", async () => {
    const engine = await start();
    // Before 14 it is not possible at all.
    if (engine.versionNumber < 140_000) return;
    const table = "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);";
    expect((await engine.apply([table, "REINDEX TABLE p;", "CREATE TABLE c (id int);"])).kind).toBe("applied");
    expect(engine.events.find(({ kind }) => kind === "segment-split")).toMatchObject({
      sqlState: "25001",
      segments: [{ atomic: true }, { migrations: ["2"], atomic: false }, { atomic: true }],
    });
  });

  test("code that commits beside others: statement by statement", async () => {
    const engine = await start();
    const text = "CREATE TABLE a (id int);\nDO $$ BEGIN INSERT INTO a VALUES (1); COMMIT; END $$;";
    expect((await engine.apply([text])).kind).toBe("applied");
    expect(await engine.ask("count(*) FROM a")).toBe("1");
  });

  test("a smaller plan that is not approved does not run", async () => {
    const engine = await start();
    const objection = new DeployError("NO_AUTOMATIC_RESTORE", { migrations: ["1"], reasons: [] });
    const text = "CREATE TABLE a (id int);\nDO $$ BEGIN COMMIT; END $$;";
    const result = failureOf(await engine.apply([text], { approve: async () => objection }));
    expect(result).toMatchObject({ error: objection, trace: { kind: "none" }, committed: [] });
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
  });

  test("out of lock memory: halves, until they fit", async () => {
    const cluster = await startCluster({
      settings: { max_locks_per_transaction: "10", max_connections: "10", max_wal_senders: "0" },
    });
    try {
      const engine = await startEngine(cluster);
      const tables = (script: number) =>
        Array.from({ length: 60 }, (_, at) => `CREATE TABLE t_${script}_${at} (id serial PRIMARY KEY);`).join("\n");
      const result = await engine.apply([1, 2, 3, 4, 5, 6, 7, 8].map(tables));
      expect(result).toMatchObject({ kind: "applied", committed: ["1", "2", "3", "4", "5", "6", "7", "8"] });
      expect(engine.events.find(({ kind }) => kind === "segment-split")).toMatchObject({ sqlState: "53200" });
      await engine.session.close();
    } finally {
      await cluster.remove();
    }
  });
});

describe("a script that can't share a transaction", () => {
  test("CONCURRENTLY alone: its row is there, unfinished, while it runs", async () => {
    const engine = await start();
    await engine.apply(["CREATE TABLE a (id int);"]);
    const reader = await openClient(engine, "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO a VALUES (1)");
    const applying = engine.applySegments(await cut(["-- why\nCREATE INDEX CONCURRENTLY i ON a (id);"]), {
      hasTable: true,
    });
    await until("the row", async () => (await engine.rows()).length === 2);
    expect(await engine.rows()).toEqual(["1 finished 1", "1 unfinished 0"]);
    // It waits for longer than lock_timeout without giving up.
    await Bun.sleep(engine.options.lockTimeoutMs + 500);
    await reader.close();
    expect((await applying).kind).toBe("applied");
    expect(kindsOf(engine.events)).not.toContain("segment-retrying");
    expect(await engine.rows()).toEqual(["1 finished 1", "1 finished 1"]);
    expect(await engine.ask("indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass")).toBe("t");
  });

  test("a failed CONCURRENTLY is cleaned up: no invalid index, the row rolled back, and the next run goes on", async () => {
    const engine = await start();
    await engine.apply(["CREATE TABLE a (id int); INSERT INTO a VALUES (1), (1);"]);
    const text = "CREATE UNIQUE INDEX CONCURRENTLY i ON a (id);";
    const result = failureOf(await engine.apply([text], { hasTable: true }));
    expect(result.error).toMatchObject({ code: "MIGRATION_FAILED", fields: { server: { sqlState: "23505" } } });
    expect(await engine.rows()).toEqual(["1 finished 1", "1 unfinished 0 logs"]);
    expect(await engine.ask("logs FROM _prisma_migrations WHERE logs IS NOT NULL")).toContain("23505");
    const { concurrent } = rowOf(result.trace);
    if (concurrent === undefined) throw new Error("expected that it can be cleaned up");
    const cleaned = await cleanUpConcurrently({ ...engine.options, hasTable: true }, concurrent);
    expect(cleaned).toMatchObject({ dropped: ["public.i"], left: [] });
    expect(engine.events).toContainEqual({ kind: "invalid-index-dropped", index: "public.i" });
    expect(await engine.ask("to_regclass('i') IS NULL")).toBe("t");
    expect(await engine.rows()).toEqual(["1 finished 1", "1 rolled back 0 logs"]);
    for (const id of cleaned.transactionIds) expect(await engine.ask(`pg_xact_status('${id}')`)).toBe("committed");
    await engine.cluster.psql(engine.name, "DELETE FROM a");
    expect((await engine.apply([text], { hasTable: true })).kind).toBe("applied");
  });

  test("an index that somebody else builds at the time is left alone", async () => {
    const engine = await start();
    await engine.apply(["CREATE TABLE a (id int); INSERT INTO a VALUES (1), (1); CREATE TABLE b (id int);"]);
    const result = failureOf(await engine.apply(["CREATE UNIQUE INDEX CONCURRENTLY ON a (id);"], { hasTable: true }));
    await engine.cluster.psql(
      engine.name,
      "CREATE INDEX theirs ON b (id);\nUPDATE pg_index SET indisvalid = false WHERE indexrelid = 'theirs'::regclass",
    );
    const { concurrent } = rowOf(result.trace);
    if (concurrent === undefined) throw new Error("expected that it can be cleaned up");
    const cleaned = await cleanUpConcurrently({ ...engine.options, hasTable: true }, concurrent);
    expect(cleaned).toMatchObject({ dropped: ["public.a_id_idx"], left: [] });
    expect(await engine.ask("to_regclass('theirs') IS NOT NULL")).toBe("t");
  });

  test("a failed REINDEX CONCURRENTLY leaves no twin", async () => {
    const engine = await start();
    await engine.apply(["CREATE TABLE a (id int PRIMARY KEY);"]);
    const reader = await openClient(engine, "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO a VALUES (1)");
    const applying = engine.apply(["REINDEX TABLE CONCURRENTLY a;"], { hasTable: true });
    await until("the twin", async () => (await engine.ask("count(*) FROM pg_class WHERE relname ~ '_ccnew'")) === "1");
    await engine.cluster.psql(engine.name, `SELECT pg_cancel_backend(${engine.session.pid})`);
    const { concurrent } = rowOf(failureOf(await applying).trace);
    await reader.close();
    if (concurrent === undefined) throw new Error("expected that it can be cleaned up");
    const cleaned = await cleanUpConcurrently({ ...engine.options, hasTable: true }, concurrent);
    expect(cleaned).toMatchObject({ dropped: ["public.a_pkey_ccnew"], left: [] });
    expect(await engine.ask("count(*) FROM pg_index WHERE NOT indisvalid")).toBe("0");
  });

  test("an index that was to be dropped is named, not dropped by a second way", async () => {
    const engine = await start();
    await engine.apply(["CREATE TABLE a (id int); CREATE INDEX i ON a (id);"]);
    const reader = await openClient(engine, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM a");
    const applying = engine.apply(["DROP INDEX CONCURRENTLY i;"], { hasTable: true });
    await until("the drop", async () => (await engine.ask("count(*) FROM pg_index WHERE NOT indisvalid")) === "1");
    await engine.cluster.psql(engine.name, `SELECT pg_cancel_backend(${engine.session.pid})`);
    const { concurrent } = rowOf(failureOf(await applying).trace);
    await reader.close();
    if (concurrent === undefined) throw new Error("expected that it can be cleaned up");
    const cleaned = await cleanUpConcurrently({ ...engine.options, hasTable: true }, concurrent);
    expect(cleaned).toMatchObject({ dropped: [], left: ["public.i"] });
    // The next run drops it.
    expect((await engine.apply(["DROP INDEX CONCURRENTLY i;"], { hasTable: true })).kind).toBe("applied");
  });

  test("beside other statements: statement by statement, with the error at its place", async () => {
    const engine = await start();
    const text = "-- é𝄞\nCREATE TABLE a (id int);\nCREATE INDEX CONCURRENTLY i ON a (id);\n  SELECT x;";
    const result = failureOf(await engine.apply([text]));
    expect(result.error).toMatchObject({ fields: { location: { line: 4, column: 10 } } });
    expect(rowOf(result.trace).concurrent).toBeUndefined();
    expect(await engine.rows()).toEqual(["1 unfinished 0 logs"]);
    expect(await engine.ask("indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass")).toBe("t");
  });

  test("beside others it waits without a timeout too, and the script's own setting is in force again", async () => {
    const engine = await start();
    await engine.cluster.psql(engine.name, "CREATE TABLE a (id int)");
    const reader = await openClient(engine, "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO a VALUES (1)");
    const text = `SET lock_timeout = '70ms';
      CREATE INDEX CONCURRENTLY i ON a (id);
      CREATE TABLE b AS SELECT current_setting('lock_timeout') AS v;`;
    const applying = engine.apply([text]);
    await until("the index", async () => (await engine.ask("to_regclass('i') IS NOT NULL")) === "t");
    await Bun.sleep(500);
    await reader.close();
    expect((await applying).kind).toBe("applied");
    expect(kindsOf(engine.events)).not.toContain("segment-retrying");
    expect(await engine.ask("v FROM b")).toBe("70ms");
  });

  test("a bare COMMIT after ADD VALUE works as with Prisma", async () => {
    const engine = await start();
    const text = "ALTER TYPE e ADD VALUE 'b';\nCOMMIT;\nCREATE TABLE a AS SELECT 'b'::e AS v;";
    expect((await engine.apply(["CREATE TYPE e AS ENUM ('a');", text])).kind).toBe("applied");
    expect(await engine.rows()).toEqual(["1 finished 1", "2 finished 1"]);
  });

  test("what it has committed before it failed is recorded as failed", async () => {
    const engine = await start();
    const result = failureOf(await engine.apply(["CREATE TABLE a (id int);\nCOMMIT;\nSELECT x;"]));
    expect(result).toMatchObject({ failed: "1", committed: [], hasUnknownTransactions: true });
    expect(rowOf(result.trace).concurrent).toBeUndefined();
    expect(await engine.rows()).toEqual(["1 unfinished 0 logs"]);
    expect(await engine.ask("to_regclass('a') IS NOT NULL")).toBe("t");
    // Every transaction of our own is known, so that the others can be told from it.
    for (const id of result.transactionIds) expect(await engine.ask(`pg_xact_status('${id}')`)).toBe("committed");
    expect(result.transactionIds).toHaveLength(3);
  });

  test.each([
    ["BEGIN; CREATE TABLE a (id int);", "MIGRATION_BROKE_TRANSACTION"],
    ["BEGIN; CREATE TABLE a (id int); SELECT x;", "MIGRATION_FAILED"],
    ["BEGIN; CREATE TABLE a (id int); SET search_path = nowhere; SELECT x;", "MIGRATION_FAILED"],
    ["SET search_path = nowhere; COMMIT; SELECT x;", "MIGRATION_FAILED"],
  ])("%j is rolled back, and its row says that it failed", async (text, code) => {
    const engine = await start();
    const result = failureOf(await engine.apply([text]));
    expect(result.error.code).toBe(code as typeof result.error.code);
    expect(await engine.rows()).toEqual(["1 unfinished 0 logs"]);
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
    expect((await engine.apply(["CREATE TABLE b (id int);"], { hasTable: true })).kind).toBe("applied");
  });

  test("a script that deletes its own row is not called applied", async () => {
    const engine = await start();
    const result = failureOf(await engine.apply(["SELECT 1; COMMIT; DELETE FROM _prisma_migrations;"]));
    expect(result).toMatchObject({ error: { code: "VERIFY_FAILED" }, trace: { kind: "row" } });
  });

  test("lone code may commit", async () => {
    const engine = await start();
    const code = "DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO a VALUES (i); COMMIT; END LOOP; END $$;";
    expect((await engine.apply(["CREATE TABLE a (id int);", code])).kind).toBe("applied");
    expect(await engine.ask("count(*) FROM a")).toBe("3");
  });

  test("COPY from the client fails and leaves nothing", async () => {
    const engine = await start();
    const result = failureOf(await engine.apply(["CREATE TABLE a (id int);", "COPY a FROM STDIN;"]));
    expect(result).toMatchObject({ failed: "2", error: { code: "MIGRATION_FAILED" }, trace: { kind: "none" } });
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
  });
});

describe("a script that ends our transaction unseen", () => {
  test("is recorded as failed, and those before it as they are", async () => {
    const engine = await start();
    const texts = ["CREATE TABLE a (id int);", "CREATE TABLE b (id int); COMMIT;", "CREATE TABLE c (id int);"];
    const result = failureOf(await engine.applySegments([forceAtomic(await cut(texts))]));
    expect(result).toMatchObject({
      failed: "2",
      committed: ["1"],
      error: { code: "MIGRATION_BROKE_TRANSACTION" },
      hasUnknownTransactions: true,
    });
    expect(rowOf(result.trace).concurrent).toBeUndefined();
    expect(await engine.rows()).toEqual(["1 finished 1", "2 unfinished 0 logs"]);
    expect(await engine.ask("to_regclass('c') IS NULL")).toBe("t");
  });

  test("also where it begins another one", async () => {
    const engine = await start();
    const texts = ["CREATE TABLE a (id int); COMMIT; BEGIN; CREATE TABLE b (id int);", "CREATE TABLE c (id int);"];
    const result = failureOf(await engine.applySegments([forceAtomic(await cut(texts))]));
    expect(result.error.code).toBe("MIGRATION_BROKE_TRANSACTION");
    expect(await engine.rows()).toEqual(["1 unfinished 0 logs"]);
    expect(await engine.ask("to_regclass('a') IS NOT NULL AND to_regclass('b') IS NULL")).toBe("t");
  });

  test("and where it rolls everything back", async () => {
    const engine = await start();
    const result = failureOf(await engine.applySegments([forceAtomic(await cut(["SELECT 1; ROLLBACK;"]))]));
    expect(result).toMatchObject({ error: { code: "MIGRATION_BROKE_TRANSACTION" }, trace: { kind: "none" } });
  });
});

describe("never in the way", () => {
  test("a lock that is not to be had: the whole segment again, until it is", async () => {
    const engine = await start();
    await engine.cluster.psql(engine.name, "CREATE TABLE busy (id int)");
    const reader = await openClient(engine, "BEGIN; SELECT * FROM busy");
    const applying = engine.apply(["CREATE TABLE a (id int);", "ALTER TABLE busy ADD COLUMN b int;"], {
      lockTimeoutMs: 300,
    });
    await until("a retry", async () => kindsOf(engine.events).includes("segment-retrying"));
    // While it pauses, nobody queues behind it.
    await engine.cluster.psql(engine.name, "SELECT * FROM busy");
    await reader.close();
    expect((await applying).kind).toBe("applied");
    expect(engine.events).toContainEqual(
      expect.objectContaining({ kind: "segment-retrying", attempt: 1, sqlState: "55P03" }),
    );
    expect(engine.committing).toHaveLength(1);
  });

  test("it gives up after its time, and nothing is left", async () => {
    const engine = await start();
    await engine.cluster.psql(engine.name, "CREATE TABLE busy (id int)");
    const reader = await openClient(engine, "BEGIN; SELECT * FROM busy");
    const result = failureOf(
      await engine.apply(["CREATE TABLE a (id int);", "ALTER TABLE busy ADD COLUMN b int;"], {
        lockTimeoutMs: 100,
        lockRetryMs: 1_500,
      }),
    );
    await reader.close();
    expect(result).toMatchObject({
      failed: "2",
      trace: { kind: "none" },
      error: { code: "MIGRATION_FAILED", fields: { server: { sqlState: "55P03" } } },
    });
    expect(kindsOf(engine.events)).toContain("segment-retrying");
  });

  test("never again after anything was committed: it waits once, for as long as another is tried", async () => {
    const engine = await start();
    await engine.cluster.psql(engine.name, "CREATE TABLE busy (id int)");
    const reader = await openClient(engine, "BEGIN; SELECT * FROM busy");
    const text = "CREATE TABLE a (id int); COMMIT; ALTER TABLE busy ADD COLUMN b int;";
    const startedMs = performance.now();
    const result = failureOf(await engine.apply([text], { lockTimeoutMs: 100, lockRetryMs: 1_500 }));
    expect(performance.now() - startedMs).toBeGreaterThan(1_400);
    await reader.close();
    expect(result).toMatchObject({ trace: { kind: "row" }, error: { fields: { server: { sqlState: "55P03" } } } });
    expect(kindsOf(engine.events)).not.toContain("segment-retrying");
    expect(await engine.rows()).toEqual(["1 unfinished 0 logs"]);
    expect(await engine.ask("to_regclass('a') IS NOT NULL")).toBe("t");
  });

  test("statement by statement, each is tried again by itself", async () => {
    const engine = await start();
    await engine.cluster.psql(engine.name, "CREATE TABLE busy (id int)");
    const reader = await openClient(engine, "BEGIN; SELECT * FROM busy");
    const text = `CREATE TABLE a (id int); VACUUM a;
      BEGIN; CREATE TABLE b (id int); ALTER TABLE busy ADD COLUMN b int; COMMIT; CREATE TABLE c (id int);`;
    const applying = engine.apply([text], { lockTimeoutMs: 200 });
    await until("a retry", async () => kindsOf(engine.events).includes("segment-retrying"));
    await reader.close();
    expect((await applying).kind).toBe("applied");
    expect(await engine.ask("to_regclass('c') IS NOT NULL")).toBe("t");
  });

  test("CONCURRENTLY that deadlocks with a deploy that waits for our lock is tried again without its ruin", async () => {
    const engine = await start();
    await engine.apply(["CREATE TABLE a (id int);"]);
    const waiter = await openDatabase(engine.cluster.url(engine.name)).open("waiter");
    const waiting = waiter
      .script(`SELECT pg_advisory_lock(${DEPLOY_LOCK_KEY})`, { during: "wait", deadlineMs: undefined })
      .catch(() => {});
    await until("the waiter", async () => (await engine.ask("count(*) FROM pg_locks WHERE NOT granted")) === "1");
    // The one that has waited for less than deadlock_timeout when the circle closes is the one that finds it.
    await Bun.sleep(1_500);
    const applying = engine.apply(["CREATE INDEX CONCURRENTLY i ON a (id);"], { hasTable: true });
    await until("a deadlock", async () => kindsOf(engine.events).includes("segment-retrying"));
    await engine.cluster.psql(
      engine.name,
      "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
    );
    await waiting;
    expect((await applying).kind).toBe("applied");
    expect(engine.events).toContainEqual(expect.objectContaining({ kind: "segment-retrying", sqlState: "40P01" }));
    expect(engine.events).toContainEqual({ kind: "invalid-index-dropped", index: "public.i" });
    expect(await engine.ask("indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass")).toBe("t");
  });
});

describe("interrupted", () => {
  const interruption = new DeployError("INTERRUPTED", { signal: "SIGINT" });

  async function isRunning(engine: Engine, query: string): Promise<boolean> {
    const count = await engine.ask(`count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
      AND datname = current_database() AND state = 'active' AND query LIKE '%${query}%'`);
    return count === "1";
  }

  test("in an atomic segment: cancelled and rolled back", async () => {
    const engine = await start();
    const applying = engine.apply(["CREATE TABLE a (id int);", "SELECT pg_sleep(600);"]);
    await until("the script", () => isRunning(engine, "pg_sleep(6"));
    engine.interruption.abort(interruption);
    const result = failureOf(await applying);
    expect(result).toMatchObject({ error: interruption, failed: "2", trace: { kind: "none" } });
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
    expect(engine.session.isOpen).toBe(true);
  });

  test("outside of a transaction: cancelled, and the row says so", async () => {
    const engine = await start();
    const applying = engine.apply(["SELECT 1; COMMIT; SELECT pg_sleep(600);"]);
    await until("the script", () => isRunning(engine, "pg_sleep(6"));
    engine.interruption.abort(interruption);
    const result = failureOf(await applying);
    expect(result).toMatchObject({ error: interruption, trace: { kind: "row" } });
    expect(await engine.rows()).toEqual(["1 unfinished 0 logs"]);
  });

  test("when all is done but the COMMIT: nothing is committed", async () => {
    const engine = await start();
    const result = failureOf(
      await engine.apply(["CREATE TABLE a (id int);"], {
        onCommitting: async () => engine.interruption.abort(interruption),
      }),
    );
    expect(result).toMatchObject({ error: interruption, trace: { kind: "none" }, committed: [] });
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
  });

  test("a request to cancel that comes late does not stop what must be done", async () => {
    const cancelled = new ServerError(
      {
        sqlState: "57014",
        message: "canceling statement due to user request",
        detail: undefined,
        hint: undefined,
        position: undefined,
        where: undefined,
      },
      { during: "the test" },
    );
    let tries = 0;
    const act = async () => {
      tries += 1;
      if (tries < 3) throw cancelled;
      return tries;
    };
    expect(await despiteCancel(act)).toBe(3);
    await expect(despiteCancel(() => Promise.reject(cancelled))).rejects.toBe(cancelled);
  });

  test("before anything was begun, and while it pauses between two tries", async () => {
    const engine = await start();
    await engine.cluster.psql(engine.name, "CREATE TABLE busy (id int)");
    const reader = await openClient(engine, "BEGIN; SELECT * FROM busy");
    const applying = engine.apply(["ALTER TABLE busy ADD COLUMN b int;"], {
      lockTimeoutMs: 50,
      tell: ({ kind }) => {
        if (kind === "segment-retrying") engine.interruption.abort(interruption);
      },
    });
    expect(failureOf(await applying)).toMatchObject({ error: interruption, trace: { kind: "none" } });
    await reader.close();
    const again = failureOf(await engine.apply(["CREATE TABLE a (id int);", "VACUUM;"]));
    expect(again).toMatchObject({ error: interruption, failed: "1", trace: { kind: "none" } });
    const alone = failureOf(await engine.apply(["VACUUM;"]));
    expect(alone).toMatchObject({ error: interruption, failed: "1", trace: { kind: "none" } });
    expect(await engine.ask("to_regclass('_prisma_migrations') IS NULL")).toBe("t");
  });
});

describe("a connection that is lost", () => {
  test("in the middle of a segment: nothing was committed", async () => {
    const engine = await start();
    const kill = `SELECT pg_terminate_backend(pg_backend_pid());`;
    const result = failureOf(await engine.apply(["CREATE TABLE a (id int);", kill]));
    expect(result.error.code).toBe("CONNECTION_LOST");
    expect(lostOf(result.trace)).toMatchObject({ transactionId: expect.any(String), commitSent: false });
    expect(await engine.ask("to_regclass('a') IS NULL")).toBe("t");
  });

  test("outside of a transaction: the row stands unfinished", async () => {
    const engine = await start();
    const result = failureOf(await engine.apply(["SELECT 1; COMMIT; SELECT pg_terminate_backend(pg_backend_pid());"]));
    expect(lostOf(result.trace)).toMatchObject({ commitSent: false, transactionId: undefined });
    expect(await engine.rows()).toEqual(["1 unfinished 0"]);
  });

  test("with the answer to a COMMIT: it is said that it was sent, and nothing more is claimed", async () => {
    const cluster = await startCluster({ tcp: true });
    const network = await startForgetfulNetwork(cluster);
    try {
      const name = await cluster.createDatabase();
      const url = cluster.url(name).replace(`:${cluster.port}/`, `:${network.port}/`);
      const engine = await startEngine(cluster, { name, url });
      const applying = engine.apply(["CREATE TABLE a (id int);"], {
        onCommitting: async () => network.loseAnswers(),
      });
      await until("the commit", async () => (await engine.ask("to_regclass('a') IS NOT NULL")) === "t");
      network.reset();
      const { trace, committed } = failureOf(await applying);
      expect(committed).toEqual([]);
      expect(lostOf(trace)).toMatchObject({ transactionId: expect.any(String), commitSent: true });
    } finally {
      network.close();
      await cluster.remove();
    }
  });
});

describe("the server agrees with the grammar", () => {
  const setup = `CREATE TABLE t (id int PRIMARY KEY);
    CREATE TABLE p (id int) PARTITION BY RANGE (id);
    CREATE TABLE c PARTITION OF p FOR VALUES FROM (0) TO (9);
    CREATE INDEX i ON t (id);
    CREATE TYPE e AS ENUM ('a');
    CREATE MATERIALIZED VIEW v AS SELECT 1 AS id;`;

  test.each([
    "CREATE INDEX CONCURRENTLY x ON t (id)",
    "DROP INDEX CONCURRENTLY i",
    "REINDEX INDEX CONCURRENTLY i",
    "REINDEX TABLE CONCURRENTLY t",
    "REINDEX SCHEMA public",
    "REINDEX DATABASE this",
    "REINDEX SYSTEM this",
    "CLUSTER",
    "VACUUM t",
    "VACUUM (ANALYZE) t",
    "CREATE DATABASE never_made",
    "DROP DATABASE IF EXISTS never_made",
    "CREATE TABLESPACE never_made LOCATION '/never_made'",
    "DROP TABLESPACE IF EXISTS never_made",
    "ALTER SYSTEM SET work_mem = '4MB'",
    "DISCARD ALL",
    "COMMIT PREPARED 'never_made'",
    "ALTER TABLE p DETACH PARTITION c CONCURRENTLY",
    "CREATE SUBSCRIPTION never_made CONNECTION 'host=/nowhere' PUBLICATION never_made",
    "REINDEX TABLE t",
    "CLUSTER t USING i",
    "ANALYZE t",
    "REFRESH MATERIALIZED VIEW v",
    "ALTER TYPE e ADD VALUE 'b'",
    "ALTER TABLE p DETACH PARTITION c",
    "LOCK TABLE t",
    "TRUNCATE t",
    "DISCARD TEMP",
    "CREATE SUBSCRIPTION never_made CONNECTION 'host=/nowhere' PUBLICATION never_made WITH (connect = false)",
  ])("on %s", async (statement) => {
    const engine = await start();
    // Before 14 it is not in the server's grammar.
    if (/DETACH.*CONCURRENTLY/.test(statement) && engine.versionNumber < 140_000) return;
    await engine.cluster.psql(engine.name, setup);
    const [segment] = await cut([`${statement};`]);
    const client = await openClient(engine, "BEGIN");
    const text = statement.replace(/ this$/, ` "${engine.name}"`);
    const answer = await client.script(text, { during: "test", deadlineMs: WAIT_MS }).then(
      () => "",
      (error) => error.server?.sqlState as string,
    );
    await client.close();
    expect(answer === "25001").toBe(segment?.mode !== "atomic");
  });
});
