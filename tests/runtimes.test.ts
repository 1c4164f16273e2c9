/**
 * The programs on every runtime and as every binary, with the same expectations: `RUNTIME_MATRIX=1 bun test
 * tests/runtimes.test.ts`. With `MUSL_ROOT`, an unpacked root folder with musl and libstdc++, also the binary for musl.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { makeWays, type Program, type Way } from "./support/built-programs.ts";
import { type Cluster, freePort, startCluster } from "./support/cluster.ts";
import { dumpDatabase } from "./support/dump.ts";
import {
  type DeployRun,
  makeProject,
  type Project,
  type RunningDeploy,
  startDeploy,
  until,
} from "./support/project.ts";
import { expectGolden, play, SCENARIOS } from "./support/scenarios.ts";

setDefaultTimeout(300_000);

const USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a'), (2, 'a');\n";
const APP = ["--", "sh", "-c", 'echo "the app $1"', "sh", "--"];
const APP_SAYS = "the app --\n";
const PASSWORD = "pass w%rd ㅋ";

const isWanted = process.env.RUNTIME_MATRIX === "1";
const ways = isWanted ? await makeWays() : [];
for (const { name, missing } of ways) if (missing !== undefined) console.warn(`Not tested: ${name}, since ${missing}`);

let cluster: Cluster;

beforeAll(async () => {
  if (isWanted) cluster = await startCluster({ tcp: true, auth: "scram-sha-256", password: PASSWORD });
});

afterAll(async () => {
  await cluster?.remove();
});

interface Live {
  readonly way: Way;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
}

async function makeLive(way: Way, migrations: Readonly<Record<string, string>>): Promise<Live> {
  const database = await cluster.createDatabase();
  return { way, database, url: cluster.url(database), project: makeProject(migrations) };
}

/** With one migration applied, by the way under test. */
async function makeDeployed(way: Way, pending: Readonly<Record<string, string>> = {}): Promise<Live> {
  const live = await makeLive(way, { "1_users": USERS });
  const run = await deploy(live);
  expect(run.exitCode, run.stderr).toBe(0);
  for (const [name, sql] of Object.entries(pending)) live.project.add(name, sql);
  return live;
}

function start(program: Program, { way, project, url }: Live, args: readonly string[]): RunningDeploy {
  return startDeploy(project, { url, args, program: way.command(program, project) });
}

async function deploy(live: Live, ...args: string[]): Promise<DeployRun> {
  return await start("deploy", live, args).ended;
}

async function checkHealth(live: Live, ...args: string[]): Promise<DeployRun> {
  return await start("health-check", live, args).ended;
}

async function readRows({ database }: Live): Promise<string> {
  const state = `CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back' WHEN finished_at IS NULL THEN 'unfinished' ELSE 'finished' END`;
  return await cluster.psql(
    database,
    `SELECT string_agg(migration_name || ' ' || ${state}, ', ' ORDER BY started_at) FROM _prisma_migrations`,
  );
}

function listBackups({ project }: Live): string[] {
  return readdirSync(project.backupDirectory).filter((name) => name.endsWith(".sql"));
}

