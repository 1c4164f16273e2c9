/**
 * A deploy that fails behind migrations which are committed: it leaves them whole and the next run goes on, or, where that
 * was asked for and nobody else can have written, it goes back to where it began.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { openClient } from "../support/client.ts";
import { dumpDatabase } from "../support/dump.ts";
import { deployFirst, type Live } from "../support/live.ts";
import { runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectNoLeak } from "../support/refusal.ts";

setDefaultTimeout(300_000);

const BASE = { "1_users": "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a');\n" };
/** The first is committed before the second can begin, which then meets a duplicate. */
const PENDING = {
  "2_more": "INSERT INTO users VALUES (2, 'a'), (3, 'a');\n",
  "3_index": "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (name);\n",
  "4_orders": "CREATE TABLE orders (id int);\n",
};

async function makeLive(): Promise<Live> {
  return await deployFirst(BASE, PENDING);
}

async function readRows({ cluster, database }: Live): Promise<string> {
  const state = `CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back' WHEN finished_at IS NULL THEN 'unfinished' ELSE 'finished' END`;
  return await cluster.psql(
    database,
    `SELECT string_agg(migration_name || ' ' || ${state}, ', ' ORDER BY started_at) FROM _prisma_migrations`,
  );
}

async function expectAtBoundary(live: Live): Promise<void> {
  const { cluster, database } = live;
  expect(await readRows(live)).toBe("1_users finished, 2_more finished, 3_index rolled back");
  expect(await cluster.psql(database, "SELECT count(*) FROM users")).toBe("3");
  expect(await cluster.psql(database, "SELECT count(*) FROM pg_index WHERE NOT indisvalid")).toBe("0");
}

test("it stops behind what is whole, and the next run goes on from there", async () => {
  const live = await makeLive();
  const { cluster, database, url, project } = live;
  const run = await runDeploy(project, { url, args: ["--", "echo", "the app"] });
  expect(run.exitCode, run.stderr).toBe(8);
  expect(run.stdout).toBe("");
  expect(run.stderr).not.toContain("백업에서 복원");
  await expectAtBoundary(live);

  await cluster.psql(database, "DELETE FROM users WHERE id > 1");
  const next = await runDeploy(project, { url, args: ["--retry", "--", "echo", "the app"] });
  expect(next.exitCode, next.stderr).toBe(0);
  expect(next.stdout).toBe("the app\n");
  expect(await readRows(live)).toBe(
    "1_users finished, 2_more finished, 3_index rolled back, 3_index finished, 4_orders finished",
  );
});

test.each([
  ["by the flag", { args: ["--on-partial", "restore"] }],
  ["by the variable", { environment: { ON_PARTIAL: "restore" } }],
])("it goes back where nobody else has written, when asked to %s", async (_, options) => {
  const { cluster, database, url, project, before } = await makeLive();
  const run = await runDeploy(project, { url, ...options });
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stderr).toContain("✅ 백업에서 복원 완료");
  expect(run.stderr).not.toContain("마이그레이션 경계에서");
  expect(run.stderr).toContain("데이터베이스는 배포 전과 같습니다.");
  expect(dumpDatabase(cluster, database)).toBe(before);
});

test("it stays where somebody else could have written, and says why", async () => {
  const live = await makeLive();
  const { cluster, database, url, project } = live;
  const other = await openClient(cluster, database);
  const run = await runDeploy(project, { url, args: ["--on-partial", "restore", "--lang", "en"] });
  await other.end();
  expect(run.exitCode, run.stderr).toBe(8);
  expect(run.stderr).not.toContain("Trying to restore");
  expect(run.stderr).toContain("Another client is connected now.");
  expect(run.stderr).toContain("⏸️  Stopped at a migration boundary.");
  await expectAtBoundary(live);
});

test("it stays where the transactions are known, and another one has committed", async () => {
  const live = await makeLive();
  const { cluster, database, url, project } = live;
  // Without a second session to be seen at the end: it writes and leaves.
  project.add("3_index", "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (slow(name));\n");
  await cluster.psql(
    database,
    `CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN $1; END'`,
  );
  const writer = (async () => {
    const count = async () => Number(await cluster.psql(database, "SELECT count(*) FROM users"));
    while ((await count()) < 3) await new Promise((resolve) => setTimeout(resolve, 50));
    await cluster.psql(database, "INSERT INTO users VALUES (42, 'an order that was acknowledged')");
  })();
  const run = await runDeploy(project, { url, args: ["--on-partial", "restore"] });
  await writer;
  expect(run.exitCode, run.stderr).toBe(8);
  expect(await cluster.psql(database, "SELECT name FROM users WHERE id = 42")).toBe("an order that was acknowledged");
});

/** Runs whenever a row is marked as rolled back. */
async function onRolledBack({ cluster, database }: Live, statement: string): Promise<void> {
  await cluster.psql(
    database,
    `CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ${statement}; RETURN NEW; END';
     CREATE TRIGGER hold BEFORE UPDATE ON _prisma_migrations FOR EACH ROW
       WHEN (NEW.rolled_back_at IS NOT NULL) EXECUTE FUNCTION hold()`,
  );
}

test("a lock that is in the way when the failed row is marked: it tries again", async () => {
  const live = await makeLive();
  const { cluster, database, url, project } = live;
  await cluster.psql(database, "CREATE TABLE held ()");
  await onRolledBack(live, "LOCK TABLE held");
  const holder = await openClient(cluster, database);
  await holder.run("BEGIN; LOCK TABLE held IN SHARE MODE");
  const running = startDeploy(project, { url, args: ["--lock-timeout", "300ms"] });
  await until("it has waited in vain", () => /55P03/.test(running.output()));
  await holder.end();
  const run = await running.ended;
  expect(run.exitCode, run.stderr).toBe(8);
  await expectAtBoundary(live);
});

test("what the server refuses after a failure is told as such, and a person is called", async () => {
  const live = await makeLive();
  await onRolledBack(live, "RAISE ''nobody rolls back here''");
  const run = await runDeploy(live.project, { url: live.url, args: APP });
  expect(run.exitCode, run.stderr).toBe(6);
  expect(run.stdout).toBe("");
  expect(run.stderr).toContain("데이터베이스 오류: write _prisma_migrations\n   nobody rolls back here (P0001)\n");
  expect(run.stderr).toContain("   상태  데이터베이스가 변경되었을 수 있습니다.");
  expect(run.stderr).toContain("deploy resolve --rolled-back 3_index");
  expectNoLeak(run, []);
});
