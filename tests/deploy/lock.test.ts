/** Several deploys of one database at once, as replicas do it: one works, the others wait, and all of them start the app. */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { openClient } from "../support/client.ts";
import { type Cluster, sharedCluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import { makeProject, type Project, type RunningDeploy, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectRefused, expectStarted } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;
const DEPLOY_LOCK = 72_707_369;
const USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a'), (2, 'b');\n";

interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
}

/** A database with the given migrations applied. */
async function makeLive(migrations: Readonly<Record<string, string>>, on?: Cluster): Promise<Live> {
  const cluster = on ?? (await sharedCluster());
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const project = makeProject(migrations);
  if (Object.keys(migrations).length > 0) expect((await runDeploy(project, { url })).exitCode).toBe(0);
  return { cluster, database, url, project };
}

/** Name and number of the rows of each migration, all of them finished. */
async function readRows({ cluster, database }: Pick<Live, "cluster" | "database">): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT migration_name, count(*), bool_and(finished_at IS NOT NULL AND applied_steps_count = 1)
     FROM _prisma_migrations GROUP BY 1 ORDER BY 1`,
  );
}

async function readLockHolder({ cluster, database }: Live): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT pid FROM pg_locks JOIN pg_database AS d ON d.oid = database AND datname = current_database()
     WHERE locktype = 'advisory' AND objid = ${DEPLOY_LOCK} AND granted`,
  );
}

/** It waits, and says for whom. */
async function untilWaitingFor(pid: string | number, run: RunningDeploy): Promise<void> {
  await until(`it says that it waits for pid ${pid}`, () => run.output().includes(`기다리는 중 (`));
  expect(run.output()).toMatch(new RegExp(`다른 배포가 끝나기를 기다리는 중 .*: pid ${pid}, `));
}

const BY_ANOTHER = "다른 배포가 방금 마이그레이션을 끝냈습니다.";

test(
  "two deploys at once: the second waits, says for whom, finds nothing to do and starts its app",
  async () => {
    const live = await makeLive({});
    live.project.add("1_users", USERS);
    live.project.add("2_slow", WAIT_AT_GATE);
    const gate = await closeGate(live.cluster, live.database);
    const first = startDeploy(live.project, { url: live.url, args: APP });
    const pid = await gate.reached();
    expect(await readLockHolder(live)).toBe(pid);
    const second = startDeploy(live.project, { url: live.url, args: APP });
    await untilWaitingFor(pid, second);
    expect(second.output()).toContain("prisma-safe-deploy deploy");
    await gate.open();
    expectStarted(await first.ended);
    const run = await second.ended;
    expectStarted(run);
    expect(run.stderr).toContain(BY_ANOTHER);
    expect(run.stderr).not.toContain("📦");
    expect(await readRows(live)).toBe("1_users|1|t\n2_slow|1|t");
    expect(readdirSync(live.project.backupDirectory).filter((name) => /^backup_[\d_]+\.json$/.test(name))).toHaveLength(
      1,
    );
  },
  TIMEOUT_MS,
);

test(
  "while CREATE INDEX CONCURRENTLY of the first waits for another client, nobody takes its row for a failure",
  async () => {
    const live = await makeLive({ "1_users": USERS });
    const { url, project } = live;
    project.add("2_index", "CREATE INDEX CONCURRENTLY users_name ON users (name);");
    const reader = await openClient(live.cluster, live.database);
    await reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users");
    const first = startDeploy(project, { url, args: APP });
    const unfinished = "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NULL";
    await until("its row is there", async () => (await live.cluster.psql(live.database, unfinished)) === "1");
    const pid = await readLockHolder(live);

    const second = startDeploy(project, { url, args: APP });
    await untilWaitingFor(pid, second);
    const status = await runDeploy(project, { url, args: ["status", "--json"] });
    expect(status.exitCode).toBe(10);
    expect(JSON.parse(status.stdout)).toMatchObject({ state: "running", running: ["2_index"], failed: [] });
    const shown = await runDeploy(project, { url, args: ["status"] });
    expect(shown.stdout).toContain("실행 중: 1건");
    expect(shown.stdout).not.toContain("실패");
    // Nothing can be said of what will be pending when the first has ended, least of all that it has failed.
    const planned = await runDeploy(project, { url, args: ["plan"] });
    expectRefused(planned, { exitCode: 75, code: "LOCK_NOT_ACQUIRED" });

    await reader.run("COMMIT");
    await reader.end();
    expectStarted(await first.ended);
    const run = await second.ended;
    expectStarted(run);
    expect(run.stderr).toContain(BY_ANOTHER);
    expect(await readRows(live)).toBe("1_users|1|t\n2_index|1|t");
    const valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_name'::regclass";
    expect(await live.cluster.psql(live.database, valid)).toBe("t");
  },
  TIMEOUT_MS,
);

