/**
 * The server crashes while a deploy restores, or the deploy, or both: at a tenth, at half and at nine tenths of the
 * rows, and while the keys are built. Nobody else has written, and so it is restored, by the same deploy or by the next.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openClient } from "../support/client.ts";
import { type Cluster, crash, startCluster } from "../support/cluster.ts";
import {
  expectBack,
  expectContent,
  expectRestored,
  killAt,
  type Live,
  listDatabases,
  makeLive,
  open,
  PLACES,
  SWAPPED,
  startUntil,
  UNTOUCHED,
  untilAtGate,
  untilInPlace,
} from "../support/gated-deploy.ts";
import { expectChoices } from "../support/printed-commands.ts";
import { runDeploy } from "../support/project.ts";
import { APP } from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;
const IN_PLACE = ["--restore", "in-place", ...APP];

let cluster: Cluster;

beforeAll(async () => {
  // What a crash must not lose is to be on the disk.
  cluster = await startCluster({ settings: { autovacuum: "off", max_connections: "50" }, fsync: true });
}, TIMEOUT_MS);

afterAll(async () => await cluster.remove());

/** The failure is remembered, so that the next one ends with it. */
async function expectNextRestores({ project, url }: Live, args: readonly string[], says: string): Promise<void> {
  const { exitCode, stderr } = await runDeploy(project, { url, args });
  expect(exitCode, stderr).toBe(5);
  for (const text of ["중단된 이전 배포를 먼저 마무리하거나 되돌립니다.", "FAILED_BEFORE", says]) {
    expect(stderr).toContain(text);
  }
}

describe.each(PLACES)("at %d", (place) => {
  test(
    "a backend of the swap is killed: nobody was let in since the proof, and the same deploy restores",
    async () => {
      const { live, running, pid } = await startUntil(APP, place, untilAtGate, cluster);
      open(live, place);
      process.kill(pid, "SIGKILL");
      expectRestored(await running.ended);
      await expectBack(live, SWAPPED);
    },
    TIMEOUT_MS,
  );

  test(
    "the server under a swap: nobody was let in since the proof, and the same deploy restores",
    async () => {
      const { live, running } = await startUntil(APP, place, untilAtGate, cluster);
      open(live, place);
      await crash(cluster);
      expectRestored(await running.ended);
      await expectBack(live, SWAPPED);
    },
    TIMEOUT_MS,
  );

  test(
    "the deploy alone that swaps: the next one goes on behind the shut door",
    async () => {
      const { live } = await killAt(APP, place, untilAtGate, cluster);
      open(live, place);
      await expectNextRestores(live, APP, "중단된 복원을 끝냈습니다.");
      await expectBack(live, SWAPPED);
    },
    TIMEOUT_MS,
  );

  test(
    "the server and the deploy that swaps: the next one goes on behind the shut door",
    async () => {
      const { live } = await killAt(APP, place, untilAtGate, cluster);
      await crash(cluster);
      open(live, place);
      await expectNextRestores(live, APP, "중단된 복원을 끝냈습니다.");
      await expectBack(live, SWAPPED);
    },
    TIMEOUT_MS,
  );

  test(
    "the server under a restore in place: the same deploy does it again",
    async () => {
      const { live, running } = await startUntil(IN_PLACE, place, untilInPlace, cluster);
      open(live, place);
      await crash(cluster);
      expectRestored(await running.ended);
      await expectBack(live, UNTOUCHED);
    },
    TIMEOUT_MS,
  );

  test(
    "the deploy alone that restores in place: the next one does it again, though somebody is connected",
    async () => {
      const { live, running, pid } = await startUntil(IN_PLACE, place, untilInPlace, cluster);
      const idle = await openClient(cluster, live.database);
      running.kill("SIGKILL");
      await running.ended;
      await cluster.psql("postgres", `SELECT pg_terminate_backend(${pid})`);
      open(live, place);
      await expectNextRestores(live, IN_PLACE, "✅ 백업에서 복원 완료");
      await idle.end();
      await expectContent(live, live.before);
    },
    TIMEOUT_MS,
  );

  test(
    "the server and the deploy that restores in place: the next one does it again",
    async () => {
      const { live } = await killAt(IN_PLACE, place, untilInPlace, cluster);
      await crash(cluster);
      open(live, place);
      await expectNextRestores(live, IN_PLACE, "✅ 백업에서 복원 완료");
      await expectBack(live, UNTOUCHED);
    },
    TIMEOUT_MS,
  );
});

