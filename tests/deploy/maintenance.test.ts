/**
 * `--maintenance`: from the mark to the verdict others may read and not write, and however a deploy ends, they are let in
 * again, with the settings of the database as they were.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Client, openClient } from "../support/client.ts";
import { type Cluster, sharedCluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import { makeProject, type Project, type RunningDeploy, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectNoLeak, expectRefused, expectStarted } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;
const MAINTENANCE = ["--maintenance", ...APP];
const RAISED = "유지보수 모드: 다른 클라이언트의 쓰기를 막았습니다.";
const LOWERED = "다른 클라이언트의 쓰기를 다시 허용했습니다.";
const LEFT_LOWERED = "중단된 배포가 막아 둔 쓰기를 다시 허용했습니다.";

interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
  readonly flag: string;
  readonly before: string;
  readonly settings: string;
}

const FIRST = "CREATE TABLE audit (id bigserial PRIMARY KEY, note text);\nCREATE TYPE state AS ENUM ('old');\n";

/** A database with settings of its own, among them the two that a fence changes. */
async function makeLive(cluster: Cluster, owner = "postgres"): Promise<Live> {
  const database = await cluster.createDatabase({ owner });
  const url = cluster.url(database, { user: owner });
  const project = makeProject({ "1_audit": FIRST });
  const first = await runDeploy(project, { url });
  expect(first.exitCode, first.stderr).toBe(0);
  await cluster.psql(
    database,
    `ALTER DATABASE "${database}" SET application_name = 'the ''app'', 앱=1';
     ALTER DATABASE "${database}" SET default_transaction_read_only = 'off';
     ALTER DATABASE "${database}" SET work_mem = '5MB'`,
  );
  const flag = makeFlagPath(cluster);
  const before = dumpDatabase(cluster, database);
  return { cluster, database, url, project, flag, before, settings: await readSettings({ cluster, database }) };
}

