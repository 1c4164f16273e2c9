/**
 * A migration that fails each time, in a container that restarts in a loop: neither the load is repeated nor the disk
 * filled, and whoever mends the cause gets through at once.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listDeploys } from "../../lib/journal/deploys.ts";
import { formatLine, parseLines } from "../../lib/journal/lines.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { type DeployRun, makeProject, type Project, runDeploy } from "../support/project.ts";
import { APP, expectStarted } from "../support/refusal.ts";

setDefaultTimeout(300_000);

const BASE = {
  "1_users": "CREATE TABLE users (id serial PRIMARY KEY, name text);\nINSERT INTO users (name) VALUES ('a'), ('a');\n",
};
const UNIQUE = "CREATE UNIQUE INDEX users_name ON users (name);\n";

let cluster: Cluster;

beforeAll(async () => {
  // Its commits come when they like, and would take the proof away that nothing has changed.
  cluster = await startCluster({ settings: { autovacuum: "off" } });
});

afterAll(async () => await cluster.remove());

interface Live {
  readonly project: Project;
  readonly database: string;
  readonly before: string;
  run(...args: string[]): Promise<DeployRun>;
  /** Migrations that were tried, and backups that were taken, since the first deploy, which made the database. */
  counts(): { attempts: number; backups: number };
}

async function makeLive(script = UNIQUE, owner?: string): Promise<Live> {
  const database = await cluster.createDatabase(owner === undefined ? {} : { owner });
  const url = cluster.url(database, owner === undefined ? {} : { user: owner });
  const project = makeProject(BASE);
  expectStarted(await runDeploy(project, { url, args: APP }));
  project.add("2_unique", script);
  const journal = join(project.backupDirectory, "journal.jsonl");
  return {
    project,
    database,
    before: dumpDatabase(cluster, database),
    run: async (...args) => await runDeploy(project, { url, args: [...args, ...APP] }),
    counts: () => ({
      attempts:
        listDeploys(parseLines(readFileSync(journal, "utf8"))).filter(({ isMigrating }) => isMigrating).length - 1,
      backups: readdirSync(project.backupDirectory).filter((name) => /^backup_[\d_]+\.sql$/.test(name)).length - 1,
    }),
  };
}

/** As if everything had happened that much earlier. */
function age({ project }: Live, minutes: number): void {
  const path = join(project.backupDirectory, "journal.jsonl");
  const lines = parseLines(readFileSync(path, "utf8"));
  const older = lines.map((line) => ({
    ...line,
    time: new Date(Date.parse(line.time) - minutes * 60_000).toISOString(),
  }));
  writeFileSync(path, older.map(formatLine).join(""));
}

function expectFailed(run: DeployRun): void {
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stdout).toBe("");
  expect(run.stderr).toContain("MIGRATION_FAILED");
}

function expectToWait(run: DeployRun, failures: number): void {
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stdout).toBe("");
  expect(run.stderr).toContain("   코드  FAILED_BEFORE (종료 코드 5)\n");
  expect(run.stderr).toContain(`실패 ${failures}회`);
  expect(run.stderr).toContain("deploy --retry");
  expect(run.stderr).toContain("상태  데이터베이스는 변경되지 않았습니다.");
}

test("ten quick restarts: one attempt, one backup, and each exits 5", async () => {
  const live = await makeLive();
  expectFailed(await live.run());
  for (let restart = 2; restart <= 10; restart += 1) expectToWait(await live.run(), 1);
  expect(live.counts()).toEqual({ attempts: 1, backups: 1 });
  expect(dumpDatabase(cluster, live.database)).toBe(live.before);
});

test("a fence that is raised and lifted each time is no change: the same backup is taken again", async () => {
  const live = await makeLive();
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const run = await live.run("--retry", "--maintenance");
    expectFailed(run);
    expect(run.stderr.includes("이전 배포의 백업을 다시 사용")).toBe(attempt > 1);
  }
  expect(live.counts()).toEqual({ attempts: 3, backups: 1 });
  await cluster.psql(live.database, "UPDATE users SET name = name || id");
  expectStarted(await live.run("--retry", "--maintenance"));
  expect(live.counts()).toEqual({ attempts: 4, backups: 2 });
});

test("whoever mends the data gets through at once with --retry, and without it after the interval", async () => {
  for (const waits of [false, true]) {
    const live = await makeLive();
    expectFailed(await live.run());
    await cluster.psql(live.database, "UPDATE users SET name = name || id");
    expectToWait(await live.run(), 1);
    if (waits) age(live, 1);
    expectStarted(await live.run(...(waits ? [] : ["--retry"])));
    // Of the mended data, which the first one does not hold.
    expect(live.counts()).toEqual({ attempts: 2, backups: 2 });
  }
});

test("whoever mends the script gets through at once", async () => {
  const live = await makeLive();
  expectFailed(await live.run());
  live.project.add("2_unique", "CREATE INDEX users_name ON users (name);\n");
  expectStarted(await live.run());
  expect(live.counts()).toEqual({ attempts: 2, backups: 1 });
});

