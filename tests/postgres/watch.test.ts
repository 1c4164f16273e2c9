/** A migration on a real server, looked at from a second session: what is told of it, and that looking disturbs nothing. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Event } from "../../lib/events.ts";
import { type MigrationWatch, type WatchOptions, watchMigration } from "../../lib/migrations/watch.ts";
import { openClient } from "../support/client.ts";
import { type Cluster, sharedCluster } from "../support/cluster.ts";
import { type Engine, openDatabase, startEngine } from "../support/native.ts";
import { until } from "../support/project.ts";

setDefaultTimeout(120_000);

type Progress = Extract<Event, { kind: "migration-progress" }>;

/** Looks ten times a second. */
const LOCK_TIMEOUT_MS = 300;
const WATCHERS = "application_name = 'prisma-safe-deploy watch'";
const PAGES_BYTES = 128 * 1024;
/** An index on it takes its time: a good millisecond a row. */
const SLOW_TABLE = `
  CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.001); RETURN $1; END';
  CREATE TABLE slow_one (id int, filler text);
  INSERT INTO slow_one SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) AS n`;

/** A shared server has room for a hundred. */
const engines: Engine[] = [];
afterEach(async () => {
  for (const { session } of engines.splice(0)) await session.close();
});

interface Watched {
  readonly engine: Engine;
  readonly watch: MigrationWatch;
  readonly progress: Progress[];
  /** Applies texts as migrations 1, 2, 3, and closes the watch. */
  apply(...texts: readonly string[]): ReturnType<Engine["apply"]>;
}

async function startWatched(changes: Partial<WatchOptions> = {}, user?: string, name?: string): Promise<Watched> {
  const engine = await startEngine(await sharedCluster(), {
    ...(user === undefined ? {} : { user }),
    ...(name === undefined ? {} : { name }),
  });
  engines.push(engine);
  const [row] = await engine.session.query<{ pid: number }>("SELECT pg_backend_pid() AS pid", {
    during: "the test",
    deadlineMs: 60_000,
  });
  const progress: Progress[] = [];
  const watch = watchMigration({
    openSession: () => engine.database.open("watch"),
    findBackend: async () => ({ pid: row?.pid ?? 0, migration: undefined }),
    migrations: ["1", "2", "3"],
    lockTimeoutMs: LOCK_TIMEOUT_MS,
    serverVersionNumber: engine.versionNumber,
    tell: (event) => {
      if (event.kind === "migration-progress") progress.push(event);
    },
    ...changes,
  });
  const apply = async (...texts: readonly string[]) => {
    try {
      return await engine.apply(texts, { tell: watch.tell, lockTimeoutMs: LOCK_TIMEOUT_MS });
    } finally {
      await watch.close();
    }
  };
  return { engine, watch, progress, apply };
}

function expectGrowing(numbers: readonly number[]): void {
  expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
}

