/**
 * What an orchestrator does: SIGTERM, a grace period, SIGKILL. A deploy is over before that, wherever it was, so that
 * nobody has to kill it; what it then leaves is in `signals.test.ts`.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { openClient } from "../support/client.ts";
import { type Cluster, sharedCluster, startCluster } from "../support/cluster.ts";
import { makeProject, type Project, type RunningDeploy, runDeploy, startDeploy, until } from "../support/project.ts";

setDefaultTimeout(300_000);

/** @see https://docs.docker.com/reference/cli/docker/container/stop/ */
const DOCKER_GRACE_MS = 10_000;
/** The default of terminationGracePeriodSeconds, for what takes as long as the data is large: here it is small. */
const KUBERNETES_GRACE_MS = 30_000;
const DEPLOY_LOCK = 72_707_369;
const USERS = "CREATE TABLE users (id int PRIMARY KEY);\nINSERT INTO users VALUES (1), (2);\n";
const APP = ["--", "echo", "started"];

interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
}

interface Phase {
  readonly name: string;
  readonly pending: string;
  readonly args?: readonly string[];
  /** Default: that of Docker. */
  readonly graceMs?: number;
  /** Brings about the moment, and answers when it has come. */
  readonly reach: (live: Live, running: RunningDeploy) => Promise<void>;
  /** Before the deploy starts. Answers what undoes it. */
  readonly arrange?: (live: Live) => Promise<() => Promise<void>>;
}

const PHASES: readonly Phase[] = [
  {
    name: "before: another deploy holds the lock",
    pending: "CREATE TABLE orders (id int);",
    arrange: (live) => hold(live, `SELECT pg_advisory_lock(${DEPLOY_LOCK})`),
    reach: (_, running) => until("it waits", () => running.output().includes("다른 배포가 끝나기를 기다리는 중")),
  },
  {
    name: "during the backup",
    pending: "CREATE TABLE orders (id int);",
    arrange: (live) => hold(live, "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE"),
    reach: (live) => untilOurs(live, "wait_event_type = 'Lock'"),
  },
  {
    name: "during a migration that runs for minutes",
    pending: "CREATE TABLE orders (id int); SELECT pg_sleep(600);",
    reach: (live) => untilOurs(live, "wait_event = 'PgSleep'"),
  },
  {
    name: "during a migration that waits for a table",
    pending: "ALTER TABLE users ADD email text;",
    arrange: (live) => hold(live, "BEGIN; SELECT * FROM users"),
    reach: (live) => untilOurs(live, "wait_event_type = 'Lock'"),
  },
  {
    name: "during a migration that has committed a part, which is restored first",
    pending: "DROP TABLE users;\nCOMMIT;\nSELECT pg_sleep(600);",
    graceMs: KUBERNETES_GRACE_MS,
    reach: (live) => untilOurs(live, "wait_event = 'PgSleep'"),
  },
  ...["swap", "in-place"].map((way) => ({
    name: `during the restore (${way}), which comes to its end`,
    pending: "DROP TABLE users;\nCOMMIT;\nSELECT 1/0;",
    args: ["--restore", way],
    graceMs: KUBERNETES_GRACE_MS,
    reach: (_: Live, running: RunningDeploy) =>
      until("it is restored", () => running.output().includes("백업에서 복원을 시도합니다")),
  })),
];

test.each(PHASES)("SIGTERM $name: it has ended within the grace of an orchestrator", async (phase) => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject({ "1_users": USERS });
  const live = { cluster, database, url: cluster.url(database), project };
  expect((await runDeploy(project, live)).exitCode).toBe(0);
  project.add("2_next", phase.pending);
  const undo = await phase.arrange?.(live);
  const running = startDeploy(project, { url: live.url, args: [...(phase.args ?? []), ...APP] });
  await phase.reach(live, running);
  await expectEndsInTime(running, phase.graceMs);
  await undo?.();
  expect(await cluster.psql(database, "SELECT count(*) FROM users")).toBe("2");
});

test("SIGTERM before: the database does not answer", async () => {
  const cluster = await startCluster();
  const url = cluster.url("postgres");
  await cluster.remove();
  const running = startDeploy(makeProject({ "1_users": USERS }), { url, args: ["--wait", "10m", ...APP] });
  await until("it waits", () => running.output().includes("데이터베이스 응답을 기다리는 중"));
  await expectEndsInTime(running);
});

async function expectEndsInTime(running: RunningDeploy, graceMs = DOCKER_GRACE_MS): Promise<void> {
  const startedMs = performance.now();
  running.kill("SIGTERM");
  const run = await running.ended;
  const tookMs = performance.now() - startedMs;
  // By itself, and with an exit code that tells what is true of the database.
  expect({ signal: run.signal, stdout: run.stdout }).toEqual({ signal: null, stdout: "" });
  expect([143, 5], run.stderr).toContain(run.exitCode ?? Number.NaN);
  expect(tookMs, run.stderr).toBeLessThan(graceMs);
}

async function hold({ cluster, database }: Live, sql: string): Promise<() => Promise<void>> {
  const holder = await openClient(cluster, database);
  await holder.run(sql);
  return () => holder.end();
}

/** Seen from another database, so that a look is no client of this one. */
async function untilOurs({ cluster, database }: Live, condition: string): Promise<void> {
  const ours = `SELECT count(*) FROM pg_stat_activity
    WHERE datname = '${database}' AND application_name LIKE 'prisma-safe-deploy%' AND ${condition}`;
  await until("it is at it", async () => (await cluster.psql("postgres", ours)) !== "0");
}
