/** Deploys by the real Prisma CLI that fail, hang or are told to stop: the rows decide, and the ladder puts things right. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseLines } from "../../lib/journal/lines.ts";
import { type Cluster, sharedCluster, temporaryDirectory } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { type PrismaVersion, preparePrismaProject, skipsPrisma, writeMigrations } from "../support/prisma-cli.ts";
import {
  type DeployRun,
  makeProject,
  type Project,
  type RunningDeploy,
  runDeploy,
  startDeploy,
  until,
} from "../support/project.ts";
import { expectRefused } from "../support/refusal.ts";

setDefaultTimeout(300_000);

const BASE = { "1_users": "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a');\n" };
const ORDERS = { "2_orders": "CREATE TABLE orders (id int);\n" };
const HALF = { "3_half": "DROP TABLE users;\nSELECT nope;\n" };
const SLOW = { "3_slow": "DROP TABLE users;\nSELECT pg_sleep(600);\n" };
/** Prisma 7.4 and later send a script statement by statement, so that a failure leaves its first half. */
const SPLIT = { ENGINE_SPLIT: "1" };
/** Polite requests, and then the kill: no more than an orchestrator's patience. */
const LONGEST_MS = 30_000;
const APP = ["--", "echo", "started"];

interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly project: Project;
  readonly before: string;
  deploy(
    args: readonly string[],
    environment?: Readonly<Record<string, string>>,
    options?: { readonly isGroup?: boolean },
  ): RunningDeploy;
}

/** A database that Prisma's engine has deployed once, and what it is to deploy next. */
async function makeLive(version: PrismaVersion, pending: Readonly<Record<string, string>>): Promise<Live> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const prisma = await preparePrismaProject({ version, migrationsFrom: BASE, databaseUrl: url });
  const { directory, environment } = prisma;
  const project = { directory, backupDirectory: join(directory, "backups"), add: () => {} };
  const optionsOf = (args: readonly string[], more = {}) => ({
    url,
    args: ["--migrate-engine", "prisma", "--lang", "en", ...args, ...APP],
    environment: { ...environment, ...more },
  });
  const first = await runDeploy(project, optionsOf([]));
  expect(first.exitCode, first.stderr).toBe(0);
  writeMigrations(prisma.migrations, pending);
  const before = dumpDatabase(cluster, database);
  return {
    cluster,
    database,
    project,
    before,
    deploy: (args, more, options) => startDeploy(project, { ...optionsOf(args, more), ...options }),
  };
}

async function untilItSleeps({ cluster, database }: Live): Promise<void> {
  const asleep = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${database}' AND wait_event = 'PgSleep'`;
  await until("the migration sleeps", async () => (await cluster.psql("postgres", asleep)) === "1");
}

async function expectNobodyLeft({ cluster, database }: Live): Promise<void> {
  const clients = `SELECT count(*) FROM pg_stat_activity
    WHERE datname = '${database}' AND backend_type = 'client backend'`;
  await until("no session is left", async () => (await cluster.psql("postgres", clients)) === "0");
}

async function expectAsBefore(run: DeployRun, live: Live, exitCode: number): Promise<void> {
  expect(run.exitCode, run.stderr).toBe(exitCode);
  expect(run.stdout).toBe("");
  expect(run.stderr).toContain("The database is as it was before the deploy.");
  expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
  await expectNobodyLeft(live);
}

