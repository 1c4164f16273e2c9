/** `status`: the stable shape of its JSON, its states and exit codes, and what it calls running and what failed. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Status } from "../lib/migrations/status.ts";
import { openClient } from "./support/client.ts";
import { type Cluster, sharedCluster } from "./support/cluster.ts";
import { makeProject, type Project, runDeploy, until } from "./support/project.ts";

setDefaultTimeout(120_000);

const PAGE = readFileSync(join(import.meta.dirname, "..", "docs", "status.md"), "utf8");

const NOTHING: Status = {
  state: "up-to-date",
  problem: null,
  found: 2,
  applied: [],
  pending: [],
  running: [],
  runningBy: null,
  failed: [],
  rolledBack: [],
  missing: [],
  edited: [],
  late: [],
  lastCommon: "3_c",
  fence: null,
};

const UNFINISHED = `INSERT INTO _prisma_migrations (id, checksum, migration_name)
  VALUES ('11111111-1111-4111-8111-111111111111', repeat('0', 64), '2_b')`;
const LOCK = "SELECT pg_advisory_lock(72707369)";

interface Case {
  readonly name: string;
  readonly sql?: string;
  readonly change?: (project: Project) => void;
  readonly status: Partial<Status>;
  readonly exitCode: number;
}

/** Each begins with 1_a and 3_c applied and in the folder. */
const CASES: readonly Case[] = [
  { name: "up to date", status: {}, exitCode: 0 },
  {
    name: "pending, late among them",
    change: (project) => {
      project.add("2_b", "");
      project.add("4_d", "");
    },
    status: { state: "pending", found: 4, pending: ["2_b", "4_d"], late: ["2_b"], lastCommon: "1_a" },
    exitCode: 10,
  },
  {
    name: "failed",
    sql: UNFINISHED,
    change: (project) => project.add("2_b", ""),
    status: { state: "blocked", problem: "HISTORY_FAILED", found: 3, failed: ["2_b"] },
    exitCode: 3,
  },
  {
    name: "rolled back",
    sql: `${UNFINISHED}; UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = '2_b'`,
    change: (project) => project.add("2_b", ""),
    status: { state: "pending", found: 3, pending: ["2_b"], rolledBack: ["2_b"], late: ["2_b"], lastCommon: "1_a" },
    exitCode: 10,
  },
  {
    name: "missing and edited",
    change: (project) => {
      rmSync(join(project.directory, "prisma", "migrations", "1_a"), { recursive: true });
      project.add("3_c", "-- edited\n");
    },
    status: { found: 1, applied: ["3_c"], missing: ["1_a"], edited: ["3_c"] },
    exitCode: 0,
  },
  {
    name: "diverged, the first one pending",
    change: (project) => {
      rmSync(join(project.directory, "prisma", "migrations", "3_c"), { recursive: true });
      project.add("0_z", "");
    },
    status: {
      state: "pending",
      applied: ["1_a"],
      pending: ["0_z"],
      missing: ["3_c"],
      late: ["0_z"],
      lastCommon: null,
    },
    exitCode: 10,
  },
];

