/**
 * Every operation of the procedure fails in turn, before its effect or after it, once or from then on, on a real
 * database. Whatever the outcome claims must be true.
 */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DeployOptions, deploy, type Operations } from "../../lib/deploy.ts";
import { DeployError, isDeployError } from "../../lib/errors.ts";
import type { Event } from "../../lib/events.ts";
import { type DeployOperations, makeOperations, type OperationSettings } from "../../lib/operations.ts";
import { exitCodeOf, exitCodeOfError, type Outcome, stateOf, stateOfError } from "../../lib/outcome.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import { type Cluster, sharedCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { makeProject, type Project } from "../support/project.ts";

const BASE = {
  "20240101000000_users": "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a');",
};

const OPTIONS = { version: "test", engine: "native", dryRun: false, maintenance: false } as const;

interface Scenario {
  /** The outcome when nothing is injected. */
  readonly ends: Outcome["kind"];
  readonly migrations: Readonly<Record<string, string>>;
  readonly onPartial?: DeployOptions["onPartial"];
}

/** The second can't be rolled back together with the first. */
const BOUNDARY = {
  "20240102000000_orders": "CREATE TABLE orders (id int);\nINSERT INTO users VALUES (2, 'a');",
  "20240103000000_unique": "CREATE UNIQUE INDEX CONCURRENTLY users_name ON users (name);",
};

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  succeeds: {
    ends: "deployed",
    migrations: {
      "20240102000000_orders": "CREATE TABLE orders (id int);",
      "20240103000000_email": "ALTER TABLE users ADD email text;\nUPDATE users SET email = 'x';",
    },
  },
  "fails and rolls back": {
    ends: "rolled-back",
    migrations: {
      "20240102000000_orders": "CREATE TABLE orders (id int);",
      "20240103000000_email": "ALTER TABLE users ADD email text NOT NULL;",
    },
  },
  "fails half applied": {
    ends: "restored",
    migrations: {
      "20240102000000_orders": "CREATE TABLE orders (id int);",
      "20240103000000_half":
        "BEGIN;\nUPDATE users SET name = 'changed';\nCOMMIT;\nSET LOCAL work_mem = '1MB';\nSELECT 1 / (SELECT count(*) FROM orders);",
    },
  },
  "stops at a boundary": { ends: "at-boundary", migrations: BOUNDARY },
  "goes back from a boundary": { ends: "restored", migrations: BOUNDARY, onPartial: "restore" },
};

interface Fault {
  /** Which call of an operation fails, from 1 on. */
  readonly at: number;
  readonly when: "before" | "after";
  readonly isLasting: boolean;
}

interface Run {
  readonly outcome: Outcome | undefined;
  readonly thrown: unknown;
  readonly calls: readonly string[];
  readonly events: readonly Event[];
  readonly wasInjected: boolean;
}

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  for (const when of ["before", "after"] as const) {
    for (const isLasting of [false, true]) {
      test(
        `a deploy that ${name}: operations fail ${when} their effect, ${isLasting ? "from then on" : "once"}`,
        () => sweep(scenario, when, isLasting),
        600_000,
      );
    }
  }
}

async function sweep(
  { migrations, ends, onPartial = "stop" }: Scenario,
  when: Fault["when"],
  isLasting: boolean,
): Promise<void> {
  const cluster = await sharedCluster();
  const template = await makeTemplate(cluster);
  const before = dumpDatabase(cluster, template);
  for (let at = 1; at <= 30; at += 1) {
    const database = `${template}_${at}`;
    await cluster.psql("postgres", `CREATE DATABASE "${database}" TEMPLATE "${template}"`);
    const project = makeProject({ ...BASE, ...migrations });
    const expired = plantExpiredFile(project);
    const fault = { at, when, isLasting };
    const run = await runWithFault(cluster.url(database), project, fault, onPartial);
    const story = JSON.stringify({
      ...fault,
      calls: run.calls,
      outcome: run.outcome?.kind,
      thrown: String(run.thrown),
    });
    await checkInvariants(run, { cluster, database, before, project, names: Object.keys(migrations) }, story);
    expect(existsSync(expired), `a file that is not ours was deleted: ${story}`).toBe(true);
    await cluster.psql("postgres", `DROP DATABASE "${database}"`);
    if (!run.wasInjected) {
      expect(run.outcome?.kind, `without a fault: ${story}`).toBe(ends);
      return;
    }
  }
  throw new Error("the sweep did not come to its end");
}

async function makeTemplate(cluster: Cluster): Promise<string> {
  const template = await cluster.createDatabase();
  const operations = operationsFor(cluster.url(template), makeProject(BASE), () => {});
  await deploy({ ...OPTIONS, onPartial: "stop" }, operations, () => {});
  await operations.close();
  return template;
}

/** Named like one of ours and old: without a manifest it is the user's own. */
function plantExpiredFile(project: Project): string {
  mkdirSync(project.backupDirectory);
  const path = join(project.backupDirectory, "backup_20200101_000000.sql");
  writeFileSync(path, "-- somebody's own\n");
  utimesSync(path, 0, 0);
  return path;
}