describe.skipIf(skipsPrisma("deploy/prisma-engine.test.ts")).each([6, 7] as const)("Prisma %d", (version) => {
  test("it applies what is pending, and its output is shown", async () => {
    const live = await makeLive(version, ORDERS);
    const run = await live.deploy([]).ended;
    expect(run.exitCode, run.stderr).toBe(0);
    expect(run.stdout).toBe("started\n");
    expect(run.stderr).toContain("prisma: Applying migration `2_orders`");
    expect(await live.cluster.psql(live.database, "SELECT to_regclass('orders') IS NOT NULL")).toBe("t");
  });

  test("a failure that leaves half a script is seen in the database, and restored", async () => {
    const live = await makeLive(version, { ...ORDERS, ...HALF });
    const run = await live.deploy([], SPLIT).ended;
    expect(run.stderr).toContain("Restored from the backup");
    await expectAsBefore(run, live, 5);
  });

  test("behind the fence of --maintenance it writes all the same, and its half is restored", async () => {
    const live = await makeLive(version, ORDERS);
    const run = await live.deploy(["--maintenance"]).ended;
    expect(run.exitCode, run.stderr).toBe(0);
    expect(run.stderr).toContain("Let writers in again.");
    expect(await live.cluster.psql(live.database, "SELECT to_regclass('orders') IS NOT NULL")).toBe("t");

    const half = await makeLive(version, { ...ORDERS, ...HALF });
    const failed = await half.deploy(["--maintenance"], SPLIT).ended;
    expect(failed.stderr).toContain("Let writers in again.");
    await expectAsBefore(failed, half, 5);
  });

  test("a limit that is over: cancelled, and what it left is undone", async () => {
    const live = await makeLive(version, { ...ORDERS, ...SLOW });
    // Where the machine is slow it comes before the first statement, and then there is nothing to undo.
    const run = await live.deploy(["--prisma-timeout", "8s"], SPLIT).ended;
    expect(run.stderr).toContain("prisma migrate deploy took longer than --prisma-timeout allows");
    await expectAsBefore(run, live, 5);
  });

  test("SIGTERM: cancelled, and what it left is undone", async () => {
    const live = await makeLive(version, { ...ORDERS, ...SLOW });
    const running = live.deploy([], SPLIT);
    await untilItSleeps(live);
    running.kill("SIGTERM");
    const startedMs = performance.now();
    await expectAsBefore(await running.ended, live, 143);
    expect(performance.now() - startedMs).toBeLessThan(LONGEST_MS);
  });

  test("SIGKILL, also of the CLI: what it left is undone by the next deploy", async () => {
    const live = await makeLive(version, { ...ORDERS, "3_slow": "DROP TABLE users;\nSELECT pg_sleep(8);\n" });
    const running = live.deploy([], SPLIT, { isGroup: true });
    await untilItSleeps(live);
    const journal = join(live.project.backupDirectory, "journal.jsonl");
    await until("the engine's sessions are counted", () => {
      const lines = parseLines(readFileSync(journal, "utf8"));
      const last = lines.findLast(({ step }) => step === "sessions");
      return (
        lines.some(({ step, deploy }) => step === "migrating" && deploy === last?.deploy) &&
        last?.step === "sessions" &&
        last.isExact
      );
    });
    process.kill(-running.pid, "SIGKILL");
    expect((await running.ended).signal).toBe("SIGKILL");
    // It waits for the statement that the server still runs, and then tries the whole again.
    const run = await live.deploy([]).ended;
    expect(run.stderr).toContain("An earlier deploy was interrupted");
    expect(run.stderr).toContain("Restored from the backup");
    expect(run.exitCode, run.stderr).toBe(0);
    expect(await live.cluster.psql(live.database, "SELECT to_regclass('users') IS NULL")).toBe("t");
  });

  test("a CLI that hangs before it has done anything is ended", async () => {
    const live = await makeLive(version, ORDERS);
    const running = live.deploy(["--prisma-timeout", "2s"]);
    let cli = 0;
    await until("the CLI runs", () => {
      cli = childOf(running.pid, "migrate deploy");
      return cli > 0;
    });
    process.kill(cli, "SIGSTOP");
    const startedMs = performance.now();
    await expectAsBefore(await running.ended, live, 5);
    expect(performance.now() - startedMs).toBeLessThan(LONGEST_MS);
    expect(() => process.kill(cli, 0)).toThrow("ESRCH");
  });
});

test("where there is no CLI nothing is downloaded and nothing touched", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject(BASE);
  const bin = temporaryDirectory();
  const called = join(bin, "called");
  for (const name of ["npx", "npm", "bunx", "pnpm", "yarn"]) {
    writeFileSync(join(bin, name), `#!/bin/sh\necho "$0 $*" >>'${called}'\n`, { mode: 0o755 });
  }
  const run = await runDeploy(project, {
    url: cluster.url(database),
    args: ["--migrate-engine", "prisma", ...APP],
    environment: { PATH: `${bin}:${process.env.PATH}` },
  });
  expectRefused(run, { exitCode: 4, code: "PRISMA_CLI_NOT_FOUND", shows: ["MIGRATE_ENGINE"] });
  expect(existsSync(called)).toBe(false);
  expect(await cluster.psql(database, "SELECT count(*) FROM pg_class WHERE relnamespace = 2200")).toBe("0");
});

/** 0 where there is none. */
function childOf(parent: number, args: string): number {
  const { stdout } = spawnSync("ps", ["-e", "-o", "pid=,ppid=,args="], { encoding: "utf8" });
  const rows = stdout.split("\n").map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line));
  return Number(rows.find((row) => Number(row?.[2]) === parent && row?.[3]?.includes(args))?.[1] ?? 0);
}
