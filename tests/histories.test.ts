/**
 * What must hold: real projects' histories, deployed from zero by `scripts/deploy.ts`, end in the schema that psql makes
 * of the same scripts, with one finished row each, whether in one go or with the last ten held back for a second deploy.
 *
 * HISTORIES_DIR names a folder of folders with a `migrations` folder each. Without it these tests are skipped.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { makeChecksum } from "../lib/migrations/checksum.ts";
import { type Cluster, sharedCluster } from "./support/cluster.ts";
import { listMigrations } from "./support/prisma-cli.ts";
import { type DeployRun, makeProject, type Project, runDeploy } from "./support/project.ts";
import { dumpSchema } from "./support/schema-dump.ts";

setDefaultTimeout(600_000);

const HELD_BACK = 10;

const root = process.env.HISTORIES_DIR;
if (!root) console.warn("histories.test.ts: skipped, HISTORIES_DIR is not set");
const histories = root ? readdirSync(root).filter((name) => existsSync(join(root, name, "migrations"))) : [];

describe.skipIf(histories.length === 0).each(histories)("%s", (history) => {
  const folder = join(root ?? "", history, "migrations");
  const names = listMigrations(folder);

  test(`${names.length} migrations in one go`, async () => {
    const { cluster, database, project } = await makeEmpty();
    copyMigrations(folder, names, project);
    expectDeployed(await deploy(cluster, database, project));
    await expectSame(cluster, database, folder, names);
    expect((await deploy(cluster, database, project)).exitCode).toBe(0);
    expect(await readRows(cluster, database)).toHaveLength(names.length);
  });

  test.skipIf(names.length <= HELD_BACK)(`the last ${HELD_BACK} later`, async () => {
    const { cluster, database, project } = await makeEmpty();
    copyMigrations(folder, names.slice(0, -HELD_BACK), project);
    expectDeployed(await deploy(cluster, database, project));
    expect(await readRows(cluster, database)).toHaveLength(names.length - HELD_BACK);
    copyMigrations(folder, names, project);
    expectDeployed(await deploy(cluster, database, project));
    await expectSame(cluster, database, folder, names);
  });
});

async function makeEmpty(): Promise<{ cluster: Cluster; database: string; project: Project }> {
  const cluster = await sharedCluster();
  return { cluster, database: await cluster.createDatabase(), project: makeProject() };
}

function copyMigrations(folder: string, names: readonly string[], project: Project): void {
  for (const name of names) {
    cpSync(join(folder, name), join(project.directory, "prisma", "migrations", name), { recursive: true });
  }
}

async function deploy(cluster: Cluster, database: string, project: Project): Promise<DeployRun> {
  return await runDeploy(project, { url: cluster.url(database), args: ["--lang", "en", "--", "sh", "-c", "echo app"] });
}

function expectDeployed(run: DeployRun): void {
  // The log first: it says why.
  expect(run.exitCode === 0 ? "" : run.stderr).toBe("");
  expect(run.stdout).toBe("app\n");
}

/** The schema is what psql makes of the scripts, and each has its finished row. */
async function expectSame(cluster: Cluster, database: string, folder: string, names: readonly string[]): Promise<void> {
  const reference = await cluster.createDatabase();
  const scripts = names.map((name) => readFileSync(join(folder, name, "migration.sql"), "utf8"));
  for (const script of scripts) await cluster.psql(reference, script);
  const withoutRows = ["--exclude-table=public._prisma_migrations"];
  expect(await dumpSchema(cluster, database, withoutRows)).toBe(await dumpSchema(cluster, reference));
  expect(await readRows(cluster, database)).toEqual(
    names.map((name, index) => `${name} ${makeChecksum(scripts[index] ?? "")} steps 1 finished`),
  );
}

async function readRows(cluster: Cluster, database: string): Promise<string[]> {
  const rows = await cluster.psql(
    database,
    `SELECT concat_ws(' ', migration_name, checksum, 'steps', applied_steps_count,
       CASE WHEN finished_at IS NOT NULL THEN 'finished' END, CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back' END,
       logs)
     FROM _prisma_migrations ORDER BY started_at, migration_name COLLATE "C"`,
  );
  return rows.split("\n");
}
