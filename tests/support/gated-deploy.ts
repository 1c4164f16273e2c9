/**
 * A database whose restore can be held up where one wants it, and a migration that fails half applied, so that a deploy has
 * to restore it.
 */
import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, startCluster, temporaryDirectory } from "./cluster.ts";
import { dumpDatabase } from "./dump.ts";
import type { Live as DeployedFirst } from "./live.ts";
import {
  type DeployRun,
  makeProject,
  type Project,
  type RunningDeploy,
  runDeploy,
  startDeploy,
  until,
} from "./project.ts";

export const ROWS = 1_000;
/** Where a restore can be held up: at a tenth, at half and at nine tenths of the rows, and in the build of an index. */
export const PLACES = [100, 500, 900, 100_500] as const;
/** What belongs to the run alone. */
export const CONTENT = ["--exclude-table-data=_prisma_migrations"];

/** Nobody but the tests is at work there, so that no proof is void by what autovacuum happens to do. */
let quiet: Promise<Cluster> | undefined;

export async function quietCluster(): Promise<Cluster> {
  quiet ??= startCluster({ settings: { autovacuum: "off", max_connections: "200" } });
  return await quiet;
}

/** Behind all tests of a file. The next file of the same process starts another one. */
export async function removeQuietCluster(): Promise<void> {
  const removed = await quiet;
  quiet = undefined;
  await removed?.remove();
}

/** Its content `before` is without what belongs to the run alone. */
export interface Live extends DeployedFirst {
  /** The content as a failed deploy leaves it. */
  readonly failed: string;
  readonly gates: string;
}

/** Rows and an index whose restore stands still where a file of a name with that number is there. */
function makeBase(gates: string): string {
  return `
    CREATE FUNCTION gate(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $gate$ BEGIN
      IF n % 100 = 0 THEN
        WHILE (pg_stat_file('${gates}' || n, true)).size IS NOT NULL LOOP PERFORM pg_sleep(0.02); END LOOP;
      END IF;
      RETURN true;
    END $gate$;
    CREATE TABLE big (id int CHECK (public.gate(id)), body text NOT NULL);
    INSERT INTO big SELECT n, 'row ' || n FROM generate_series(1, ${ROWS}) AS n;
    CREATE INDEX big_gate ON big (public.gate(id + 100000), id);
    CREATE TABLE gone (id int PRIMARY KEY);
    INSERT INTO gone VALUES (1);`;
}

/** Controls its transaction by itself, and so runs as Prisma runs it: what it has committed stays when it fails. */
export const HALF = `UPDATE big SET body = 'changed' WHERE id <= 10;
  DROP TABLE gone;
  CREATE TABLE half (id int);
  INSERT INTO half VALUES (1);
  COMMIT;
  SELECT 1 / (SELECT count(*) - 1 FROM half);\n`;
export const GOOD = "CREATE TABLE half (id int);\n";

type Template = Omit<Live, "url" | "project">;

const templates = new Map<Cluster, Promise<Template>>();

/** A database of its own, with the same content as any other one of that cluster. */
export async function makeLive(cluster?: Cluster): Promise<Live> {
  const on = cluster ?? (await quietCluster());
  const made = templates.get(on) ?? makeTemplate(on);
  templates.set(on, made);
  const template = await made;
  const database = await on.createDatabase({ template: template.database });
  const project = makeProject({ "1_base": makeBase(template.gates), "2_half": HALF });
  return { ...template, database, url: on.url(database), project };
}

async function makeTemplate(cluster: Cluster): Promise<Template> {
  const gates = join(cluster.directory, `gate-${randomBytes(6).toString("hex")}-`);
  const project = makeProject({ "1_base": makeBase(gates) });
  const database = await cluster.createDatabase();
  const first = await runDeploy(project, { url: cluster.url(database) });
  expect(first.exitCode, first.stderr).toBe(0);
  const before = dumpDatabase(cluster, database, CONTENT);
  project.add("2_half", HALF);
  return { cluster, database, before, failed: await readFailed(cluster, database, project), gates };
}