async function readSettings({ cluster, database }: Pick<Live, "cluster" | "database">): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT entry FROM pg_db_role_setting, unnest(setconfig) AS entry
     WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = '${database}') ORDER BY 1`,
  );
}

/** Writers are let in, and the settings are those of before. */
async function expectOpen(live: Live): Promise<void> {
  expect(await readSettings(live)).toBe(live.settings);
  const client = await openClient(live.cluster, live.database);
  await client.run("INSERT INTO audit (note) VALUES ('let in')");
  await client.end();
}

async function atGate(live: Live, running: RunningDeploy): Promise<void> {
  await until("the script stands at the gate", async () => {
    if (running.output().includes("(종료 코드")) throw new Error(running.output());
    return (await readAtGate(live.cluster, live.database)) !== "";
  });
}

/** As a pool does: connects, and connects again where it was cut off. */
async function reconnect(live: Live, client: Client): Promise<Client> {
  await client.run("SELECT 1").catch(() => {});
  await client.end();
  return await openClient(live.cluster, live.database);
}

const HALF = (flag: string) => `INSERT INTO audit (note) VALUES ('half');
  COMMIT;
  ${waitForFile(flag)}
  SELECT 1 / 0;\n`;

test(
  "a success: readers read, writers are refused until the end, and then write again",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_more", `CREATE TABLE more (id int);\n${waitForFile(live.flag)}`);
    const pooled = await openClient(live.cluster, live.database);
    await pooled.run("BEGIN; INSERT INTO audit (note) VALUES ('never committed')");
    const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
    await atGate(live, running);
    const during = await reconnect(live, pooled);
    expect(await during.run("SELECT count(*) FROM audit")).toBe("0");
    await expect(during.run("INSERT INTO audit (note) VALUES ('refused')")).rejects.toThrow("read-only");
    expect(await readSettings(live)).toContain("application_name=prisma-safe-deploy fence ");
    writeFileSync(live.flag, "");
    const run = await running.ended;
    expectStarted(run);
    expect(run.stderr).toContain(`   ${RAISED} 끊은 연결: 1개\n`);
    expect(run.stderr).toContain(`   ${LOWERED} 끊은 연결: 1개\n`);
    // It would be read-only for as long as it lasts.
    await expect(during.run("INSERT INTO audit (note) VALUES ('still refused')")).rejects.toThrow("psql has ended");
    await during.end();
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

/** The new value can be used only after a COMMIT: two transactions, whose ids we know. */
const TWO_STEPS = (flag: string) => ({
  "2_state": "INSERT INTO audit (note) VALUES ('half');\n",
  "3_new": "ALTER TYPE state ADD VALUE 'new';\n",
  "4_use": `CREATE TABLE states (state state DEFAULT 'new');\n${waitForFile(flag)}\nSELECT 1 / 0;\n`,
});

test(
  "clients that come back at once and would write: they can't, so what was committed is restored",
  async () => {
    const live = await makeLive(await sharedCluster());
    for (const [name, sql] of Object.entries(TWO_STEPS(live.flag))) live.project.add(name, sql);
    const pooled = await openClient(live.cluster, live.database);
    const args = ["--on-partial", "restore", ...MAINTENANCE];
    const running = startDeploy(live.project, { url: live.url, args });
    await atGate(live, running);
    const during = await reconnect(live, pooled);
    expect(await during.run("SELECT count(*) FROM audit")).toBe("1");
    await expect(during.run("INSERT INTO audit (note) VALUES ('refused')")).rejects.toThrow("read-only");
    writeFileSync(live.flag, "");
    const run = await running.ended;
    expect(run.exitCode, run.stderr).toBe(5);
    expect(run.stderr).toContain("✅ 백업에서 복원 완료");
    expect(run.stderr.indexOf(LOWERED)).toBeGreaterThan(run.stderr.indexOf("✅ 백업에서 복원 완료"));
    expectNoLeak(run, []);
    expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
    await during.end();
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "a restored copy takes its place: the one that is kept is no fenced one either",
  async () => {
    const live = await makeLive(await sharedCluster());
    for (const [name, sql] of Object.entries(TWO_STEPS(live.flag))) live.project.add(name, sql);
    writeFileSync(live.flag, "");
    const args = ["--on-partial", "restore", "--restore", "swap", ...MAINTENANCE];
    const run = await runDeploy(live.project, { url: live.url, args });
    expect(run.exitCode, run.stderr).toBe(5);
    const failed = /보관합니다: (\S+_failed_\S+)/.exec(run.stderr)?.[1] ?? "";
    expect(await readSettings({ ...live, database: failed })).toBe(live.settings);
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "a client that overrides the fence and writes: nothing is restored, its write is there, and writers are let in",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_half", HALF(live.flag));
    const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
    await atGate(live, running);
    const hostile = await openClient(live.cluster, live.database);
    await hostile.run("SET default_transaction_read_only = off; INSERT INTO audit (note) VALUES ('acknowledged')");
    writeFileSync(live.flag, "");
    const run = await running.ended;
    expect(run.exitCode, run.stderr).toBe(6);
    expect(run.stderr).toContain(LOWERED);
    expect(await live.cluster.psql(live.database, "SELECT string_agg(note, ',' ORDER BY id) FROM audit")).toBe(
      "half,acknowledged",
    );
    await hostile.end();
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "a failure that was rolled back, a refusal behind the fence, an interruption: writers are let in",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_broken", "SELECT 1 / 0;\n");
    const failed = await runDeploy(live.project, { url: live.url, args: MAINTENANCE });
    expect(failed.exitCode, failed.stderr).toBe(5);
    expect(failed.stderr).toContain(LOWERED);
    expect(await readSettings(live)).toBe(live.settings);

    // Large objects make the plain format unsuitable in place, which is found out with the mark.
    await live.cluster.psql(live.database, "SELECT lo_create(4242)");
    const refused = await runDeploy(live.project, {
      url: live.url,
      args: ["--retry", "--backup-format", "plain", "--restore", "in-place", ...MAINTENANCE],
    });
    expectRefused(refused, { exitCode: 4, code: "BACKUP_FORMAT_UNSUITABLE", shows: [RAISED, LOWERED] });
    expect(await readSettings(live)).toBe(live.settings);

    live.project.add("2_broken", waitForFile(live.flag));
    const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
    await atGate(live, running);
    running.kill("SIGTERM");
    const interrupted = await running.ended;
    expect(interrupted.exitCode, interrupted.stderr).toBe(143);
    expect(interrupted.stderr).toContain(LOWERED);
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "a fence that can't be raised: nobody was shut out, and nobody is let in again",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_more", "CREATE TABLE more (id int);\n");
    const obstacle = await openClient(live.cluster, "postgres");
    await obstacle.run("BEGIN; LOCK TABLE pg_db_role_setting IN EXCLUSIVE MODE");
    const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
    const raising = `SELECT pid FROM pg_stat_activity WHERE datname = '${live.database}' AND query LIKE '%$fence$%'
      AND wait_event_type = 'Lock'`;
    await until("it would raise its fence", async () => (await live.cluster.psql("postgres", raising)) !== "");
    await live.cluster.psql("postgres", `SELECT pg_cancel_backend(pid) FROM (${raising}) AS r`);
    const run = await running.ended;
    await obstacle.end();
    expectRefused(run, { exitCode: 7, code: "STATEMENT_FAILED", shows: ["57014"] });
    expect(run.stderr).not.toContain(RAISED);
    expect(run.stderr).not.toContain(LOWERED);
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

async function killAtGate(live: Live): Promise<void> {
  live.project.add("2_more", `CREATE TABLE more (id int);\n${waitForFile(live.flag)}`);
  const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
  await atGate(live, running);
  running.kill("SIGKILL");
  await running.ended;
  expect(await readSettings(live)).toContain("default_transaction_read_only=on");
}

test(
  "killed: status and plan show the fence and leave it, and the next start lifts it, with nothing pending too",
  async () => {
    const live = await makeLive(await sharedCluster());
    await killAtGate(live);
    const older = { ...live.project, directory: makeProject({ "1_audit": "" }).directory };
    await until("the killed deploy has no lock any more", async () => {
      const query = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = '${live.database}')`;
      return (await live.cluster.psql("postgres", query)) === "0";
    });
    const status = await runDeploy(older, { url: live.url, args: ["status", "--json"] });
    expect(status.exitCode, status.stderr).toBe(0);
    expect(JSON.parse(status.stdout).fence).toMatch(/^\d{8}T\d{6}Z_[0-9a-f]{6}$/);
    const planned = await runDeploy(live.project, { url: live.url, args: ["plan"] });
    expect(planned.exitCode, planned.stderr).toBe(0);
    expect(planned.stderr).toContain("중단된 배포가 쓰기를 막아 두었습니다.");
    expect(await readSettings(live)).toContain("default_transaction_read_only=on");

    const started = await runDeploy(older, { url: live.url, args: APP });
    expectStarted(started);
    expect(started.stderr).toContain(LEFT_LOWERED);
    expect(started.stderr).not.toContain("다른 배포가");
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "killed: the next deploy lifts the fence, whatever it left to do, and migrates",
  async () => {
    const live = await makeLive(await sharedCluster());
    await killAtGate(live);
    writeFileSync(live.flag, "");
    const run = await runDeploy(live.project, { url: live.url, args: APP });
    expectStarted(run);
    expect(run.stderr).toContain(LEFT_LOWERED);
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "killed with a half committed: the next start restores it behind the fence, lets writers in, and migrates",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_half", HALF(live.flag));
    const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
    await atGate(live, running);
    running.kill("SIGKILL");
    await running.ended;
    live.project.add("2_half", "CREATE TABLE more (id int);");
    const run = await runDeploy(live.project, { url: live.url, args: APP });
    expectStarted(run);
    expect(run.stderr).toContain("✅ 백업에서 복원 완료");
    expect(run.stderr).not.toContain("NOTICE");
    expect(await live.cluster.psql(live.database, "SELECT count(*) FROM audit")).toBe("0");
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

/** Prisma's own advisory lock. */
const DEPLOY_LOCK = 72_707_369;

test(
  "killed with an invalid index: a replica that had looked before the fence was raised removes it behind the fence",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_index", "CREATE INDEX CONCURRENTLY audit_note ON audit (note);\n");
    const holder = await openClient(live.cluster, live.database);
    await holder.run(`SELECT pg_advisory_lock(${DEPLOY_LOCK})`);
    const replicas = [1, 2].map(() => startDeploy(live.project, { url: live.url, args: MAINTENANCE }));
    await until("both wait", () => replicas.every((replica) => replica.output().includes("다른 배포가")));
    await holder.end();
    await until("the first one has begun", () => replicas.some((replica) => replica.output().includes(RAISED)));
    const [first, second] = replicas.toSorted((a) => (a.output().includes(RAISED) ? -1 : 1));
    // The index waits for it.
    const reader = await openClient(live.cluster, live.database);
    await reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM audit");
    const building = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${live.database}'
      AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'`;
    await until("it builds", async () => (await live.cluster.psql("postgres", building)) === "1");
    first?.kill("SIGKILL");
    await first?.ended;
    await until("nobody builds", async () => (await live.cluster.psql("postgres", building)) === "0");
    await reader.end();
    const run = await second?.ended;
    if (run === undefined) throw new Error("there are two replicas");
    expectStarted(run);
    expect(run.stderr).toContain("INVALID 인덱스 삭제: public.audit_note");
    expect(run.stderr.indexOf(LEFT_LOWERED)).toBeGreaterThan(run.stderr.indexOf("INVALID 인덱스 삭제"));
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "killed: resolve lifts the fence before it writes",
  async () => {
    const live = await makeLive(await sharedCluster());
    await killAtGate(live);
    const run = await runDeploy(live.project, { url: live.url, args: ["resolve", "--applied", "2_more", "--force"] });
    expect(run.exitCode, run.stderr).toBe(0);
    expect(run.stderr).toContain(LEFT_LOWERED);
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "a start with nothing pending leaves the fence of a deploy at work, and waits for it",
  async () => {
    const live = await makeLive(await sharedCluster());
    live.project.add("2_more", waitForFile(live.flag));
    const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
    await atGate(live, running);
    const older = { ...live.project, directory: makeProject({ "1_audit": "" }).directory };
    const waiting = startDeploy(older, { url: live.url, args: APP });
    await until("it waits for the lock", () => waiting.output().includes("다른 배포가"));
    expect(await readSettings(live)).toContain("default_transaction_read_only=on");
    writeFileSync(live.flag, "");
    expectStarted(await running.ended);
    const started = await waiting.ended;
    expectStarted(started);
    expect(started.stderr).not.toContain(LEFT_LOWERED);
    await expectOpen(live);
  },
  TIMEOUT_MS,
);

test(
  "the server crashes in the middle: writers are let in as soon as it is back",
  async () => {
    const cluster = await startCluster();
    try {
      const live = await makeLive(cluster);
      live.project.add("2_more", `CREATE TABLE more (id int);\n${waitForFile(live.flag)}`);
      const running = startDeploy(live.project, { url: live.url, args: MAINTENANCE });
      await atGate(live, running);
      await cluster.stop("immediate");
      await cluster.start();
      const run = await running.ended;
      expect(run.exitCode, run.stderr).toBe(5);
      expect(run.stderr).toContain(LOWERED);
      await expectOpen(live);
    } finally {
      await cluster.remove();
    }
  },
  TIMEOUT_MS,
);

test(
  "a health check calls an app that can't write unhealthy, and one that can healthy again",
  async () => {
    const live = await makeLive(await sharedCluster());
    await killAtGate(live);
    const check = async () => {
      const script = join(import.meta.dirname, "../../scripts/health-check.ts");
      const migrations = join(makeProject({ "1_audit": "" }).directory, "prisma", "migrations");
      const child = Bun.spawn([process.execPath, "--no-env-file", script], {
        env: { DATABASE_URL: live.url, MIGRATIONS_DIR: migrations, HEALTH_TIMEOUT: "20s", PATH: process.env.PATH },
        stdout: "pipe",
        stderr: "pipe",
      });
      const text = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
      return { exitCode: await child.exited, text };
    };
    const fenced = await check();
    expect(fenced.exitCode).toBe(1);
    expect(fenced.text).toContain("읽기 전용");
    writeFileSync(live.flag, "");
    expectStarted(await runDeploy(live.project, { url: live.url, args: APP }));
    expect(await check()).toMatchObject({ exitCode: 0 });
  },
  TIMEOUT_MS,
);

test(
  "an owner is told whom he can't shut out; who is not the owner is refused before anything is touched",
  async () => {
    const cluster = await startCluster();
    try {
      await cluster.psql("postgres", "CREATE ROLE keeper LOGIN; CREATE ROLE stubborn LOGIN; CREATE ROLE guest LOGIN");
      const live = await makeLive(cluster, "keeper");
      await cluster.psql("postgres", "ALTER ROLE stubborn SET default_transaction_read_only = off");
      const other = await openClient(cluster, live.database);
      live.project.add("2_more", "CREATE TABLE more (id int);\n");
      const denied = await runDeploy(live.project, {
        url: cluster.url(live.database, { user: "guest" }),
        args: MAINTENANCE,
      });
      // The guest may not read the history either; that is told first.
      expect(denied.exitCode).toBe(3);
      await cluster.psql(
        live.database,
        "GRANT ALL ON _prisma_migrations TO guest; GRANT USAGE ON SCHEMA public TO guest",
      );
      expectRefused(
        await runDeploy(live.project, { url: cluster.url(live.database, { user: "guest" }), args: MAINTENANCE }),
        { exitCode: 4, code: "FENCE_DENIED", shows: ["keeper", "guest"] },
      );
      expect(await readSettings(live)).toBe(live.settings);

      const run = await runDeploy(live.project, { url: live.url, args: MAINTENANCE });
      expectStarted(run);
      expect(run.stderr).toContain("끊을 수 없어 계속 쓸 수 있는 연결: 1개");
      expect(run.stderr).toContain("자체 설정 때문에 계속 쓸 수 있는 역할: stubborn");
      await other.end();
      await expectOpen(live);

      const left = await makeLive(cluster, "keeper");
      await cluster.psql(
        left.database,
        "GRANT ALL ON _prisma_migrations TO guest; GRANT USAGE ON SCHEMA public TO guest",
      );
      await killAtGate({ ...left, url: cluster.url(left.database) });
      const older = makeProject({ "1_audit": "" });
      const leftUrl = cluster.url(left.database, { user: "guest" });
      expectRefused(await runDeploy(older, { url: leftUrl, args: APP }), {
        exitCode: 4,
        code: "FENCE_DENIED",
        shows: ["중단된 배포가 막아 둔 쓰기", "keeper", "guest"],
      });
      expectStarted(await runDeploy(older, { url: left.url, args: APP }));
      await expectOpen(left);
    } finally {
      await cluster.remove();
    }
  },
  TIMEOUT_MS,
);
