/**
 * A deploy that takes its time, as a person or a machine sees it: whom it waits for, how far it is, and that the running
 * app is never kept waiting for long.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { openClient } from "../support/client.ts";
import { sharedCluster } from "../support/cluster.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import { deployFirst, type Live } from "../support/live.ts";
import { preparePrismaProject, skipsPrisma, writeMigrations } from "../support/prisma-cli.ts";
import { DEPLOY_SCRIPT, runDeploy, startDeploy, until } from "../support/project.ts";

setDefaultTimeout(300_000);

const LOCK_TIMEOUT_MS = 600;
/** The machine may be busy; what would wait for the reader would wait for far longer. */
const LONGEST_WAIT_MS = 10 * LOCK_TIMEOUT_MS;
const READER_MS = 2 * LONGEST_WAIT_MS;

const CLEAR = "\r\u001B[2K";
const WITHOUT_WRAP = "\u001B[?7l";
const WITH_WRAP = "\u001B[?7h";

const BASE = { "1_users": "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a');\n" };
const EMAIL = { "2_email": "ALTER TABLE users ADD email text;\n" };

async function makeLive(pending: Readonly<Record<string, string>>): Promise<Live> {
  return await deployFirst(BASE, pending);
}

test("a long reader: the migration tries again and names it, and nobody queues behind it for long", async () => {
  const { cluster, database, url, project } = await makeLive(EMAIL);
  const reader = await openClient(cluster, database);
  await reader.run("BEGIN; SELECT 'a long report', count(*) FROM users");
  const startedMs = performance.now();
  const args = ["--lock-timeout", `${LOCK_TIMEOUT_MS}ms`, "--", "true"];
  const deploy = startDeploy(project, { url, args });
  const app = await openClient(cluster, database);
  let longestMs = 0;
  await until("the reader has read for long enough", async () => {
    const askedMs = performance.now();
    await app.run("SELECT count(*) FROM users");
    longestMs = Math.max(longestMs, performance.now() - askedMs);
    return performance.now() - startedMs > READER_MS && triesIn(deploy.output()) >= 2;
  });
  await reader.end();
  await app.end();
  const run = await deploy.ended;
  expect(run.exitCode, run.stderr).toBe(0);
  // It did stand in the way, which is what this is about.
  expect(longestMs, run.stderr).toBeGreaterThan(LOCK_TIMEOUT_MS / 4);
  expect(longestMs, run.stderr).toBeLessThan(LONGEST_WAIT_MS);
  expect(run.stderr).toMatch(/^ {3}진행 중: 2_email \(1\/1\), \S+$/m);
  expect(run.stderr).toMatch(new RegExp(`^ {7}pid ${reader.pid}, psql, idle in transaction, \\S+$`, "m"));
  expect(run.stderr).toMatch(/^ {9}SELECT 'a long report', count\(\*\) FROM users/m);
  expect(await cluster.psql(database, "SELECT count(email) FROM users")).toBe("0");
});

function triesIn(output: string): number {
  return output.split("잠금을 얻지 못해 취소함").length - 1;
}

test("CONCURRENTLY: whom it waits for and how far it is, as JSON", async () => {
  const { cluster, database, url, project } = await makeLive({
    "2_index": "CREATE INDEX CONCURRENTLY users_name ON users (name);\n",
  });
  const writer = await openClient(cluster, database);
  await writer.run("BEGIN; UPDATE users SET name = 'b'");
  const deploy = startDeploy(project, { url, args: ["--log-format", "json", "--", "true"] });
  await until("it is told", () => deploy.output().includes('"blockers":[{'));
  await writer.end();
  const run = await deploy.ended;
  expect(run.exitCode, run.stderr).toBe(0);
  const events = eventsOf(run.stderr);
  expect(events.find(({ waiting }) => waiting !== undefined)).toMatchObject({
    kind: "migration-progress",
    name: "2_index",
    number: 1,
    total: 1,
    waiting: { blockers: [{ pid: writer.pid, applicationName: "psql", state: "idle in transaction" }] },
    work: {
      command: "CREATE INDEX CONCURRENTLY",
      table: "users",
      phase: "waiting for writers before build",
      percent: 0,
    },
  });
  expect(events.map(({ kind }) => kind)).toContain("migration-running");
});

test("ALTER TABLE, of which the server shows no progress: the table that nobody can use, and about how far it is", async () => {
  const { cluster, database, url, project } = await makeLive({
    "2_wide": "ALTER TABLE wide ALTER id TYPE bigint USING slow(id);\n",
  });
  await cluster.psql(
    database,
    `CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.006); RETURN $1; END';
     CREATE TABLE wide (id int, filler text);
     INSERT INTO wide SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) AS n;
     ANALYZE wide`,
  );
  // Longer than a log is silent.
  const run = await runDeploy(project, { url, args: ["--log-format", "json", "--", "true"] });
  expect(run.exitCode, run.stderr).toBe(0);
  const estimates = eventsOf(run.stderr).filter(
    ({ held }) => typeof (held as { percent?: unknown })?.percent === "number",
  );
  expect(estimates.length, run.stderr).toBeGreaterThan(0);
  expect(estimates[0]).toMatchObject({ kind: "migration-progress", held: { tables: [{ name: "wide" }] } });
});

