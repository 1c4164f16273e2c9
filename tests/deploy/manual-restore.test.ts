/**
 * Where nothing could restore automatically: a migration that could be left half-applied is refused before anything is
 * touched, unless that was accepted. What is one transaction, and a lone CONCURRENTLY, leave nothing half and go on.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { sharedCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import type { Live } from "../support/live.ts";
import { makeProject, runDeploy } from "../support/project.ts";
import { APP, expectRefused, expectStarted } from "../support/refusal.ts";

setDefaultTimeout(300_000);

/** Its first half is committed when its second one runs. */
const HALF = { "2_half": "CREATE TABLE half (id int);\nCOMMIT;\nALTER TABLE half ADD b int;\n" };
const FAILING = { "2_half": "CREATE TABLE half (id int);\nCOMMIT;\nSELECT 1/0;\n" };

/** Deployed by a role that may make tables, but owns neither the database nor the table of somebody else. */
async function makeLive(pending: Readonly<Record<string, string>>): Promise<Live> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const user = `guest_${database}`;
  await cluster.psql(database, `CREATE ROLE ${user} LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO ${user}`);
  const url = cluster.url(database, { user });
  const project = makeProject({ "1_own": "CREATE TABLE own (id int);\n" });
  expectStarted(await runDeploy(project, { url, args: APP }));
  await cluster.psql(database, `CREATE TABLE theirs (id int); GRANT ALL ON theirs TO ${user}`);
  for (const [name, sql] of Object.entries(pending)) project.add(name, sql);
  return { cluster, database, url, project, before: dumpDatabase(cluster, database) };
}

async function readRows({ cluster, database }: Live): Promise<string> {
  return await cluster.psql(
    database,
    `SELECT string_agg(migration_name || ' ' || (finished_at IS NOT NULL), ', ' ORDER BY started_at)
     FROM _prisma_migrations`,
  );
}

test("a migration that could be left half-applied is refused, and nothing is touched", async () => {
  const live = await makeLive(HALF);
  const run = await runDeploy(live.project, { url: live.url, args: APP });
  expectRefused(run, { exitCode: 4, code: "NO_AUTOMATIC_RESTORE", shows: ["2_half", "--accept-manual-restore"] });
  expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
});

test.each([
  ["by the flag", { args: ["--accept-manual-restore", ...APP] }],
  ["by the variable", { args: APP, environment: { ACCEPT_MANUAL_RESTORE: "true" } }],
])("it runs where that is accepted %s", async (_, options) => {
  const live = await makeLive(HALF);
  expectStarted(await runDeploy(live.project, { url: live.url, ...options }));
  expect(await readRows(live)).toBe("1_own true, 2_half true");
});

test("what it leaves is then for a person, with the commands", async () => {
  const live = await makeLive(FAILING);
  const run = await runDeploy(live.project, { url: live.url, args: ["--accept-manual-restore", ...APP] });
  expect(run.exitCode, run.stderr).toBe(6);
  expect(run.stdout).toBe("");
  expect(run.stderr).toMatch(/^ .*(psql|pg_restore|deploy) .*backup_\d+_\d+/m);
  expect(await readRows(live)).toBe("1_own true, 2_half false");
});

test("one transaction and a lone CONCURRENTLY need no restore", async () => {
  const live = await makeLive({
    "2_column": "ALTER TABLE own ADD b int;\n",
    "3_index": "CREATE INDEX CONCURRENTLY own_b ON own (b);\n",
  });
  expectStarted(await runDeploy(live.project, { url: live.url, args: APP }));
  expect(await readRows(live)).toBe("1_own true, 2_column true, 3_index true");
});

test("a smaller plan that could be left half-applied is refused as well, and all of it is rolled back", async () => {
  // That its code commits is seen by the server only, which refuses it in a transaction.
  const live = await makeLive({
    "2_column": "ALTER TABLE own ADD b int;\n",
    "3_code": "CREATE TABLE half (id int);\nDO $$ BEGIN COMMIT; END $$;\n",
  });
  const run = await runDeploy(live.project, { url: live.url, args: APP });
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stdout).toBe("");
  expect(run.stderr).toContain("   코드  NO_AUTOMATIC_RESTORE (종료 코드 5)\n");
  expect(dumpDatabase(live.cluster, live.database)).toBe(live.before);
  expectStarted(await runDeploy(live.project, { url: live.url, args: ["--accept-manual-restore", ...APP] }));
  expect(await readRows(live)).toBe("1_own true, 2_column true, 3_code true");
});
