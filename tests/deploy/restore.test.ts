/**
 * `deploy restore` as a person uses it: a backup of any day, onto the database or a new one, whole or not at all.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listDeploys } from "../../lib/journal/deploys.ts";
import { parseLines } from "../../lib/journal/lines.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { openClient } from "../support/client.ts";
import { type Cluster, startCluster, temporaryDirectory } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import {
  DEPLOY_SCRIPT,
  type DeployRun,
  makeProject,
  type Project,
  runDeploy,
  startDeploy,
  until,
} from "../support/project.ts";
import { expectNoLeak, expectRefused } from "../support/refusal.ts";
import { createNasty, createRoles, DAMAGE, readState } from "../support/restore.ts";

const TIMEOUT_MS = 300_000;
const ROLES = { superuser: "postgres", "owner with CREATEDB": "maker", "owner without CREATEDB": "plain" } as const;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
  await cluster.psql("postgres", "CREATE ROLE maker LOGIN CREATEDB; CREATE ROLE plain LOGIN; CREATE ROLE guest LOGIN");
}, TIMEOUT_MS);

afterAll(async () => await cluster.remove());

interface Live {
  readonly database: string;
  readonly user: string;
  readonly url: string;
  readonly project: Project;
  /** Before the second migration, whose backup is the one that matters. */
  readonly before: string;
}

const FIRST = `CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
  INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 500) AS n;
  CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);
  INSERT INTO orders SELECT n, n FROM generate_series(1, 100) AS n;`;

/** Deployed twice, and used since. */
async function makeLive(user: string, args: readonly string[] = []): Promise<Live> {
  const database = await cluster.createDatabase({ owner: user });
  const url = cluster.url(database, { user });
  const project = makeProject({ "1_first": FIRST });
  expect((await runDeploy(project, { url })).exitCode).toBe(0);
  const before = dumpDatabase(cluster, database);
  project.add("2_second", "ALTER TABLE users ADD email text; DROP TABLE orders; CREATE TABLE later (id int);");
  const second = await runDeploy(project, { url, args });
  expect(second.exitCode, second.stderr).toBe(0);
  await cluster.psql(database, "UPDATE users SET email = 'x'; INSERT INTO later VALUES (1), (2)");
  await cluster.psql("postgres", `ALTER DATABASE "${database}" SET work_mem = '7MB'`);
  return { database, user, url, project, before };
}

async function restore({ url, project }: Live, ...args: readonly string[]): Promise<DeployRun> {
  return await runDeploy(project, { url, args: ["restore", ...args] });
}

