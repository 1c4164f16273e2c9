/**
 * What is otherwise from server 16 on, and with the client tools of that server: skipped where these are older. A PATH
 * that begins with another PostgreSQL runs it there; CONTRIBUTING.md says how to get one.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { verifyBackup } from "../../lib/backup/verify.ts";
import type { DeployError } from "../../lib/errors.ts";
import { judgeProof, readEvidence } from "../../lib/restore/proof.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { createSmall, expectRestored, failDeploy } from "../support/failed-deploy.ts";
import { createRoles, type Deploy } from "../support/restore.ts";

const DEADLINE_MS = 120_000;
const NEWER = readFileSync(join(import.meta.dirname, "../fixtures/newer.sql"), "utf8");
/** PGDMP, its version in three bytes, the sizes of a number and of an offset, the format; then the compression. */
const COMPRESSION_BYTE = 11;
const ZSTD = 3;

const tool = findClientTool("pg_dump");
const isOlder = (tool?.major ?? 0) < 16;
if (isOlder) console.log("newer-postgres.test.ts: skipped, pg_dump is older than 16");

let cluster: Cluster;
let major: number;

beforeAll(async () => {
  if (isOlder) return;
  cluster = await startCluster({ settings: { autovacuum: "off" } });
  major = Math.floor(Number(await cluster.psql("postgres", "SHOW server_version_num")) / 10_000);
  await createRoles(cluster);
}, DEADLINE_MS);

afterAll(async () => await cluster?.remove());

async function allowCreatedb(isAllowed: boolean): Promise<void> {
  await cluster.psql("postgres", `ALTER ROLE app_owner ${isAllowed ? "" : "NO"}CREATEDB`);
}

/** Half of what a migration may do to everything that only newer servers have. */
function makeDamage(): readonly string[] {
  const since = (first: number, sql: string) => (major >= first ? [sql] : []);
  return [
    "DROP VIEW newer.v_json; DROP TABLE newer.sorted; DROP COLLATION newer.ruled; DELETE FROM newer.things WHERE id > 50",
    ...since(17, "DROP VIEW newer.v_table; REVOKE MAINTAIN ON newer.things FROM app_ro; DROP TABLE newer.parted"),
    ...since(17, "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA newer GRANT ALL ON TABLES TO app_rw"),
    ...since(17, "CREATE TABLE newer.added(a int); DROP COLLATION newer.plain"),
    ...since(18, "ALTER TABLE newer.virtual DROP COLUMN twice; DROP TABLE newer.rooms CASCADE; DROP TABLE newer.child"),
    ...since(
      18,
      "ALTER TABLE newer.guests DROP CONSTRAINT has_name, DROP CONSTRAINT loose; DROP PUBLICATION newer_generated",
    ),
    ...since(
      18,
      "UPDATE newer.old SET a = 1; ALTER TABLE newer.old VALIDATE CONSTRAINT not_yet, DROP CONSTRAINT only_here",
    ),
    ...since(18, "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT ALL ON LARGE OBJECTS TO app_rw"),
  ];
}

async function createNewer(): Promise<string> {
  const name = await cluster.createDatabase({ owner: "app_owner" });
  await cluster.psql(name, "SET ROLE app_owner; CREATE EXTENSION btree_gist");
  await cluster.psql(name, `ALTER DATABASE ${name} SET work_mem = '7MB'; ${NEWER}`);
  return name;
}

describe.skipIf(isOlder)("what only newer servers have is as it was", () => {
  describe.each(["postgres", "app_owner"])("as %s", (user) => {
    test.each([
      ["plain", "restore"],
      ["custom", "restore"],
      ["plain", "swap"],
      ["custom", "swap"],
    ] as const)(
      "%s, by %s",
      async (format, rung) => {
        await allowCreatedb(rung === "swap");
        const name = await createNewer();
        const restore = rung === "swap" ? "swap" : "in-place";
        const deploy = await failDeploy(cluster, name, { user, format, restore, damage: makeDamage() });
        expect(deploy.plan).toMatchObject({ rungs: [restore], reasonsNot: rung === "swap" ? ["not-wanted"] : [] });
        await deploy[rung]();
        await expectRestored(deploy);
        await allowCreatedb(false);
      },
      DEADLINE_MS,
    );
  });

  test.each([
    "BUILTIN_LOCALE 'C.UTF-8' LOCALE_PROVIDER builtin",
    "LOCALE_PROVIDER icu ICU_LOCALE 'ko' ICU_RULES '&a < g'",
  ])(
    "a database with %s, by a swap",
    async (locale) => {
      if (major < 17 && locale.includes("builtin")) return;
      const name = await createSmall(cluster);
      const odd = `locale_${name}`;
      await cluster.psql("postgres", `CREATE DATABASE ${odd} TEMPLATE template0 ${locale}`);
      await cluster.psql(odd, "CREATE TABLE kept(a text PRIMARY KEY); INSERT INTO kept VALUES ('a'), ('g'), ('B')");
      const read = `SELECT to_jsonb(d) - '{oid,datfrozenxid,datminmxid}'::text[] FROM pg_database AS d WHERE datname = '${odd}'`;
      const before = await cluster.psql("postgres", read);
      const deploy = await failDeploy(cluster, odd, { user: "postgres", restore: "swap", damage: ["DROP TABLE kept"] });
      await deploy.swap();
      await expectRestored(deploy);
      expect(await cluster.psql("postgres", read)).toBe(before);
    },
    DEADLINE_MS,
  );
});

