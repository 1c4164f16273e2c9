/**
 * A deploy that fails after a part of it was committed. Where nobody else can have written it is restored, as if it had
 * never been; where somebody could have, nothing more is touched, and no write that was acknowledged is ever lost.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { openClient } from "../support/client.ts";
import { type Cluster, sharedCluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import { deployFirst, type Live } from "../support/live.ts";
import { expectChoices, follow, readCommands } from "../support/printed-commands.ts";
import { type DeployRun, makeProject, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectNoLeak, expectStarted } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;

const BASE = {
  "1_base": `
    CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 1000) AS n;
    CREATE TABLE audit (id bigserial PRIMARY KEY, note text);
    CREATE VIEW names AS SELECT name FROM users;
    CREATE TABLE gone (id int REFERENCES users, body text);
    INSERT INTO gone SELECT n, repeat('x', n) FROM generate_series(1, 50) AS n;
    SELECT nextval('audit_id_seq');`,
};
const WHOLE = { "2_orders": "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1);\n" };

/** Controls its transaction by itself, and so runs as Prisma runs it: what it has committed stays when it fails. */
function makeHalf(atGate = ""): string {
  return `UPDATE users SET name = 'changed' WHERE id <= 10;
    DROP TABLE gone;
    ALTER TABLE users ADD half text;
    CREATE TABLE half (id int);
    INSERT INTO half VALUES (1);
    COMMIT;
    ${atGate}
    SELECT 1 / (SELECT count(*) - 1 FROM half);\n`;
}

async function makeLive(pending: Readonly<Record<string, string>>, owner?: string): Promise<Live> {
  return await deployFirst(BASE, pending, { owner });
}

/** The lines that the specification fixes; ours stand indented between them. */
function fixedLines(run: DeployRun): string[] {
  return run.stderr.split("\n").filter((line) => line !== "" && !line.startsWith(" "));
}

function backupPathOf(run: DeployRun): string {
  return /✅ PostgreSQL 백업 완료: (\S+)/.exec(run.stderr)?.[1] ?? "(no backup)";
}

function expectRestored(run: DeployRun, { cluster, database, before }: Live): void {
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stdout).toBe("");
  expect(fixedLines(run)).toEqual([
    "🚀 고도화된 배포 프로세스 시작...",
    "📊 스키마 변경사항 확인 중...",
    "⚠️  스키마 변경사항이 감지되었습니다.",
    "📦 데이터 백업을 시작합니다...",
    `✅ PostgreSQL 백업 완료: ${backupPathOf(run)}`,
    "🔄 마이그레이션을 시작합니다...",
    "❌ 마이그레이션 실패!",
    "🔄 백업에서 복원을 시도합니다...",
    "✅ 백업에서 복원 완료",
    "❌ 배포 실패. 수동 확인이 필요합니다.",
  ]);
  expect(run.stderr).toContain("   상태  데이터베이스는 배포 전과 같습니다. 앱을 시작하지 않았습니다.\n");
  expect(run.stderr).toContain("   코드  MIGRATION_FAILED (종료 코드 5)\n");
  expectNoLeak(run, []);
  // Schema, every row, the sequences and the history.
  expect(dumpDatabase(cluster, database)).toBe(before);
}

/** Nothing was put back, and nothing is claimed; the commands for a person are there. @returns the commands */
function expectLeftAlone(run: DeployRun, reason: string): readonly string[] {
  expect(run.exitCode, run.stderr).toBe(6);
  expect(run.stdout).toBe("");
  expect(fixedLines(run).slice(5)).toEqual([
    "🔄 마이그레이션을 시작합니다...",
    "❌ 마이그레이션 실패!",
    "❌ 배포 실패. 수동 확인이 필요합니다.",
  ]);
  expect(run.stderr).not.toContain("복원 완료");
  expect(run.stderr).not.toContain("복원을 시도");
  expect(run.stderr).toContain("자동 복원을 하지 않습니다.");
  expect(run.stderr).toContain(reason);
  expect(run.stderr).toContain("   코드  MIGRATION_FAILED (종료 코드 6)\n");
  expectNoLeak(run, []);
  const commands = readCommands(run);
  expect(commands.join("\n")).toContain(backupPathOf(run));
  return commands;
}