describe("what is told", () => {
  test("which migration runs, and for how long", async () => {
    const { progress, apply } = await startWatched();
    expect((await apply("SELECT 1;", "SELECT pg_sleep(1);", "SELECT pg_sleep(1);")).kind).toBe("applied");
    expect([...new Set(progress.map(({ name, number, total }) => `${name} ${number}/${total}`))]).toEqual([
      "2 2/3",
      "3 3/3",
    ]);
    const second = progress.filter(({ name }) => name === "2");
    const third = progress.filter(({ name }) => name === "3");
    expectGrowing(second.map(({ runningMs }) => runningMs));
    expectGrowing(progress.map(({ elapsedMs }) => elapsedMs));
    // The third began anew.
    expect(third[0]?.runningMs).toBeLessThan(second.at(-1)?.runningMs ?? 0);
    expect(progress.every(({ waiting, work }) => waiting === undefined && work === undefined)).toBe(true);
  });

  test("how far an index is", async () => {
    const { engine, progress, apply } = await startWatched();
    await engine.cluster.psql(engine.name, SLOW_TABLE);
    expect((await apply("CREATE INDEX CONCURRENTLY slow_index ON slow_one (slow(id));")).kind).toBe("applied");
    const works = progress.flatMap(({ work }) => (work === undefined ? [] : [work]));
    const scanning = works.filter(({ phase }) => phase === "building index: scanning table");
    expect(works[0]).toMatchObject({ command: "CREATE INDEX CONCURRENTLY", table: "slow_one" });
    const percents = scanning.flatMap(({ percent }) => (percent === undefined ? [] : [percent]));
    expectGrowing(percents);
    expect(percents.some((percent) => percent > 0)).toBe(true);
    expect(percents.every((percent) => percent < 100)).toBe(true);
  });

  test("what else is long, in the server's own words", async () => {
    const { engine, progress, apply } = await startWatched();
    await engine.cluster.psql(engine.name, `${SLOW_TABLE}; CREATE INDEX slow_index ON slow_one (slow(id))`);
    expect((await apply("VACUUM FULL slow_one;")).kind).toBe("applied");
    const works = progress.flatMap(({ work }) => (work === undefined ? [] : [work]));
    expect(works).toContainEqual({
      command: "VACUUM FULL",
      table: "slow_one",
      phase: "rebuilding index",
      percent: undefined,
    });
  });

  test("a table of the migration itself has no name yet", async () => {
    const { progress, apply } = await startWatched();
    expect((await apply(`${SLOW_TABLE}; CREATE INDEX slow_index ON slow_one (slow(id));`)).kind).toBe("applied");
    expect(progress.map(({ work }) => work)).toContainEqual(
      expect.objectContaining({ command: "CREATE INDEX", table: undefined, phase: "building index: scanning table" }),
    );
  });

  test("a table that is written anew: that nobody else has it, and about how far it is", async () => {
    const { engine, progress, apply } = await startWatched();
    await engine.cluster.psql(engine.name, `${SLOW_TABLE}; ANALYZE slow_one`);
    const size = Number(await engine.ask("(SELECT relpages * 8192 FROM pg_class WHERE relname = 'slow_one')"));
    expect((await apply("ALTER TABLE slow_one ALTER id TYPE bigint USING slow(id);")).kind).toBe("applied");
    const seen = progress.flatMap(({ held }) => (held === undefined ? [] : [held]));
    expect(new Set(seen.map(({ tables }) => JSON.stringify(tables)))).toEqual(
      new Set([JSON.stringify([{ name: "slow_one", sizeBytes: size }])]),
    );
    const grown = seen.map(({ grownBytes }) => grownBytes ?? -1);
    expectGrowing(grown);
    expect(grown.at(-1)).toBeGreaterThan(size / 4);
    expect(grown.at(-1)).toBeLessThan(2 * size);
    const percents = seen.flatMap(({ percent }) => (percent === undefined ? [] : [percent]));
    expectGrowing(percents);
    expect(percents.some((percent) => percent > 10)).toBe(true);
    expect(percents.every((percent) => percent < 100)).toBe(true);
  });

  test("tables that are only locked, and those of the migration itself, have no growth to tell", async () => {
    const { engine, progress, apply } = await startWatched();
    await engine.cluster.psql(engine.name, "CREATE TABLE t (a int); CREATE TABLE u (a int)");
    expect((await apply("ALTER TABLE u ADD b int; ALTER TABLE t ADD b int; SELECT pg_sleep(1);")).kind).toBe("applied");
    const tables = [
      { name: "t", sizeBytes: undefined },
      { name: "u", sizeBytes: undefined },
    ];
    expect(progress.at(-1)?.held).toMatchObject({ tables, percent: undefined });
    // Of the catalogs and of the history a few pages at most: a look may come before they are written, or after.
    expect(Math.max(...progress.map(({ held }) => held?.grownBytes ?? 0))).toBeLessThan(PAGES_BYTES);
  });

  test("looking at a table that is held waits for nobody", async () => {
    const { progress, apply } = await startWatched();
    const texts = [`${SLOW_TABLE};`, "ALTER TABLE slow_one ADD c int DEFAULT slow((random() * 9)::int);"];
    expect((await apply(...texts)).kind).toBe("applied");
    // A look that has failed shows nothing; the table is unknown to others, and so nobody misses it.
    const second = progress.filter(({ name }) => name === "2");
    expect(second.length).toBeGreaterThan(5);
    expect(second.filter(({ held }) => held?.grownBytes !== undefined).length).toBeGreaterThan(second.length / 2);
    expect(second.flatMap(({ held }) => held?.tables ?? [])).toEqual([]);
  });

  test("how far a COPY is", async () => {
    const { engine, progress, apply } = await startWatched();
    await engine.cluster.psql(engine.name, "CREATE TABLE t (a int)");
    expect((await apply("COPY t FROM PROGRAM 'sleep 1; seq 9; sleep 1';")).kind).toBe("applied");
    const works = progress.flatMap(({ work }) => (work === undefined ? [] : [work]));
    const copying = { command: "COPY FROM", table: "t", phase: "PROGRAM", percent: undefined };
    expect(works).toEqual(engine.versionNumber < 140_000 ? [] : works.map(() => copying));
    expect(works.length > 0).toBe(engine.versionNumber >= 140_000);
  });

  test("who is in the way, what they do, and since when", async () => {
    const { engine, progress, apply } = await startWatched();
    await engine.cluster.psql(engine.name, "CREATE TABLE t (a int)");
    const client = await openClient(engine.cluster, engine.name);
    await client.run("BEGIN; SELECT 'a long\n\n  statement', * FROM t");
    const applied = apply("ALTER TABLE t ADD b int;");
    await until("two tries", () => new Set(progress.filter(isWaiting).map(tryOf)).size >= 2);
    await client.end();
    expect((await applied).kind).toBe("applied");
    const blockers = progress.filter(isWaiting).map(({ waiting }) => waiting?.blockers[0]);
    expect(blockers[0]).toMatchObject({
      pid: client.pid,
      applicationName: "psql",
      state: "idle in transaction",
      statement: expect.stringContaining("SELECT 'a long statement', * FROM t"),
    });
    expectGrowing(blockers.map((blocker) => blocker?.sinceMs ?? -1));
  });

  test("of a wait, how long it has lasted since the last try", async () => {
    const cluster = await sharedCluster();
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t (a int)");
    const [holder, waiter] = [await openClient(cluster, name), await openClient(cluster, name)];
    await holder.run("BEGIN; SELECT * FROM t");
    const waited = waiter.run("BEGIN; LOCK TABLE t");
    const findBackend = async () => ({ pid: waiter.pid, migration: undefined });
    const { watch, progress } = await startWatched({ findBackend }, undefined, name);
    watch.tell({ kind: "migration-running", name: "1" });
    const lastWait = () => progress.findLast(isWaiting)?.waiting?.waitedMs ?? 0;
    await until("a long wait", () => lastWait() > 1_500);
    // The engine gives up and tries again, so soon that no look falls in between.
    watch.tell({ kind: "segment-retrying", attempt: 1, waitMs: 1, sqlState: "55P03", message: "" });
    watch.tell({ kind: "migration-running", name: "1" });
    progress.length = 0;
    await until("it is told again", () => progress.some(isWaiting));
    expect(lastWait()).toBeLessThan(1_500);
    await watch.close();
    await holder.end();
    await waited.catch(() => {});
    await waiter.end();
  });

  test("no more than our role may see", async () => {
    const cluster = await sharedCluster();
    const owner = "watch_owner";
    await cluster.psql("postgres", `CREATE ROLE ${owner} LOGIN`);
    const name = await cluster.createDatabase({ owner });
    await cluster.psql(name, `CREATE TABLE t (a int); ALTER TABLE t OWNER TO ${owner}`);
    const { progress, apply } = await startWatched({}, owner, name);
    const client = await openClient(cluster, name);
    await client.run("BEGIN; SELECT * FROM t");
    const applied = apply("ALTER TABLE t ADD b int;");
    await until("the wait is told", () => progress.some(isWaiting));
    await client.end();
    expect((await applied).kind).toBe("applied");
    expect(progress.find(isWaiting)?.waiting?.blockers).toEqual([
      { pid: client.pid, applicationName: "psql", state: undefined, statement: undefined, sinceMs: undefined },
    ]);
  });
});