test(
  "ten deploys at once of a database that does not exist yet: one deploys it, ten apps start",
  async () => {
    const cluster = await sharedCluster();
    const database = `ten_${await cluster.createDatabase()}`;
    const url = cluster.url(database);
    const project = makeProject({
      "1_users": USERS,
      "2_index": "CREATE INDEX CONCURRENTLY users_name ON users (name);",
      "3_orders": "CREATE TABLE orders (id int);",
    });
    const runs = Array.from({ length: 10 }, () => runDeploy(project, { url, args: ["--create-database", ...APP] }));
    const ended = await Promise.all(runs);
    for (const run of ended) expectStarted(run);
    expect(ended.filter(({ stderr }) => stderr.includes("📦"))).toHaveLength(1);
    expect(await readRows({ cluster, database })).toBe("1_users|1|t\n2_index|1|t\n3_orders|1|t");
    expect(readdirSync(project.backupDirectory).filter((name) => /^backup_[\d_]+\.json$/.test(name))).toHaveLength(1);
  },
  TIMEOUT_MS,
);

test(
  "a lock that is not let go in time: refused with its holder, also one that is no deploy",
  async () => {
    const live = await makeLive({ "1_users": USERS });
    const { url, project } = live;
    project.add("2_orders", "CREATE TABLE orders (id int);");
    const holder = await openClient(live.cluster, live.database);
    await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
    const before = dumpDatabase(live.cluster, live.database);
    for (const wait of ["0", "300ms"]) {
      const run = await runDeploy(project, { url, args: ["--lock-wait", wait, ...APP] });
      expectRefused(run, {
        exitCode: 75,
        code: "LOCK_NOT_ACQUIRED",
        shows: [`pid ${holder.pid}`, "psql", "--lock-wait 30m"],
      });
    }
    expect(dumpDatabase(live.cluster, live.database)).toBe(before);
    await holder.end();
    expectStarted(await runDeploy(project, { url, args: ["--lock-wait", "0", ...APP] }));
  },
  TIMEOUT_MS,
);

test(
  "who waits is no client of the database, so that the holder can still prove that he is alone",
  async () => {
    const live = await makeLive({ "1_users": USERS });
    const { cluster, database, url, project } = live;
    project.add("2_orders", "CREATE TABLE orders (id int);");
    const holder = await openClient(cluster, database);
    await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
    const run = startDeploy(project, { url, args: APP });
    await untilWaitingFor(holder.pid, run);
    const clients = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${database}' AND pid <> ${holder.pid}`;
    await until("its session is gone", async () => (await cluster.psql("postgres", clients)) === "0");
    // Servers before 14 don't count them.
    const count = `SELECT to_jsonb(d) ->> 'sessions' FROM pg_stat_database AS d WHERE datname = '${database}'`;
    const opened = await holder.run(count);
    await Bun.sleep(1_500);
    expect(await cluster.psql("postgres", clients)).toBe("0");
    expect(await holder.run(count)).toBe(opened);
    await holder.end();
    expectStarted(await run.ended);
  },
  TIMEOUT_MS,
);