async function isHalfThere({ cluster, database }: Live): Promise<boolean> {
  return (await cluster.psql(database, "SELECT count(*) FROM half")) === "1";
}

const ALONE: Readonly<Record<string, { readonly owner?: string; readonly args?: readonly string[] }>> = {
  "from a plain backup": {},
  "from an archive": { args: ["--backup-format", "custom"] },
  "by an owner with no other rights": { owner: "plain_owner" },
};

for (const [name, { owner, args = [] }] of Object.entries(ALONE)) {
  test(
    `nobody else is there: restored ${name}, and the next deploy works`,
    async () => {
      if (owner !== undefined) await (await sharedCluster()).psql("postgres", `CREATE ROLE ${owner} LOGIN`);
      const live = await makeLive({ ...WHOLE, "3_half": makeHalf() }, owner);
      const { url, project } = live;
      expectRestored(await runDeploy(project, { url, args: [...args, ...APP] }), live);
      project.add("3_half", "CREATE TABLE half (id int);");
      expectStarted(await runDeploy(project, { url, args: [...args, ...APP] }));
    },
    TIMEOUT_MS,
  );
}

test(
  "clients of another database don't matter: restored",
  async () => {
    const live = await makeLive({ ...WHOLE, "3_half": makeHalf() });
    const elsewhere = await live.cluster.createDatabase();
    await live.cluster.psql(elsewhere, "CREATE TABLE audit (id bigserial, note text)");
    const writing = await startWriting(live.cluster, elsewhere, 1);
    const run = await runDeploy(live.project, { url: live.url, args: APP });
    await writing.stop();
    expectRestored(run, live);
  },
  TIMEOUT_MS,
);

test(
  "clients that write all the time: nothing is restored, and every acknowledged write is there",
  async () => {
    const live = await makeLive({ ...WHOLE, "3_half": makeHalf() });
    const { cluster, database, url, project } = live;
    const writing = await startWriting(cluster, database, 3);
    const run = await runDeploy(project, { url, args: APP });
    const acknowledged = await writing.stop();
    expect(acknowledged.length).toBeGreaterThan(10);
    const commands = expectLeftAlone(run, "다른 클라이언트가 접속해 있");
    expect(await isHalfThere(live)).toBe(true);
    expect(await readNotes(cluster, database)).toEqual(acknowledged);
    expectChoices(run, database, "3_half");
    expect(run.stderr).toContain(` deploy restore ${backupPathOf(run).replace(/^.*\/|\.sql$/g, "")} `);
    expect(run.stderr).toMatch(/백업 이후 바뀐 행 .*public\.audit [1-9]\d*행/);

    // A person who copies the commands gets the database of before, and loses none of the writes either.
    follow(commands);
    const [failed] = (
      await cluster.psql("postgres", `SELECT datname FROM pg_database WHERE datname LIKE '${database}\\_failed%'`)
    ).split("\n");
    await cluster.psql("postgres", `ALTER DATABASE "${failed}" ALLOW_CONNECTIONS true`);
    expect(await readNotes(cluster, failed ?? "")).toEqual(acknowledged);
    expect(withoutAudit(dumpDatabase(cluster, database))).toBe(withoutAudit(live.before));
    project.add("3_half", "CREATE TABLE half (id int);");
    expectStarted(await runDeploy(project, { url, args: APP }));
  },
  TIMEOUT_MS,
);

test(
  "a client that is only connected could have written: nothing is restored",
  async () => {
    const live = await makeLive({ "3_half": makeHalf() });
    const idle = await openClient(live.cluster, live.database);
    const run = await runDeploy(live.project, { url: live.url, args: APP });
    expectLeftAlone(run, "백업할 때 다른 클라이언트가 접속해 있었습니다.");
    expect(await isHalfThere(live)).toBe(true);
    expect(await idle.run("SELECT count(*) FROM users WHERE name = 'changed'")).toBe("10");
    await idle.end();
  },
  TIMEOUT_MS,
);

