/**
 * Other databases of the cluster while a deploy fails half applied: what this program does to them is no reason not to
 * restore, and what anybody else does to them, which no restore would undo if it was the scripts, is one.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { dumpDatabase } from "../support/dump.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import {
  expectContent,
  HALF,
  type Live,
  listDatabases,
  makeLive,
  open,
  quietCluster,
  removeQuietCluster,
  SWAPPED,
  shut,
  UNTOUCHED,
  untilAtGate,
} from "../support/gated-deploy.ts";
import { type Live as DeployedFirst, deployFirst } from "../support/live.ts";
import { type DeployRun, runDeploy, startDeploy, until } from "../support/project.ts";
import { APP } from "../support/refusal.ts";

setDefaultTimeout(300_000);

afterAll(removeQuietCluster);

/** A deploy that has marked the state and committed half of a migration, and fails when it is told to. */
async function startHalf(live: DeployedFirst, args: readonly string[] = []): Promise<() => Promise<DeployRun>> {
  const { cluster, database, project, url } = live;
  const flag = makeFlagPath(cluster);
  project.add("2_half", HALF.replace("COMMIT;", `COMMIT;\n${waitForFile(flag)}`));
  const running = startDeploy(project, { url, args: [...args, ...APP] });
  await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
  return async () => {
    writeFileSync(flag, "");
    return await running.ended;
  };
}

function expectRestored(run: DeployRun): void {
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stderr).toContain("✅ 백업에서 복원 완료");
}

const UNGATED = {
  "1_base": `CREATE TABLE big (id int, body text NOT NULL);
    INSERT INTO big SELECT n, 'row ' || n FROM generate_series(1, 20) AS n;
    CREATE TABLE gone (id int PRIMARY KEY);`,
};

const RESTORES = ["swap", "in-place"];

test.each(RESTORES)(
  "%s: a neighbour deploys behind a fence, fails and is swapped meanwhile: restored",
  async (restore) => {
    const [live, neighbour] = [await makeLive(), await makeLive()];
    const fail = await startHalf(live, ["--restore", restore]);
    const run = await runDeploy(neighbour.project, { url: neighbour.url, args: ["--maintenance", ...APP] });
    expectRestored(run);
    expect(run.stderr).toContain("쓰기");
    expect(await listDatabases(neighbour)).toEqual(SWAPPED);
    expectRestored(await fail());
    await expectContent(live, live.before);
    await expectContent(neighbour, neighbour.before);
  },
);

async function startStanding(neighbour: Live): Promise<() => Promise<DeployRun>> {
  shut(neighbour, 500);
  const args = ["--maintenance", "--restore", "swap", ...APP];
  const running = startDeploy(neighbour.project, { url: neighbour.url, args });
  await untilAtGate(neighbour, running);
  return async () => {
    open(neighbour, 500);
    return await running.ended;
  };
}

test.each(RESTORES)(
  "%s: a neighbour's swap stands half made behind its fence at the mark, and ends: restored",
  async (restore) => {
    const [live, neighbour] = [await makeLive(), await makeLive()];
    const end = await startStanding(neighbour);
    const fail = await startHalf(live, ["--restore", restore]);
    expectRestored(await end());
    expectRestored(await fail());
    await expectContent(live, live.before);
    await expectContent(neighbour, neighbour.before);
  },
);

test.each(RESTORES)(
  "%s: a neighbour's swap begins behind its fence, and stands when it fails: restored",
  async (restore) => {
    // Without the gates, at which its own restore would stand as well.
    const live = await deployFirst(UNGATED, {}, { on: await quietCluster() });
    const neighbour = await makeLive();
    const fail = await startHalf(live, ["--restore", restore]);
    const end = await startStanding(neighbour);
    expectRestored(await fail());
    expectRestored(await end());
    expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
    await expectContent(neighbour, neighbour.before);
  },
);

const CREATED = "CREATE DATABASE somebodys";
const CHANGES: readonly [what: string, before: string, change: string, reason: string][] = [
  ["created", "SELECT 1", CREATED, "다른 데이터베이스가 변경되었습니다."],
  ["dropped", CREATED, "DROP DATABASE somebodys", "다른 데이터베이스가 변경되었습니다."],
  ["shut", CREATED, "ALTER DATABASE somebodys ALLOW_CONNECTIONS false", "다른 데이터베이스가 변경되었습니다."],
  ["given a right", CREATED, "REVOKE CONNECT ON DATABASE somebodys FROM PUBLIC", "다른 데이터베이스가 변경되었습니다."],
  ["set", CREATED, "ALTER DATABASE somebodys SET work_mem = '1MB'", "다른 데이터베이스의 설정이 변경되었습니다."],
  [
    "set like a fence",
    CREATED,
    "ALTER DATABASE somebodys SET default_transaction_read_only = on",
    "설정이 변경되었습니다.",
  ],
];

test.each(CHANGES)("another database is %s by somebody: nothing is touched", async (_, before, change, reason) => {
  const cluster = await quietCluster();
  await cluster.psql("postgres", before);
  try {
    const live = await makeLive();
    const fail = await startHalf(live);
    await cluster.psql("postgres", change);
    const run = await fail();
    expect(run.exitCode, run.stderr).toBe(6);
    expect(run.stderr).toContain(reason);
    await expectContent(live, live.failed);
    expect(await listDatabases(live)).toEqual(UNTOUCHED);
  } finally {
    await cluster.psql("postgres", "DROP DATABASE IF EXISTS somebodys");
  }
});

test("a tablespace is changed: nothing is touched", async () => {
  const live = await makeLive();
  const { cluster } = live;
  const fail = await startHalf(live);
  await cluster.psql("postgres", "ALTER TABLESPACE pg_default SET (seq_page_cost = 2)");
  const run = await fail();
  await cluster.psql("postgres", "ALTER TABLESPACE pg_default RESET (seq_page_cost)");
  expect(run.exitCode, run.stderr).toBe(6);
  expect(run.stderr).toContain("테이블스페이스가 변경되었습니다.");
  await expectContent(live, live.failed);
});