describe.each(ways.filter(({ missing }) => missing === undefined))("$name", (way) => {
  test("what is pending is backed up and applied, and the app starts; then it starts at once", async () => {
    const live = await makeLive(way, { "1_users": USERS, "2_orders": "CREATE TABLE orders (id int);\n" });
    const first = await deploy(live, ...APP);
    expect(first, first.stderr).toMatchObject({ exitCode: 0, stdout: APP_SAYS });
    expect(first.stderr).toContain("\n✅ 마이그레이션이 성공적으로 완료되었습니다.\n");
    expect(await readRows(live)).toBe("1_users finished, 2_orders finished");
    expect(listBackups(live)).toHaveLength(1);

    const second = await deploy(live, ...APP);
    expect(second, second.stderr).toMatchObject({ exitCode: 0, stdout: APP_SAYS });
    expect(second.stderr).toBe(
      "🚀 고도화된 배포 프로세스 시작...\n📊 스키마 변경사항 확인 중...\n" +
        "✅ 데이터베이스 스키마가 최신 상태입니다. 마이그레이션이 필요하지 않습니다.\n🚀 애플리케이션을 시작합니다...\n",
    );
    expect(listBackups(live)).toHaveLength(1);
  });

  // One after the other: a restore is refused where others make databases meanwhile.
  test.each(Object.entries(SCENARIOS))("golden: %s", async (name, scenario) => {
    expectGolden(name, await play(scenario, cluster, (project) => way.command("deploy", project)));
  });

  test("the app's exit code is ours, and one that is not there is 127", async () => {
    const live = await makeDeployed(way);
    expect((await deploy(live, "--", "sh", "-c", "exit 7")).exitCode).toBe(7);
    expect((await deploy(live, "--", "no-such-program")).exitCode).toBe(127);
  });

  test("a transaction that fails leaves everything as it was", async () => {
    const live = await makeDeployed(way, {
      "2_orders": "CREATE TABLE orders (id int);\n",
      "3_name": "CREATE TABLE tags (id int);\nALTER TABLE users ADD email text NOT NULL;\n",
    });
    const before = dumpDatabase(cluster, live.database);
    const run = await deploy(live, ...APP);
    expect(run, run.stderr).toMatchObject({ exitCode: 5, stdout: "" });
    expect(run.stderr).toContain("3_name/migration.sql:2");
    expect(run.stderr).toContain("23502");
    expect(dumpDatabase(cluster, live.database)).toBe(before);
  });

  test.each([
    ["from the backup", []],
    ["in place, from an archive", ["--restore", "in-place", "--backup-format", "custom"]],
  ])("a script that has committed a part of itself is undone %s", async (_, args) => {
    const live = await makeDeployed(way, { "2_half": "DELETE FROM users WHERE id = 1;\nCOMMIT;\nSELECT 1/0;\n" });
    const before = dumpDatabase(cluster, live.database);
    const run = await deploy(live, ...args, ...APP);
    expect(run, run.stderr).toMatchObject({ exitCode: 5, stdout: "" });
    expect(run.stderr).toContain("\n✅ 백업에서 복원 완료\n");
    expect(dumpDatabase(cluster, live.database)).toBe(before);
  });

  test("behind what is committed already it stops, and the next run goes on", async () => {
    const live = await makeDeployed(way, {
      "2_more": "INSERT INTO users VALUES (3, 'a');\n",
      "3_index": "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (name);\n",
    });
    const run = await deploy(live, ...APP);
    expect(run, run.stderr).toMatchObject({ exitCode: 8, stdout: "" });
    expect(await readRows(live)).toBe("1_users finished, 2_more finished, 3_index rolled back");
    live.project.add("3_index", "CREATE INDEX CONCURRENTLY users_name ON users (name);\n");
    const next = await deploy(live, ...APP);
    expect(next, next.stderr).toMatchObject({ exitCode: 0, stdout: APP_SAYS });
  });

  test("the health check: ready, not ready, and alive", async () => {
    const live = await makeDeployed(way);
    const ready = await checkHealth(live);
    expect(ready, ready.stdout).toMatchObject({ exitCode: 0, stderr: "" });
    const json = await checkHealth(live, "--json", "--lang", "en");
    expect(JSON.parse(json.stdout)).toMatchObject({ status: "ok" });
    const app = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("", { status: 204 }) });
    expect((await checkHealth(live, "--live", "--url", `http://127.0.0.1:${app.port}/health`)).exitCode).toBe(0);
    await app.stop(true);
    expect((await checkHealth(live, "--live", "--url", `http://127.0.0.1:${app.port}/health`)).exitCode).toBe(1);
    live.project.add("2_orders", "CREATE TABLE orders (id int);\n");
    const pending = await checkHealth(live);
    expect([pending.exitCode, pending.stdout]).toEqual([1, "비정상: 적용 대기 1건: 2_orders\n"]);
  });

  test("what would be done, for people and for programs", async () => {
    const live = await makeDeployed(way, { "2_orders": "CREATE TABLE orders (id int);\n" });
    const status = await deploy(live, "status", "--json");
    expect(status.exitCode, status.stderr).toBe(10);
    expect(JSON.parse(status.stdout)).toMatchObject({ state: "pending", applied: ["1_users"], pending: ["2_orders"] });
    const plan = await deploy(live, "plan");
    expect(plan.exitCode, plan.stderr).toBe(0);
    expect(plan.stdout + plan.stderr).toContain("2_orders");
    expect(await readRows(live)).toBe("1_users finished");
    expect(listBackups(live)).toHaveLength(1);
  });

  test("a log for programs", async () => {
    const live = await makeLive(way, { "1_users": USERS });
    const run = await deploy(live, "--log-format", "json", ...APP);
    expect(run, run.stderr).toMatchObject({ exitCode: 0, stdout: APP_SAYS });
    const lines = run.stderr.trimEnd().split("\n");
    expect(lines.map((line) => Object.keys(JSON.parse(line)).length > 0)).not.toContain(false);
  });

  test("a database that is not there, and settings that are wrong", async () => {
    const live = await makeLive(way, { "1_users": USERS });
    const away = { ...live, url: `postgresql://postgres@127.0.0.1:${await freePort()}/postgres` };
    expect((await deploy(away, "--wait", "0s", ...APP)).exitCode).toBe(7);
    expect((await checkHealth(away)).exitCode).toBe(1);
    expect((await deploy({ ...live, url: "mysql://root@127.0.0.1/a" }, ...APP)).exitCode).toBe(2);
    expect((await deploy(live, "--no-such-flag", ...APP)).exitCode).toBe(2);
  });

  test("SIGTERM in the middle of a migration cancels it and undoes it", async () => {
    const live = await makeDeployed(way, { "2_sleep": "CREATE TABLE tags (id int);\nSELECT pg_sleep(600);\n" });
    const before = dumpDatabase(cluster, live.database);
    const running = start("deploy", live, APP);
    const sleepers = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${live.database}' AND wait_event = 'PgSleep'`;
    await until("it sleeps", async () => (await cluster.psql("postgres", sleepers)) === "1");
    running.kill("SIGTERM");
    const run = await running.ended;
    expect(run, run.stderr).toMatchObject({ exitCode: 143, stdout: "" });
    expect(dumpDatabase(cluster, live.database)).toBe(before);
  });

  test("SIGTERM reaches the app, which ends as it likes", async () => {
    const live = await makeDeployed(way);
    const app = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    const running = start("deploy", live, ["--", "sh", "-c", app]);
    await until("the app runs", () => running.output().includes("ready\n"));
    running.kill("SIGTERM");
    expect(await running.ended).toMatchObject({ exitCode: 3, stdout: "ready\ntold\n" });
  });
});

test.skipIf(!isWanted || process.env.MUSL_ROOT === undefined)("with MUSL_ROOT no way is left out", () => {
  expect(ways.filter(({ missing }) => missing !== undefined)).toEqual([]);
});

test.skipIf(isWanted)("the runtimes are tested with RUNTIME_MATRIX=1", () => {});
