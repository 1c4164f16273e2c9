/**
 * The restore in place on a real server. After each try the database is exactly as it was at the mark, or exactly as the
 * failed deploy left it; and whatever somebody else has committed is still there.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { DeployError, type ErrorCode } from "../../lib/errors.ts";
import { ServerError, type Session } from "../../lib/postgres/session.ts";
import { readRestoreFacts } from "../../lib/restore/facts.ts";
import { chooseRestore } from "../../lib/restore/plan.ts";
import { LIFE_EXPRESSION, settleTransaction } from "../../lib/restore/settle.ts";
import { FOREIGN_LOSS_STATE, makeWipeBlock } from "../../lib/restore/wipe.ts";
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
  runInstructions,
} from "../support/restore.ts";

const DEADLINE_MS = 120_000;
const DURING = { during: "test", deadlineMs: 60_000 };
const RICH = { superuserObjects: true, largeObjects: true, extensionInSchema: true, oddNames: true };

let cluster: Cluster;

beforeAll(async () => {
  // Autovacuum's commits come when they like, and would take proof A away from tests that are about it.
  cluster = await startCluster({ settings: { autovacuum: "off" } });
  await createRoles(cluster);
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
     INSERT INTO app.parts(item) SELECT g FROM generate_series(1, 100) g`,
  );
  return name;
}

const SMALL_DAMAGE = "ALTER TABLE app.items DROP COLUMN note; DELETE FROM app.parts; CREATE TABLE app.added(a int)";

interface Failed extends Deploy {
  readonly before: string;
  readonly failed: string;
}

/** A deploy that has failed, with its damage committed. */
async function fail(
  options: DeployOptions & { readonly name?: string; readonly damage?: readonly string[]; readonly on?: Cluster } = {},
): Promise<Failed> {
  const { damage = [SMALL_DAMAGE], on = cluster } = options;
  const name = options.name ?? (await createSmall(on));
  const before = await readState(on, name);
  const deploy = await beginDeploy(on, name, { user: "app_owner", ...options });
  for (const sql of damage) await deploy.migrate(sql);
  const failed = await readState(on, name);
  expect(failed).not.toBe(before);
  return { ...deploy, before, failed };
}

async function expectRestored(deploy: Failed): Promise<void> {
  const now = await readState(deploy.cluster, deploy.name);
  // By lines: a whole state would fill the screen.
  expect(differenceOf(now, deploy.before)).toEqual([]);
  expect(now).toBe(deploy.before);
}

async function expectUntouched(deploy: Failed): Promise<void> {
  expect(differenceOf(await readState(deploy.cluster, deploy.name), deploy.failed)).toEqual([]);
  expect(leftovers(deploy)).toEqual([]);
}

function differenceOf(one: string, other: string): string[] {
  const [lines, others] = [new Set(one.split("\n")), new Set(other.split("\n"))];
  const only = (mine: Set<string>, theirs: Set<string>, mark: string) =>
    [...mine].filter((line) => !theirs.has(line)).map((line) => `${mark} ${line}`);
  return [...only(lines, others, "+"), ...only(others, lines, "-")];
}

/** Temporary files and sessions that a restore has not cleaned up. */
function leftovers({ backup }: Deploy): string[] {
  return readdirSync(dirname(backup.path)).filter((name) => name.startsWith(".restore"));
}

async function codeOf(promise: Promise<unknown>): Promise<{ code: ErrorCode; fields: Record<string, unknown> }> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (!(error instanceof DeployError)) throw new Error(`expected a refusal, got ${String(error)}`);
  return { code: error.code, fields: error.fields as Record<string, unknown> };
}

