/**
 * Deploys that are killed with SIGKILL at each of their steps, and the one that comes next: by itself it leaves the
 * database exactly as it was before, fully migrated, or at a migration boundary, and says which.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listDeploys } from "../../lib/journal/deploys.ts";
import { type JournalLine, parseLines } from "../../lib/journal/lines.ts";
import { openClient } from "../support/client.ts";
import { startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import { deployFirst, type Live, untilNoneOfOurs } from "../support/live.ts";
import { expectChoices } from "../support/printed-commands.ts";
import { type DeployRun, makeProject, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectStarted } from "../support/refusal.ts";

setDefaultTimeout(300_000);

const BASE = {
  "1_base": `CREATE TABLE users (id serial PRIMARY KEY, name text);
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 500) AS n;
    CREATE TABLE plain (id int);`,
};

interface Killed extends Live {
  /** Creating it lets the scripts through that wait for it. */
  readonly flag: string;
}

/** A cluster of its own: sessions of other tests would be strangers. */
async function makeLive(
  pending: (flag: string) => Readonly<Record<string, string>>,
  options: { readonly base?: Readonly<Record<string, string>>; readonly owner?: string } = {},
): Promise<Killed> {
  const { base = BASE, owner } = options;
  const cluster = await startCluster();
  if (owner !== undefined) await cluster.psql("postgres", `CREATE ROLE ${owner} LOGIN`);
  const flag = makeFlagPath(cluster);
  return { ...(await deployFirst(base, pending(flag), { on: cluster, owner })), flag };
}

/** Kills a deploy while it waits at the gate, and waits until the server has noticed. */
async function killAtGate(live: Live): Promise<void> {
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
  await untilWatched(live);
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await untilNoneOfOurs(live);
}

/** Until then it opens a session after the mark, which has to be told from a stranger's: its number is on the disk. */
async function untilWatched(live: Live): Promise<void> {
  await until("there is a second line about sessions", () => {
    const lines = readLines(live);
    return lines.filter(({ deploy, step }) => deploy === lines.at(-1)?.deploy && step === "sessions").length > 1;
  });
}

async function readRows({ cluster, database }: Live): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT migration_name || CASE WHEN rolled_back_at IS NOT NULL THEN ' rolled back'
       WHEN finished_at IS NULL THEN ' unfinished' ELSE '' END FROM _prisma_migrations ORDER BY started_at`,
  );
}

function readLines({ project }: Live): JournalLine[] {
  return parseLines(readFileSync(join(project.backupDirectory, "journal.jsonl"), "utf8"));
}

/** How the deploys of the journal have ended, the first one left out, which made the database. */
function readEnds(live: Live): string[] {
  return listDeploys(readLines(live))
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

test.each([
  ["the journal", /^journal\.jsonl$/, undefined],
  ["the mark", /\.mark\.json$/, "unresolved later"],
  ["the backup", /^backup_[\d_]+\.json$/, "unresolved later"],
] as const)("the same without %s: refused as what it is, and nothing is touched", async (_, missing, end) => {
  const live = await makeLive(HALF);
  const { cluster, database, url, project } = live;
  await killAtGate(live);
  for (const name of readdirSync(project.backupDirectory).filter((file) => missing.test(file))) {
    rmSync(join(project.backupDirectory, name));
  }
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
  if (end !== undefined) expect(readEnds(live)).toEqual([end]);
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
  expectChoices(run, database, "2_half");
  expect(run.stderr).toContain("export PGHOST=");
  expect(run.stderr).not.toContain("복원 완료");
  expect(dumpDatabase(cluster, database)).toBe(before);
  expect(readEnds(live)).toEqual(["unresolved later"]);
  // Its backup is kept, however old it gets.
  const prune = ["prune", "--dry-run", "--json", "--backup-retention-days", "0", "--backup-min-keep", "1"];
  expect((await runDeploy(project, { url, args: ["backup"] })).exitCode).toBe(0);
  const { deleted, kept } = JSON.parse((await runDeploy(project, { url, args: prune })).stdout);
  expect([deleted.length, kept]).toEqual([1, 2]);
  const listed = JSON.parse((await runDeploy(project, { url: undefined, args: ["backups", "--json"] })).stdout);
  expect(listed.map(({ expiry }: { expiry: { kind: string } }) => expiry.kind)).toContain("needed");
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
  const history = JSON.parse((await runDeploy(project, { url, args: ["history", "--json"] })).stdout);
  // The database was as before.
  expect(history.at(-2)).toMatchObject({ outcome: "stopped", exitCode: 5, wasInterrupted: true, applied: [] });
  await cluster.remove();
});

test("as soon as the mark and the backup are there: as before, whichever step it was", async () => {
  const live = await makeLive((flag) => ({ "2_wait": `CREATE TABLE orders (id int);\n${waitForFile(flag)}` }));
  const { cluster, database, url, project } = live;
  const journal = () => readFileSync(join(project.backupDirectory, "journal.jsonl"), "utf8");
  const running = startDeploy(project, { url, args: APP });
  await until("the backup is there", () => journal().split('"backed-up"').length === 3);
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await untilNoneOfOurs(live);
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  writeFileSync(live.flag, "");
  const run = await runDeploy(project, { url, args: APP });
  expectStarted(run);
  expectFound(run);
  expect(run.stderr).toContain("데이터베이스는 배포 전 상태 그대로입니다.");
  expect(readEnds(live)).toEqual([expect.stringMatching(/^(stopped|rolled-back) later$/), "deployed"]);
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

test("behind the last COMMIT, and another schema's history comes next: it leaves that deploy to its own next one", async () => {
  const live = await makeLive(() => ({ "2_orders": "CREATE TABLE orders (id int);\n" }));
  const { cluster, database, url, project } = live;
  expectStarted(await runDeploy(project, { url, args: APP }));
  // What a kill just before it leaves is everything but the last line.
  const path = join(project.backupDirectory, "journal.jsonl");
  const lines = readFileSync(path, "utf8").split(/(?<=\n)/);
  expect(lines.at(-1)).toContain('"ended"');
  writeFileSync(path, lines.slice(0, -1).join(""));

  await cluster.psql(database, "CREATE SCHEMA shop");
  const shop = makeProject({ "1_shop": "CREATE TABLE shop.goods (id int);\n" });
  const shopUrl = `${url}${url.includes("?") ? "&" : "?"}schema=shop`;
  const environment = { BACKUP_DIR: project.backupDirectory };
  for (const name of ["1_shop", "2_shop"]) {
    shop.add(name, `CREATE TABLE shop."${name}" (id int);\n`);
    const run = await runDeploy(shop, { url: shopUrl, args: APP, environment });
    expectStarted(run);
    expect(run.stderr).not.toContain("중단된 이전 배포");
  }
  expect(await readRows(live)).toBe("1_base\n2_orders");
  expect(await cluster.psql(database, "SELECT to_regclass('orders') IS NOT NULL")).toBe("t");

  project.add("3_more", "CREATE TABLE more (id int);");
  const run = await runDeploy(project, { url, args: APP });
  expectStarted(run);
  expect(run.stderr).toContain("중단된 배포에서 온전히 적용된 마이그레이션: 2_orders");
  expect(readEnds(live)).toEqual(["deployed later", "deployed", "deployed", "deployed"]);
  await cluster.remove();
});

const INDEX = {
  "2_orders": "CREATE TABLE orders (id int);",
  "3_index": "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (slow(id));",
};
const WITH_SLOW = {
  "1_base": `${BASE["1_base"]}
    CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN $1; END';`,
};