describe.skipIf(isOlder)("a backup", () => {
  test(
    "that is custom is compressed with zstd, and is an archive as pg_dump itself writes it into a file",
    async () => {
      const deploy = await failDeploy(cluster, await createSmall(cluster), { user: "postgres", format: "custom" });
      const { path, manifest } = deploy.backup;
      expect(readFileSync(path)[COMPRESSION_BYTE]).toBe(ZSTD);
      const list = spawnSync(findClientTool("pg_restore")?.path ?? "", ["--list", path], { encoding: "utf8" });
      expect(list.stdout).toContain("Compression: zstd\n");
      const { pgRestore } = deploy.tools;
      expect(await verifyBackup(path, { pgRestore, expected: manifest })).toMatchObject({ format: "custom" });
      await deploy.restore();
      await expectRestored(deploy);
    },
    DEADLINE_MS,
  );

  test(
    "that is plain has the key of its pg_dump in its first and in its last line",
    async () => {
      const deploy = await failDeploy(cluster, await createSmall(cluster));
      const lines = readFileSync(deploy.backup.path, "utf8").trimEnd().split("\n");
      const key = lines.find((line) => line.startsWith("\\restrict "))?.split(" ")[1];
      expect(key).toMatch(/^\w{20,}$/);
      expect(lines.at(-1)).toBe(`\\unrestrict ${key}`);
      await deploy.restore();
      await expectRestored(deploy);
    },
    DEADLINE_MS,
  );
});

/** Where only B can hold: the deploy has written, and nobody knows under which id. */
async function prove({ session, mark, database }: Deploy) {
  const own = { transactionIds: [], sessions: [session], sessionsOpened: database.sessionsOpened };
  return judgeProof(mark, await readEvidence(session, mark, own), own);
}

describe.skipIf(isOlder)("the proof by presence", () => {
  test(
    "a replication connection that came, wrote and left is found by what it touched",
    async () => {
      const name = await createSmall(cluster);
      const deploy = await failDeploy(cluster, name, { isRecorded: false });
      expect(await prove(deploy)).toEqual({ proven: "B", reasons: ["transactions-committed"] });
      const env = { PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres", LC_ALL: "C" };
      const args = ["-X", "-d", `dbname=${name} replication=database`, "-c", "INSERT INTO app.items VALUES (7777)"];
      expect(spawnSync(findClientTool("psql")?.path ?? "", args, { env }).status).toBe(0);
      expect(await prove(deploy)).toEqual({
        proven: undefined,
        reasons: ["transactions-committed", "replication-connections"],
      });
    },
    DEADLINE_MS,
  );

  const receiver = join(dirname(tool?.path ?? ""), "pg_receivewal");
  test.skipIf(!existsSync(receiver))(
    "a standby that follows all the time is no obstacle",
    async () => {
      const env = { PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres", LC_ALL: "C" };
      const directory = mkdtempSync(join(cluster.directory, "wal-"));
      const standby = Bun.spawn([receiver, "--directory", directory, "--no-loop", "--synchronous"], { env });
      try {
        await waitFor(
          async () => (await cluster.psql("postgres", "SELECT state FROM pg_stat_replication")) === "streaming",
        );
        const deploy = await failDeploy(cluster, await createSmall(cluster), { isRecorded: false });
        await followed(deploy);
        expect(await prove(deploy)).toEqual({ proven: "B", reasons: ["transactions-committed"] });
      } finally {
        standby.kill();
        await standby.exited;
      }
    },
    DEADLINE_MS,
  );

  /** Until the standby has what was written so far, and until its process has told its statistics. */
  async function followed({ session }: Deploy): Promise<void> {
    const options = { during: "test", deadlineMs: DEADLINE_MS };
    const [row] = await session.query<{ lsn: string }>(`SELECT pg_current_wal_flush_lsn()::text AS "lsn"`, options);
    await waitFor(async () => {
      const flushed = `SELECT bool_and(flush_lsn >= '${row?.lsn}') FROM pg_stat_replication`;
      return (await cluster.psql("postgres", flushed)) === "t";
    });
    if (major < 18) return;
    const reads = "SELECT sum(reads) > 0 FROM pg_stat_io WHERE backend_type = 'walsender' AND object = 'wal'";
    await waitFor(async () => (await cluster.psql("postgres", reads)) === "t");
  }
});

test.skipIf(isOlder)(
  "a role that we may act as and not become: nothing can be given back to it",
  async () => {
    await cluster.psql(
      "postgres",
      "CREATE ROLE team; CREATE ROLE dev LOGIN; GRANT team TO dev WITH INHERIT TRUE, SET FALSE",
    );
    const name = await cluster.createDatabase({ owner: "team" });
    await cluster.psql(
      name,
      "SET ROLE team; CREATE TABLE public.teams(a int); RESET ROLE; GRANT ALL ON SCHEMA public TO dev",
    );
    const deploy = await failDeploy(cluster, name, { user: "dev", damage: ["ALTER TABLE public.teams ADD b int"] });
    expect(deploy.plan).toMatchObject({ rungs: [], reasonsNot: ["not-giveable"] });
  },
  DEADLINE_MS,
);

test.skipIf(isOlder)(
  "what a membership allows is of the cluster: a restore that could not undo the change is not made",
  async () => {
    await cluster.psql("postgres", "CREATE ROLE crew; CREATE ROLE sailor LOGIN; GRANT crew TO sailor");
    const damage = ["CREATE TABLE app.added(a int); GRANT crew TO sailor WITH INHERIT FALSE"];
    const deploy = await failDeploy(cluster, await createSmall(cluster), { user: "postgres", damage });
    const error = await deploy.restore().catch((cause: unknown) => cause);
    const { code, fields } = error as DeployError<"RESTORE_NOT_PROVEN">;
    expect({ code, reasons: fields.reasons }).toEqual({ code: "RESTORE_NOT_PROVEN", reasons: ["cluster-memberships"] });
  },
  DEADLINE_MS,
);

async function waitFor(isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS / 2;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error("it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