async function readSettings(database: string): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT datconnlimit, datallowconn, pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'), (SELECT string_agg(entry, ';' ORDER BY entry)
       FROM pg_db_role_setting, unnest(setconfig) AS entry WHERE setdatabase = d.oid) FROM pg_database AS d WHERE datname = '${database}'`,
  );
}

async function findKept(database: string): Promise<readonly string[]> {
  const names = await cluster.psql("postgres", `SELECT datname FROM pg_database WHERE datname LIKE '${database}\\_%'`);
  return names === "" ? [] : names.split("\n");
}

function backupsOf({ project }: Live): readonly string[] {
  return readdirSync(project.backupDirectory)
    .filter((name) => /\.(sql|dump)$/.test(name))
    .sort()
    .map((name) => join(project.backupDirectory, name));
}

describe.each(Object.entries(ROLES))("as %s", (_, user) => {
  test.each(["plain", "custom"])(
    "a %s backup of before: everything is as it was then, and the present database is kept where it can be",
    async (format) => {
      const live = await makeLive(user, ["--backup-format", format]);
      const settings = await readSettings(live.database);
      const present = dumpDatabase(cluster, live.database);
      const run = await restore(live, "--yes-restore", live.database);
      expect(run.exitCode, run.stderr).toBe(0);
      expect(run.stdout).toBe(`${live.database}\n`);
      expect(run.stderr).toContain("✅ 백업에서 복원 완료");
      expectNoLeak(run, []);
      expect(dumpDatabase(cluster, live.database)).toBe(live.before);
      expect(await readSettings(live.database)).toBe(settings);
      const kept = await findKept(live.database);
      if (user === "plain") {
        expect(kept).toEqual([]);
        expect(run.stderr).toContain("제자리에서 복원합니다. 백업 이후에 쓴 내용은 모두 사라집니다");
      } else {
        expect(kept).toHaveLength(1);
        expect(run.stderr).toContain(kept[0] ?? "");
        await cluster.psql("postgres", `ALTER DATABASE "${kept[0]}" ALLOW_CONNECTIONS true`);
        expect(dumpDatabase(cluster, kept[0] ?? "")).toBe(present);
      }
      // The deploy goes on from there, and an earlier kept database is no obstacle to a person.
      const again = await runDeploy(live.project, { url: live.url });
      expect(again.exitCode, again.stderr).toBe(0);
      expect((await restore(live, "--before", "2_second", "--yes-restore", live.database)).exitCode).toBe(0);
      expect(dumpDatabase(cluster, live.database)).toBe(live.before);
    },
    TIMEOUT_MS,
  );
});

describe("everything that a database can hold", () => {
  const damage = DAMAGE.replace(/INSERT INTO public\._prisma_migrations[^;]*;/, "");
  test.each([
    {
      user: "postgres",
      content: { superuserObjects: true, largeObjects: true, extensionInSchema: true, oddNames: true },
    },
    { user: "postgres", content: { oddNames: true } },
    { user: "app_owner", hasCreatedb: true, content: { oddNames: true } },
    { user: "app_owner", hasCreatedb: false, content: { oddNames: true } },
    { user: "app_owner", hasCreatedb: false, content: { superuserObjects: true, largeObjects: true, oddNames: true } },
  ])(
    "%j",
    async ({ user, hasCreatedb = false, content }) => {
      await createRoles(cluster);
      await cluster.psql("postgres", `ALTER ROLE app_owner ${hasCreatedb ? "CREATEDB" : "NOCREATEDB"}`);
      const database = await createNasty(cluster, content);
      const url = cluster.url(database, { user, parameters: { schema: "public" } });
      const project = makeProject({ "20240101_init": "", "20240202_damage": damage });
      const before = await readState(cluster, database);
      const deployed = await runDeploy(project, { url });
      expect(deployed.exitCode, deployed.stderr).toBe(0);
      expect(await readState(cluster, database)).not.toBe(before);
      const run = await runDeploy(project, { url, args: ["restore", "--yes-restore", database] });
      expect(run.exitCode, run.stderr).toBe(0);
      expect(run.stderr).toContain(
        user === "postgres" || hasCreatedb ? "복원본으로 교체합니다" : "제자리에서 복원합니다",
      );
      expect(await readState(cluster, database)).toBe(before);
    },
    TIMEOUT_MS,
  );
});

describe("which backup", () => {
  test(
    "by name, by path, the newest one, and the one before a migration",
    async () => {
      const live = await makeLive("maker");
      const [first = "", second = ""] = backupsOf(live);
      const chosen = async (...args: readonly string[]) =>
        (await restore(live, ...args)).stderr.split("\n").find((line) => line.startsWith("   백업: "));
      expect(await chosen()).toContain(second);
      expect(await chosen("latest")).toContain(second);
      expect(await chosen(first)).toContain(first);
      expect(await chosen(first.replace(/^.*\/|\.sql$/g, ""))).toContain(first);
      expect(await chosen("--before", "1_first")).toContain(first);
      expect(await chosen("--before", "2_second")).toContain(second);
      expectRefused(await restore(live, "--before", "3_third"), { exitCode: 4, code: "BACKUP_NOT_FOUND" });
      expectRefused(await restore(live, "nothing.sql"), { exitCode: 4, code: "BACKUP_NOT_FOUND" });
      expect((await cluster.psql(live.database, "SELECT count(*) FROM later")).trim()).toBe("2");
    },
    TIMEOUT_MS,
  );

  test(
    "a plain dump of the specification's own script, without a manifest, in place and as a swap",
    async () => {
      for (const user of ["maker", "plain"]) {
        const live = await makeLive(user);
        const expected = dumpDatabase(cluster, live.database);
        const path = join(temporaryDirectory(), "backup_20240101_000000.sql");
        writeFileSync(path, dump(live.database, []));
        await cluster.psql(live.database, "DROP TABLE later; DELETE FROM users WHERE id > 10");
        const run = await restore(live, path, "--yes-restore", live.database);
        expect(run.exitCode, run.stderr).toBe(0);
        expect(dumpDatabase(cluster, live.database)).toBe(expected);
      }
    },
    TIMEOUT_MS,
  );

  test(
    "of another database: it is said, and it is restored",
    async () => {
      const live = await makeLive("maker");
      const other = await makeLive("maker");
      const [, second = ""] = backupsOf(other);
      const run = await restore(live, second, "--yes-restore", live.database);
      expect(run.exitCode, run.stderr).toBe(0);
      expect(run.stderr).toContain(`다른 데이터베이스의 백업입니다: ${other.database}`);
      expect(dumpDatabase(cluster, live.database)).toBe(other.before);
    },
    TIMEOUT_MS,
  );
});

function dump(database: string, args: readonly string[]): string {
  const env = { PATH: process.env.PATH, PGHOST: cluster.host, PGUSER: "postgres" };
  return spawnSync(findClientTool("pg_dump")?.path ?? "pg_dump", [...args, database], { env, encoding: "utf8" }).stdout;
}

describe("nothing is touched", () => {
  test(
    "without consent, or with consent to another database",
    async () => {
      const live = await makeLive("plain");
      const present = dumpDatabase(cluster, live.database);
      expectRefused(await restore(live), { exitCode: 2, code: "RESTORE_NOT_CONSENTED", shows: [live.database] });
      expectRefused(await restore(live, "--yes-restore", "production"), {
        exitCode: 2,
        code: "RESTORE_NOT_CONSENTED",
        shows: ["production"],
      });
      expect(dumpDatabase(cluster, live.database)).toBe(present);
    },
    TIMEOUT_MS,
  );

  test(
    "by a file that is cut short or changed, by one that leads psql elsewhere, by one that ends the transaction",
    async () => {
      const live = await makeLive("plain");
      const present = dumpDatabase(cluster, live.database);
      const [, second = ""] = backupsOf(live);
      const folder = temporaryDirectory();
      const cut = join(folder, "cut.sql");
      copyFileSync(second, cut);
      truncateSync(cut, readFileSync(second).length - 1000);
      const led = join(folder, "led.sql");
      writeFileSync(led, dump(live.database, ["--create"]));
      const largeObjects = join(folder, "lo.sql");
      await cluster.psql(live.database, "SELECT lo_create(4242)");
      writeFileSync(largeObjects, dump(live.database, []));
      await cluster.psql(live.database, "SELECT lo_unlink(4242)");
      for (const [path, code] of [
        [cut, "BACKUP_NOT_VERIFIED"],
        [led, "BACKUP_NOT_VERIFIED"],
        [largeObjects, "RESTORE_IMPOSSIBLE"],
      ] as const) {
        expectRefused(await restore(live, path, "--yes-restore", live.database), { exitCode: 4, code });
      }
      writeFileSync(second, readFileSync(second, "utf8").replace("user 250", "user 999"));
      expectRefused(await restore(live, "--yes-restore", live.database), {
        exitCode: 4,
        code: "BACKUP_NOT_VERIFIED",
      });
      expect(dumpDatabase(cluster, live.database)).toBe(present);
    },
    TIMEOUT_MS,
  );

  test(
    "by a dump that fails at its end: as before, exit 5",
    async () => {
      const live = await makeLive("plain");
      const present = dumpDatabase(cluster, live.database);
      const path = join(temporaryDirectory(), "broken.sql");
      const text = dump(live.database, []).replace(
        "--\n-- PostgreSQL database dump complete",
        "SELECT 1 / 0;\n\n--\n-- PostgreSQL database dump complete",
      );
      writeFileSync(path, text);
      const run = await restore(live, path, "--yes-restore", live.database);
      expect(run.exitCode, run.stderr).toBe(5);
      expect(run.stderr).toContain("   상태  데이터베이스는 변경되지 않았습니다.");
      expect(run.stderr).toContain("RESTORE_FAILED (종료 코드 5)");
      expect(dumpDatabase(cluster, live.database)).toBe(present);
    },
    TIMEOUT_MS,
  );

  test(
    "while a deploy holds the lock: it waits, and then says who",
    async () => {
      const live = await makeLive("maker");
      const holder = await openClient(cluster, live.database);
      await holder.run("SELECT pg_advisory_lock(72707369)");
      const run = await restore(live, "--lock-wait", "1s", "--yes-restore", live.database);
      expectRefused(run, { exitCode: 75, code: "LOCK_NOT_ACQUIRED" });
      await holder.end();
      expect((await restore(live, "--yes-restore", live.database)).exitCode).toBe(0);
    },
    TIMEOUT_MS,
  );
});

test(
  "others who are connected, and write all the time, don't keep a person from restoring in place",
  async () => {
    const live = await makeLive("plain");
    const other = await openClient(cluster, live.database);
    let isOver = false;
    const writing = (async () => {
      // The table is none of the backup's.
      while (!isOver) await other.run("INSERT INTO later VALUES (3)").catch(() => {});
    })();
    const run = await restore(live, "--yes-restore", live.database);
    isOver = true;
    await writing;
    expect(run.exitCode, run.stderr).toBe(0);
    expect(dumpDatabase(cluster, live.database)).toBe(live.before);
    expect(await other.run("SELECT count(*) FROM orders")).toBe("100");
    await other.end();
  },
  TIMEOUT_MS,
);

test(
  "after a deploy that could not be undone: the command that it has printed, and the journal knows",
  async () => {
    const live = await makeLive("maker");
    const before = dumpDatabase(cluster, live.database);
    live.project.add("3_half", "DELETE FROM users WHERE id > 100; COMMIT; SELECT 1 / 0;");
    const idle = await openClient(cluster, live.database);
    const failed = await runDeploy(live.project, { url: live.url });
    expect(failed.exitCode, failed.stderr).toBe(6);
    await idle.end();
    const [, words = ""] = /^ +deploy (restore .*)$/m.exec(failed.stderr) ?? [];
    const run = await runDeploy(live.project, { url: live.url, args: words.split(" ") });
    expect(run.exitCode, run.stderr).toBe(0);
    expect(dumpDatabase(cluster, live.database)).toBe(before);
    const lines = parseLines(readFileSync(join(live.project.backupDirectory, "journal.jsonl"), "utf8"));
    expect(lines.slice(-2)).toMatchObject([
      { step: "restored-by-hand", rung: "swap" },
      { step: "ended", outcome: "restored", isFoundLater: true },
    ]);
    expect(listDeploys(lines).at(-1)?.end?.outcome).toBe("restored");
    live.project.add("3_half", "DELETE FROM users WHERE id > 100;");
    const next = await runDeploy(live.project, { url: live.url });
    expect(next.exitCode, next.stderr).toBe(0);
  },
  TIMEOUT_MS,
);

describe("--into", () => {
  test(
    "a new database, with the present one untouched; never over one that is there",
    async () => {
      const live = await makeLive("maker");
      const present = dumpDatabase(cluster, live.database);
      const name = `Copy of "${live.database}"`;
      const run = await restore(live, "--into", name);
      expect(run.exitCode, run.stderr).toBe(0);
      expect(run.stdout).toBe(`${name}\n`);
      expect(dumpDatabase(cluster, `dbname='${name}'`)).toBe(live.before);
      expect(dumpDatabase(cluster, live.database)).toBe(present);
      expect(await findKept(live.database)).toEqual([]);
      expectRefused(await restore(live, "--into", name), { exitCode: 4, code: "RESTORE_TARGET_EXISTS" });
      expectRefused(await restore(live, "--into", live.database), { exitCode: 4, code: "RESTORE_TARGET_EXISTS" });
      const plain = await makeLive("plain");
      expectRefused(await restore(plain, "--into", "elsewhere"), { exitCode: 4, code: "RESTORE_IMPOSSIBLE" });
    },
    TIMEOUT_MS,
  );

  test(
    "killed in the middle: no database of that name, and the next try works",
    async () => {
      const live = await makeLive("maker");
      // The restore waits at a table that it has made, whose index needs what another session has locked.
      const name = `${live.database}_copy`;
      const path = slowDump(live.database);
      const running = startDeploy(live.project, { url: live.url, args: ["restore", path, "--into", name] });
      const scratch = async () => (await findKept(live.database)).find((one) => one.includes("_restore_")) ?? "";
      await until("it restores", async () => {
        const [database] = [await scratch()];
        const query = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${database}' AND query LIKE '%pg_sleep%'`;
        return (await cluster.psql("postgres", query)) !== "0";
      });
      running.kill("SIGKILL");
      await running.ended;
      expect(await findKept(live.database)).not.toContain(name);
      // The tool of the killed restore works on.
      await cluster.psql(
        "postgres",
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${await scratch()}'`,
      );
      await until("nobody is in it", async () => {
        const query = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${await scratch()}'`;
        return (await cluster.psql("postgres", query)) === "0";
      });
      const quick = join(temporaryDirectory(), path.replace(/^.*\//, ""));
      writeFileSync(quick, readFileSync(path, "utf8").replace("pg_sleep(600)", "pg_sleep(0)"));
      const again = await restore(live, quick, "--into", name);
      expect(again.exitCode, again.stderr).toBe(0);
      expect(await findKept(live.database)).toEqual([name]);
      expect(dumpDatabase(cluster, name)).toBe(dumpDatabase(cluster, live.database));
    },
    TIMEOUT_MS,
  );
});

