/** Deploys that are large: in the number of migrations, in the length of a script, in the locks of a transaction. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { QUERY_DEADLINE_MS } from "../../lib/migrations/native-run.ts";
import { sharedCluster, startCluster } from "../support/cluster.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import { makeProject, runDeploy, startDeploy, until } from "../support/project.ts";

setDefaultTimeout(600_000);

/** By which a cancel that was due would have come. */
const MARGIN_MS = 3_000;

function numbered(count: number, make: (number: number) => string): Record<string, string> {
  const names = Array.from({ length: count }, (_, at) => String(at + 1).padStart(4, "0"));
  return Object.fromEntries(names.map((name) => [`${name}_step`, make(Number(name))]));
}

/**
 * It runs beside the other tests, and for as long as it takes to outlast the deadline of our own queries, by the server's
 * clock: then the gate is opened.
 */
const longDeploy = (async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const gate = await closeGate(cluster, database);
  const project = makeProject({ "1_long": `CREATE TABLE t (a int);\n${WAIT_AT_GATE}` });
  const { ended } = startDeploy(project, { url: cluster.url(database) });
  const pid = await gate.reached();
  const isYoung = `pid = ${pid} AND now() < query_start + interval '${QUERY_DEADLINE_MS + MARGIN_MS} ms'`;
  const isOver = async () => (await gate.client.run(`SELECT pid FROM pg_stat_activity WHERE ${isYoung}`)) === "";
  await until("the migration is older than a deadline, or gone", isOver, 3 * QUERY_DEADLINE_MS);
  await gate.open();
  return await ended;
})();

test("1,000 pending migrations are one transaction", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject(
    numbered(1_000, (at) => (at === 1 ? "CREATE TABLE t (a int);" : `INSERT INTO t VALUES (${at});`)),
  );
  const run = await runDeploy(project, { url: cluster.url(database), args: ["--", "echo", "the app"] });
  expect(run.exitCode, run.stderr.slice(-2_000)).toBe(0);
  expect(run.stdout).toBe("the app\n");
  expect(run.stderr).toContain("   적용 대기: 1000건, 트랜잭션: 1개\n");
  expect(await cluster.psql(database, "SELECT count(*) FROM t")).toBe("999");
  const rows = `SELECT count(*), count(DISTINCT xmin::text), count(DISTINCT started_at) FROM _prisma_migrations
    WHERE finished_at IS NOT NULL AND applied_steps_count = 1`;
  expect(await cluster.psql(database, rows)).toBe("1000|1|1000");
});

test("the last of 1,000 fails, and nothing is left of any", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject(
    numbered(1_000, (at) => (at === 1_000 ? "SELECT 1/0;" : `CREATE TABLE t${at % 50}_${at} ();`)),
  );
  const run = await runDeploy(project, { url: cluster.url(database), args: ["--lang", "en"] });
  expect(run.exitCode, run.stderr.slice(-2_000)).toBe(5);
  expect(run.stderr).toContain("   Failed migration: 1000_step\n   division by zero (22012)\n");
  expect(await cluster.psql(database, "SELECT count(*) FROM pg_class WHERE relnamespace = 2200")).toBe("0");
});

test("a script of 5 MB", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const rows = Array.from(
    { length: 50_000 },
    (_, at) => `INSERT INTO t VALUES (${at}, '${"한글 text ".repeat(8)}${at}');`,
  );
  const script = `CREATE TABLE t (a int, b text);\n${rows.join("\n")}\n`;
  expect(Buffer.byteLength(script)).toBeGreaterThan(5_000_000);
  const project = makeProject({ "1_large": script });
  const run = await runDeploy(project, { url: cluster.url(database) });
  expect(run.exitCode, run.stderr).toBe(0);
  expect(await cluster.psql(database, "SELECT count(*), sum(length(b)) > 0 FROM t")).toBe("50000|t");
});