async function runWithFault(
  url: string,
  project: Project,
  fault: Fault,
  onPartial: DeployOptions["onPartial"],
): Promise<Run> {
  const calls: string[] = [];
  const events: Event[] = [];
  let wasInjected = false;
  const operations = operationsFor(url, project, (event) => events.push(event));
  const faulty = new Proxy(operations, {
    get(target, name: keyof Operations) {
      const verb = target[name].bind(target) as (...args: unknown[]) => Promise<unknown>;
      return async (...args: unknown[]) => {
        calls.push(name);
        const fails = fault.isLasting ? calls.length >= fault.at : calls.length === fault.at;
        if (fails) wasInjected = true;
        if (fails && fault.when === "before") throw injected();
        const result = await verb(...args);
        if (fails) throw injected();
        return result;
      };
    },
  });
  let outcome: Outcome | undefined;
  let thrown: unknown;
  try {
    outcome = await deploy({ ...OPTIONS, onPartial }, faulty, (event) => events.push(event));
  } catch (error) {
    thrown = error;
  }
  await operations.close();
  return { outcome, thrown, calls, events, wasInjected };
}

function injected(): DeployError {
  return new DeployError("CONNECTION_LOST", { during: "the test", reason: "injected" });
}

function operationsFor(url: string, project: Project, tell: (event: Event) => void): DeployOperations {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error("not a connection string");
  const settings: OperationSettings = {
    target: parsed.target,
    migrationsDirectory: join(project.directory, "prisma", "migrations"),
    migrateEngine: "native",
    prismaSchema: "",
    migrationOrder: "bytes",
    onEdited: "warn",
    onMissing: "warn",
    backupDirectory: project.backupDirectory,
    backupFormat: "auto",
    backupRetentionDays: 30,
    backupMinimumKeep: 3,
    restore: "auto",
    maintenanceDatabase: "",
    acceptManualRestore: false,
    databaseWaitMs: 0,
    deployLockWaitMs: 60_000,
    lockTimeoutMs: 3_000,
    lockRetryMs: 60_000,
    statementTimeoutMs: 0,
    prismaTimeoutMs: 0,
    createDatabase: false,
    maintenance: false,
    retry: false,
  };
  return makeOperations({
    settings,
    environment: process.env,
    tell,
    resolvesSwaps: true,
    signal: new AbortController().signal,
  });
}

interface World {
  readonly cluster: Cluster;
  readonly database: string;
  readonly before: string;
  readonly project: Project;
  readonly names: readonly string[];
}

async function checkInvariants(run: Run, world: World, story: string): Promise<void> {
  const { cluster, database } = world;
  const { thrown, outcome } = run;
  if (outcome === undefined && !isDeployError(thrown)) throw thrown;
  const state = outcome === undefined ? stateOfError(thrown as never) : stateOf(outcome);
  const exitCode = outcome === undefined ? exitCodeOfError(thrown as never) : exitCodeOf(outcome);
  const after = dumpDatabase(cluster, database);
  const finished = await readNames(world, "finished_at IS NOT NULL AND rolled_back_at IS NULL");
  const unfinished = await readNames(world, "finished_at IS NULL AND rolled_back_at IS NULL");

  if (state === "untouched" || state === "as-before") expect(after, `as before: ${story}`).toBe(world.before);
  if (state === "migrated") expect(finished, `migrated: ${story}`).toEqual(["20240101000000_users", ...world.names]);
  if (state !== "unknown") expect(unfinished, `nothing half: ${story}`).toEqual([]);
  if (outcome?.kind === "at-boundary") expect(finished.slice(1), story).toEqual([...outcome.applied]);
  expect(exitCode === 0, `success is said of a migrated database only: ${story}`).toBe(state === "migrated");

  // Nothing is changed without a backup to come back to, and one that may still be needed is there.
  const manifests = readdirSync(world.project.backupDirectory).filter((file) => /^backup_[\d_]+\.json$/.test(file));
  if (after !== world.before) expect(manifests.length, `backed up first: ${story}`).toBe(1);
  if (run.calls.includes("prune")) expect(outcome?.kind, `only success prunes: ${story}`).toBe("deployed");
  const claimed = run.events.some(({ kind }) => kind === "restore-finished" || kind === "rolled-back");
  if (claimed) expect(after, `"완료" is true: ${story}`).toBe(world.before);
  const isFree = await cluster.psql(database, "SELECT pg_try_advisory_lock(72707369)");
  expect(isFree, `the lock is let go: ${story}`).toBe("t");
}

async function readNames({ cluster, database }: World, condition: string): Promise<string[]> {
  const names = await cluster.psql(
    database,
    `SELECT migration_name FROM _prisma_migrations WHERE ${condition} ORDER BY migration_name`,
  );
  return names === "" ? [] : names.split("\n");
}