test(
  "of those who wait one enters at a time, so that none is there while another one has got the lock",
  async () => {
    // Whoever connects is held up there, and should be one of ours.
    const own = await startCluster({ settings: { autovacuum: "off" } });
    try {
      const { cluster, database, url, project } = await makeLive({ "1_users": USERS }, own);
      project.add("2_orders", "CREATE TABLE orders (id int);");
      const holder = await openClient(cluster, database);
      await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
      const patient = `${url}${url.includes("?") ? "&" : "?"}connect_timeout=600`;
      const runs = [1, 2, 3].map(() => startDeploy(project, { url: patient, args: APP }));
      const observer = await openClient(cluster, "postgres");
      const waiting = "FROM pg_stat_activity WHERE application_name = 'prisma-safe-deploy wait'";
      await until("they wait beside it", async () => (await observer.run(`SELECT count(*) ${waiting}`)) === "3");

      const door = await openClient(cluster, "postgres");
      await door.run("BEGIN; LOCK TABLE pg_db_role_setting IN ACCESS EXCLUSIVE MODE");
      const countEntering = async () =>
        Number(
          await observer.run(
            "SELECT count(*) FROM pg_locks WHERE relation = 'pg_db_role_setting'::regclass AND NOT granted",
          ),
        );
      await holder.end();
      await until("one would enter", async () => (await countEntering()) > 0);
      const since = await observer.run("SELECT clock_timestamp()");
      const refused = `SELECT count(*) ${waiting} AND state = 'idle' AND query LIKE '%pg_try_advisory_lock%'
        AND query_start > '${since}'`;
      await until(
        "the others have looked again",
        async () => (await countEntering()) > 1 || (await observer.run(refused)) === "2",
      );
      expect(await countEntering()).toBe(1);

      await door.end();
      await observer.end();
      for (const run of runs) expectStarted(await run.ended);
    } finally {
      await own.remove();
    }
  },
  TIMEOUT_MS,
);

test(
  "a start with nothing to do does not ask for the lock",
  async () => {
    const live = await makeLive({ "1_users": USERS });
    const holder = await openClient(live.cluster, live.database);
    await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
    const run = await runDeploy(live.project, { url: live.url, args: ["--lock-wait", "0", ...APP] });
    expectStarted(run);
    expect(run.stderr).not.toContain("기다리는 중");
    await holder.end();
  },
  TIMEOUT_MS,
);

test(
  "a holder that is killed in the middle of a migration makes room for the one that waits",
  async () => {
    const live = await makeLive({});
    const { url, project } = live;
    project.add("1_users", USERS);
    project.add("2_slow", WAIT_AT_GATE);
    const gate = await closeGate(live.cluster, live.database);
    const first = startDeploy(project, { url, args: APP });
    const pid = await gate.reached();
    const second = startDeploy(project, { url, args: APP });
    await untilWaitingFor(pid, second);
    first.kill("SIGKILL");
    expect((await first.ended).signal).toBe("SIGKILL");
    await until("the second deploy stands at the gate", async () => {
      const now = await gate.reached();
      return now !== pid && !now.includes("\n");
    });
    expect(await readLockHolder(live)).not.toBe(pid);
    await gate.open();
    expectStarted(await second.ended);
    expect(await readRows(live)).toBe("1_users|1|t\n2_slow|1|t");
  },
  TIMEOUT_MS,
);

for (const [name, isShut] of [
  ["a connection that is cut while it waits for the lock is opened again", false],
  ["so is one to a database that nobody may enter for a while, as when another deploy swaps it", true],
] as const) {
  test(
    name,
    async () => {
      const live = await makeLive({});
      const { cluster, database, url, project } = live;
      project.add("1_users", USERS);
      const holder = await openClient(cluster, database);
      await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
      // Where no other database lets it in, it waits in this one.
      const run = startDeploy(project, { url, args: ["--maintenance-database", "nowhere", ...APP] });
      await untilWaitingFor(holder.pid, run);
      const others = `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> ${holder.pid}`;
      const pid = await holder.run(others);
      if (isShut) await cluster.psql("postgres", `ALTER DATABASE "${database}" ALLOW_CONNECTIONS false`);
      expect(await holder.run(`SELECT pg_terminate_backend(${pid})`)).toBe("t");
      if (isShut) {
        const refusal = `database "${database}" is not currently accepting connections`;
        await until("it has knocked in vain", () => cluster.readLog().includes(refusal));
        await cluster.psql("postgres", `ALTER DATABASE "${database}" ALLOW_CONNECTIONS true`);
      }
      await until("it is back", async () => !["", pid].includes(await holder.run(others)));
      await holder.end();
      expectStarted(await run.ended);
      expect(await readRows(live)).toBe("1_users|1|t");
    },
    TIMEOUT_MS,
  );
}
