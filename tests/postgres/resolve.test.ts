/**
 * What must hold: `resolve` and `baseline` record what Prisma's CLI would record, only under the deploy lock, all of it or
 * nothing, and never against what is in the database unless it is forced; and a deploy that is refused says what is there.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { makeChecksum } from "../../lib/migrations/checksum.ts";
import type { ResolveResult } from "../../lib/resolve.ts";
import { openClient } from "../support/client.ts";
import { type Cluster, sharedCluster } from "../support/cluster.ts";
import { type DeployRun, makeProject, type Project, runDeploy, startDeploy, until } from "../support/project.ts";

setDefaultTimeout(120_000);

const A = "CREATE TABLE a (id integer);\n";
const HALF = "CREATE TABLE half (id integer);\nINSERT INTO half VALUES (1);\nALTER TABLE nope ADD COLUMN x integer;\n";
const LOCK = "SELECT pg_advisory_lock(72707369)";

interface World {
  readonly cluster: Cluster;
  readonly database: string;
  readonly project: Project;
  readonly url: string;
  readonly run: (...args: string[]) => Promise<DeployRun>;
  readonly sql: (text: string) => Promise<string>;
}

async function makeWorld(migrations: Readonly<Record<string, string | undefined>> = {}): Promise<World> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject(migrations);
  return {
    cluster,
    database,
    project,
    url: cluster.url(database),
    run: (...args) => runDeploy(project, { url: cluster.url(database), args: ["--lang", "en", ...args] }),
    sql: (text) => cluster.psql(database, text),
  };
}

/** 1_a applied by a deploy; 2_b failed, as an engine that commits each statement leaves it. */
async function makeHalfApplied(): Promise<World> {
  const world = await makeWorld({ "1_a": A });
  expect((await world.run()).exitCode).toBe(0);
  world.project.add("2_b", HALF);
  await world.sql(
    `INSERT INTO _prisma_migrations (id, checksum, migration_name, logs)
     VALUES (gen_random_uuid(), '${makeChecksum(HALF)}', '2_b', 'relation "nope" does not exist');
     CREATE TABLE half (id integer)`,
  );
  return world;
}

async function readRows({ sql }: World): Promise<string> {
  return await sql(
    `SELECT migration_name, applied_steps_count, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, coalesce(logs, '-')
     FROM _prisma_migrations ORDER BY started_at`,
  );
}

function expectRefused(run: DeployRun, code: string, exitCode = 3): void {
  expect(run.stderr).toContain(`Code   ${code} (exit code ${exitCode})`);
  expect(run.exitCode).toBe(exitCode);
  expect(run.stdout).toBe("");
}

describe("the refusal of a deploy", () => {
  test("says for each failed migration what of it is in the database, and which command goes on", async () => {
    const world = await makeHalfApplied();
    for (const args of [[], ["plan"]]) {
      const run = await world.run(...args);
      expectRefused(run, "HISTORY_FAILED");
      expect(run.stderr).toMatch(/^ +applied +1: CREATE TABLE half \(id integer\)$/m);
      expect(run.stderr).toMatch(/^ +unknown +2: INSERT INTO half VALUES \(1\)$/m);
      expect(run.stderr).toMatch(/^ +not applied +3: ALTER TABLE nope ADD COLUMN x integer$/m);
      expect(run.stderr).toContain("Proposal: restore");
      expect(run.stderr).toContain("deploy resolve --rolled-back 2_b");
      expect(run.stderr).toContain("npx prisma migrate resolve --rolled-back|--applied 2_b");
    }
  });

  test("stands where nothing can be found out", async () => {
    const world = await makeHalfApplied();
    await world.sql("UPDATE _prisma_migrations SET migration_name = '2_gone' WHERE migration_name = '2_b'");
    world.project.add("3_c", "CREATE TABLE (");
    await world.sql(
      "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (gen_random_uuid(), '', '3_c')",
    );
    const run = await world.run();
    expectRefused(run, "HISTORY_FAILED");
    expect(run.stderr).toContain("Its script is not in the folder");
    expect(run.stderr).toContain("It has no statement that could be looked at.");
  });
});