test("a mistake in the middle of a script of 5 MB is found, in a line of which only a piece is shown", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const row = (at: number) => `(${at}, '${"x".repeat(100)}')`;
  const values = Array.from({ length: 45_000 }, (_, at) => (at === 30_000 ? `(${at}, mistake)` : row(at)));
  const script = `CREATE TABLE t (a int, b text);\nINSERT INTO t VALUES ${values.join(", ")};\n`;
  expect(Buffer.byteLength(script)).toBeGreaterThan(5_000_000);
  const run = await runDeploy(makeProject({ "1_large": script }), { url: cluster.url(database) });
  expect(run.exitCode, run.stderr.slice(-2_000)).toBe(5);
  expect(run.stderr.length).toBeLessThan(5_000);
  const [, column] = /migration\.sql:2:(\d+)\n/.exec(run.stderr) ?? [];
  expect(
    script
      .split("\n")[1]
      ?.slice(Number(column) - 1)
      .startsWith("mistake"),
  ).toBe(true);
  const lines = run.stderr.split("\n");
  const at = lines.findIndex((line) => line.startsWith("     2 | …"));
  expect(lines[at + 1]?.indexOf("^"), run.stderr).toBe(lines[at]?.indexOf("mistake") ?? -1);
});

test("more locks than the server has room for: smaller transactions, which are shown", async () => {
  const cluster = await startCluster({ settings: { max_locks_per_transaction: "10", max_connections: "15" } });
  try {
    const database = await cluster.createDatabase();
    const tables = (step: number) =>
      Array.from({ length: 50 }, (_, at) => `CREATE TABLE t_${step}_${at} (id int PRIMARY KEY, name text);`).join("\n");
    const project = makeProject(numbered(16, tables));
    const run = await runDeploy(project, {
      url: cluster.url(database),
      args: ["--lang", "en", "--", "echo", "the app"],
    });
    expect(run.exitCode, run.stderr.slice(-3_000)).toBe(0);
    expect(run.stdout).toBe("the app\n");
    expect(run.stderr).toContain("   Pending: 16 migrations in 1 transaction\n");
    expect(run.stderr).toContain("out of shared memory (53200)");
    expect(run.stderr).toMatch(/^ {5}Transaction: 0001_step, /m);
    expect(
      await cluster.psql(database, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200"),
    ).toBe("801");
    // As many transactions as the last plan says, each with its rows.
    const transactions = await cluster.psql(database, "SELECT count(DISTINCT xmin::text) FROM _prisma_migrations");
    expect(Number(transactions)).toBeGreaterThan(1);
    expect(Number(transactions)).toBeLessThan(16);
    expect(readManifests(project.backupDirectory)).toHaveLength(1);
  } finally {
    await cluster.remove();
  }
});

test("one migration that needs more locks than there is room for fails whole, and says what to do", async () => {
  const cluster = await startCluster({ settings: { max_locks_per_transaction: "10", max_connections: "15" } });
  try {
    const database = await cluster.createDatabase();
    const tables = Array.from({ length: 2_000 }, (_, at) => `CREATE TABLE t_${at} (id int);`).join("\n");
    const run = await runDeploy(makeProject({ "1_tables": tables }), {
      url: cluster.url(database),
      args: ["--lang", "en"],
    });
    expect(run.exitCode, run.stderr).toBe(5);
    expect(run.stderr).toContain("out of shared memory (53200)");
    // Which of them it was.
    expect(run.stderr).toMatch(/migration\.sql:\d{2,}:1\n/);
    expect(run.stderr).toContain("raise max_locks_per_transaction");
    expect(await cluster.psql(database, "SELECT count(*) FROM pg_class WHERE relnamespace = 2200")).toBe("0");
  } finally {
    await cluster.remove();
  }
});

test("a migration that outlasts every deadline of a query is not ended by any", async () => {
  const run = await longDeploy;
  expect(run.exitCode, run.stderr).toBe(0);
  expect(run.stderr).toMatch(/^ {3}진행 중: 1_long \(1\/1\), \S+$/m);
});

function readManifests(directory: string): unknown[] {
  const names = readdirSync(directory).filter((name) => /^backup_[\d_]+\.json$/.test(name));
  return names.map((name) => JSON.parse(readFileSync(join(directory, name), "utf8")));
}
