/** A backup that the disk has damaged: whoever reads it says so and uses it not, and it is none from then on. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { dumpDatabase } from "../support/dump.ts";
import { flipBit } from "../support/flip-bit.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import {
  CONTENT,
  expectContent,
  GOOD,
  HALF,
  type Live,
  listDatabases,
  makeLive,
  removeQuietCluster,
  UNTOUCHED,
} from "../support/gated-deploy.ts";
import { runDeploy, startDeploy, until } from "../support/project.ts";
import { APP, expectNoLeak, expectStarted } from "../support/refusal.ts";

setDefaultTimeout(300_000);

afterAll(removeQuietCluster);

interface Listed {
  readonly path: string;
  readonly state: string;
}

async function listBackups({ project, url }: Live): Promise<Listed[]> {
  const { exitCode, stdout, stderr } = await runDeploy(project, { url, args: ["backups", "--json"] });
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout);
}

const statesOf = async (live: Live) => (await listBackups(live)).map(({ state }) => state);

for (const format of ["plain", "custom"]) {
  for (const restore of ["swap", "in-place"]) {
    test(`${format}, ${restore}: damaged before the automatic restore: nothing is restored, and it is none any more`, async () => {
      const live = await makeLive();
      const { cluster, database, project, url } = live;
      const flag = makeFlagPath(cluster);
      project.add("2_half", HALF.replace("COMMIT;", `COMMIT;\n${waitForFile(flag)}`));
      const args = ["--backup-format", format, "--restore", restore, ...APP];
      const running = startDeploy(project, { url, args });
      await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
      const [backup] = await listBackups(live);
      expect(backup?.state).toBe("present");
      flipBit(backup?.path ?? "");
      writeFileSync(flag, "");
      const run = await running.ended;
      expect(run.exitCode, run.stderr).toBe(6);
      expect(run.stdout).toBe("");
      expect(run.stderr).toContain(`❌ 배포 중단: 백업 검증 실패: ${backup?.path}\n`);
      expect(run.stderr).not.toContain("복원 완료");
      expectNoLeak(run, []);
      await expectContent(live, live.failed);
      expect(await listDatabases(live)).toEqual(UNTOUCHED);
      expect(await cluster.psql("postgres", `SELECT datallowconn FROM pg_database WHERE datname = '${database}'`)).toBe(
        "t",
      );
      expect(await statesOf(live)).toEqual(["damaged"]);
    });
  }
}

test("the next deploy finds it: another one is taken, which pruning keeps with the one before, and is the latest", async () => {
  const live = await makeLive();
  const { cluster, database, project, url } = live;
  const take = async () => expect((await runDeploy(project, { url, args: ["backup"] })).exitCode).toBe(0);
  await take();
  project.add("2_half", "CREATE TABLE half (id int);\nSELECT 1 / 0;\n");
  const fail = async (...args: string[]) => expect((await runDeploy(project, { url, args })).exitCode).toBe(5);
  await fail();
  expect(await statesOf(live)).toEqual(["present", "present"]);
  flipBit((await listBackups(live))[1]?.path ?? "");
  await fail("--retry");
  const [oldest, damaged, newest] = await listBackups(live);
  expect([oldest?.state, damaged?.state, newest?.state]).toEqual(["present", "damaged", "present"]);

  const prune = ["prune", "--backup-retention-days", "0", "--backup-min-keep", "2"];
  const pruned = await runDeploy(project, { url, args: prune });
  expect(pruned.exitCode, pruned.stderr).toBe(0);
  expect([oldest, damaged, newest].map((one) => existsSync(one?.path ?? ""))).toEqual([true, false, true]);

  flipBit(newest?.path ?? "");
  const restore = ["restore", "latest", "--yes-restore", database];
  const refused = await runDeploy(project, { url, args: restore });
  expect(refused.exitCode, refused.stderr).toBe(4);
  expect(refused.stderr).toContain("BACKUP_NOT_VERIFIED");
  expect(await statesOf(live)).toEqual(["present", "damaged"]);
  await cluster.psql(database, "UPDATE big SET body = 'changed'");
  const restored = await runDeploy(project, { url, args: restore });
  expect(restored.exitCode, restored.stderr).toBe(0);
  expect(dumpDatabase(cluster, database, CONTENT)).toBe(live.before);
  project.add("2_half", GOOD);
  expectStarted(await runDeploy(project, { url, args: ["--retry", ...APP] }));
});
