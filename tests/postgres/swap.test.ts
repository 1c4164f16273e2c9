/**
 * The swap on a real server. After each try the database is exactly as it was at the mark, with the failed one kept beside
 * it, or exactly as the failed deploy left it; and whatever somebody else has committed is in one of the two.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { dirname } from "node:path";
import { readRestoreFacts } from "../../lib/restore/facts.ts";
import { chooseRestore, type SwapReason } from "../../lib/restore/plan.ts";
import { readSwapFacts } from "../../lib/restore/swap-facts.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import {
  beginDeploy,
  createNasty,
  createRoles,
  DAMAGE,
  DATABASE_DAMAGE,
  type Deploy,
  type DeployOptions,
  openDatabase,
  readState,
} from "../support/restore.ts";

const DEADLINE_MS = 120_000;
const RICH = { superuserObjects: true, largeObjects: true, extensionInSchema: true, oddNames: true };

let cluster: Cluster;

beforeAll(async () => {
  // Autovacuum's commits come when they like, and would take proof A away from tests that are about it.
  cluster = await startCluster({ settings: { autovacuum: "off" } });
  await createRoles(cluster);
  await cluster.psql(
    "postgres",
    "ALTER ROLE app_owner CREATEDB; CREATE ROLE app_creator LOGIN CREATEDB; GRANT app_owner TO app_creator",
  );
}, DEADLINE_MS);

afterAll(async () => await cluster.remove());

/** A small database of the owner's, for what does not depend on its content. */
async function createSmall(on: Cluster = cluster): Promise<string> {
  const name = await on.createDatabase({ owner: "app_owner" });
  await on.psql(
    name,
    `SET ROLE app_owner; CREATE SCHEMA app; CREATE SEQUENCE app.counter;
     CREATE TABLE app.items(id int PRIMARY KEY, note text); INSERT INTO app.items SELECT g, 'n' || g FROM generate_series(1, 200) g;
     CREATE TABLE app.parts(id serial PRIMARY KEY, item int REFERENCES app.items);
     INSERT INTO app.parts(item) SELECT g FROM generate_series(1, 100) g; CREATE TABLE public.last(a int)`,
  );
  return name;
}

interface Failed extends Deploy {
  readonly before: string;
  readonly failed: string;
  readonly cluster: Cluster;
}

async function fail(
  name: string,
  options: DeployOptions & { readonly damage?: readonly string[]; readonly on?: Cluster } = {},
): Promise<Failed> {
  const { damage = [DAMAGE, DATABASE_DAMAGE], on = cluster } = options;
  const before = await readState(on, name);
  const deploy = await beginDeploy(on, name, { user: "app_owner", restore: "auto", ...options });
  for (const sql of damage) await deploy.migrate(sql);
  // The oracle's own sessions are strangers: where only B can hold, it must not look in between.
  const failed = options.isRecorded === false ? "" : await readState(on, name);
  expect(failed).not.toBe(before);
  return { ...deploy, before, failed };
}

function differenceOf(one: string, other: string): string[] {
  const [lines, others] = [new Set(one.split("\n")), new Set(other.split("\n"))];
  const only = (mine: Set<string>, theirs: Set<string>, mark: string) =>
    [...mine].filter((line) => !theirs.has(line)).map((line) => `${mark} ${line}`);
  return [...only(lines, others, "+"), ...only(others, lines, "-")];
}

async function listDatabases(on: Cluster, name: string): Promise<string[]> {
  const list = await on.psql("postgres", `SELECT datname FROM pg_database WHERE datname LIKE '${name}%' ORDER BY 1`);
  return list.split("\n");
}

/** As before, and the failed one is kept as it was, with its door shut. */
async function expectSwapped(deploy: Failed, failedName: string): Promise<void> {
  const { name, before, failed } = deploy;
  expect(differenceOf(await readState(deploy.cluster, name), before)).toEqual([]);
  expect(await listDatabases(deploy.cluster, name)).toEqual([name, failedName]);
  expect(
    await deploy.cluster.psql("postgres", `SELECT datallowconn FROM pg_database WHERE datname = '${failedName}'`),
  ).toBe("f");
  if (failed !== "") {
    await deploy.cluster.psql("postgres", `ALTER DATABASE "${failedName}" ALLOW_CONNECTIONS true`);
    const kept = (await readState(deploy.cluster, failedName)).replace(/\n\[prisma-safe-deploy [^\n]*\]\|/, "|");
    expect(differenceOf(kept, failed)).toEqual([]);
  }
  expect(readdirSync(dirname(deploy.backup.path)).filter((entry) => entry.startsWith(".restore"))).toEqual([]);
}