test("the interval grows, and there is no second backup of an unchanged database", async () => {
  const live = await makeLive();
  expectFailed(await live.run());
  age(live, 1);
  const second = await live.run();
  expectFailed(second);
  expect(second.stderr).toContain("이전 배포의 백업을 다시 사용");
  age(live, 1);
  expectToWait(await live.run(), 2);
  age(live, 1);
  expectFailed(await live.run());
  expect(live.counts()).toEqual({ attempts: 3, backups: 1 });
  // It is still one to come back to.
  live.project.add("2_unique", "UPDATE users SET name = 'x';\nCOMMIT;\nSELECT 1 / 0;\n");
  const half = await live.run();
  expectFailed(half);
  expect(half.stderr).toContain("✅ 백업에서 복원 완료");
  expect(live.counts()).toEqual({ attempts: 4, backups: 1 });
  expect(dumpDatabase(cluster, live.database)).toBe(live.before);
});

test("a number that a failed attempt took from a sequence is no change", async () => {
  const live = await makeLive("INSERT INTO users (name) VALUES ('b');\nSELECT 1 / 0;\n");
  expectFailed(await live.run());
  expectFailed(await live.run("--retry"));
  expect(live.counts()).toEqual({ attempts: 2, backups: 1 });
  // Where it may have to be restored it is one: what comes back must be what was there.
  live.project.add("2_unique", "UPDATE users SET name = 'x';\nCOMMIT;\nSELECT 1 / 0;\n");
  const before = dumpDatabase(cluster, live.database);
  expectFailed(await live.run());
  expect(live.counts()).toEqual({ attempts: 3, backups: 2 });
  expect(dumpDatabase(cluster, live.database)).toBe(before);
});

test("what was restored in place is unchanged", async () => {
  await cluster.psql("postgres", "CREATE ROLE plain_owner LOGIN");
  const live = await makeLive("UPDATE users SET name = 'x';\nCOMMIT;\nSELECT 1 / 0;\n", "plain_owner");
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const run = await live.run("--retry");
    expectFailed(run);
    expect(run.stderr).toContain("✅ 백업에서 복원 완료");
    expect(dumpDatabase(cluster, live.database)).toBe(live.before);
    expect(live.counts()).toEqual({ attempts: attempt, backups: 1 });
  }
  await cluster.psql(live.database, "INSERT INTO users (name) VALUES ('acknowledged')");
  expectFailed(await live.run("--retry"));
  expect(live.counts()).toEqual({ attempts: 4, backups: 2 });
  expect(await cluster.psql(live.database, "SELECT name FROM users WHERE id = 3")).toBe("acknowledged");
});

test.each([
  [
    "somebody has committed a row",
    async ({ database }: Live) => void (await cluster.psql(database, "INSERT INTO users (name) VALUES ('a')")),
  ],
  [
    "somebody has changed the schema",
    async ({ database }: Live) => void (await cluster.psql(database, "CREATE TABLE other (id int)")),
  ],
  ["the backup is damaged", async ({ project }: Live) => damageNewest(project)],
  ["the mark is gone", async ({ project }: Live) => emptyMarks(project)],
])("a new backup where %s", async (_, change) => {
  const live = await makeLive();
  expectFailed(await live.run());
  await change(live);
  const run = await live.run("--retry");
  expectFailed(run);
  expect(run.stderr).not.toContain("이전 배포의 백업을 다시 사용");
  expect(live.counts()).toEqual({ attempts: 2, backups: 2 });
});

/** Of the same size, so that only reading it tells. */
function damageNewest({ backupDirectory }: Project): void {
  const [newest = ""] = readdirSync(backupDirectory)
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .reverse();
  const path = join(backupDirectory, newest);
  writeFileSync(path, readFileSync(path, "utf8").replace("\ta\n", "\tb\n"));
}

function emptyMarks({ backupDirectory }: Project): void {
  const marks = readdirSync(backupDirectory).filter((name) => name.endsWith(".mark.json"));
  for (const name of marks) truncateSync(join(backupDirectory, name));
}

test("history tells it all, also while the database is down", async () => {
  const live = await makeLive();
  expectFailed(await live.run());
  await cluster.psql(live.database, "UPDATE users SET name = name || id");
  expectStarted(await live.run("--retry"));
  const history = async (...args: string[]) =>
    await runDeploy(live.project, { url: undefined, args: ["history", ...args] });
  const { exitCode, stdout } = await history("--json");
  expect(exitCode).toBe(0);
  const [first, failed, last, ...more] = JSON.parse(stdout);
  expect(more).toEqual([]);
  expect(first).toMatchObject({ outcome: "deployed", exitCode: 0, migrations: ["1_users"], applied: ["1_users"] });
  expect(failed).toMatchObject({
    database: live.database,
    outcome: "rolled-back",
    exitCode: 5,
    failure: { code: "MIGRATION_FAILED", migration: "2_unique", sqlState: "23505" },
    migrations: ["2_unique"],
    applied: [],
    wasInterrupted: false,
    isBackupReused: false,
    engine: "native",
  });
  expect(failed.backup).toMatch(/^backup_\d{8}_\d{6}/);
  expect(last).toMatchObject({ outcome: "deployed", failure: null, applied: ["2_unique"] });
  expect(last.durationMs).toBeGreaterThan(0);
  expect(Object.keys(failed).sort()).toEqual(Object.keys(last).sort());
  const english = (await history("--lang", "en")).stdout;
  expect(english.split("\n")).toHaveLength(5);
  expect(english).toMatch(/^Begun \(UTC\) +Took +Outcome \(exit code\) +Migrations +Backup +Failure$/m);
  expect(english).toMatch(/rolled back \(5\) +2_unique +backup_\S+ +MIGRATION_FAILED 2_unique 23505$/m);
  expect((await history()).stdout).toMatch(/취소됨 \(5\) +2_unique/);
});