function eventsOf(log: string): Record<string, unknown>[] {
  return log
    .trim()
    .split("\n")
    .map((line): Record<string, unknown> => JSON.parse(line));
}

describe.skipIf(skipsPrisma("progress.test.ts"))("Prisma's engine", () => {
  test("its migration and whom it waits for are told as well", async () => {
    const cluster = await sharedCluster();
    const database = await cluster.createDatabase();
    const url = cluster.url(database);
    const prisma = await preparePrismaProject({ version: 7, migrationsFrom: BASE, databaseUrl: url });
    const { directory, environment } = prisma;
    const project = { directory, backupDirectory: join(directory, "backups"), add: () => {} };
    const options = { url, args: ["--migrate-engine", "prisma", "--log-format", "json"], environment };
    const first = await runDeploy(project, options);
    expect(first.exitCode, first.stderr).toBe(0);
    writeMigrations(prisma.migrations, { ...EMAIL, "3_more": "ALTER TABLE users ADD more text;\n" });
    const reader = await openClient(cluster, database);
    await reader.run("BEGIN; SELECT * FROM users");
    const deploy = startDeploy(project, options);
    await until("it is told", () => deploy.output().includes('"blockers":[{'));
    await reader.end();
    const run = await deploy.ended;
    expect(run.exitCode, run.stderr).toBe(0);
    // A heartbeat may come before: the CLI takes its time to start.
    expect(eventsOf(run.stderr).find(({ waiting }) => waiting !== undefined)).toMatchObject({
      kind: "migration-progress",
      name: "2_email",
      number: 1,
      total: 2,
      waiting: { blockers: [{ pid: reader.pid, applicationName: "psql", state: "idle in transaction" }] },
    });
  });
});

test("a log gets a heartbeat every ten seconds", async () => {
  const { cluster, database, url, project } = await makeLive({ "2_gate": WAIT_AT_GATE, "3_next": "SELECT 1;" });
  const gate = await closeGate(cluster, database);
  const deploy = startDeploy(project, { url, args: ["--lang", "en"] });
  await gate.reached();
  const beats = () => deploy.output().match(/^ {3}Running: 2_gate \(1\/2\), \d+\.\ds$/gm) ?? [];
  const startedMs = performance.now();
  await until("two heartbeats", () => beats().length >= 2);
  // Not one a second.
  expect(beats().length).toBeLessThanOrEqual((performance.now() - startedMs) / 9_000 + 1);
  await gate.open();
  const run = await deploy.ended;
  expect(run.exitCode, run.stderr).toBe(0);
});

test("on a terminal one line is rewritten, and makes way for the others", async () => {
  const { cluster, database, url, project } = await makeLive({
    "2_gate": `${WAIT_AT_GATE} DO $$ BEGIN RAISE NOTICE 'first%second', E'\\n'; END $$;`,
  });
  const gate = await closeGate(cluster, database);
  let output = "";
  const child = Bun.spawn([process.execPath, "--no-env-file", DEPLOY_SCRIPT, "--", "echo", "the app"], {
    cwd: project.directory,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: url,
      BACKUP_DIR: project.backupDirectory,
      TERM: "xterm-256color",
    },
    terminal: {
      cols: 80,
      rows: 24,
      data: (_, bytes) => {
        output += new TextDecoder().decode(bytes);
      },
    },
  });
  await until("the live line was rewritten", () => output.split("진행 중: 2_gate").length > 3);
  await gate.open();
  expect(await child.exited).toBe(0);
  await until("all of it is here", () => output.includes("the app"));
  const live = output.split(CLEAR).filter((piece) => piece.includes("진행 중"));
  expect(live.length).toBeGreaterThan(2);
  // Each ends where it begins, so that it is one line whatever the width of the terminal.
  for (const piece of live) {
    expect(piece.startsWith(WITHOUT_WRAP) && piece.endsWith(WITH_WRAP), JSON.stringify(piece)).toBe(true);
    expect(piece).toMatch(/ {3}진행 중: 2_gate \(1\/1\), \S+$/);
  }
  const screen = showOnTerminal(output);
  expect(screen.join("\n")).not.toContain("진행 중");
  expect(screen).toContain("   NOTICE: first");
  expect(screen).toContain("     second");
  expect(screen).toContain("✅ 마이그레이션이 성공적으로 완료되었습니다.");
  expect(screen.at(-1)).toBe("the app");
});

/** What stands on the terminal at the end. */
function showOnTerminal(output: string): string[] {
  return output
    .trimEnd()
    .split(/\r?\n/)
    .map((line) => (line.split(CLEAR).at(-1) ?? "").replaceAll(WITH_WRAP, "").replaceAll(WITHOUT_WRAP, ""));
}

test("a watched migration that leaves half is restored: the watch is no stranger to the proof", async () => {
  const { cluster, database, url, project } = await makeLive({
    "2_half": `BEGIN;
      UPDATE users SET name = 'changed';
      COMMIT;
      SET LOCAL work_mem = '1MB';
      SELECT pg_sleep(3);
      DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'prisma-safe-deploy watch') THEN
          RAISE 'somebody watches';
        END IF;
      END $$;`,
  });
  const run = await runDeploy(project, { url, args: ["--", "true"] });
  expect(run.stderr).toContain("somebody watches");
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stderr).toContain("✅ 백업에서 복원 완료");
  expect(await cluster.psql(database, "SELECT name FROM users")).toBe("a");
});