describe("everything is as it was", () => {
  const cases = [
    { user: "postgres", content: RICH, format: "custom" },
    { user: "postgres", content: { oddNames: true, largeObjects: true }, format: "plain" },
    { user: "postgres", content: { oddNames: true, largeObjects: true }, format: "custom", asked: "custom" },
    { user: "app_owner", content: { oddNames: true, largeObjects: true, extensionInSchema: true }, format: "plain" },
    { user: "app_owner", content: { oddNames: true, largeObjects: true }, format: "custom", asked: "custom" },
    { user: "app_owner", content: { oddNames: true }, format: "plain" },
  ] as const;
  test.each(cases)(
    "%j",
    async (options) => {
      const { user, content, format, asked } = { asked: "auto" as const, ...options };
      const name = await createNasty(cluster, content);
      const deploy = await fail(name, { user, format: asked });
      expect(deploy.plan).toMatchObject({ rungs: expect.arrayContaining(["swap"]), format, swapReasonsNot: [] });
      const { failed, failedSizeBytes } = await deploy.swap();
      expect(failed).toBe(`${name}_failed_20241219_143022`);
      expect(failedSizeBytes).toBeGreaterThan(1_000_000);
      await expectSwapped(deploy, failed);
    },
    DEADLINE_MS,
  );
});

describe("what the role can't carry over makes a swap impossible, and is told before", () => {
  test(
    "an owner who may not create databases: in place",
    async () => {
      const name = await createNasty(cluster);
      await cluster.psql("postgres", "ALTER ROLE app_owner NOCREATEDB");
      try {
        const deploy = await fail(name);
        expect(deploy.plan).toMatchObject({ rungs: ["in-place"], swapReasonsNot: ["create-database-denied"] });
        await deploy.restore();
        expect(differenceOf(await readState(cluster, name), deploy.before)).toEqual([]);
      } finally {
        await cluster.psql("postgres", "ALTER ROLE app_owner CREATEDB");
      }
    },
    DEADLINE_MS,
  );

  test(
    "each obstacle, alone",
    async () => {
      const cases: readonly (readonly [string, string, SwapReason])[] = [
        ["app_creator", "SELECT 1", "properties-not-settable"],
        ["app_owner", "ALTER DATABASE :db SET log_statement = 'all'", "properties-not-settable"],
        ["app_owner", "ALTER ROLE app_ro IN DATABASE :db SET work_mem = '8MB'", "properties-not-settable"],
        ["app_rw", "SELECT 1", "not-owner"],
        ["app_owner", "CREATE DATABASE :db_failed_20240101_000000", "failed-database-kept"],
        [
          "app_owner",
          "SET ROLE app_owner; GRANT TEMP ON DATABASE :db TO app_ro WITH GRANT OPTION; SET ROLE app_ro; GRANT TEMP ON DATABASE :db TO app_rw",
          "database-grantors",
        ],
        ["app_owner", "CREATE TABLE public.theirs()", "foreign-objects"],
        ["app_owner", "CREATE EXTENSION pgcrypto", "foreign-objects"],
        ["app_owner", "SELECT lo_create(0)", "foreign-large-objects"],
      ];
      for (const [user, obstacle, reason] of cases) {
        const name = await createSmall();
        await cluster.psql(name, "ALTER ROLE app_owner IN DATABASE :db SET work_mem = '9MB'".replaceAll(":db", name));
        await cluster.psql(name, obstacle.replaceAll(":db", name));
        const database = openDatabase(cluster, name, user);
        const session = await database.open("test");
        const facts = { ...(await readRestoreFacts(session)), swap: await readSwapFacts(database, session, undefined) };
        const plan = chooseRestore(facts, { format: "auto", restore: "swap" });
        expect({ obstacle, rungs: plan.rungs }).toEqual({ obstacle, rungs: [] });
        expect(plan.swapReasonsNot).toContain(reason);
        await session.close();
      }
    },
    DEADLINE_MS,
  );
});
