/** Deploys that are interrupted, politely or not, at each step: what they leave, and that the next one gets along with it. */
import { expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { type Client, openClient } from "../support/client.ts";
import { startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import { deployFirst, type Live, readOurs, untilNoneOfOurs } from "../support/live.ts";
import { type DeployRun, makeProject, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectNoLeak, expectRefused, expectStarted } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;
const DEPLOY_LOCK = 72_707_369;
const USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a'), (2, 'b');\n";
const SLEEP = {
  "2_orders": "CREATE TABLE orders (id int);\n",
  "3_sleep": "CREATE TABLE tags (id int);\nSELECT pg_sleep(600);\n",
};

const SIGNALS = [
  { signal: "SIGTERM", exitCode: 143 },
  { signal: "SIGINT", exitCode: 130 },
] as const;

async function makeLive(pending: Readonly<Record<string, string>>): Promise<Live> {
  return await deployFirst({ "1_users": `${USERS}CREATE TABLE plain (id int);\n` }, pending);
}

async function readRows({ cluster, database }: Live): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT migration_name, finished_at IS NOT NULL FROM _prisma_migrations WHERE rolled_back_at IS NULL ORDER BY 1`,
  );
}

/** It stopped in time: as before, the app not started, and said so. */
async function expectAsBefore(run: DeployRun, live: Live, exitCode: number): Promise<void> {
  expect(run.exitCode, run.stderr).toBe(exitCode);
  expect(run.stdout).toBe("");
  expect(run.stderr).toContain("   상태  데이터베이스는 배포 전과 같습니다. 앱을 시작하지 않았습니다.\n");
  expect(run.stderr).toContain(`   코드  INTERRUPTED (종료 코드 ${exitCode})\n`);
  expectNoLeak(run, []);
  expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
  await untilNoneOfOurs(live);
}

/** Backups that are complete, and whatever else is in the folder. */
function listBackups({ project }: Live): { manifests: number; others: string[] } {
  const names = existsSync(project.backupDirectory) ? readdirSync(project.backupDirectory) : [];
  return {
    manifests: names.filter((name) => /^backup_[\d_]+\.json$/.test(name)).length,
    others: names.filter((name) => !/^(backup_[\d_]+\.(json|mark\.json|sql|dump)|journal\.jsonl)$/.test(name)),
  };
}

/** Tables that another client has for itself, and who of ours comes to wait for it. */
const BEFORE_THE_MIGRATION = [
  { step: "the history is read", table: "_prisma_migrations", waits: "wait_event_type = 'Lock'" },
  {
    step: "the state to come back to is marked",
    table: "users",
    waits: "wait_event_type = 'Lock' AND application_name LIKE '%backup'",
  },
  {
    step: "the backup is taken",
    table: "plain",
    waits: "wait_event_type = 'Lock' AND application_name LIKE '%pg_dump'",
  },
];

async function holdTable({ cluster, database }: Live, table: string): Promise<Client> {
  const holder = await openClient(cluster, database);
  await holder.run(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
  return holder;
}

test(
  "an administrator cancels what it asks before it migrates: the server's words, and nothing was changed",
  async () => {
    const live = await makeLive({ "2_orders": "CREATE TABLE orders (id int);" });
    const { cluster, database, url, project } = live;
    const holder = await holdTable(live, "users");
    const running = startDeploy(project, { url, args: APP });
    const waits = "wait_event_type = 'Lock' AND application_name LIKE '%backup'";
    await until("it is held up", async () => (await readOurs(live, waits)) !== "");
    await cluster.psql(
      "postgres",
      `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = '${database}' AND ${waits}`,
    );
    const run = await running.ended;
    await holder.end();
    expectRefused(run, { exitCode: 7, code: "STATEMENT_FAILED", shows: ["canceling statement due to user request"] });
    expect(dumpDatabase(cluster, database)).toBe(live.before);
  },
  TIMEOUT_MS,
);

for (const { signal, exitCode } of SIGNALS) {
  test(
    `${signal} while it waits for the database`,
    async () => {
      const cluster = await startCluster();
      const url = cluster.url("postgres");
      await cluster.remove();
      const running = startDeploy(makeProject({ "1_users": USERS }), { url, args: ["--wait", "10m", ...APP] });
      await until("it waits", () => running.output().includes("데이터베이스 응답을 기다리는 중"));
      running.kill(signal);
      expectRefused(await running.ended, { exitCode, code: "INTERRUPTED", shows: [signal] });
    },
    TIMEOUT_MS,
  );

  test(
    `${signal} while it waits for the lock`,
    async () => {
      const live = await makeLive({ "2_orders": "CREATE TABLE orders (id int);" });
      const holder = await openClient(live.cluster, live.database);
      await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
      const running = startDeploy(live.project, { url: live.url, args: APP });
      await until("it waits", () => running.output().includes("다른 배포가 끝나기를 기다리는 중"));
      running.kill(signal);
      expectRefused(await running.ended, { exitCode, code: "INTERRUPTED", shows: [signal] });
      expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
      await untilNoneOfOurs(live);
      await holder.end();
    },
    TIMEOUT_MS,
  );

  for (const { step, table, waits } of BEFORE_THE_MIGRATION) {
    test(
      `${signal} while ${step}`,
      async () => {
        const live = await makeLive({ "2_orders": "CREATE TABLE orders (id int);" });
        const holder = await holdTable(live, table);
        const running = startDeploy(live.project, { url: live.url, args: APP });
        await until("it is held up", async () => (await readOurs(live, waits)) !== "");
        running.kill(signal);
        expectRefused(await running.ended, { exitCode, code: "INTERRUPTED", shows: [signal] });
        await holder.end();
        expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
        await untilNoneOfOurs(live);
        // Only that of the first deploy: nothing that looks like a backup, or like a half of one.
        expect(listBackups(live)).toEqual({ manifests: 1, others: [] });
        expectStarted(await runDeploy(live.project, { url: live.url, args: APP }));
      },
      TIMEOUT_MS,
    );
  }

  test(
    `${signal} in the middle of a migration: cancelled and rolled back, and the next deploy works`,
    async () => {
      const live = await makeLive(SLEEP);
      const running = startDeploy(live.project, { url: live.url, args: APP });
      await until("it sleeps", async () => (await readOurs(live, "wait_event = 'PgSleep'")) !== "");
      running.kill(signal);
      await expectAsBefore(await running.ended, live, exitCode);
      live.project.add("3_sleep", "CREATE TABLE tags (id int);");
      expectStarted(await runDeploy(live.project, { url: live.url, args: APP }));
    },
    TIMEOUT_MS,
  );
}

test(
  "SIGTERM in the middle of a script that has committed a part: cancelled and restored",
  async () => {
    const live = await makeLive({ "2_half": "DROP TABLE users;\nCOMMIT;\nSELECT pg_sleep(600);\n" });
    const running = startDeploy(live.project, { url: live.url, args: APP });
    await until("it sleeps", async () => (await readOurs(live, "wait_event = 'PgSleep'")) !== "");
    running.kill("SIGTERM");
    const run = await running.ended;
    expect(run.stderr).toContain("\n✅ 백업에서 복원 완료\n");
    await expectAsBefore(run, live, 143);
  },
  TIMEOUT_MS,
);

test.each(["swap", "in-place"])(
  "Ctrl-C while it is restored (%s) reaches everybody in the terminal, and not what restores",
  async (way) => {
    const large = "INSERT INTO users SELECT n, repeat('x', 200) FROM generate_series(3, 200000) AS n;\n";
    const live = await makeLive({ "2_large": large });
    const { cluster, database, url, project } = live;
    expectStarted(await runDeploy(project, { url, args: APP }));
    const before = dumpDatabase(cluster, database);
    project.add("3_half", "DELETE FROM users WHERE id = 1;\nCOMMIT;\nSELECT 1/0;\n");
    const running = startDeploy(project, { url, args: ["--restore", way, ...APP], isGroup: true });
    // Into a database of another name, where it is to be swapped.
    const restoring = `SELECT count(*) FROM pg_stat_activity
      WHERE datname LIKE '${database}%' AND application_name LIKE 'prisma-safe-deploy%psql'`;
    await until("psql restores", async () => (await cluster.psql("postgres", restoring)) !== "0");
    process.kill(-running.pid, "SIGINT");
    const run = await running.ended;
    expect(run.exitCode, run.stderr).toBe(5);
    expect(run.stderr).toContain("\n✅ 백업에서 복원 완료\n");
    expect(dumpDatabase(cluster, database)).toBe(before);
    await untilNoneOfOurs(live);
  },
  TIMEOUT_MS,
);

/** Catches the cancelling, and goes on. */
const STUBBORN = `CREATE TABLE stubborn (id int);
DO $$ BEGIN
  LOOP
    BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN RAISE WARNING 'not yet'; END;
  END LOOP;
END $$;`;

test(
  "a second signal insists: it ends at once, and the server rolls back what it was doing",
  async () => {
    const live = await makeLive({ "2_stubborn": STUBBORN });
    const running = startDeploy(live.project, { url: live.url, args: APP });
    await until("it sleeps", async () => (await readOurs(live, "wait_event = 'PgSleep'")) !== "");
    running.kill("SIGTERM");
    await until("the script has caught the first one", () => running.output().includes("not yet")).catch(
      (cause: Error) => {
        throw new Error(`${cause.message}\n${running.output()}`, { cause });
      },
    );
    running.kill("SIGTERM");
    const run = await running.ended;
    // It can't have looked what became of the database.
    expect(run.exitCode, run.stderr).toBe(6);
    expect(run.stdout).toBe("");
    expectNoLeak(run, []);
    await untilNoneOfOurs(live);
    expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
    live.project.add("2_stubborn", "CREATE TABLE stubborn (id int);");
    expectStarted(await runDeploy(live.project, { url: live.url, args: APP }));
  },
  TIMEOUT_MS,
);

test(
  "SIGTERM after the last COMMIT: the app is not started, and nobody says that nothing was changed",
  async () => {
    const live = await makeLive({ "2_orders": "CREATE TABLE orders (id int);", "3_slow": WAIT_AT_GATE });
    const { cluster, database, url, project } = live;
    const gate = await closeGate(cluster, database);
    const running = startDeploy(project, { url, args: APP });
    await gate.reached();
    // Stands behind the migration, and before the look at what it has done.
    const next = await openClient(cluster, database);
    await next.run("BEGIN");
    const locked = next.run("LOCK TABLE _prisma_migrations IN ACCESS EXCLUSIVE MODE");
    await until("the lock is asked for", async () => {
      const waiting = `SELECT count(*) FROM pg_locks WHERE pid = ${next.pid} AND NOT granted`;
      return (await cluster.psql("postgres", waiting)) === "1";
    });
    await gate.open();
    await locked;
    await until("the look waits", async () => (await readOurs(live, "wait_event_type = 'Lock'")) !== "");
    running.kill("SIGTERM");
    await next.end();
    const run = await running.ended;
    expect(run.exitCode, run.stderr).toBe(143);
    expect(run.stdout).toBe("");
    expect(await readRows(live)).toBe("1_users|t\n2_orders|t\n3_slow|t");
    expect(run.stderr).not.toContain("변경되지 않았습니다");
    expect(run.stderr).toContain("   상태  데이터베이스는 최신 상태입니다. 앱을 시작하지 못했습니다.\n");
    expect(run.stderr).toContain("   코드  INTERRUPTED (종료 코드 143)\n");
    expectStarted(await runDeploy(project, { url, args: APP }));
  },
  TIMEOUT_MS,
);

test(
  "SIGKILL while the backup is taken: nothing was changed, and the next deploy works",
  async () => {
    const live = await makeLive({ "2_orders": "CREATE TABLE orders (id int);" });
    const holder = await holdTable(live, "plain");
    const running = startDeploy(live.project, { url: live.url, args: APP });
    await until("pg_dump is held up", async () => (await readOurs(live, "wait_event_type = 'Lock'")) !== "");
    running.kill("SIGKILL");
    expect((await running.ended).signal).toBe("SIGKILL");
    await holder.end();
    expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
    // What it leaves does not count as a backup.
    expect(listBackups(live).manifests).toBe(1);
    expectStarted(await runDeploy(live.project, { url: live.url, args: APP }));
    expect(await readRows(live)).toBe("1_users|t\n2_orders|t");
  },
  TIMEOUT_MS,
);

test(
  "SIGKILL in the middle of a transaction: as if it had never run, and the next deploy finishes it",
  async () => {
    const live = await makeLive({ "2_orders": "CREATE TABLE orders (id int);", "3_slow": WAIT_AT_GATE });
    const { cluster, database, url, project } = live;
    const gate = await closeGate(cluster, database);
    const running = startDeploy(project, { url, args: APP });
    await gate.reached();
    running.kill("SIGKILL");
    expect((await running.ended).signal).toBe("SIGKILL");
    await untilNoneOfOurs(live);
    expect(dumpDatabase(cluster, database)).toBe(live.before);
    await gate.open();
    expectStarted(await runDeploy(project, { url, args: APP }));
    expect(await readRows(live)).toBe("1_users|t\n2_orders|t\n3_slow|t");
  },
  TIMEOUT_MS,
);