async function waitFor(isTrue: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error("it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe("everything is as it was", () => {
  const cases = [
    { user: "postgres", content: RICH, format: "custom" },
    { user: "postgres", content: { oddNames: true }, format: "plain" },
    { user: "app_owner", content: RICH, format: "custom" },
    { user: "app_owner", content: { oddNames: true }, format: "plain" },
    { user: "postgres", content: { oddNames: true }, format: "custom", asked: "custom" },
    { user: "app_owner", content: { oddNames: true }, format: "custom", asked: "custom" },
  ] as const;
  test.each(cases)("%j", async (options) => {
    const { user, content, format, asked } = { asked: "auto" as const, ...options };
    const name = await createNasty(cluster, content);
    const deploy = await fail({ user, name, format: asked, damage: [DAMAGE, DATABASE_DAMAGE] });
    expect(deploy.plan).toMatchObject({ rungs: ["in-place"], format });
    const { transactionId } = await deploy.restore();
    await expectRestored(deploy);
    expect(await cluster.psql(name, `SELECT pg_xact_status('${transactionId}')`)).toBe("committed");
    expect(leftovers(deploy)).toEqual([]);
    expect(deploy.session.isOpen).toBe(true);
    await deploy.session.close();
  }, DEADLINE_MS);

  test("twice in a row, from the same backup", async () => {
    const deploy = await fail();
    deploy.transactionIds.push((await deploy.restore()).transactionId);
    await deploy.migrate("DROP TABLE app.parts");
    // ANALYZE has committed as well, and nobody knows its id.
    expect((await deploy.prove()).proven).toBe("B");
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("where nobody knows the ids of what was done, as with a CLI", async () => {
    const deploy = await fail({ isRecorded: false });
    expect((await deploy.prove()).proven).toBe("B");
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("the schema that everything is in was dropped and made again", async () => {
    const name = await createNasty(cluster);
    const deploy = await fail({ name, damage: ["DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE public.x()"] });
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test.each(["postgres", "app_owner"])("an extension was dropped, as %s", async (user) => {
    const name = await createNasty(cluster);
    const deploy = await fail({ name, user, damage: ["DROP EXTENSION citext CASCADE; DROP EXTENSION hstore CASCADE"] });
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("rights on an extension's functions were given away", async () => {
    const name = await createNasty(cluster);
    const damage = ["GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app_ro", "ALTER EXTENSION btree_gist SET SCHEMA app"];
    const deploy = await fail({ name, user: "postgres", damage });
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("definitions that PostgreSQL itself writes otherwise after a restore", async () => {
    const name = await createSmall();
    await cluster.psql(
      name,
      `SET ROLE app_owner; CREATE TABLE app.odd(state varchar(9) CHECK (state IN ('a', 'b')), at timestamptz);
       CREATE INDEX odd_index ON app.odd(state) WHERE state IN ('a', 'b') AND at > '2020-01-01 00:00+09';
       CREATE VIEW app.odd_view AS SELECT * FROM app.odd WHERE state NOT IN ('x', 'y')`,
    );
    const deploy = await fail({ name, damage: ["DROP TABLE app.odd CASCADE"] });
    await deploy.restore();
    const definition = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.odd'::regclass";
    expect(await cluster.psql(name, definition)).toContain("'a'::character varying");
  }, DEADLINE_MS);

  test("no row was ever there, and no table", async () => {
    const name = await cluster.createDatabase({ owner: "app_owner" });
    const deploy = await fail({ name, damage: ["CREATE TABLE a(b int); CREATE SCHEMA c; CREATE TABLE c.d()"] });
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("a database and a folder with names for which quotes were made", async () => {
    const name = await createSmall();
    const odd = `o'dd "näme" ${name}`;
    await cluster.psql("postgres", `ALTER DATABASE ${name} RENAME TO "${odd.replaceAll('"', '""')}"`);
    const before = await readState(cluster, odd);
    const deploy = await beginDeploy(cluster, odd, { user: "app_owner" });
    await deploy.migrate(SMALL_DAMAGE);
    await deploy.restore();
    expect(differenceOf(await readState(cluster, odd), before)).toEqual([]);
  }, DEADLINE_MS);
});

describe("nothing that somebody else has committed is destroyed", () => {
  test("a client that writes all the time", async () => {
    const name = await createSmall();
    const client = await openDatabase(cluster, name, "app_owner").open("client");
    let acknowledged = 0;
    let isStopped = false;
    const writing = (async () => {
      while (!isStopped) {
        await client.script(`INSERT INTO app.items VALUES (${1000 + acknowledged})`, DURING);
        acknowledged += 1;
      }
    })();
    await waitFor(() => acknowledged > 10);
    const deploy = await beginDeploy(cluster, name, { user: "app_owner" });
    await deploy.migrate("CREATE TABLE app.added(a int); DELETE FROM app.parts");
    const writtenMeanwhile = acknowledged;
    await waitFor(() => acknowledged > writtenMeanwhile + 10);
    expect((await deploy.prove()).proven).toBeUndefined();
    const { code, fields } = await codeOf(deploy.restore());
    expect(code).toBe("RESTORE_NOT_PROVEN");
    expect(fields.reasons).toContain("transactions-committed");
    isStopped = true;
    await writing;
    expect(await cluster.psql(name, "SELECT count(*) FROM app.items WHERE id >= 1000")).toBe(String(acknowledged));
    expect(await cluster.psql(name, "SELECT to_regclass('app.added')")).toBe("app.added");
    await client.close();
  }, DEADLINE_MS);

  test("a stranger's quick session between mark and verdict", async () => {
    const deploy = await fail();
    await cluster.psql(deploy.name, "INSERT INTO app.items VALUES (7777)");
    expect(await codeOf(deploy.restore())).toEqual({
      code: "RESTORE_NOT_PROVEN",
      fields: { reasons: ["transactions-committed", "sessions-uncounted"] },
    });
    expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.items WHERE id = 7777")).toBe("1");
    expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.added")).toBe("0");
  }, DEADLINE_MS);

  test("an idle extra connection where only B could hold", async () => {
    const deploy = await fail({ isRecorded: false });
    const idle = await openDatabase(cluster, deploy.name).open("idle");
    await idle.script("SELECT 1", DURING);
    const { code, fields } = await codeOf(deploy.restore());
    expect(code).toBe("RESTORE_NOT_PROVEN");
    expect(fields.reasons).toContain("clients-now");
    await idle.close();
    await expectUntouched(deploy);
  }, DEADLINE_MS);

  test("an idle extra connection where A holds is no obstacle", async () => {
    const deploy = await fail();
    const idle = await openDatabase(cluster, deploy.name).open("idle");
    await idle.script("SELECT 1", DURING);
    await deploy.restore();
    await idle.close();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("a write into another database where B holds is no obstacle", async () => {
    const deploy = await fail({ isRecorded: false });
    await cluster.psql(await createSmall(), "DELETE FROM app.parts");
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);

  test("a commit between the verdict and the locks", async () => {
    const deploy = await fail();
    const stranger = await openDatabase(cluster, deploy.name).open("stranger");
    await stranger.script("BEGIN; INSERT INTO app.items VALUES (7777)", DURING);
    expect((await deploy.prove()).proven).toBe("A");
    const restoring = codeOf(deploy.restore({ lockTimeoutMs: 60_000 }));
    await waitForStall(deploy, "LOCK TABLE");
    await stranger.script("COMMIT", DURING);
    expect((await restoring).code).toBe("RESTORE_NOT_PROVEN");
    expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.items WHERE id = 7777")).toBe("1");
    await stranger.script("DELETE FROM app.items WHERE id = 7777", DURING);
    await stranger.close();
    await expectUntouched(deploy);
  }, DEADLINE_MS);

  test("a commit while everything is dropped", async () => {
    const deploy = await fail();
    const stranger = await openDatabase(cluster, deploy.name).open("stranger");
    // A sequence is no table: the locks before the first proof do not wait for it, the wipe does.
    await stranger.script("BEGIN; CREATE TABLE public.note AS SELECT nextval('app.counter')", DURING);
    const restoring = codeOf(deploy.restore({ lockTimeoutMs: 60_000 }));
    await waitForStall(deploy, "DO $wipe$");
    await stranger.script("COMMIT", DURING);
    expect((await restoring).code).toBe("RESTORE_NOT_PROVEN");
    expect(await cluster.psql(deploy.name, "SELECT count(*) FROM public.note")).toBe("1");
    await stranger.script("DROP TABLE public.note; SELECT setval('app.counter', 1, false)", DURING);
    await stranger.close();
    await expectUntouched(deploy);
  }, DEADLINE_MS);

  test("a commit while the backup is read in", async () => {
    const deploy = await fail();
    const stranger = await openDatabase(cluster, deploy.name).open("stranger");
    const stall = await beginStall(deploy, stranger, "CREATE TABLE public.note()");
    const restoring = codeOf(deploy.restore({ lockTimeoutMs: 60_000 }));
    await stall.wait();
    await stall.release();
    expect((await restoring).code).toBe("RESTORE_NOT_PROVEN");
    expect(await cluster.psql(deploy.name, "SELECT to_regclass('public.note')")).toBe("note");
    await stranger.script("DROP TABLE public.note", DURING);
    await stranger.close();
    await expectUntouched(deploy);
  }, DEADLINE_MS);

  test("a lock that somebody keeps fails the restore within its time", async () => {
    const deploy = await fail();
    const reader = await openDatabase(cluster, deploy.name).open("reader");
    await reader.script("BEGIN; SELECT * FROM app.items", DURING);
    const { code, fields } = await codeOf(deploy.restore({ lockTimeoutMs: 300 }));
    expect(code).toBe("RESTORE_FAILED");
    expect(fields.output).toContain("55P03");
    await reader.close();
    await expectUntouched(deploy);
    // And so it can be tried again.
    await deploy.restore();
    await expectRestored(deploy);
  }, DEADLINE_MS);
});

/** Until the restore waits for a lock in a statement that begins so. */
async function waitForStall({ name }: Deploy, statement: string): Promise<void> {
  const text = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${name}' AND application_name LIKE '%psql'
    AND wait_event_type = 'Lock' AND query LIKE '%${statement}%'`;
  await waitFor(async () => (await cluster.psql("postgres", text)) === "1");
}

/**
 * Makes a restore wait in the middle of the dump: for an uncommitted type of the name that one of its tables will need.
 * `release` takes that back and commits the rest, at once.
 */
async function beginStall(deploy: Deploy, stranger: Session, write = "SELECT 1") {
  const { schema } = { schema: "public" };
  await deploy.migrate("SELECT 1");
  await stranger.script(`BEGIN; ${write}; SAVEPOINT before; CREATE SCHEMA ${STALL_SCHEMA}`, DURING);
  return {
    schema,
    wait: async () => {
      const text = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${deploy.name}' AND application_name LIKE '%psql'
        AND wait_event_type = 'Lock' AND query LIKE 'CREATE SCHEMA%'`;
      await waitFor(async () => (await cluster.psql("postgres", text)) === "1");
    },
    release: async () => await stranger.script("ROLLBACK TO before; COMMIT", DURING),
  };
}

const STALL_SCHEMA = "app";
