/**
 * Deploys that are killed with SIGKILL at each of their steps, and the one that comes next: by itself it leaves the
 * database exactly as it was before, fully migrated, or at a migration boundary, and says which.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listDeploys } from "../../lib/journal/deploys.ts";
import { parseLines } from "../../lib/journal/lines.ts";
import { openClient } from "../support/client.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import { type DeployRun, makeProject, type Project, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectStarted } from "../support/refusal.ts";

setDefaultTimeout(300_000);

const BASE = {
  "1_base": `CREATE TABLE users (id serial PRIMARY KEY, name text);
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 500) AS n;
    CREATE TABLE plain (id int);`,
};

interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
  readonly before: string;
  /** Creating it lets the scripts through that wait for it. */
  readonly flag: string;
}

/** A cluster of its own: sessions of other tests would be strangers. */
async function makeLive(pending: (flag: string) => Readonly<Record<string, string>>): Promise<Live> {
  const cluster = await startCluster();
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const project = makeProject(BASE);
  const first = await runDeploy(project, { url });
  expect(first.exitCode, first.stderr).toBe(0);
  const flag = makeFlagPath(cluster);
  for (const [name, sql] of Object.entries(pending(flag))) project.add(name, sql);
  return { cluster, database, url, project, before: dumpDatabase(cluster, database), flag };
}

/** Kills a deploy while it waits at the gate, and waits until the server has noticed. */
async function killAtGate(live: Live): Promise<void> {
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await untilNoneOfOurs(live);
}

async function untilNoneOfOurs({ cluster, database }: Live): Promise<void> {
  const ours = `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND application_name LIKE 'prisma-safe-deploy%'`;
  await until("no backend of ours is left", async () => (await cluster.psql("postgres", ours)) === "");
}

