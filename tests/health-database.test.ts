/** The ready check against a real server: what it says, and what it leaves behind there. */
import { expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { findClientTool } from "../scripts/support/postgres-binaries.mjs";
import { type Cluster, sharedCluster, startCluster } from "./support/cluster.ts";
import { createHistory, makeBinary, makeFolder, type Row, runHealth } from "./support/health.ts";

const TEST_MS = 60_000;
const DEPLOY_LOCK_KEY = 72_707_369;

interface Case {
  readonly rows?: readonly Row[];
  readonly folder?: readonly string[];
  readonly flags?: readonly string[];
}

async function checkDatabase({ rows, folder = [], flags = [] }: Case) {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  if (rows !== undefined) await createHistory(cluster, database, rows);
  const environment = { DATABASE_URL: cluster.url(database), MIGRATIONS_DIR: makeFolder(...folder) };
  return { cluster, database, environment, ...(await runHealth(flags, { environment })) };
}

const applied = (name: string): Row => ({ name, state: "applied" });

const HEALTHY: readonly [string, Case, string][] = [
  ["everything is applied", { rows: [applied("1_a"), applied("2_b")], folder: ["1_a", "2_b"] }, "2 migrations applied"],
  ["an empty folder and no table", {}, "0 migrations applied"],
  ["rows of a newer release", { rows: [applied("1_a"), applied("2_b")], folder: ["1_a"] }, "1 migration applied"],
  [
    "a newer release's migration has failed",
    { rows: [applied("1_a"), { name: "2_b", state: "unfinished" }], folder: ["1_a"] },
    "1 migration applied",
  ],
  [
    "one that was rolled back and then applied",
    { rows: [{ name: "1_a", state: "rolled-back" }, applied("1_a")], folder: ["1_a"] },
    "1 migration applied",
  ],
];

test.each(HEALTHY)(
  "ready: %s",
  async (_, state, words) => {
    const { exitCode, line, stderr } = await checkDatabase(state);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(line).toMatch(new RegExp(`^healthy: database answers in \\d+(\\.\\d)?m?s; ${words}$`));
  },
  TEST_MS,
);

const UNHEALTHY: readonly [string, Case, string][] = [
  ["pending ones", { rows: [applied("1_a")], folder: ["1_a", "2_b", "3_c"] }, "2 pending: 2_b, 3_c"],
  ["no table yet", { folder: ["1_a"] }, "1 pending: 1_a"],
  ["a failed one", { rows: [{ name: "1_a", state: "unfinished" }], folder: ["1_a"] }, "1 failed: 1_a"],
  [
    "a failed one and a pending one",
    { rows: [{ name: "1_a", state: "unfinished" }], folder: ["1_a", "2_b"] },
    "1 failed: 1_a; 1 pending: 2_b",
  ],
  ["one that was rolled back", { rows: [{ name: "1_a", state: "rolled-back" }], folder: ["1_a"] }, "1 pending: 1_a"],
];

test.each(UNHEALTHY)(
  "not ready: %s",
  async (_, state, words) => {
    const { exitCode, line, stderr } = await checkDatabase(state);
    expect({ exitCode, line, stderr }).toEqual({ exitCode: 1, line: `unhealthy: ${words}`, stderr: "" });
  },
  TEST_MS,
);

test(
  "an unfinished row is running while somebody holds the deploy lock, and failed afterwards",
  async () => {
    const { environment, cluster, database } = await checkDatabase({
      rows: [{ name: "1_a", state: "unfinished" }],
      folder: ["1_a", "2_b"],
    });
    await whileRunning(cluster, database, `SELECT pg_advisory_lock(${DEPLOY_LOCK_KEY}), 'ready'`, async () => {
      const { exitCode, line } = await runHealth([], { environment });
      expect({ exitCode, line }).toEqual({
        exitCode: 1,
        line: "unhealthy: 1 running: 1_a; 1 pending (another deploy is at work): 2_b",
      });
    });
    expect((await runHealth([], { environment })).line).toBe("unhealthy: 1 failed: 1_a; 1 pending: 2_b");
  },
  TEST_MS,
);

test(
  "the schema of the connection string is the one that is looked at",
  async () => {
    const cluster = await sharedCluster();
    const database = await cluster.createDatabase();
    await cluster.psql(database, "CREATE SCHEMA shop");
    await createHistory(cluster, database, [applied("1_a")], "shop");
    const url = cluster.url(database, { parameters: { schema: "shop" } });
    const environment = { DATABASE_URL: url, MIGRATIONS_DIR: makeFolder("1_a") };
    expect((await runHealth([], { environment })).exitCode).toBe(0);
  },
  TEST_MS,
);

test(
  "a user who may not read the history gets the command, and may skip it",
  async () => {
    const { cluster, database, environment } = await checkDatabase({ rows: [applied("1_a")], folder: ["1_a"] });
    const user = `app_${database}`;
    await cluster.psql(database, `CREATE ROLE ${user} LOGIN`);
    const own = { ...environment, DATABASE_URL: cluster.url(database, { user }) };
    const refused = await runHealth([], { environment: own });
    expect(refused).toMatchObject({
      exitCode: 1,
      line: `unhealthy: may not read _prisma_migrations: GRANT SELECT ON _prisma_migrations TO ${user}`,
    });
    expect((await runHealth(["--skip-migrations"], { environment: own })).exitCode).toBe(0);
    await cluster.psql(database, `GRANT SELECT ON _prisma_migrations TO ${user}`);
    expect((await runHealth([], { environment: own })).exitCode).toBe(0);
  },
  TEST_MS,
);

test(
  "a folder that is not there is told, and is not needed with --skip-migrations",
  async () => {
    const { environment } = await checkDatabase({});
    const own = { ...environment, MIGRATIONS_DIR: "nowhere" };
    const missing = await runHealth([], { environment: own });
    expect({ ...missing }).toMatchObject({ exitCode: 1, line: "unhealthy: Migrations folder not found: nowhere" });
    const skipped = await runHealth(["--skip-migrations"], { environment: own });
    expect(skipped.line).toMatch(/^healthy: database answers in \S+$/);
  },
  TEST_MS,
);

test(
  "wrong passwords and missing databases are told without the password",
  async () => {
    const cluster = await startCluster({ auth: "scram-sha-256", password: "right", tcp: true });
    try {
      const check = async (url: string) =>
        await runHealth([], { environment: { DATABASE_URL: url, MIGRATIONS_DIR: makeFolder() } });
      const wrong = await check(cluster.url("postgres", { password: "s3cret-wrong" }));
      expect(wrong.exitCode).toBe(1);
      expect(wrong.line).toStartWith("unhealthy: Authentication failed");
      expect(JSON.stringify(wrong)).not.toContain("s3cret");
      const missing = await check(cluster.url("no_such_database"));
      expect(missing.line).toContain("no_such_database");
      expect((await check(cluster.url("postgres"))).exitCode).toBe(0);
      await cluster.stop();
      const down = await check(cluster.url("postgres"));
      expect(down.exitCode).toBe(1);
      expect(down.line).toContain("ECONNREFUSED");
      expect(JSON.stringify(down)).not.toContain("right");
    } finally {
      await cluster.remove();
    }
  },
  TEST_MS,
);

test(
  "a server that takes the connection and says nothing",
  async () => {
    const server = createServer(() => {}).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const environment = { DATABASE_URL: `postgresql://user@127.0.0.1:${port}/app`, MIGRATIONS_DIR: makeFolder() };
    const { exitCode, line } = await runHealth(["--timeout", "800ms"], { environment });
    expect(exitCode).toBe(1);
    expect(line).toStartWith("unhealthy: ");
    server.close();
  },
  TEST_MS,
);

test(
  "a locked history is given up in time, and nothing of ours goes on waiting for it",
  async () => {
    const { cluster, database, environment } = await checkDatabase({ rows: [applied("1_a")], folder: ["1_a"] });
    const lock = "BEGIN; LOCK _prisma_migrations IN ACCESS EXCLUSIVE MODE; SELECT 'ready'";
    await whileRunning(cluster, database, lock, async () => {
      const { exitCode, line } = await runHealth(["--timeout", "2s"], { environment });
      expect({ exitCode, line }).toEqual({ exitCode: 1, line: "unhealthy: Deadline exceeded (1.5s): database" });
      await waitUntil(async () => (await countSessions(cluster, database)) === 0);
    });
  },
  TEST_MS,
);

test(
  "one session a check, which says goodbye",
  async () => {
    const { cluster, database, environment } = await checkDatabase({ folder: [] });
    const before = await readSessions(cluster, database);
    for (let time = 0; time < 3; time += 1) await runHealth([], { environment });
    await waitUntil(async () => (await readSessions(cluster, database)).total === before.total + 3);
    expect((await readSessions(cluster, database)).abandoned).toBe(0);
    await runHealth(["--live"], { environment });
    expect((await readSessions(cluster, database)).total).toBe(before.total + 3);
  },
  TEST_MS,
);

test(
  "the compiled program says the same",
  async () => {
    const program = [makeBinary()];
    const pending = await checkDatabase({ rows: [applied("1_a")], folder: ["1_a", "2_b"] });
    const { environment } = pending;
    expect(await runHealth([], { environment, program })).toMatchObject({ exitCode: 1, line: pending.line });
    const down = { ...environment, DATABASE_URL: "postgresql://user@127.0.0.1:1/app" };
    const { line } = await runHealth(["--lang", "ko"], { environment: down, program });
    expect(line).toStartWith("비정상: 데이터베이스에 연결할 수 없음: 127.0.0.1:1 (");
    await pending.cluster.psql(pending.database, "UPDATE _prisma_migrations SET migration_name = '2_b'");
    const own = { ...environment, MIGRATIONS_DIR: makeFolder("2_b") };
    expect(await runHealth([], { environment: own, program })).toMatchObject({ exitCode: 0, stderr: "" });
  },
  TEST_MS,
);

test.skipIf(Bun.spawnSync(["unshare", "--mount", "mount", "-o", "remount,ro,bind", "/"]).exitCode !== 0)(
  "ready where nothing can be written, as a user who owns nothing",
  async () => {
    const cluster = await startCluster({ tcp: true });
    try {
      await createHistory(cluster, "postgres", [applied("1_a")]);
      const binary = makeBinary();
      const folder = makeFolder("1_a");
      for (const path of [binary, folder]) chmodSync(join(path, ".."), 0o755);
      const environment = { DATABASE_URL: cluster.url("postgres"), MIGRATIONS_DIR: folder };
      const script = `mount -o remount,ro,bind / && ! touch "$0.x" 2>/dev/null &&
        exec setpriv --reuid=12345 --regid=12345 --clear-groups "$0" "$@"`;
      const program = ["unshare", "--mount", "sh", "-c", script, binary];
      const run = { environment, program, cwd: "/" };
      expect(await runHealth([], run)).toEqual({
        exitCode: 0,
        line: expect.stringMatching(/^healthy: .*1 migration applied$/),
        stderr: "",
      });
      await cluster.psql("postgres", "DELETE FROM _prisma_migrations");
      expect(await runHealth([], run)).toEqual({ exitCode: 1, line: "unhealthy: 1 pending: 1_a", stderr: "" });
    } finally {
      await cluster.remove();
    }
  },
  TEST_MS,
);

/** Statements through psql that hold their session while `act` runs; their last answer has to be "ready". */
async function whileRunning(cluster: Cluster, database: string, sql: string, act: () => Promise<void>): Promise<void> {
  const child = Bun.spawn([findClientTool("psql")?.path ?? "psql", "-XAtq", cluster.url(database)], {
    env: { PATH: process.env.PATH ?? "" },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  try {
    child.stdin.write(`${sql};\n`);
    child.stdin.flush();
    const reader = child.stdout.getReader();
    while (!new TextDecoder().decode((await reader.read()).value).includes("ready"));
    await act();
  } finally {
    child.stdin.end();
    await child.exited;
  }
}

async function countSessions(cluster: Cluster, database: string): Promise<number> {
  const where = `datname = '${database}' AND application_name LIKE '%health-check%'`;
  return Number(await cluster.psql("postgres", `SELECT count(*) FROM pg_stat_activity WHERE ${where}`));
}

async function readSessions(cluster: Cluster, database: string): Promise<{ total: number; abandoned: number }> {
  const columns = "sessions || ' ' || sessions_abandoned";
  const row = await cluster.psql("postgres", `SELECT ${columns} FROM pg_stat_database WHERE datname = '${database}'`);
  const [total = Number.NaN, abandoned = Number.NaN] = row.split(" ").map(Number);
  return { total, abandoned };
}

async function waitUntil(isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error("it did not happen in time");
    await Bun.sleep(50);
  }
}
