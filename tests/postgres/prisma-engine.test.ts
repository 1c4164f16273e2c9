/**
 * What must hold, with the real CLI on a real server: the verdict says what the rows say, the sessions that are claimed
 * are those that the server counted, and when the run has returned nothing of the CLI is at work any more.
 */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Event } from "../../lib/events.ts";
import { readScripts } from "../../lib/migrations/folder.ts";
import { readHistory } from "../../lib/migrations/history.ts";
import {
  applyWithPrisma,
  findPrismaCli,
  judgePrismaRun,
  prismaSessions,
  waitForEngines,
} from "../../lib/migrations/prisma-engine.ts";
import { type Database, makeDatabase } from "../../lib/postgres/database.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import { type Cluster, sharedCluster, temporaryDirectory } from "../support/cluster.ts";
import { type PrismaVersion, preparePrismaProject, type Scripts, skipsPrisma } from "../support/prisma-cli.ts";

setDefaultTimeout(180_000);

const PASSWORD = "correct-horse";
const DEADLINE_MS = 120_000;
const WAIT_MS = 60_000;

const A = "CREATE TABLE a (id integer PRIMARY KEY);";
const FAILING = "CREATE TABLE half (id integer);\nSELECT nope;";
const SLOW = "CREATE TABLE half (id integer);\nSELECT pg_sleep(20);\nCREATE TABLE late (id integer);";

describe.skipIf(skipsPrisma("prisma-engine.test.ts")).each([6, 7] as const)("Prisma %d", (version) => {
  for (const split of [false, true]) {
    const how = split ? "each statement by itself" : "each script whole";

    test(`${how}: success`, async () => {
      const scripts = { "1_a": A, "2_b": "" };
      // The longest that a timer can wait is no deadline at all, and must not be one that is over at once.
      const deadlineMs = 2 ** 31 - 1;
      const { verdict, run, events, tables, sessions } = await deploy({ version, split, scripts, deadlineMs });
      expect(verdict).toEqual({ kind: "applied", applied: ["1_a", "2_b"] });
      expect(run).toMatchObject({ exitCode: 0, timedOut: false, interrupted: false, lingering: [] });
      expect(events).toContainEqual({ kind: "prisma-output", line: "Applying migration `1_a`" });
      expect(tables).toBe("a");
      expect(sessions).toEqual({ claimed: 2, counted: 2 });
    });

    test(`${how}: a failure in the middle ${split ? "leaves the first half" : "leaves nothing of that script"}`, async () => {
      const scripts = { "1_a": A, "2_b": FAILING, "3_c": "" };
      const { verdict, run, tables, sessions } = await deploy({ version, split, scripts });
      expect(verdict).toMatchObject({
        kind: "failed",
        row: { name: "2_b", finishedAt: null },
        scriptFinished: false,
        applied: ["1_a"],
        notApplied: ["2_b", "3_c"],
      });
      expect(run.exitCode).toBe(1);
      expect(run.output).toContain("Error: P3018");
      expect(tables).toBe(split ? "a,half" : "a");
      expect(sessions).toEqual({ claimed: 2, counted: 2 });
    });
  }

  test("a script without COMMIT: the CLI says success, the rows say failed", async () => {
    const { verdict, run, tables } = await deploy({ version, scripts: { "1_a": `BEGIN; ${A}` } });
    expect(run.exitCode).toBe(0);
    expect(verdict).toMatchObject({ kind: "failed", row: { name: "1_a" }, applied: [] });
    expect(tables).toBe("");
  });

  test("a folder without a script stops it at a boundary", async () => {
    const { verdict, sessions } = await deploy({ version, scripts: { "1_a": A, "2_b": null } });
    expect(verdict).toEqual({ kind: "stopped", applied: ["1_a"], notApplied: ["2_b"] });
    expect(sessions).toEqual({ claimed: 2, counted: 2 });
  });

  test("interrupted in the middle: the statement is cancelled and nothing goes on", async () => {
    const interruption = new AbortController();
    const { verdict, run, tables, sessions } = await deploy({
      version,
      scripts: { "1_a": A, "2_b": SLOW, "3_c": "CREATE TABLE c (id integer);" },
      signal: interruption.signal,
      meanwhile: async (name, cluster) => {
        await waitForSleep(name, cluster);
        interruption.abort();
      },
    });
    expect(run).toMatchObject({ interrupted: true, timedOut: false, lingering: [] });
    expect(verdict).toMatchObject({
      kind: "failed",
      row: { name: "2_b" },
      applied: ["1_a"],
      notApplied: ["2_b", "3_c"],
    });
    expect(tables).toBe("a");
    expect(sessions).toEqual({ claimed: 2, counted: 2 });
  });

  test("the CLI is killed in the middle: its engine, which lives on, is stopped too", async () => {
    const { verdict, run, tables, sessions } = await deploy({
      version,
      split: true,
      scripts: { "1_a": A, "2_b": SLOW, "3_c": "CREATE TABLE c (id integer);" },
      meanwhile: async (name, cluster) => {
        await waitForSleep(name, cluster);
        process.kill(await findOwnCli(), "SIGKILL");
      },
    });
    expect(run).toMatchObject({ exitCode: undefined, signal: "SIGKILL", lingering: [] });
    expect(verdict).toMatchObject({ kind: "failed", row: { name: "2_b" }, applied: ["1_a"] });
    expect(tables).toBe("a,half");
    expect(sessions.claimed).toBeUndefined();
  });

  test("its time is over", async () => {
    const { verdict, run, tables } = await deploy({ version, scripts: { "1_a": SLOW }, deadlineMs: 6_000 });
    expect(run).toMatchObject({ timedOut: true, interrupted: false, lingering: [] });
    expect(verdict.kind).toBe(run.output.includes("Applying") ? "failed" : "nothing");
    expect(tables).toBe("");
  });

  test("an engine that nobody waits for is waited for", async () => {
    const cluster = await sharedCluster();
    const name = await cluster.createDatabase();
    const databaseUrl = cluster.url(name);
    const scripts = { "1_a": "SELECT pg_sleep(4);\nCREATE TABLE late (id integer);", "2_b": A };
    const project = await preparePrismaProject({ version, migrationsFrom: scripts, databaseUrl });
    const session = await databaseOf(databaseUrl).open("test");
    opened.push(() => session.close());
    const texts = await readScripts(project.migrations, Object.keys(scripts));
    const events: Event[] = [];
    const { signal } = new AbortController();
    const wait = { waitMs: WAIT_MS, signal, tell: (event: Event) => events.push(event) };
    expect(await waitForEngines(session, texts, wait)).toBe(false);

    const cli = project.run(["migrate", "deploy"], { ENGINE_SPLIT: "1" });
    await waitForSleep(name, cluster);
    const tooShort = waitForEngines(session, texts, { ...wait, waitMs: 0 });
    await expect(tooShort).rejects.toMatchObject({
      code: "LOCK_NOT_ACQUIRED",
      fields: { holder: { state: "active" } },
    });
    expect(await waitForEngines(session, texts, wait)).toBe(true);
    expect(events).toMatchObject([{ kind: "lock-waiting", holder: { statement: "SELECT pg_sleep(4)" } }]);
    const { rows } = await readHistory(session, "public", WAIT_MS);
    expect(rows.map((row) => [row.name, row.finishedAt !== null])).toEqual([
      ["1_a", true],
      ["2_b", true],
    ]);
    await cli;
  });

  test("no password is shown, even when the server says it", async () => {
    const scripts = { "1_a": `DO $$ BEGIN RAISE EXCEPTION 'the password is ${PASSWORD}'; END $$` };
    const { run, events } = await deploy({ version, scripts });
    expect(run.output).toContain("the password is ***");
    expect(JSON.stringify([run, events])).not.toContain(PASSWORD);
  });
});