/** A dump that never comes to its end. */
function slowDump(database: string): string {
  const path = join(temporaryDirectory(), "backup_20240101_000000.sql");
  const end = "--\n-- PostgreSQL database dump complete";
  writeFileSync(path, dump(database, []).replace(end, `SELECT pg_sleep(600);\n\n${end}`));
  return path;
}

describe("cut off", () => {
  test.each(["maker", "plain"])(
    "as %s: killed while it restores, the database is as it was, and the next start works",
    async (user) => {
      const live = await makeLive(user);
      const present = dumpDatabase(cluster, live.database);
      const path = slowDump(live.database);
      const running = startDeploy(live.project, {
        url: live.url,
        args: ["restore", path, "--yes-restore", live.database],
      });
      const sleeping = `FROM pg_stat_activity WHERE datname LIKE '${live.database}%' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()`;
      await until("it restores", async () => (await cluster.psql("postgres", `SELECT count(*) ${sleeping}`)) !== "0");
      running.kill("SIGKILL");
      await running.ended;
      await cluster.psql("postgres", `SELECT pg_terminate_backend(pid) ${sleeping}`);
      const next = await runDeploy(live.project, { url: live.url });
      expect(next.exitCode, next.stderr).toBe(0);
      expect(dumpDatabase(cluster, live.database)).toBe(present);
      const [, second = ""] = backupsOf(live);
      const again = await restore(live, second, "--yes-restore", live.database);
      expect(again.exitCode, again.stderr).toBe(0);
      expect(dumpDatabase(cluster, live.database)).toBe(live.before);
      expect((await findKept(live.database)).filter((name) => !name.includes("_failed_"))).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

test.each(["maker", "plain"])(
  "as %s: told to stop while it restores, it stops and leaves nothing",
  async (user) => {
    const live = await makeLive(user);
    const present = dumpDatabase(cluster, live.database);
    const args = ["restore", slowDump(live.database), "--yes-restore", live.database];
    const running = startDeploy(live.project, { url: live.url, args });
    await until("it restores", async () => {
      const query = `SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '${live.database}%' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()`;
      return (await cluster.psql("postgres", query)) !== "0";
    });
    running.kill("SIGTERM");
    const run = await running.ended;
    expect(run.exitCode, run.stderr).toBe(143);
    expect(run.stderr).toContain("   상태  데이터베이스는 변경되지 않았습니다.");
    expect(dumpDatabase(cluster, live.database)).toBe(present);
    expect(await findKept(live.database)).toEqual([]);
  },
  TIMEOUT_MS,
);

test(
  "on a terminal the database's name is asked for, and nothing else will do",
  async () => {
    const script = Bun.which("script");
    if (script === null) return;
    const live = await makeLive("plain");
    const answer = async (text: string): Promise<number | null> => {
      const folder = temporaryDirectory();
      mkdirSync(join(folder, "answers"));
      const command = `'${process.execPath}' --no-env-file '${DEPLOY_SCRIPT}' restore`;
      const child = Bun.spawn([script, "-qec", command, "/dev/null"], {
        cwd: live.project.directory,
        env: {
          PATH: process.env.PATH,
          DATABASE_URL: live.url,
          BACKUP_DIR: live.project.backupDirectory,
          TERM: "dumb",
        },
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
      });
      let shown = "";
      const decoder = new TextDecoder();
      for await (const piece of child.stdout) {
        shown += decoder.decode(piece);
        if (shown.includes("데이터베이스 이름을 입력하십시오: ") && text !== "") {
          child.stdin.write(text);
          child.stdin.flush();
          text = "";
        }
      }
      return await child.exited;
    };
    expect(await answer("no\n")).toBe(2);
    expect(await answer(`${live.database}\n`)).toBe(0);
    expect(dumpDatabase(cluster, live.database)).toBe(live.before);
  },
  TIMEOUT_MS,
);
