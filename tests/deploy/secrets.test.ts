/** A password of whatever letters works everywhere, and is seen nowhere: not by other users of the machine, in no output, in no file. */
import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openClient } from "../support/client.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import {
  type DeployRun,
  makeProject,
  type Project,
  type RunningDeploy,
  startDeploy,
  until,
} from "../support/project.ts";
import { APP, expectNoLeak, expectStarted } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;
/** Stays what it is in every way of quoting. Another one in each run, so that nothing else can hold it. */
const CORE = randomBytes(12).toString("hex");
const EVERY_SIGN = Array.from({ length: 127 - 32 }, (_, at) => String.fromCharCode(32 + at)).join("");
const PASSWORD = ` ${EVERY_SIGN}${CORE}\t\n"'\\é한글😀 `;
const USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);\nCREATE TABLE plain (id int);\n";
const HALF = "INSERT INTO users VALUES (1, 'a');\nCOMMIT;\nSELECT 1/0;\n";

let guarded: Promise<Cluster> | undefined;

/** A server that lets nobody in without the password. */
async function sharedGuarded(): Promise<Cluster> {
  guarded ??= startCluster({ auth: "scram-sha-256", password: "of the superuser", tcp: true }).then(async (cluster) => {
    await cluster.psql("postgres", `CREATE ROLE app LOGIN PASSWORD '${PASSWORD.replaceAll("'", "''")}'`);
    return cluster;
  });
  return await guarded;
}

interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
}

async function makeLive(pending: Readonly<Record<string, string>>): Promise<Live> {
  const cluster = await sharedGuarded();
  const database = await cluster.createDatabase({ owner: "app" });
  const url = cluster.url(database, { user: "app", password: PASSWORD });
  const project = makeProject({ "1_users": USERS });
  expectStarted(await startDeploy(project, { url, args: APP }).ended);
  for (const [name, sql] of Object.entries(pending)) project.add(name, sql);
  return { cluster, database, url, project };
}

interface Watch {
  /** Command lines and files that have held the secret at any moment. */
  readonly leaks: string[];
  /** Names of the programs that the deploy was seen to run. */
  readonly programs: Set<string>;
}

/** Looks at every process of the machine and at every file of the backup folder, over and over, until the deploy ends. */
async function watch(running: RunningDeploy, project: Project): Promise<{ run: DeployRun } & Watch> {
  const found: Watch = { leaks: [], programs: new Set() };
  let isOver = false;
  const ended = running.ended.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    lookAtProcesses(running.pid, found);
    lookAtFiles(project.backupDirectory, found);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  lookAtFiles(project.backupDirectory, found);
  return { run: await ended, ...found };
}

function lookAtProcesses(deployPid: number, { leaks, programs }: Watch): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const words = readIfThere(`/proc/${pid}/cmdline`).split("\0");
    const [, parent] = /\) \S (\d+) /.exec(readIfThere(`/proc/${pid}/stat`)) ?? [];
    if (parent === String(deployPid)) programs.add(words[0]?.split("/").at(-1) ?? "");
    if (words.some(isTelling)) leaks.push(words.join(" "));
  }
}

function lookAtFiles(directory: string, { leaks }: Watch): void {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory, { recursive: true }) as string[]) {
    if (isTelling(readIfThere(join(directory, name)))) leaks.push(name);
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function isTelling(text: string): boolean {
  return text.includes(CORE);
}

function expectSecret({ run, leaks }: { run: DeployRun } & Watch): void {
  expect(leaks).toEqual([]);
  expectNoLeak(run, [CORE]);
}

test.skipIf(!existsSync("/proc/self/cmdline"))(
  "it is in no command line, no output and no file while a deploy works",
  async () => {
    const live = await makeLive({ "2_slow": WAIT_AT_GATE });
    const { cluster, database, url, project } = live;
    const gate = await closeGate(cluster, database);
    const holder = await openClient(cluster, database);
    await holder.run("BEGIN; LOCK TABLE plain IN ACCESS EXCLUSIVE MODE");
    const running = startDeploy(project, { url, args: APP });
    const watched = watch(running, project);
    await until("pg_dump waits", async () => {
      const waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%pg_dump' AND wait_event_type = 'Lock'";
      return (await cluster.psql("postgres", waiting)) === "1";
    });
    await holder.end();
    await gate.reached();
    await gate.open();
    const result = await watched;
    expectStarted(result.run);
    // It was looked at while it worked, and it knew the password.
    expect(result.programs).toContain("pg_dump");
    expectSecret(result);
  },
  TIMEOUT_MS,
);

test.skipIf(!existsSync("/proc/self/cmdline"))(
  "nor while a failed deploy is restored",
  async () => {
    const { cluster, database, url, project } = await makeLive({ "2_half": HALF });
    const before = dumpDatabase(cluster, database);
    const result = await watch(startDeploy(project, { url, args: APP }), project);
    expect(result.run.exitCode, result.run.stderr).toBe(5);
    expect(result.run.stderr).toContain("✅ 백업에서 복원 완료");
    expect(result.programs).toContain("psql");
    expectSecret(result);
    expect(dumpDatabase(cluster, database)).toBe(before);
  },
  TIMEOUT_MS,
);

test.skipIf(!existsSync("/proc/self/cmdline"))(
  "nor in the commands for a person, nor in a log of JSON",
  async () => {
    const { cluster, database, url, project } = await makeLive({ "2_half": HALF });
    const idle = await openClient(cluster, database);
    for (const format of ["human", "json"]) {
      await idle.run("DELETE FROM _prisma_migrations WHERE migration_name = '2_half'; DELETE FROM users");
      const result = await watch(startDeploy(project, { url, args: ["--log-format", format, ...APP] }), project);
      expect(result.run.exitCode, result.run.stderr).toBe(6);
      expect(result.run.stderr).toContain("PGPASSWORD");
      expectSecret(result);
    }
    await idle.end();
  },
  TIMEOUT_MS,
);

test(
  "nor when the server does not know it, or is not there",
  async () => {
    const cluster = await sharedGuarded();
    const wrong = cluster.url("postgres", { user: "app", password: `${PASSWORD}!` });
    const gone = wrong.replace(/:\d+\//, ":1/");
    for (const [url, code] of [
      [wrong, "AUTHENTICATION_FAILED"],
      [gone, "DATABASE_UNREACHABLE"],
    ] as const) {
      for (const format of ["human", "json"]) {
        const args = ["--wait", "0", "--log-format", format, ...APP];
        const run = await startDeploy(makeProject({ "1_users": USERS }), { url, args }).ended;
        expect(run.exitCode, run.stderr).toBe(7);
        expect(run.stderr).toContain(code);
        expectNoLeak(run, [CORE]);
      }
    }
  },
  TIMEOUT_MS,
);