async function killInIndexBuild(): Promise<Live> {
  const live = await makeLive(() => INDEX, { base: WITH_SLOW });
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  const building = `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND wait_event = 'PgSleep'`;
  await until("the index is built", async () => (await cluster.psql("postgres", building)) !== "");
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await untilNoneOfOurs(live);
  expect(
    await cluster.psql(database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_name'::regclass"),
  ).toBe("f");
  await cluster.psql(
    database,
    `CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'`,
  );
  return live;
}

test("in a CREATE INDEX CONCURRENTLY behind a migration that is whole: its invalid index goes, and it is built", async () => {
  const live = await killInIndexBuild();
  const { cluster, database, url, project } = live;
  const run = await runDeploy(project, { url, args: APP });
  expectStarted(run);
  expectFound(run);
  expect(run.stderr).toContain("중단된 배포에서 온전히 적용된 마이그레이션: 2_orders");
  expect(run.stderr).toContain("적용되지 않은 마이그레이션: 3_index");
  expect(await readRows(live)).toBe("1_base\n2_orders\n3_index rolled back\n3_index");
  expect(await cluster.psql(database, "SELECT count(*) FROM pg_index WHERE NOT indisvalid")).toBe("0");
  expect(readEnds(live)).toEqual(["at-boundary later", "deployed"]);
  await cluster.remove();
});

test("in a CREATE INDEX CONCURRENTLY that the server has ended all the same: only its row was missing", async () => {
  const live = await killInIndexBuild();
  const { cluster, database, url, project } = live;
  await cluster.psql(database, "DROP INDEX users_name; CREATE UNIQUE INDEX users_name ON users (slow(id))");
  const run = await runDeploy(project, { url, args: APP });
  expectStarted(run);
  expectFound(run);
  expect(run.stderr).toContain("중단된 배포에서 온전히 적용된 마이그레이션: 2_orders, 3_index");
  expect(await readRows(live)).toBe("1_base\n2_orders\n3_index");
  expect(readEnds(live)[0]).toBe("deployed later");
  await cluster.remove();
});

test("in a script with CONCURRENTLY beside others: restored, since nobody can tell how far it came", async () => {
  const script =
    "INSERT INTO plain VALUES (1);\nCREATE INDEX CONCURRENTLY users_id ON users (slow(id));\nDROP TABLE plain;\n";
  const live = await makeLive(() => ({ "2_mixed": script }), { base: WITH_SLOW });
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  const building = `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND wait_event = 'PgSleep'`;
  await until("the index is built", async () => (await cluster.psql("postgres", building)) !== "");
  await untilWatched(live);
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await untilNoneOfOurs(live);
  project.add("2_mixed", "SELECT 1 / 0;");
  const run = await runDeploy(project, { url, args: APP });
  expect(run.exitCode, run.stderr).toBe(5);
  expectFound(run);
  expect(run.stderr).toContain("✅ 백업에서 복원 완료");
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  expect(readEnds(live)).toEqual(["restored later", "rolled-back"]);
  await cluster.remove();
});

test("while something holds the rows for longer than a read waits: the next one takes the lock and goes on", async () => {
  const live = await makeLive((flag) => ({ "2_wait": `CREATE TABLE orders (id int);\n${waitForFile(flag)}` }));
  const { cluster, database, url, project } = live;
  await killAtGate(live);
  writeFileSync(live.flag, "");
  const holder = await openClient(cluster, database);
  await holder.run("BEGIN; LOCK TABLE _prisma_migrations IN ACCESS EXCLUSIVE MODE");
  const running = startDeploy(project, { url, args: APP });
  await until("it has the lock", () => running.output().includes("중단된 이전 배포를"), 150_000);
  await holder.end();
  const run = await running.ended;
  expectStarted(run);
  expect(await readRows(live)).toBe("1_base\n2_wait");
  await cluster.remove();
});

/** Its index takes seconds to build, and so does every restore of it. */
const SLOW = {
  "1_base": `${BASE["1_base"]}
    CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(4); RETURN $1; END';
    CREATE TABLE slow (id int);
    INSERT INTO slow VALUES (1);
    CREATE INDEX slow_id ON slow (slow(id));`,
};
const FAILING = { "2_half": "UPDATE users SET name = 'changed';\nDROP TABLE plain;\nCOMMIT;\nSELECT 1 / 0;\n" };

/** Of an owner who may create no database: only the restore in place is possible. */
async function killInRestore(): Promise<Live> {
  const live = await makeLive(() => FAILING, { base: SLOW, owner: "plain_owner" });
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  const restoring = `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND application_name LIKE '%psql' AND wait_event = 'PgSleep'`;
  await until("psql restores", async () => (await cluster.psql("postgres", restoring)) !== "");
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  expect(await cluster.psql("postgres", restoring)).not.toBe("");
  return live;
}

test("while it restores in place, and the next one comes before psql has ended: restored all the same", async () => {
  const live = await killInRestore();
  const { cluster, database, url, project } = live;
  const run = await runDeploy(project, { url, args: APP });
  expect(run.exitCode, run.stderr).toBe(5);
  expectFound(run);
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  // What had failed is remembered, killed or not.
  expect(run.stderr).toContain("FAILED_BEFORE");
  expect(readEnds(live)).toEqual(["restored later"]);
  await cluster.remove();
});

test("while it restores in place, and psql has ended when the next one comes: found restored", async () => {
  const live = await killInRestore();
  const { cluster, database, url, project } = live;
  await untilNoneOfOurs(live);
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  const run = await runDeploy(project, { url, args: ["--retry", ...APP] });
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stderr).toContain("중단된 배포가 이미 복원을 마쳤습니다.");
  expect(run.stderr).toContain("MIGRATION_FAILED");
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  expect(readEnds(live)).toEqual(["restored later", "restored"]);
  await cluster.remove();
});

test("while it restores into a database beside: the next one does it again, and what was begun is gone", async () => {
  const live = await makeLive(() => FAILING, { base: SLOW });
  const { cluster, database, url, project } = live;
  const running = startDeploy(project, { url, args: APP });
  const restoring = `SELECT datname FROM pg_stat_activity WHERE datname LIKE '${database}\\_restore%' AND wait_event = 'PgSleep'`;
  await until("it restores", async () => (await cluster.psql("postgres", restoring)) !== "");
  running.kill("SIGKILL");
  expect((await running.ended).signal).toBe("SIGKILL");
  await untilNoneOfOurs(live);
  const run = await runDeploy(project, { url, args: APP });
  expect(run.exitCode, run.stderr).toBe(5);
  expectFound(run);
  expect(run.stderr).toContain("중단된 복원을 끝냈습니다.");
  expect(dumpDatabase(cluster, database)).toBe(live.before);
  expect(readEnds(live)).toEqual(["restored later"]);
  const left = `SELECT count(*) FROM pg_database WHERE datname LIKE '${database}\\_restore%'`;
  await until("the copy is gone", async () => (await cluster.psql("postgres", left)) === "0");
  await cluster.remove();
});