describe("resolve", () => {
  test("refuses what the database contradicts, and records it with --force", async () => {
    const world = await makeHalfApplied();
    const before = await readRows(world);
    for (const choice of ["--applied", "--rolled-back"]) {
      const run = await world.run("resolve", choice, "2_b");
      expectRefused(run, "RESOLVE_CONTRADICTED");
      expect(run.stderr).toMatch(/not applied +3: ALTER TABLE nope/);
      expect(await readRows(world)).toBe(before);
    }
    const forced = await world.run("resolve", "--rolled-back", "2_b", "--force");
    expect([forced.exitCode, forced.stdout]).toEqual([0, "Marked as rolled back: 1\n  2_b\n"]);
    expect(await readRows(world)).toContain("2_b|0|f|t|relation");
  });

  test("shows and records what the evidence allows, in the shape of --json", async () => {
    const world = await makeHalfApplied();
    await world.sql("DROP TABLE half");
    const dry = await world.run("resolve", "--rolled-back", "2_b", "--dry-run");
    expect(dry.stdout).toBe("Marked as rolled back: 1\n  2_b\nNothing was written (--dry-run).\n");
    expect(dry.stderr).toContain("not applied");
    expect(await readRows(world)).toContain("2_b|0|f|f|");
    const run = await world.run("resolve", "--rolled-back", "2_b", "--json");
    const result = JSON.parse(run.stdout) as ResolveResult;
    expect(result).toMatchObject({ applied: [], rolledBack: ["2_b"], written: true });
    expect(result.diagnoses.map(({ proposal, contradicted }) => ({ proposal, contradicted }))).toEqual([
      { proposal: "rolled-back", contradicted: ["applied"] },
    ]);
    const again = await world.run("resolve", "--rolled-back", "2_b", "--json");
    expect(JSON.parse(again.stdout)).toEqual({ applied: [], rolledBack: [], written: false, diagnoses: [] });
  });

  test("--applied: Prisma's row, and the failed ones rolled back", async () => {
    const world = await makeHalfApplied();
    await world.sql("CREATE TABLE nope (x integer)");
    expect((await world.run("resolve", "--applied", "2_b")).exitCode).toBe(0);
    expect(await readRows(world)).toMatch(/2_b\|0\|f\|t\|relation[^\n]*\n2_b\|0\|t\|f\|$/);
    const [checksum, isAtOnce] = (
      await world.sql(
        "SELECT checksum, started_at = finished_at FROM _prisma_migrations WHERE logs = '' AND id ~ '^[0-9a-f-]{36}$'",
      )
    ).split("|");
    expect([checksum, isAtOnce]).toEqual([makeChecksum(HALF), "t"]);
    expect((await world.run()).exitCode).toBe(0);
  });

  test("waits for a deploy at work, and looks at what it has left", async () => {
    const world = await makeHalfApplied();
    const holder = await openClient(world.cluster, world.database);
    await holder.run(LOCK);
    const args = ["resolve", "--rolled-back", "2_b", "--lang", "en"];
    const waiting = startDeploy(world.project, { url: world.cluster.url(world.database), args });
    await until("it waits", () => waiting.output().includes("Waiting for another deploy"));
    await holder.run("UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1");
    await holder.end();
    expectRefused(await waiting.ended, "RESOLVE_NOT_FAILED");
    const impatient = await openClient(world.cluster, world.database);
    await impatient.run(LOCK);
    expectRefused(await world.run("resolve", "--rolled-back", "2_b", "--lock-wait", "0"), "LOCK_NOT_ACQUIRED", 75);
    await impatient.end();
  });

  test("waits for an engine that has outlived its CLI", async () => {
    const world = await makeHalfApplied();
    world.project.add("2_b", "SELECT pg_sleep(600), 'of 2_b'\n;\n");
    const orphan = await openClient(world.cluster, world.database);
    const asleep = orphan.run("SELECT pg_sleep(600), 'of 2_b'").catch(() => {});
    await until("it sleeps", async () => {
      const activity = await world.cluster.psql(
        "postgres",
        `SELECT wait_event FROM pg_stat_activity WHERE pid = ${orphan.pid}`,
      );
      return activity === "PgSleep";
    });
    expectRefused(await world.run("resolve", "--rolled-back", "2_b", "--lock-wait", "0"), "LOCK_NOT_ACQUIRED", 75);
    await world.cluster.psql("postgres", `SELECT pg_terminate_backend(${orphan.pid})`);
    await asleep;
    await orphan.end();
  });

  test("flags that are missing, too many or misplaced are refused before anything is asked", async () => {
    const world = await makeWorld({ "1_a": A });
    for (const args of [
      ["resolve"],
      ["resolve", "--applied", "1_a", "--rolled-back", "1_a"],
      ["resolve", "--applied"],
      ["--applied", "1_a"],
      ["status", "--force"],
      ["baseline", "--rolled-back", "1_a"],
    ]) {
      expectRefused(await world.run(...args), "SETTINGS_INVALID", 2);
    }
    expect(await world.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")).toBe("0");
  });

  test("a database that can't be written is refused", async () => {
    const world = await makeHalfApplied();
    await world.sql(`ALTER DATABASE "${world.database}" SET default_transaction_read_only = on`);
    expectRefused(await world.run("resolve", "--rolled-back", "2_b", "--force"), "DATABASE_READ_ONLY", 7);
  });
});

describe("baseline", () => {
  test("marks everything in the folder's order, and a deploy goes on from there", async () => {
    const world = await makeWorld({
      "1_a": A,
      "2_b": "ALTER TABLE a ADD COLUMN x integer;\n",
      "3_c": "DROP TABLE a;\n",
    });
    await world.sql("CREATE TABLE other (id integer)");
    const refused = await world.run();
    expectRefused(refused, "BASELINE_NEEDED");
    expect(refused.stderr).toContain("deploy baseline");
    const run = await world.run("baseline");
    expect([run.exitCode, run.stdout]).toEqual([0, "Marked as applied: 3\n  1_a\n  2_b\n  3_c\n"]);
    expect(await readRows(world)).toBe("1_a|0|t|f|\n2_b|0|t|f|\n3_c|0|t|f|");
    expect((await world.run("baseline")).stdout).toBe("Nothing had to be marked.\n");
    world.project.add("4_d", "CREATE TABLE d (id integer);\n");
    expect((await world.run()).exitCode).toBe(0);
    expectRefused(await world.run("baseline"), "BASELINE_CONTRADICTED");
  });

  test("refuses what is not there, names it, and writes nothing; --force marks it", async () => {
    const world = await makeWorld({ "1_a": A, "2_b": "CREATE TABLE b (id integer);\n" });
    await world.sql(A);
    const run = await world.run("baseline");
    expectRefused(run, "RESOLVE_CONTRADICTED");
    expect(run.stderr).toMatch(/2_b\n +not applied +1: CREATE TABLE b/);
    expect(run.stderr).not.toContain("1_a\n");
    expect(await world.sql("SELECT to_regclass('_prisma_migrations') IS NULL")).toBe("t");
    expect((await world.run("baseline", "--force")).exitCode).toBe(0);
    expect(await readRows(world)).toBe("1_a|0|t|f|\n2_b|0|t|f|");
  });

  test("is refused as a whole where a script is missing, or somebody has failed", async () => {
    const world = await makeWorld({ "1_a": A, "2_b": undefined });
    await world.sql(A);
    expectRefused(await world.run("baseline"), "SCRIPT_MISSING");
    expectRefused(await (await makeHalfApplied()).run("baseline"), "BASELINE_CONTRADICTED");
  });

  test("what a server refuses to write is not written at all", async () => {
    const world = await makeWorld({ "1_a": A, "2_b": "" });
    await world.sql(`${A}CREATE TABLE _prisma_migrations (id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL,
      finished_at TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL CHECK (migration_name <> '2_b'), logs TEXT,
      rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)`);
    const run = await world.run("baseline");
    expectRefused(run, "STATEMENT_FAILED", 7);
    expect(run.stderr).toContain("violates check constraint");
    expect(await readRows(world)).toBe("");
  });
});

describe("a database with the ledger of Prisma 8 alone", () => {
  test("is recognised and refused by everything that would write", async () => {
    const world = await makeWorld({ "1_a": A });
    await world.sql("CREATE SCHEMA prisma_contract; CREATE TABLE prisma_contract.marker (id integer)");
    for (const args of [[], ["baseline"], ["resolve", "--applied", "1_a"]]) {
      const run = await world.run(...args);
      expectRefused(run, "LEDGER_UNSUPPORTED");
      expect(run.stderr).toContain("prisma_contract");
    }
    const status = await world.run("status", "--json");
    expect(JSON.parse(status.stdout)).toMatchObject({ state: "blocked", problem: "LEDGER_UNSUPPORTED" });
    expect(await world.sql("SELECT to_regclass('_prisma_migrations') IS NULL AND to_regclass('a') IS NULL")).toBe("t");
    // With nothing to apply the app must not be told that its schema is up to date either.
    expectRefused(await runDeploy(makeProject(), { url: world.url, args: ["--lang", "en"] }), "LEDGER_UNSUPPORTED");
  });

  test("a schema that only has its name is somebody's own", async () => {
    const world = await makeWorld({ "1_a": A });
    await world.sql("CREATE SCHEMA prisma_contract; CREATE TABLE prisma_contract.signed (id integer)");
    expect((await world.run()).exitCode).toBe(0);
  });

  test("a history of Prisma 5 to 7 beside it is used", async () => {
    const world = await makeWorld({ "1_a": A });
    expect((await world.run()).exitCode).toBe(0);
    await world.sql("CREATE SCHEMA prisma_contract; CREATE TABLE prisma_contract.marker (id integer)");
    world.project.add("2_b", "CREATE TABLE b (id integer);\n");
    expect((await world.run()).exitCode).toBe(0);
  });
});