describe("status --json", () => {
  test.each([...CASES])("$name", async ({ sql, change, status, exitCode }) => {
    const { cluster, database, project } = await makeDeployed();
    if (sql !== undefined) await cluster.psql(database, sql);
    change?.(project);
    const run = await runDeploy(project, { url: cluster.url(database), args: ["status", "--json"] });
    expect(JSON.parse(run.stdout)).toEqual({ ...NOTHING, applied: ["1_a", "3_c"], ...status });
    expect(run.exitCode).toBe(exitCode);
  });

  test("no history: blocked where there are tables, pending where there are none", async () => {
    const cluster = await sharedCluster();
    const project = makeProject({ "1_a": "" });
    for (const [sql, status, exitCode] of [
      ["SELECT 1", { state: "pending" }, 10],
      ["CREATE TABLE t (id integer)", { state: "blocked", problem: "BASELINE_NEEDED" }, 3],
    ] as const) {
      const database = await cluster.createDatabase();
      await cluster.psql(database, sql);
      const run = await runDeploy(project, { url: cluster.url(database), args: ["status", "--json"] });
      expect(JSON.parse(run.stdout)).toEqual({ ...NOTHING, found: 1, pending: ["1_a"], lastCommon: null, ...status });
      expect(run.exitCode).toBe(exitCode);
    }
  });

  test("an unfinished row is running while the lock is held, and failed when it is not any more", async () => {
    const { cluster, database, project } = await makeDeployed();
    await cluster.psql(database, UNFINISHED);
    const options = { url: cluster.url(database), args: ["status", "--json"] };
    const holder = await openClient(cluster, database);
    await holder.run(LOCK);
    const running = await runDeploy(project, options);
    expect(JSON.parse(running.stdout)).toMatchObject({
      state: "running",
      running: ["2_b"],
      runningBy: { pid: holder.pid, applicationName: "psql", since: expect.stringMatching(/^\d{4}-.*Z$/) },
      failed: [],
    });
    expect(running.exitCode).toBe(10);
    await holder.end();
    const failed = await runDeploy(project, options);
    expect(JSON.parse(failed.stdout)).toMatchObject({ state: "blocked", running: [], failed: ["2_b"] });
    expect(failed.exitCode).toBe(3);
  });

  test("without the lock, it is running while a session runs a part of its script", async () => {
    const { cluster, database, project } = await makeDeployed();
    await cluster.psql(database, UNFINISHED);
    // As psql sends it.
    project.add("2_b", "SELECT pg_sleep(600), 'of 2_b'\n;\n");
    const orphan = await openClient(cluster, database);
    const asleep = orphan.run("SELECT pg_sleep(600), 'of 2_b'").catch(() => {});
    const sleeping = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${database}' AND wait_event = 'PgSleep'`;
    await until("it sleeps", async () => (await cluster.psql("postgres", sleeping)) !== "0");
    const run = await runDeploy(project, { url: cluster.url(database), args: ["status", "--json"] });
    expect(JSON.parse(run.stdout)).toMatchObject({
      state: "running",
      running: ["2_b"],
      runningBy: { pid: orphan.pid, applicationName: "psql" },
      failed: [],
    });
    await cluster.psql("postgres", `SELECT pg_terminate_backend(${orphan.pid})`);
    await asleep;
    await orphan.end();
  });

  test("its fields, states and exit codes are those of docs/status.md", () => {
    const [fields = ""] = PAGE.split("## `plan --json`").map((part) => part.split("## `--json`")[1] ?? "");
    const named = [...fields.matchAll(/^\| `(\w+)` \|/gm)].map(([, field]) => field as string);
    expect(named.toSorted()).toEqual(Object.keys(NOTHING).toSorted());
    const example = JSON.parse(/```json\n(.*)\n```/.exec(PAGE)?.[1] ?? "") as Status;
    expect(Object.keys(example)).toEqual(Object.keys(NOTHING));
    const states = [...(/`state` \| ([^|]*)/.exec(fields)?.[1] ?? "").matchAll(/`([a-z-]+)`/g)].map(
      ([, state]) => state,
    );
    expect(states).toEqual(["up-to-date", "pending", "running", "blocked"]);
  });
});

describe("the text of status", () => {
  test("says where it looked, what it found, and what goes on from there", async () => {
    const { cluster, database, project } = await makeDeployed();
    const read = async () => {
      const run = await runDeploy(project, { url: cluster.url(database), args: ["status", "--lang", "en"] });
      return run.stdout.trimEnd().split("\n");
    };
    const [place, found, ...rest] = await read();
    expect(place).toStartWith(`Database: ${database} (schema: public), `);
    expect(found).toBe("Migrations in the folder: 2 (prisma/migrations)");
    expect(rest).toEqual(["Applied: 2", "The database schema is up to date."]);

    rmSync(join(project.directory, "prisma", "migrations", "3_c"), { recursive: true });
    project.add("4_d", "");
    expect((await read()).slice(2)).toEqual([
      "Applied: 1",
      "Pending: 1",
      "  4_d",
      "Not in the folder: 1",
      "  3_c",
      "Last common migration: 1_a",
      "To apply them: deploy",
    ]);
  });

  test("tells of a failed migration what is in the database, and the commands that resolve it", async () => {
    const { cluster, database, project } = await makeDeployed();
    await cluster.psql(database, UNFINISHED);
    project.add("2_b", "CREATE TABLE b (id integer);\n");
    const options = { url: cluster.url(database), args: ["status", "--lang", "en"] };
    const { stdout } = await runDeploy(project, options);
    expect(stdout).toContain("A deploy would be refused: 1 failed migration in the history\n");
    expect(stdout).toMatch(/^ +not applied +1: CREATE TABLE b/m);
    expect(stdout).toMatch(/^Next {2}.*deploy resolve --rolled-back 2_b$/m);
    const holder = await openClient(cluster, database);
    await holder.run(LOCK);
    const running = await runDeploy(project, options);
    expect(running.stdout).toContain("Running: 1\n  2_b");
    expect(running.stdout).toContain(`At work: pid ${holder.pid}, psql, `);
    expect(running.stdout).not.toContain("refused");
    await holder.end();
  });

  test("names the command of a baseline where there is no history", async () => {
    const cluster = await sharedCluster();
    const database = await cluster.createDatabase();
    await cluster.psql(database, "CREATE TABLE t (id integer)");
    const project = makeProject({ "1_a": "" });
    const { stdout } = await runDeploy(project, { url: cluster.url(database), args: ["status", "--lang", "en"] });
    expect(stdout).toContain("There is no history yet (_prisma_migrations).");
    expect(stdout).toMatch(/^Next {2}.*deploy baseline$/m);
  });
});

async function makeDeployed(): Promise<{ cluster: Cluster; database: string; project: Project }> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject({ "1_a": "", "3_c": "" });
  const run = await runDeploy(project, { url: cluster.url(database) });
  expect(run.exitCode === 0 ? "" : run.stderr).toBe("");
  return { cluster, database, project };
}