async function readRows({ cluster, database }: Live): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT migration_name || CASE WHEN rolled_back_at IS NOT NULL THEN ' rolled back'
       WHEN finished_at IS NULL THEN ' unfinished' ELSE '' END FROM _prisma_migrations ORDER BY started_at`,
  );
}

/** How the deploys of the journal have ended, the first one left out, which made the database. */
function readEnds({ project }: Live): string[] {
  const lines = parseLines(readFileSync(join(project.backupDirectory, "journal.jsonl"), "utf8"));
  return listDeploys(lines)
    .slice(1)
    .map(({ end }) => (end === undefined ? "open" : `${end.outcome}${end.isFoundLater ? " later" : ""}`));
}

function countBackups({ project }: Live): number {
  return readdirSync(project.backupDirectory).filter((name) => /^backup_[\d_]+\.(sql|dump)$/.test(name)).length;
}

function expectFound(run: DeployRun): void {
  expect(run.stderr).toContain("중단된 이전 배포를 먼저 마무리하거나 되돌립니다.");
}

const HALF = (flag: string) => ({
  "2_half": `UPDATE users SET name = 'changed';\nDROP TABLE plain;\nCOMMIT;\n${waitForFile(flag)}\nCREATE TABLE half (id int);\n`,
});

test("in the middle of a transaction: as before, and applied by the next one", async () => {
  const live = await makeLive((flag) => ({ "2_wait": `CREATE TABLE orders (id int);\n${waitForFile(flag)}` }));
  await killAtGate(live);
  expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
  writeFileSync(live.flag, "");
  const run = await runDeploy(live.project, { url: live.url, args: APP });
  expectStarted(run);
  expectFound(run);
  expect(run.stderr).toContain("데이터베이스는 배포 전 상태 그대로입니다.");
  expect(await readRows(live)).toBe("1_base\n2_wait");
  expect(readEnds(live)).toEqual(["rolled-back later", "deployed"]);
  await live.cluster.remove();
});

test("behind a part that is committed: restored by the next one, which then applies it", async () => {
  const live = await makeLive(HALF);
  const { cluster, database, url, project } = live;
  await killAtGate(live);
  expect(await cluster.psql("postgres", `SELECT count(*) FROM pg_database WHERE datname = '${database}'`)).toBe("1");
  // The script would fail on its own: that shows what the restore has left.
  project.add("2_half", "SELECT 1 / 0;");
  const undone = await runDeploy(project, { url, args: APP });
  expect(undone.exitCode, undone.stderr).toBe(5);
  expectFound(undone);
  expect(undone.stderr).toContain("✅ 백업에서 복원 완료");
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  expect(readEnds(live)).toEqual(["restored later", "rolled-back"]);
  project.add("2_half", "CREATE TABLE half (id int);");
  expectStarted(await runDeploy(project, { url, args: APP }));
  expect(await readRows(live)).toBe("1_base\n2_half");
  await cluster.remove();
});

test("the same without the journal: refused as what it is, and nothing is touched", async () => {
  const live = await makeLive(HALF);
  const { cluster, database, url, project } = live;
  await killAtGate(live);
  rmSync(join(project.backupDirectory, "journal.jsonl"));
  const before = dumpDatabase(cluster, database);
  const run = await runDeploy(project, { url, args: APP });
  expect(run.exitCode, run.stderr).toBe(3);
  for (const text of ["HISTORY_FAILED", "2_half", "--rolled-back", "--applied"]) expect(run.stderr).toContain(text);
  expect(dumpDatabase(cluster, database)).toBe(before);
  // The backup of before is there for the person.
  expect(countBackups(live)).toBe(2);
  const status = await runDeploy(project, { url, args: ["status", "--json"] });
  expect(status.exitCode).toBe(3);
  expect(JSON.parse(status.stdout)).toMatchObject({ state: "blocked", failed: ["2_half"], running: [] });
  await cluster.remove();
});

test("the same with a client that has come since: left alone, with the commands", async () => {
  const live = await makeLive(HALF);
  const { cluster, database, url, project } = live;
  await killAtGate(live);
  const visitor = await openClient(cluster, database);
  await visitor.run("INSERT INTO users (name) VALUES ('acknowledged')");
  await visitor.end();
  const before = dumpDatabase(cluster, database);
  const run = await runDeploy(project, { url, args: APP });
  expect(run.exitCode, run.stderr).toBe(6);
  expect(run.stderr).toContain("DEPLOY_INTERRUPTED");
  expect(run.stderr).toContain("export PGHOST=");
  expect(run.stderr).not.toContain("복원 완료");
  expect(dumpDatabase(cluster, database)).toBe(before);
  expect(readEnds(live)).toEqual(["unresolved later"]);
  // It is a person's now: the next one says what is unfinished, and touches nothing either.
  const next = await runDeploy(project, { url, args: APP });
  expect(next.exitCode, next.stderr).toBe(3);
  expect(dumpDatabase(cluster, database)).not.toBe("");
  await cluster.remove();
});

test("while the backup is taken: nothing was changed, and what it had begun to write is gone", async () => {
  const live = await makeLive(() => ({ "2_orders": "CREATE TABLE orders (id int);" }));
  const { cluster, database, url, project } = live;
  const holder = await openClient(cluster, database);
  await holder.run("BEGIN; LOCK TABLE plain IN ACCESS EXCLUSIVE MODE");
  const running = startDeploy(project, { url, args: APP });
  const waiting = `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND wait_event_type = 'Lock' AND application_name LIKE '%pg_dump'`;
  await until("pg_dump is held up", async () => (await cluster.psql("postgres", waiting)) !== "");
  running.kill("SIGKILL");
  await running.ended;
  await holder.end();
  await untilNoneOfOurs(live);
  expect(readdirSync(project.backupDirectory).filter((name) => name.endsWith(".partial"))).toHaveLength(1);
  const run = await runDeploy(project, { url, args: APP });
  expectStarted(run);
  expectFound(run);
  expect(readdirSync(project.backupDirectory).filter((name) => name.endsWith(".partial"))).toEqual([]);
  expect(countBackups(live)).toBe(2);
  expect(readEnds(live)).toEqual(["stopped later", "deployed"]);
  await cluster.remove();
});

test("behind the last COMMIT: migrated, and the next one that works says so in the journal", async () => {
  const live = await makeLive((flag) => ({ "2_orders": "CREATE TABLE orders (id int);", "3_wait": waitForFile(flag) }));
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
  // Stands behind the migration, and before the look at what it has done.
  const next = await openClient(cluster, database);
  await next.run("BEGIN");
  const locked = next.run("LOCK TABLE _prisma_migrations IN ACCESS EXCLUSIVE MODE");
  const waiting = `SELECT count(*) FROM pg_locks WHERE pid = ${next.pid} AND NOT granted`;
  await until("the lock is asked for", async () => (await cluster.psql("postgres", waiting)) === "1");
  writeFileSync(live.flag, "");
  await locked;
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await next.end();
  await untilNoneOfOurs(live);
  const up = await runDeploy(project, { url, args: APP });
  expectStarted(up);
  expect(up.stderr).toContain("최신 상태입니다.");
  expect(readEnds(live)).toEqual(["open"]);
  project.add("4_more", "CREATE TABLE more (id int);");
  const run = await runDeploy(project, { url, args: APP });
  expectStarted(run);
  expect(run.stderr).toContain("중단된 배포에서 온전히 적용된 마이그레이션: 2_orders, 3_wait");
  expect(await readRows(live)).toBe("1_base\n2_orders\n3_wait\n4_more");
  expect(readEnds(live)).toEqual(["deployed later", "deployed"]);
  await cluster.remove();
});