test(
  "a backend of the swap is killed, and somebody lets others in: the failed database, whole and open",
  async () => {
    const { live, running, pid } = await startUntil(APP, 500, untilAtGate, cluster);
    await cluster.psql("postgres", `ALTER DATABASE "${live.database}" ALLOW_CONNECTIONS true`);
    open(live, 500);
    process.kill(pid, "SIGKILL");
    const run = await running.ended;
    expect(run.exitCode, run.stderr).toBe(6);
    expect(run.stderr).toContain("복원하는 동안 누군가 데이터베이스를 다시 열었거나 변경했습니다.");
    expectChoices(run, live.database, "2_half");
    expect(await listDatabases(live)).toEqual(UNTOUCHED);
    await expectContent(live, live.failed);
  },
  TIMEOUT_MS,
);

test(
  "the deploy that swaps, and the next one has another folder, with a backup of that name of another database",
  async () => {
    const { live } = await killAt(APP, 500, untilAtGate, cluster);
    open(live, 500);
    const other = await makeLive(cluster);
    await cluster.psql(other.database, "INSERT INTO big VALUES (5000, 'of the other one')");
    const made = await runDeploy(other.project, { url: other.url, args: APP });
    expectRestored(made);
    const [name] = readdirSync(live.project.backupDirectory).filter((file) => /^backup_.*\d\.json$/.test(file));
    renameBackup(other.project.backupDirectory, name?.replace(".json", "") ?? "");
    const environment = { BACKUP_DIR: other.project.backupDirectory };
    const next = await runDeploy(live.project, { url: live.url, args: APP, environment });
    expect(next.exitCode, next.stderr).toBe(3);
    expect(next.stderr).toContain("중단된 복원을 취소했습니다.");
    await expectContent(live, live.failed);
  },
  TIMEOUT_MS,
);

test(
  "the server, right behind a swap, where COMMITs are told before they are on the disk: what was told is there",
  async () => {
    const settings = { autovacuum: "off", synchronous_commit: "off", wal_writer_delay: "10s" };
    const lazy = await startCluster({ settings, fsync: true });
    const live = await makeLive(lazy);
    expectRestored(await runDeploy(live.project, { url: live.url, args: APP }));
    await crash(lazy);
    await expectBack(live, SWAPPED);
    await lazy.remove();
  },
  TIMEOUT_MS,
);

test(
  "somebody takes the name under which the failed database is to be kept: it is no sign of a swap that has succeeded",
  async () => {
    const { live, running } = await startUntil(APP, 500, untilAtGate, cluster);
    const like = `${live.database}\\_restore\\_%`;
    const scratch = await cluster.psql("postgres", `SELECT datname FROM pg_database WHERE datname LIKE '${like}'`);
    const taken = scratch.replace("_restore_", "_failed_");
    await cluster.psql("postgres", `CREATE DATABASE "${taken}"`);
    open(live, 500);
    const run = await running.ended;
    expect(run.stderr).toContain(`database "${taken}" already exists`);
    expect(run.exitCode, run.stderr).toBe(6);
    expectChoices(run, live.database, "2_half");
    expect(run.stderr).not.toContain("✅ 백업에서 복원 완료");
    expect(await listDatabases(live)).toEqual(["live", "live_failed_STAMP"]);
    await expectContent(live, live.failed);
  },
  TIMEOUT_MS,
);

/** As if it had been taken in that second. */
function renameBackup(directory: string, id: string): void {
  const names = readdirSync(directory).filter((name) => name.startsWith("backup_"));
  const last = names.toSorted().at(-1)?.split(".")[0] ?? "";
  for (const name of names.filter((file) => file.startsWith(last))) {
    const path = join(directory, name.replace(last, id));
    renameSync(join(directory, name), path);
    if (!name.endsWith(".json")) continue;
    writeFileSync(path, readFileSync(path, "utf8").replaceAll(last, id));
  }
}

test(
  "the server under a restore in place, and somebody writes before it is done again: every write is kept",
  async () => {
    const { live } = await killAt(IN_PLACE, 500, untilInPlace, cluster);
    await crash(cluster);
    open(live, 500);
    await cluster.psql(live.database, "CREATE TABLE notes (n int)");
    const next = await runDeploy(live.project, { url: live.url, args: IN_PLACE });
    expect(next.exitCode, next.stderr).toBe(6);
    expectChoices(next, live.database, "2_half");
    expect(await cluster.psql(live.database, "SELECT count(*) FROM notes, half")).toBe("0");
  },
  TIMEOUT_MS,
);