for (const [name, sql] of Object.entries({
  "writes one row": "INSERT INTO audit (note) VALUES ('w0-1')",
  "does nothing at all": "SELECT 1",
})) {
  test(
    `a client that comes after the backup, ${name} and is gone before the failure: nothing is restored`,
    async () => {
      const flag = makeFlagPath(await sharedCluster());
      const live = await makeLive({ "3_half": makeHalf(waitForFile(flag)) });
      const { cluster, database, url, project } = live;
      const running = startDeploy(project, { url, args: APP });
      await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
      const visitor = await openClient(cluster, database);
      await visitor.run(sql);
      await visitor.end();
      writeFileSync(flag, "");
      expectLeftAlone(await running.ended, "백업 이후 다른 클라이언트가 접속했습니다.");
      expect(await isHalfThere(live)).toBe(true);
      const notes = await readNotes(cluster, database);
      expect(notes).toEqual(sql.startsWith("INSERT") ? ["w0-1"] : []);
    },
    TIMEOUT_MS,
  );
}

/** Goes on when autovacuum has analyzed what was changed, which is a transaction that nobody here has begun. */
const WAIT_FOR_AUTOVACUUM = `DO $$ BEGIN
  WHILE (SELECT autoanalyze_count FROM pg_stat_user_tables WHERE relname = 'users') = 0 LOOP
    PERFORM pg_sleep(0.1), pg_stat_clear_snapshot();
  END LOOP;
END $$;`;

test(
  "the ids of CONCURRENTLY and of autovacuum are no clients: restored",
  async () => {
    const cluster = await startCluster({ settings: { autovacuum_naptime: "1s" } });
    try {
      const database = await cluster.createDatabase();
      const url = cluster.url(database);
      const project = makeProject({ "1_base": BASE["1_base"] });
      const first = await runDeploy(project, { url });
      expect(first.exitCode, first.stderr).toBe(0);
      await cluster.psql(database, "ALTER TABLE users SET (autovacuum_analyze_threshold = 1000000)");
      const before = dumpDatabase(cluster, database);
      project.add("2_index", "CREATE INDEX CONCURRENTLY users_name ON users (name);\n");
      const analyzed = "ALTER TABLE users SET (autovacuum_analyze_threshold = 1); UPDATE users SET name = name || '!';";
      project.add("3_half", `${analyzed}\n${makeHalf(WAIT_FOR_AUTOVACUUM)}`);
      const run = await runDeploy(project, { url, args: APP });
      expectRestored(run, { cluster, database, url, project, before });
    } finally {
      await cluster.remove();
    }
  },
  TIMEOUT_MS,
);

interface Writing {
  /** @returns what was acknowledged, sorted */
  stop(): Promise<string[]>;
}

/** Clients that write one row after the other, each its own transaction, for as long as they may. */
async function startWriting(cluster: Cluster, database: string, count: number): Promise<Writing> {
  const acknowledged: string[] = [];
  let isOver = false;
  const write = async (writer: number) => {
    const client = await openClient(cluster, database);
    for (let at = 1; !isOver; at += 1) {
      await client.run(`INSERT INTO audit (note) VALUES ('w${writer}-${at}')`);
      acknowledged.push(`w${writer}-${at}`);
    }
    await client.end();
  };
  const writers = Array.from({ length: count }, (_, writer) => write(writer));
  await until("all of them have written", () => new Set(acknowledged.map((note) => note[1])).size === count);
  return {
    async stop() {
      isOver = true;
      await Promise.all(writers);
      return acknowledged.sort();
    },
  };
}

async function readNotes(cluster: Cluster, database: string): Promise<string[]> {
  const notes = await cluster.psql(database, "SELECT note FROM audit");
  return notes === "" ? [] : notes.split("\n").sort();
}

/** What the writers had written before the backup is in it. */
function withoutAudit(dump: string): string {
  return dump
    .replaceAll(/^\d+\tw\d-\d+\n/gm, "")
    .replaceAll(/^SELECT pg_catalog\.setval\('public\.audit_id_seq'.*$/gm, "");
}
