/**
 * A deploy that fails half applied and swaps a restored copy in: end to end, cut off in every place, and with replicas.
 * Whatever happens, the database is the failed one, whole, or the restored one, whole, and the next start goes on.
 */
import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { openClient } from "../support/client.ts";
import { sharedCluster, startCluster, temporaryDirectory } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import {
  CONTENT,
  CUT_OFF,
  expectContent,
  GOOD,
  killAt,
  type Live,
  listDatabases,
  makeLive,
  open,
  PLACES,
  ROWS,
  removeQuietCluster,
  SWAPPED,
  shut,
  startUntil,
  UNTOUCHED,
  untilAtGate,
} from "../support/gated-deploy.ts";
import { expectChoices } from "../support/printed-commands.ts";
import { makeProject, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectNoLeak, expectRefused, expectStarted } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;

afterAll(removeQuietCluster);

/** A start without anything but the database's own traces to go by: another backup folder. */
async function startElsewhere({ project, url }: Live, args: readonly string[] = APP) {
  return await runDeploy(project, { url, args, environment: { BACKUP_DIR: join(temporaryDirectory(), "backups") } });
}

for (const format of ["plain", "custom"]) {
  test(
    `half applied: swapped in from a ${format} backup, and the printed command makes room for the next swap`,
    async () => {
      const live = await makeLive();
      const { cluster, project, url } = live;
      const args = ["--backup-format", format, ...APP];
      const run = await runDeploy(project, { url, args });
      expect(run.exitCode, run.stderr).toBe(5);
      expect(run.stderr).toContain("실패하면: 트랜잭션 취소 → 복원본으로 교체 → 한 트랜잭션으로 제자리 복원\n");
      expect(run.stderr).toMatch(
        /✅ 백업에서 복원 완료\n {3}.*\n {3}실패한 데이터베이스는 보관합니다: \S+_failed_\d{8}_\d{6} \(\d/,
      );
      expectNoLeak(run, []);
      await expectContent(live, live.before);
      expect(await listDatabases(live)).toEqual(SWAPPED);

      const again = await runDeploy(project, { url, args: [...args.slice(0, 2), "--lang", "en", "--retry"] });
      expect(again.exitCode, again.stderr).toBe(5);
      expect(again.stderr).toContain(
        "swap in a restored copy: not possible. A database that failed before is still there",
      );
      await expectContent(live, live.before);
      expect(await listDatabases(live)).toEqual(SWAPPED);

      const command = /^ +(psql -X .*DROP DATABASE .*)$/m.exec(run.stderr)?.[1] ?? "no command";
      const env = {
        PATH: `${dirname(findClientTool("psql")?.path ?? "")}:${process.env.PATH}`,
        PGHOST: cluster.host,
        PGPORT: String(cluster.port),
        PGUSER: cluster.superuser,
      };
      execFileSync("sh", ["-c", command], { env, stdio: "ignore" });
      expect(await listDatabases(live)).toEqual(UNTOUCHED);
      project.add("2_half", GOOD);
      expectStarted(await runDeploy(project, { url, args }));
    },
    TIMEOUT_MS,
  );
}

for (const place of PLACES) {
  test(
    `the deploy is killed at ${place} of the restore: shut until the next start, which finds the failed database`,
    async () => {
      const { live } = await killAt(APP, place);
      expect(await listDatabases(live)).toEqual(CUT_OFF);
      // It may look, and changes nothing.
      const status = await startElsewhere(live, ["status"]);
      expectRefused(status, { exitCode: 7, code: "SWAP_UNFINISHED" });
      const resolved = await startElsewhere(live, ["resolve", "--rolled-back", "2_half"]);
      expectRefused(resolved, { exitCode: 7, code: "SWAP_UNFINISHED" });
      expect(await listDatabases(live)).toEqual(CUT_OFF);

      const next = await startElsewhere(live);
      expect(next.exitCode, next.stderr).toBe(3);
      expect(next.stderr).toContain("중단된 복원을 취소했습니다.");
      open(live, place);
      expect(await listDatabases(live)).toEqual(UNTOUCHED);
      await expectContent(live, live.failed);
    },
    TIMEOUT_MS,
  );

  test(
    `the restoring backend is ended at ${place}: restored in place instead`,
    async () => {
      const { live, running, pid } = await startUntil(APP, place);
      await live.cluster.psql("postgres", `SELECT pg_terminate_backend(${pid})`);
      open(live, place);
      const run = await running.ended;
      expect(run.exitCode, run.stderr).toBe(5);
      expect(run.stderr).toContain("다음 방법을 시도합니다: 한 트랜잭션으로 제자리 복원");
      expect(await listDatabases(live)).toEqual(UNTOUCHED);
      await expectContent(live, live.before);
    },
    TIMEOUT_MS,
  );
}

test(
  "the deploy is killed between the shut door and the renames: the next start finishes, and deploys",
  async () => {
    const { live, running } = await startUntil(APP, PLACES[3]);
    const { cluster, database, project } = live;
    // Whoever has begun to alter the database lets nobody rename it.
    const obstacle = await openClient(cluster, "postgres");
    await obstacle.run(`BEGIN; COMMENT ON DATABASE "${database}" IS 'in the way'`);
    open(live, PLACES[3]);
    const waiting = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%RENAME TO%' AND wait_event_type = 'Lock'
      AND datname = 'postgres' AND pid <> pg_backend_pid()`;
    await until("the renames wait", async () => (await cluster.psql("postgres", waiting)) === "1");
    running.kill("SIGKILL");
    await running.ended;
    await obstacle.run("ROLLBACK");
    await obstacle.end();
    expect(await listDatabases(live)).toEqual(CUT_OFF);
    project.add("2_half", GOOD);
    const next = await startElsewhere(live);
    expectStarted(next);
    expect(next.stderr).toContain("중단된 복원을 끝냈습니다.");
    expect(await listDatabases(live)).toEqual(SWAPPED);
    expect(await cluster.psql(database, "SELECT count(*) FROM gone, big WHERE body LIKE 'row %'")).toBe(String(ROWS));
    expect(
      await cluster.psql(
        database,
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()",
      ),
    ).toBe("");
  },
  TIMEOUT_MS,
);

test(
  "the deploy is killed in the restore, and the next one is not to restore: undone, although there is its journal",
  async () => {
    const { live } = await killAt(APP, 500);
    const { url, project } = live;
    open(live, 500);
    const next = await runDeploy(project, { url, args: ["--restore", "never", ...APP] });
    expect(next.exitCode, next.stderr).toBe(6);
    expectChoices(next, live.database, "2_half");
    expect(next.stderr).toContain("중단된 복원을 취소했습니다.");
    expect(await listDatabases(live)).toEqual(UNTOUCHED);
    await expectContent(live, live.failed);
  },
  TIMEOUT_MS,
);

test(
  "the deploy is killed in the restore, and somebody opens the door and shuts it: undone, although there is its journal",
  async () => {
    const { live } = await killAt(APP, 500);
    const { cluster, database, url, project } = live;
    await cluster.psql("postgres", `ALTER DATABASE "${database}" ALLOW_CONNECTIONS true`);
    await cluster.psql(database, "CREATE TABLE notes (n int)");
    await cluster.psql("postgres", `ALTER DATABASE "${database}" ALLOW_CONNECTIONS false`);
    open(live, 500);
    const next = await runDeploy(project, { url, args: APP });
    expect(next.exitCode, next.stderr).toBe(6);
    expectChoices(next, live.database, "2_half");
    expect(next.stderr).toContain("중단된 복원을 취소했습니다.");
    expect(await listDatabases(live)).toEqual(UNTOUCHED);
    expect(await cluster.psql(database, "SELECT count(*) FROM notes, half")).toBe("0");
  },
  TIMEOUT_MS,
);

test(
  "the deploy is killed in the restore, and the next one has its journal: it restores, and deploys",
  async () => {
    const { live } = await killAt(APP, 500);
    const { cluster, database, url, project } = live;
    open(live, 500);
    project.add("2_half", GOOD);
    const next = await runDeploy(project, { url, args: APP });
    expectStarted(next);
    expect(next.stderr).toContain("중단된 복원을 끝냈습니다.");
    expect(next.stderr).toContain("중단된 배포가 이미 복원을 마쳤습니다.");
    expect(await listDatabases(live)).toEqual(SWAPPED);
    expect(await cluster.psql(database, "SELECT count(*) FROM gone, big WHERE body LIKE 'row %'")).toBe(String(ROWS));
  },
  TIMEOUT_MS,
);

test(
  "what keeps a role from swapping is told before anything is done, with the right that would help",
  async () => {
    const cluster = await sharedCluster();
    const owner = `owner_${randomBytes(4).toString("hex")}`;
    await cluster.psql("postgres", `CREATE ROLE ${owner} LOGIN`);
    const database = await cluster.createDatabase({ owner });
    const url = cluster.url(database, { user: owner });
    const project = makeProject({ "1_half": "CREATE TABLE half (id int);\nCOMMIT;\nSELECT 1 / 0;\n" });
    const before = dumpDatabase(cluster, database);
    const plan = await runDeploy(project, { url, args: ["plan", "--lang", "en"] });
    expect(plan.exitCode, plan.stderr).toBe(0);
    expect(plan.stderr).toContain(
      "   On failure: roll back the transaction → restore in place, in one transaction\n" +
        "     swap in a restored copy: not possible. The role may not create databases (ALTER ROLE ... CREATEDB).\n",
    );
    const refused = await runDeploy(project, { url, args: ["--restore", "swap", ...APP] });
    expectRefused(refused, { exitCode: 4, code: "NO_AUTOMATIC_RESTORE", shows: ["ALTER ROLE ... CREATEDB"] });
    expect(dumpDatabase(cluster, database)).toBe(before);
    await cluster.psql("postgres", `ALTER ROLE ${owner} CREATEDB`);
    const granted = await runDeploy(project, { url, args: ["plan", "--restore", "swap"] });
    expect(granted.stderr).toContain("   실패하면: 트랜잭션 취소 → 복원본으로 교체\n");
  },
  TIMEOUT_MS,
);

test(
  "the database that others are administered from is swapped from template1",
  async () => {
    const own = await startCluster();
    try {
      const project = makeProject({ "1_base": "CREATE TABLE gone (id int);\n" });
      const url = own.url("postgres");
      expect((await runDeploy(project, { url })).exitCode).toBe(0);
      project.add("2_half", "DROP TABLE gone;\nCOMMIT;\nSELECT 1 / 0;\n");
      const run = await runDeploy(project, { url, args: APP });
      expect(run.exitCode, run.stderr).toBe(5);
      expect(run.stderr).toContain("-d template1 -c");
      expect(await own.psql("postgres", "SELECT to_regclass('gone')")).toBe("gone");
      const list = await own.psql("template1", "SELECT datname FROM pg_database ORDER BY datname");
      expect(list).toMatch(/^postgres\npostgres_failed_\d{8}_\d{6}(_\d+)?\ntemplate0\ntemplate1$/);
    } finally {
      await own.remove();
    }
  },
  TIMEOUT_MS,
);

test(
  "replicas wait while one swaps, whether they came before or in the middle, and then deploy",
  async () => {
    const live = await makeLive();
    const { cluster, database, url, project } = live;
    shut(live, 500);
    const holder = await openClient(cluster, database);
    await holder.run("SELECT pg_advisory_lock(72707369)");
    const early = Array.from({ length: 2 }, () => startDeploy(project, { url, args: APP }));
    await until("both wait", () => early.every((run) => run.output().includes("다른 배포가 끝나기를 기다리는 중")));
    await holder.end();
    await untilAtGate(live, early[0]);
    const late = startDeploy(project, { url, args: APP });
    await until("the late one waits", () => late.output().includes("다른 배포가 끝나기를 기다리는 중"));
    expect(cluster.readLog()).toContain(`database "${database}" is not currently accepting connections`);
    // The one that swaps has read its migrations; the others read theirs when it is their turn.
    project.add("2_half", GOOD);
    open(live, 500);
    const ended = await Promise.all([...early, late].map((run) => run.ended));
    expect(ended.map(({ exitCode }) => exitCode).sort()).toEqual([0, 0, 5]);
    expect(await listDatabases(live)).toEqual(SWAPPED);
    expect(await cluster.psql(database, "SELECT count(*) FROM gone, half")).toBe("0");
  },
  TIMEOUT_MS,
);

test(
  "a replica that has waited goes on with the swap of one that is killed, and deploys",
  async () => {
    const live = await makeLive();
    const { cluster, database, url, project } = live;
    shut(live, 500);
    const holder = await openClient(cluster, database);
    await holder.run("SELECT pg_advisory_lock(72707369)");
    const both = Array.from({ length: 2 }, () => startDeploy(project, { url, args: APP }));
    await until("both wait", () => both.every((run) => run.output().includes("다른 배포가 끝나기를 기다리는 중")));
    await holder.end();
    await untilAtGate(live, both[0]);
    const first = both.find((run) => run.output().includes("🔄 백업에서 복원을 시도합니다..."));
    const second = both.find((run) => run !== first);
    project.add("2_half", GOOD);
    first?.kill("SIGKILL");
    await first?.ended;
    open(live, 500);
    if (second === undefined) throw new Error("there is no second one");
    const run = await second.ended;
    expectStarted(run);
    expect(run.stderr).toContain("중단된 복원을 끝냈습니다.");
    expect(await listDatabases(live)).toEqual(SWAPPED);
    expect(await cluster.psql(database, "SELECT count(*) FROM gone, half")).toBe("0");
  },
  TIMEOUT_MS,
);

for (const strangers of [1, 2, 3]) {
  test(
    `no ${strangers} sessions of strangers hide behind those that a waiting replica had before the mark`,
    async () => {
      const live = await makeLive();
      const { cluster, database, url, project } = live;
      const flag = makeFlagPath(cluster);
      project.add("2_half", `DROP TABLE gone;\nCOMMIT;\n${waitForFile(flag)}SELECT 1 / 0;\n`);
      const holder = await openClient(cluster, database);
      await holder.run("CREATE TABLE notes (n int); SELECT pg_advisory_lock(72707369)");
      const both = Array.from({ length: 2 }, () => startDeploy(project, { url, args: APP }));
      await until("both wait", () => both.every((run) => run.output().includes("다른 배포가 끝나기를 기다리는 중")));
      await holder.end();
      await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
      const first = both.find((run) => run.output().includes("🔄 마이그레이션을 시작합니다..."));
      const second = both.find((run) => run !== first);
      for (let n = 1; n <= strangers; n += 1) await cluster.psql(database, `INSERT INTO notes VALUES (${n})`);
      first?.kill("SIGKILL");
      await first?.ended;
      writeFileSync(flag, "");
      if (second === undefined) throw new Error("there is no second one");
      const run = await second.ended;
      expect(run.exitCode, run.stderr).toBe(6);
      expectChoices(run, database, "2_half");
      expect(await cluster.psql(database, "SELECT count(*) FROM notes")).toBe(String(strangers));
    },
    TIMEOUT_MS,
  );
}

test(
  "a restore by hand that is killed leaves the door open and a copy: a start with nothing to do removes it first",
  async () => {
    const live = await makeLive();
    const { cluster, database, url, project } = live;
    await cluster.psql("postgres", `COMMENT ON DATABASE "${database}" IS 'ours'`);
    project.add("2_half", GOOD);
    expectStarted(await runDeploy(project, { url, args: APP }));
    const content = dumpDatabase(cluster, database);
    shut(live, 900);
    const restoring = startDeploy(project, { url, args: ["restore", "latest", "--yes-restore", database] });
    await untilAtGate(live, restoring);
    restoring.kill("SIGKILL");
    await restoring.ended;
    expect(await listDatabases(live)).toEqual(["live", "live_restore_STAMP"]);
    const comment = `SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '${database}'`;
    expect(await cluster.psql("postgres", comment)).toMatch(/^ours\n\[prisma-safe-deploy .*\]$/);
    const status = await startElsewhere(live, ["status"]);
    expect(status.exitCode, status.stderr).toBe(0);

    const next = await startElsewhere(live);
    expectStarted(next);
    expect(next.stderr).toContain("중단된 복원을 취소했습니다.");
    open(live, 900);
    expect(await listDatabases(live)).toEqual(UNTOUCHED);
    expect(await cluster.psql("postgres", comment)).toBe("ours");
    expect(dumpDatabase(cluster, database)).toBe(content);
    const quiet = await startElsewhere(live);
    expectStarted(quiet);
    expect(quiet.stderr).not.toContain("복원");
  },
  TIMEOUT_MS,
);

test(
  "a restore by hand that has waited for one that is killed removes its copy, and restores",
  async () => {
    const live = await makeLive();
    const { cluster, database, url, project } = live;
    project.add("2_half", GOOD);
    expectStarted(await runDeploy(project, { url, args: APP }));
    shut(live, 900);
    const holder = await openClient(cluster, database);
    await holder.run("SELECT pg_advisory_lock(72707369)");
    const both = Array.from({ length: 2 }, () =>
      startDeploy(project, { url, args: ["restore", "latest", "--yes-restore", database] }),
    );
    await until("both wait", () => both.every((run) => run.output().includes("다른 배포가 끝나기를 기다리는 중")));
    await holder.end();
    await untilAtGate(live);
    const first = both.find((run) => run.output().includes("🔄 백업에서 복원을 시도합니다..."));
    const second = both.find((run) => run !== first);
    first?.kill("SIGKILL");
    await first?.ended;
    open(live, 900);
    const run = await second?.ended;
    expect(run?.exitCode, run?.stderr).toBe(0);
    expect(run?.stderr).toContain("중단된 복원을 취소했습니다.");
    expect(await listDatabases(live)).toEqual(SWAPPED);
    expect(dumpDatabase(cluster, database, CONTENT)).toBe(live.before);
  },
  TIMEOUT_MS,
);

test(
  "a client that commits all the time: --restore=always swaps, and every acknowledged write is in the one that is kept",
  async () => {
    const live = await makeLive();
    const { cluster, database, url, project } = live;
    const client = await openClient(cluster, database);
    await client.run("CREATE TABLE notes (n int)");
    let acknowledged = 0;
    const writing = (async () => {
      for (;;) {
        await client.run(`INSERT INTO notes VALUES (${acknowledged + 1})`);
        acknowledged += 1;
      }
    })().catch(() => {});
    await until("it writes", () => acknowledged > 3);
    const refused = await runDeploy(project, { url, args: ["--restore", "swap", ...APP] });
    expect(refused.exitCode, refused.stderr).toBe(6);
    expectChoices(refused, live.database, "2_half");
    expect(await listDatabases(live)).toEqual(UNTOUCHED);
    await cluster.psql(database, "UPDATE _prisma_migrations SET rolled_back_at = now() WHERE finished_at IS NULL");
    await cluster.psql(database, "DROP TABLE half; CREATE TABLE gone ()");
    const run = await runDeploy(project, { url, args: ["--restore", "always", ...APP] });
    await writing;
    expect(run.exitCode, run.stderr).toBe(5);
    expect(run.stderr).toContain("두 데이터베이스를 모두 보관합니다");
    expect(await listDatabases(live)).toEqual(SWAPPED);
    const failed = /보관합니다: (\S+_failed_\S+)/.exec(run.stderr)?.[1] ?? "";
    await cluster.psql("postgres", `ALTER DATABASE "${failed}" ALLOW_CONNECTIONS true`);
    const kept = Number(await cluster.psql(failed, "SELECT count(*) FROM notes"));
    // The last one may have been committed without an answer.
    expect([acknowledged, acknowledged + 1]).toContain(kept);
    expect(await cluster.psql(database, "SELECT to_regclass('half')")).toBe("");
  },
  TIMEOUT_MS,
);