/** What a deploy leaves that restores nothing. */
async function readFailed(cluster: Cluster, template: string, project: Project): Promise<string> {
  const copy = `${template}_copy`;
  await cluster.psql("postgres", `CREATE DATABASE ${copy} TEMPLATE ${template}`);
  const args = ["--restore", "never", "--accept-manual-restore"];
  const environment = { BACKUP_DIR: join(temporaryDirectory(), "backups") };
  const run = await runDeploy(project, { url: cluster.url(copy), args, environment });
  expect(run.exitCode, run.stderr).toBe(6);
  const failed = dumpDatabase(cluster, copy, CONTENT);
  await cluster.psql("postgres", `DROP DATABASE ${copy}`);
  return failed;
}

export async function listDatabases({ cluster, database }: Live): Promise<string[]> {
  const list = await cluster.psql(
    "postgres",
    `SELECT regexp_replace(datname, '\\d{8}_\\d{6}(_\\d+)?', 'STAMP') || CASE WHEN datallowconn THEN '' ELSE ' shut' END
     FROM pg_database WHERE datname LIKE '${database}%' ORDER BY datname`,
  );
  return list.split("\n").map((name) => name.replace(database, "live"));
}

export const UNTOUCHED = ["live"];
export const SWAPPED = ["live", "live_failed_STAMP shut"];
export const CUT_OFF = ["live shut", "live_restore_STAMP"];

export function shut({ gates }: Live, place: number): void {
  writeFileSync(`${gates}${place}`, "");
}

export function open({ gates }: Live, place: number): void {
  if (existsSync(`${gates}${place}`)) rmSync(`${gates}${place}`);
}

/** Until the restored copy stands at a gate. @returns the backend that fills it */
export async function untilAtGate(live: Live, running?: RunningDeploy): Promise<string> {
  return await untilOneWaits(live, `datname LIKE '${live.database}\\_restore\\_%'`, running);
}

/** Until the restore in place stands at a gate. @returns its backend */
export async function untilInPlace(live: Live, running: RunningDeploy): Promise<string> {
  return await untilOneWaits(live, `datname = '${live.database}' AND application_name LIKE '%psql'`, running);
}

async function untilOneWaits({ cluster }: Live, condition: string, running?: RunningDeploy): Promise<string> {
  const query = `SELECT max(pid) FROM pg_stat_activity WHERE ${condition} AND wait_event = 'PgSleep'`;
  let pid = "";
  await until(`the restore stands at a gate: ${running?.output() ?? ""}`, async () => {
    pid = await cluster.psql("postgres", query);
    return pid !== "";
  });
  return pid;
}

export interface StandingDeploy {
  readonly live: Live;
  readonly running: RunningDeploy;
  /** Backend of the restore. */
  readonly pid: number;
}

/** A deploy that has failed, and restores up to a place, whose gate is shut. */
export async function startUntil(
  args: readonly string[],
  place: number,
  stands: typeof untilInPlace = untilAtGate,
  cluster?: Cluster,
): Promise<StandingDeploy> {
  const live = await makeLive(cluster);
  shut(live, place);
  const running = startDeploy(live.project, { url: live.url, args });
  return { live, running, pid: Number(await stands(live, running)) };
}

/** The same, and it is killed there. */
export async function killAt(...where: Parameters<typeof startUntil>): Promise<StandingDeploy> {
  const standing = await startUntil(...where);
  standing.running.kill("SIGKILL");
  await standing.running.ended;
  return standing;
}

/** The same deploy has failed and restored. */
export function expectRestored(run: DeployRun): void {
  expect(run.exitCode, run.stderr).toBe(5);
  expect(run.stderr).toContain("✅ 백업에서 복원 완료");
}

/** @param databases what is there then, as `listDatabases` has it */
export async function expectBack(live: Live, databases: readonly string[]): Promise<void> {
  expect(await listDatabases(live)).toEqual([...databases]);
  await expectContent(live, live.before);
}

export async function expectContent({ cluster, database }: Live, content: string): Promise<void> {
  expect(dumpDatabase(cluster, database, CONTENT)).toBe(content);
}