test("where there is no CLI, that is said", async () => {
  const empty = mkdtempSync(join(temporaryDirectory(), "empty-"));
  const found = findPrismaCli(empty, { PATH: `${empty}:/nonexistent` });
  await expect(found).rejects.toMatchObject({ code: "PRISMA_CLI_NOT_FOUND", fields: { directory: empty } });
});

test("the CLI is looked for upward, then in PATH, and its version read beside it", async () => {
  const root = mkdtempSync(join(temporaryDirectory(), "project-"));
  const inner = join(root, "packages", "app");
  mkdirSync(join(root, "node_modules", ".bin"), { recursive: true });
  mkdirSync(join(root, "node_modules", "prisma", "build"), { recursive: true });
  mkdirSync(inner, { recursive: true });
  const program = join(root, "node_modules", "prisma", "build", "index.js");
  writeFileSync(program, "#!/bin/sh\n", { mode: 0o755 });
  writeFileSync(join(root, "node_modules", "prisma", "package.json"), '{"name":"prisma","version":"6.1.2"}');
  const link = join(root, "node_modules", ".bin", "prisma");
  symlinkSync(program, link);
  expect(await findPrismaCli(inner, {})).toEqual({ path: link, version: "6.1.2" });

  const bin = mkdtempSync(join(temporaryDirectory(), "bin-"));
  writeFileSync(join(bin, "prisma"), "#!/bin/sh\n", { mode: 0o755 });
  const elsewhere = mkdtempSync(join(temporaryDirectory(), "elsewhere-"));
  expect(await findPrismaCli(elsewhere, { PATH: bin })).toEqual({ path: join(bin, "prisma"), version: undefined });
});