describe("looking disturbs nothing", () => {
  test("a short migration is not looked at", async () => {
    const { engine, progress, apply } = await startWatched({ lockTimeoutMs: 3_000 });
    const before = engine.database.sessionsOpened;
    expect((await apply("SELECT 1;")).kind).toBe("applied");
    expect(progress).toEqual([]);
    expect(engine.database.sessionsOpened).toBe(before);
  });

  test("its session is counted, and gone when it is closed", async () => {
    const { engine, apply } = await startWatched();
    const before = await readSessions(engine);
    const opened = engine.database.sessionsOpened;
    await apply("SELECT pg_sleep(1);");
    expect(engine.database.sessionsOpened).toBe(opened + 1);
    expect(await countWatchers(engine)).toBe("0");
    // psql, which asks, is one more each time.
    expect(await readSessions(engine)).toBe(before + 3);
  });

  test("a watch that is not let in tells name and time", async () => {
    const nowhere = openDatabase((await sharedCluster()).url("no_such_database"));
    const { progress, apply } = await startWatched({ openSession: () => nowhere.open("watch") });
    expect((await apply("SELECT pg_sleep(1);")).kind).toBe("applied");
    expect(progress.length).toBeGreaterThan(1);
    expect(progress.at(-1)).toMatchObject({ name: "1", waiting: undefined, work: undefined });
  });

  test("a watch that is killed is not seen again, and the migration goes on", async () => {
    const { engine, progress, apply } = await startWatched();
    const applied = apply("SELECT pg_sleep(3);");
    await until("the watch is there", async () => (await countWatchers(engine)) === "1");
    await engine.cluster.psql(engine.name, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${WATCHERS}`);
    const toldBefore = progress.length;
    expect((await applied).kind).toBe("applied");
    expect(progress.length).toBeGreaterThan(toldBefore + 2);
    expect(engine.session.isOpen).toBe(true);
  });

  test("a listener that throws is not heard", async () => {
    const { apply } = await startWatched({
      tell: (event) => {
        if (event.kind === "migration-progress") throw new Error("nobody listens");
      },
    });
    expect((await apply("SELECT pg_sleep(1);")).kind).toBe("applied");
  });

  test("a watch that would have to wait for the migration's own locks gives up for the moment", async () => {
    const { engine, progress, apply } = await startWatched();
    const opened = engine.database.sessionsOpened;
    // The catalog in which the name of a table is looked up.
    const result = await apply("SELECT pg_sleep(1); LOCK TABLE pg_catalog.pg_class; SELECT pg_sleep(3);");
    expect(result.kind).toBe("applied");
    expect(progress.filter(({ runningMs }) => runningMs > 1_500).length).toBeGreaterThan(1);
    expect(engine.database.sessionsOpened).toBe(opened + 1);
    expect(await countWatchers(engine)).toBe("0");
  });
});

function isWaiting({ waiting }: Progress): boolean {
  return waiting !== undefined;
}

/** Each try begins its time anew. */
function tryOf({ elapsedMs, runningMs }: Progress): number {
  return Math.round((elapsedMs - runningMs) / 50);
}

async function countWatchers({ cluster, name }: Engine): Promise<string> {
  return await cluster.psql(name, `SELECT count(*) FROM pg_stat_activity WHERE datname = '${name}' AND ${WATCHERS}`);
}

async function readSessions({ cluster, name }: { cluster: Cluster; name: string }): Promise<number> {
  return Number(await cluster.psql(name, `SELECT sessions FROM pg_stat_database WHERE datname = '${name}'`));
}
