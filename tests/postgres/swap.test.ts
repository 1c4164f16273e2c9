/**
 * The swap on a real server. After each try the database is exactly as it was at the mark, with the failed one kept beside
 * it, or exactly as the failed deploy left it; and whatever somebody else has committed is in one of the two.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { chownSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DeployError } from "../../lib/errors.ts";
import type { Event } from "../../lib/events.ts";
import { readRestoreFacts } from "../../lib/restore/facts.ts";
import { inspectSwap, resolveSwap } from "../../lib/restore/interrupted-swap.ts";
import { chooseRestore, type SwapReason } from "../../lib/restore/plan.ts";
import type { SwapOptions } from "../../lib/restore/swap.ts";
import { readSwapFacts } from "../../lib/restore/swap-facts.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import {
  createSmall,
  differenceOf,
  type FailedDeploy,
  type FailOptions,
  failDeploy,
  findProcess,
  listLeftovers,
  SMALL_DAMAGE,
} from "../support/failed-deploy.ts";
import { until } from "../support/project.ts";
import {
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

/** More than what a single session restores, however it is compressed. */
const LARGE_TABLE = `SET ROLE app_owner; CREATE TABLE public.large AS SELECT number,
  ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 50) WHERE number > 0) AS numbers FROM generate_series(1, 18000) AS number`;

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

interface Failed extends FailedDeploy {
  readonly roles: string;
}

async function fail(name: string, options: FailOptions & { readonly on?: Cluster } = {}): Promise<Failed> {
  const { on = cluster, ...rest } = options;
  const damage = [DAMAGE, DATABASE_DAMAGE];
  const deploy = await failDeploy(on, name, { restore: "auto", damage, ...rest });
  return { ...deploy, roles: await readRoles(on) };
}

/** Roles, memberships and what is set for roles in no database. */
async function readRoles(on: Cluster): Promise<string> {
  return await on.psql(
    "postgres",
    `SELECT r FROM pg_authid AS r ORDER BY oid; SELECT m FROM pg_auth_members AS m ORDER BY roleid, member;
     SELECT s FROM pg_db_role_setting AS s WHERE setdatabase = 0 ORDER BY setrole; SELECT t FROM pg_tablespace AS t ORDER BY oid`,
  );
}

async function listDatabases(on: Cluster, name: string): Promise<string[]> {
  const list = await on.psql("postgres", `SELECT datname FROM pg_database WHERE datname LIKE '${name}%' ORDER BY 1`);
  return list.split("\n");
}

/** As before, and the failed one is kept as it was, with its door shut. */
async function expectSwapped(deploy: Failed, failedName: string): Promise<void> {
  const { name, before, failed } = deploy;
  expect(differenceOf(await readState(deploy.cluster, name), before)).toEqual([]);
  expect(await readRoles(deploy.cluster)).toBe(deploy.roles);
  expect(await listDatabases(deploy.cluster, name)).toEqual([name, failedName]);
  expect(
    await deploy.cluster.psql("postgres", `SELECT datallowconn FROM pg_database WHERE datname = '${failedName}'`),
  ).toBe("f");
  if (failed !== "") {
    await deploy.cluster.psql("postgres", `ALTER DATABASE "${failedName}" ALLOW_CONNECTIONS true`);
    const kept = (await readState(deploy.cluster, failedName)).replace(/\n?\[prisma-safe-deploy [^\n]*\](?=\|)/, "");
    expect(differenceOf(kept, failed)).toEqual([]);
  }
  expect(listLeftovers(deploy)).toEqual([]);
}