const opened: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

interface Case {
  readonly version: PrismaVersion;
  readonly scripts: Scripts;
  readonly split?: boolean;
  readonly signal?: AbortSignal;
  readonly deadlineMs?: number;
  /** Runs beside the CLI. */
  readonly meanwhile?: (database: string, cluster: Cluster) => Promise<void>;
}

/** One run of the CLI as a deploy does it, on a fresh database. */
async function deploy(given: Case) {
  const cluster = await sharedCluster();
  const name = await cluster.createDatabase();
  const databaseUrl = cluster.url(name, { user: "postgres", password: PASSWORD });
  const project = await preparePrismaProject({ version: given.version, migrationsFrom: given.scripts, databaseUrl });
  const database = databaseOf(databaseUrl);
  const session = await database.open("test");
  opened.push(() => session.close());
  const before = (await readHistory(session, "public", WAIT_MS)).rows;
  const countedBefore = await readSessionCount(cluster, name);
  const openedBefore = database.sessionsOpened;

  const cli = await findPrismaCli(project.directory);
  const events: Event[] = [];
  const pending = Object.keys(given.scripts);
  const withText = pending.filter((migration) => given.scripts[migration] !== null);
  const running = applyWithPrisma({
    cli,
    directory: project.directory,
    schemaPath: undefined,
    environment: { ...project.environment, ...(given.split === true ? { ENGINE_SPLIT: "1" } : {}) },
    scripts: await readScripts(project.migrations, withText),
    openSession: () => database.open("watch"),
    deadlineMs: given.deadlineMs ?? DEADLINE_MS,
    signal: given.signal ?? new AbortController().signal,
    tell: (event) => events.push(event),
  });
  const [run] = await Promise.all([running, given.meanwhile?.(name, cluster)]);

  expect(await readStrangers(cluster, name)).toBe("");

  const { rows } = await readHistory(session, "public", WAIT_MS);
  const verdict = judgePrismaRun(before, rows, pending, run);
  const claimed = prismaSessions({ run, verdict, cliVersion: cli.version, target: database.target });
  const ours = database.sessionsOpened - openedBefore;
  const counted =
    (await waitForSessionCount(cluster, name, countedBefore + ours + (claimed ?? 0))) - countedBefore - ours;
  // Nothing may change any more once the run has returned.
  expect((await readHistory(session, "public", WAIT_MS)).rows).toEqual(rows);
  const tables = await cluster.psql(
    name,
    `SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> '_prisma_migrations'`,
  );
  return { verdict, run, events, tables, sessions: { claimed, counted } };
}

function databaseOf(url: string): Database {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error("not a connection string");
  return makeDatabase(parsed.target);
}

/** What sessions that are not ours do in the database. */
async function readStrangers(cluster: Cluster, name: string): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT pid, state, query FROM pg_stat_activity
     WHERE datname = '${name}' AND backend_type = 'client backend' AND application_name NOT LIKE 'prisma-safe-deploy%'`,
  );
}

async function readSessionCount(cluster: Cluster, name: string): Promise<number> {
  return Number(await cluster.psql("postgres", `SELECT sessions FROM pg_stat_database WHERE datname = '${name}'`));
}

/** The server's statistics come late, but they come; one more look a little later finds a session too many. */
async function waitForSessionCount(cluster: Cluster, name: string, expected: number): Promise<number> {
  for (let waitedMs = 0; waitedMs < WAIT_MS; waitedMs += 100) {
    if ((await readSessionCount(cluster, name)) >= expected) break;
    await Bun.sleep(100);
  }
  await Bun.sleep(1_500);
  return await readSessionCount(cluster, name);
}

async function waitForSleep(name: string, cluster: Cluster): Promise<void> {
  const isAsleep = `SELECT count(*) FROM pg_stat_activity
    WHERE datname = '${name}' AND state = 'active' AND wait_event = 'PgSleep'`;
  for (let waitedMs = 0; waitedMs < WAIT_MS; waitedMs += 100) {
    if ((await cluster.psql("postgres", isAsleep)) !== "0") return;
    await Bun.sleep(100);
  }
  throw new Error("the slow migration never began");
}

/** The CLI is the one child of ours that deploys. */
async function findOwnCli(): Promise<number> {
  const listing = await new Response(Bun.spawn(["ps", "-e", "-o", "pid=,ppid=,args="]).stdout).text();
  const own = listing.split("\n").map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line));
  const found = own.find((match) => Number(match?.[2]) === process.pid && match?.[3]?.includes("migrate deploy"));
  if (found?.[1] === undefined) throw new Error(`no CLI among our children:\n${listing}`);
  return Number(found[1]);
}