describe("everything is as it was", () => {
  const cases = [
    { user: "postgres", content: RICH, format: "custom", isLarge: true },
    { user: "postgres", content: { oddNames: true, largeObjects: true }, format: "plain" },
    { user: "postgres", content: { oddNames: true, largeObjects: true }, format: "custom", asked: "custom" },
    { user: "app_owner", content: { oddNames: true, largeObjects: true, extensionInSchema: true }, format: "plain" },
    {
      user: "app_owner",
      content: { oddNames: true, largeObjects: true },
      format: "custom",
      asked: "custom",
      isLarge: true,
    },
    { user: "app_owner", content: { oddNames: true }, format: "plain" },
  ] as const;
  test.each(cases)(
    "%j",
    async (options) => {
      const { user, content, format, asked, isLarge } = { asked: "auto" as const, isLarge: false, ...options };
      const name = await createNasty(cluster, content);
      if (isLarge) await cluster.psql(name, LARGE_TABLE);
      const deploy = await fail(name, { user, format: asked });
      expect(deploy.plan).toMatchObject({ rungs: expect.arrayContaining(["swap"]), format, swapReasonsNot: [] });
      const { failed, failedSizeBytes } = await deploy.swap();
      // Ours and that of the tool: its leader's, or one of a single job. A large archive is read by two workers or more.
      const sessions = await cluster.psql(
        "postgres",
        `SELECT sessions FROM pg_stat_database WHERE datname = '${name}'`,
      );
      if (isLarge) expect(Number(sessions)).toBeGreaterThanOrEqual(4);
      else expect(sessions).toBe("2");
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
        const name = await createSmall(cluster);
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

/** A file of that name holds up a restore of the gated database in the middle of its rows. */
let gate: string;

/** As `createSmall`, with rows that a restore can be held up at. Only a superuser may look for files. */
async function createGated(on: Cluster = cluster): Promise<string> {
  const name = await createSmall(on);
  gate = join(on.directory, `gate-${randomBytes(6).toString("hex")}`);
  await on.psql(
    name,
    `CREATE FUNCTION public.gate(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
       WHILE n = 100 AND (pg_stat_file('${gate}', true)).size IS NOT NULL LOOP PERFORM pg_sleep(0.02); END LOOP;
       RETURN true;
     END $$;
     CREATE TABLE app.gated(id int CHECK (public.gate(id))); INSERT INTO app.gated SELECT generate_series(1, 200)`,
  );
  return name;
}

async function failGated(options: DeployOptions = {}): Promise<Failed> {
  return await fail(await createGated(), { user: "postgres", damage: [SMALL_DAMAGE], ...options });
}

/** Runs the swap up to the gate, does that, and lets it go on. */
async function atGate(deploy: Failed, act: () => Promise<void>, changes: Partial<SwapOptions> = {}): Promise<unknown> {
  writeFileSync(gate, "");
  const swapping = deploy.swap(changes).catch((error: unknown) => error);
  const waiting = `SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '${deploy.name}\\_restore\\_%' AND wait_event = 'PgSleep'`;
  await until("it stands at the gate", async () => (await deploy.cluster.psql("postgres", waiting)) !== "0");
  await act().finally(() => rmSync(gate));
  return await swapping;
}

/** The client that reads the backup. */
function findTool({ backup }: Deploy): number {
  return findProcess((command) => command.includes(backup.path) && !command.includes("--file="));
}

/** Exactly the failed state, open, with nothing beside it and no trace. */
async function expectUndone(deploy: Failed): Promise<void> {
  expect(await listDatabases(deploy.cluster, deploy.name)).toEqual([deploy.name]);
  if (deploy.failed !== "") {
    expect(differenceOf(await readState(deploy.cluster, deploy.name), deploy.failed)).toEqual([]);
  }
}

function reasonsOf(error: unknown): readonly string[] {
  if (!(error instanceof DeployError) || error.code !== "RESTORE_NOT_PROVEN") throw error;
  return (error.fields as { readonly reasons: readonly string[] }).reasons;
}

const DURING = { during: "test", deadlineMs: 60_000 };

describe("no write is lost", () => {
  test(
    "a commit between the verdict and the shut door",
    async () => {
      const deploy = await failGated();
      const stranger = await openDatabase(cluster, deploy.name).open("stranger");
      await stranger.script("BEGIN; INSERT INTO app.parts VALUES (7777)", DURING);
      expect((await deploy.prove()).proven).toBe("A");
      await stranger.script("COMMIT", DURING);
      expect(reasonsOf(await deploy.swap().catch((error: unknown) => error))).toContain("transactions-committed");
      expect(await cluster.psql(deploy.name, "DELETE FROM app.parts WHERE id = 7777 RETURNING id")).toBe("7777");
      await expectUndone(deploy);
    },
    DEADLINE_MS,
  );

  test(
    "what is not committed when the door is shut ends with its session, and is no obstacle",
    async () => {
      const deploy = await failGated();
      const stranger = await openDatabase(cluster, deploy.name).open("stranger");
      await stranger.script("BEGIN; INSERT INTO app.parts VALUES (7777)", DURING);
      const { failed } = await deploy.swap();
      await expectSwapped(deploy, failed);
      expect(stranger.isOpen).toBe(false);
    },
    DEADLINE_MS,
  );

  test(
    "clients that come and commit while it begins",
    async () => {
      const deploy = await failGated();
      let acknowledged = 0;
      let isOver = false;
      const clients = Array.from({ length: 3 }, async () => {
        while (!isOver) {
          const client = openDatabase(cluster, deploy.name).open("stranger");
          const written = (await client).script("INSERT INTO app.parts(item) VALUES (NULL)", DURING);
          await written.then(() => acknowledged++).catch(() => {});
          await (await client).close();
        }
      });
      const ending = await deploy.swap().catch((error: unknown) => error);
      isOver = true;
      await Promise.all(clients);
      const kept = ending instanceof DeployError ? deploy.name : (ending as { failed: string }).failed;
      if (ending instanceof DeployError) reasonsOf(ending);
      else await cluster.psql("postgres", `ALTER DATABASE "${kept}" ALLOW_CONNECTIONS true`);
      const found = [kept, ...(kept === deploy.name ? [] : [deploy.name])].map(
        async (name) => await cluster.psql(name, "SELECT count(*) FROM app.parts WHERE item IS NULL"),
      );
      const total = (await Promise.all(found)).reduce((sum, count) => sum + Number(count), 0);
      expect(total).toBe(acknowledged);
      // Nothing that was written before it was replaced may be in the one that is kept.
      if (kept !== deploy.name) expect(await found[0]).toBe("0");
    },
    DEADLINE_MS,
  );

  test(
    "a commit between the check and the renames, by somebody who opens the door and shuts it again",
    async () => {
      const deploy = await failGated();
      const error = await atGate(deploy, async () => {
        await cluster.psql("postgres", `ALTER DATABASE "${deploy.name}" ALLOW_CONNECTIONS true`);
        await cluster.psql(deploy.name, "INSERT INTO app.parts VALUES (7777)");
        await cluster.psql("postgres", `ALTER DATABASE "${deploy.name}" ALLOW_CONNECTIONS false`);
      });
      expect(reasonsOf(error)).toEqual(["database-reopened"]);
      expect(await cluster.psql(deploy.name, "DELETE FROM app.parts WHERE id = 7777 RETURNING id")).toBe("7777");
      await expectUndone(deploy);
    },
    DEADLINE_MS,
  );

  test(
    "a session that the role may not end",
    async () => {
      const deploy = await fail(await createSmall(cluster), { damage: [SMALL_DAMAGE] });
      const superuser = await openDatabase(cluster, deploy.name).open("superuser");
      await superuser.script("SELECT 1", DURING);
      expect(reasonsOf(await deploy.swap().catch((error: unknown) => error))).toEqual(["sessions-not-ended"]);
      expect(superuser.isOpen).toBe(true);
      await superuser.close();
      await expectUndone(deploy);
    },
    DEADLINE_MS,
  );

  test(
    "a role that was made meanwhile, which no database brings back",
    async () => {
      const deploy = await failGated();
      await cluster.psql("postgres", "CREATE ROLE made_meanwhile");
      expect(reasonsOf(await deploy.swap().catch((error: unknown) => error))).toContain("cluster-roles");
      await cluster.psql("postgres", "DROP ROLE made_meanwhile");
      await expectUndone(deploy);
    },
    DEADLINE_MS,
  );
});

describe("cut off", () => {
  test.each(["plain", "custom"] as const)(
    "the tool is killed that restores from a %s backup: the failed database, open, and it can be tried again",
    async (format) => {
      const deploy = await failGated({ format });
      const error = await atGate(deploy, async () => void process.kill(findTool(deploy), "SIGKILL"));
      expect((error as DeployError).code).toBe("RESTORE_FAILED");
      await expectUndone(deploy);
      const session = await deploy.database.open("deploy");
      await session.script("SELECT 1", DURING);
      const { failed } = await deploy.swap({ sessions: [session], proof: undefined });
      await expectSwapped(deploy, failed);
    },
    DEADLINE_MS,
  );

  test(
    "the session that swaps is ended while the copy is restored: it goes on with another one",
    async () => {
      const deploy = await failGated();
      const result = await atGate(deploy, async () => {
        const swapper = "application_name = 'prisma-safe-deploy swap'";
        await cluster.psql("postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${swapper}`);
      });
      await expectSwapped(deploy, (result as { failed: string }).failed);
    },
    DEADLINE_MS,
  );

  test(
    "a row is missing, the file is cut short: the failed database, open",
    async () => {
      const deploy = await failGated();
      const { path, manifest } = deploy.backup;
      const tables = manifest.tables.map((table) => ({ ...table, rows: table.rows + 1 }));
      const differs = await deploy
        .swap({ backup: { path, manifest: { ...manifest, tables } } })
        .catch((e: unknown) => e);
      expect((differs as DeployError).code).toBe("RESTORE_DIFFERS");
      await expectUndone(deploy);

      const session = await deploy.database.open("deploy");
      await session.script("SELECT 1", DURING);
      const open = { sessions: [session] as const, proof: undefined };
      truncateSync(path, Math.floor(manifest.sizeBytes * 0.7));
      const cut = await deploy.swap(open).catch((e: unknown) => e);
      expect((cut as DeployError).code).toBe("BACKUP_NOT_VERIFIED");
      await expectUndone(deploy);
    },
    DEADLINE_MS,
  );

  test.each([
    ["in the same maintenance database", "postgres"],
    ["in another maintenance database", "template1"],
  ])(
    "while one is at work another process waits %s, and says for whom; afterwards there is nothing left to do",
    async (_, maintenanceDatabase) => {
      const deploy = await failGated();
      const events: Event[] = [];
      const resolve = (waitMs: number) =>
        resolveSwap(deploy.database, {
          maintenanceDatabase,
          waitMs,
          signal: new AbortController().signal,
          tell: (event) => events.push(event),
        });
      let waiting: Promise<unknown> = Promise.resolve();
      const result = await atGate(deploy, async () => {
        const error = await resolve(100).catch((e: unknown) => e);
        expect(error).toMatchObject({
          code: "LOCK_NOT_ACQUIRED",
          fields: { holder: { applicationName: "prisma-safe-deploy swap" } },
        });
        expect(await inspectSwap(deploy.database, maintenanceDatabase)).toBe("at-work");
        waiting = resolve(60_000);
        await until("it says for whom it waits", () => events.length > 0);
      });
      expect(await waiting).toBe("ended");
      expect(await resolve(0)).toBe("open");
      await expectSwapped(deploy, (result as { failed: string }).failed);
    },
    DEADLINE_MS,
  );

  test(
    "a door that somebody else has shut, and a database that is not there, are nothing of ours",
    async () => {
      const name = await createSmall(cluster);
      const options = { waitMs: 0, signal: new AbortController().signal, tell: () => {} };
      await cluster.psql("postgres", `ALTER DATABASE "${name}" ALLOW_CONNECTIONS false`);
      expect(await resolveSwap(openDatabase(cluster, name), options)).toBe("shut-by-others");
      expect(await resolveSwap(openDatabase(cluster, "nowhere"), options)).toBe("absent");
      const unreachable = { ...options, maintenanceDatabase: "nowhere" };
      expect(await resolveSwap(openDatabase(cluster, name), unreachable)).toBe("unreachable");
    },
    DEADLINE_MS,
  );
});

test(
  "an odd name that fills all of its bytes, another locale, a tablespace and a connection limit",
  async () => {
    const place = join(cluster.directory, "place");
    mkdirSync(place);
    chownSync(place, statSync(cluster.directory).uid, statSync(cluster.directory).gid);
    const name = `o'dd "näme" \\ ${"가".repeat(15)}`;
    expect(Buffer.byteLength(name)).toBeGreaterThan(55);
    const quoted = `"${name.replaceAll('"', '""')}"`;
    await cluster.psql("postgres", `CREATE TABLESPACE place LOCATION '${place}'`);
    const version = Number(await cluster.psql("postgres", "SHOW server_version_num"));
    const icu = version >= 150_000 ? "LOCALE_PROVIDER icu ICU_LOCALE 'und-u-ks-level2'" : "";
    await cluster.psql(
      "postgres",
      `CREATE DATABASE ${quoted} TEMPLATE template0 ${icu} LC_COLLATE 'C' LC_CTYPE 'C' TABLESPACE place CONNECTION LIMIT 9`,
    );
    const properties = `SELECT to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale'),
        datcollate, spcname, datconnlimit, datacl IS NULL
      FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = dattablespace WHERE datname = current_database()`;
    const before = await cluster.psql(name, properties);
    expect(before).toContain("|C|place|9|t");
    await cluster.psql(name, "CREATE TABLE a(b text); INSERT INTO a VALUES ('c')");
    const deploy = await fail(name, { user: "postgres", damage: ["DROP TABLE a"] });
    const { failed } = await deploy.swap();
    expect(await cluster.psql(name, properties)).toBe(before);
    expect(await cluster.psql(name, "SELECT b FROM a")).toBe("c");
    expect(failed.endsWith("_failed_20241219_143022")).toBe(true);
  },
  DEADLINE_MS,
);
