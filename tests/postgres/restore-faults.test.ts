/**
 * The restore in place while its client, its backend or its server is killed, its network breaks or a disk fills up: at a
 * tenth, at half and at nine tenths of the rows, and while the keys are built. Afterwards the database is exactly as the
 * failed deploy left it, and the same restore can be done.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { DeployError } from "../../lib/errors.ts";
import { openJournal } from "../../lib/journal/store.ts";
import type { OperationContext } from "../../lib/operations.ts";
import type { Session } from "../../lib/postgres/session.ts";
import { proveAlone } from "../../lib/recovery.ts";
import type { RecoveryPoint } from "../../lib/recovery-point.ts";
import type { MarkedEvidence, ProofReason } from "../../lib/restore/proof.ts";
import { type Cluster, crash, startCluster, temporaryDirectory } from "../support/cluster.ts";
import {
  expectRestored,
  expectUntouched,
  type FailedDeploy,
  failDeploy,
  findProcess,
  findPsql,
  listLeftovers,
} from "../support/failed-deploy.ts";
import { until } from "../support/project.ts";
import { createRoles, type Deploy, openDatabase } from "../support/restore.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { onTinyDisk } from "../support/tiny-disk.ts";

const DEADLINE_MS = 180_000;
const DURING = { during: "test", deadlineMs: 60_000 };
const ROWS = 200;
const CURRENT_ID = "SELECT pg_current_xact_id()";
const PLACES = { "a tenth": 20, half: 100, "nine tenths": 180, "the keys": 999 } as const;
type Place = keyof typeof PLACES;

let cluster: Cluster;

beforeAll(async () => {
  // What a crash must not lose is to be on the disk.
  cluster = await startCluster({ settings: { autovacuum: "off", work_mem: "64MB" }, tcp: true, fsync: true });
  await createRoles(cluster);
}, DEADLINE_MS);

afterAll(async () => await cluster.remove());

/** A check and an index whose functions wait at certain rows for whoever holds the lock of that number. */
async function createGated(tablespace?: string): Promise<string> {
  const name = await cluster.createDatabase({ owner: "app_owner" });
  if (tablespace !== undefined) await cluster.psql("postgres", `ALTER DATABASE ${name} SET TABLESPACE ${tablespace}`);
  await cluster.psql(
    name,
    `SET ROLE app_owner; CREATE SCHEMA app;
     CREATE FUNCTION app.gate(x int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
       BEGIN IF x IN (20, 100, 180) THEN PERFORM pg_advisory_xact_lock_shared(x); END IF; RETURN true; END $$;
     CREATE FUNCTION app.key_gate(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
       BEGIN IF x = 100 THEN PERFORM pg_advisory_xact_lock_shared(999); END IF; RETURN x; END $$;
     CREATE TABLE app.gated(id int PRIMARY KEY CHECK (app.gate(id)), note text);
     INSERT INTO app.gated SELECT g, md5(g::text) FROM generate_series(1, ${ROWS}) g;
     CREATE INDEX gated_key ON app.gated(app.key_gate(id));
     CREATE TABLE app.parts(id int REFERENCES app.gated); INSERT INTO app.parts SELECT id FROM app.gated`,
  );
  return name;
}

interface Failed extends FailedDeploy {
  readonly base: MarkedEvidence;
}

const DAMAGE = "ALTER TABLE app.gated DROP COLUMN note; DELETE FROM app.parts; CREATE TABLE app.added(a int)";

async function fail(
  name: string,
  format: "plain" | "custom",
  on: Cluster = cluster,
  beforeProof = async () => {},
): Promise<Failed> {
  const deploy = await failDeploy(on, name, { format, damage: [DAMAGE] });
  await beforeProof();
  return { ...deploy, base: await deploy.confirm() };
}

/** The restore runs until it waits at the place; then the fault comes. @returns what it says */
async function restoreUntil(
  deploy: Failed,
  place: Place,
  fault: (openGate: () => Promise<void>) => Promise<void>,
): Promise<DeployError> {
  const holder = await openDatabase(cluster, deploy.name).open("holder");
  await holder.query(`SELECT pg_advisory_lock(${PLACES[place]})`, DURING);
  const restoring = deploy.restore({ lockTimeoutMs: DEADLINE_MS }).then(
    () => undefined,
    (error: unknown) => error,
  );
  await until("it waits at its gate", async () => (await findWaiting(deploy)) !== "");
  await fault(async () => await holder.close());
  const error = await restoring;
  if (holder.isOpen) await holder.close();
  if (!(error instanceof DeployError)) throw new Error(`expected a failed restore, got ${String(error)}`);
  return error;
}

/** The number of the backend that restores and waits at its gate. */
async function findWaiting({ name }: Deploy): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT pid FROM pg_stat_activity WHERE datname = '${name}' AND wait_event = 'advisory' AND application_name LIKE '%psql'`,
  );
}

async function answers(): Promise<boolean> {
  return await cluster.psql("postgres", "SELECT 1").then(
    () => true,
    () => false,
  );
}

async function restoreAgain(deploy: Failed): Promise<void> {
  const session: Session = deploy.session.isOpen ? deploy.session : await deploy.database.open("deploy");
  const { transactionIds, base } = deploy;
  await deploy.restore({ own: { transactionIds, sessions: [session], areSessionsCounted: true, base } });
  await expectRestored(deploy);
  await session.close();
}

/** A server that has crashed may give ids out once more, and the mark alone proves nothing any more. */
async function expectNotProven(deploy: Failed, base: MarkedEvidence, reason: ProofReason): Promise<void> {
  const session = await deploy.database.open("deploy");
  const { transactionIds } = deploy;
  const own = { transactionIds, sessions: [session], areSessionsCounted: true, base };
  const error = await deploy.restore({ own }).catch((cause: unknown) => cause);
  expect(error).toMatchObject({ code: "RESTORE_NOT_PROVEN" });
  expect((error as DeployError<"RESTORE_NOT_PROVEN">).fields.reasons).toContain(reason);
  await session.close();
}

const places = Object.keys(PLACES) as Place[];
const formats = ["plain", "custom"] as const;
const everywhere = places.flatMap((place) => formats.map((format) => [place, format] as const));

describe("killed", () => {
  test.each(everywhere)(
    "psql, at %s (%s)",
    async (place, format) => {
      const deploy = await fail(await createGated(), format);
      const error = await restoreUntil(deploy, place, async () => {
        process.kill(findPsql(deploy), "SIGKILL");
      });
      expect(error.code).toBe("RESTORE_FAILED");
      await expectUntouched(deploy);
      await restoreAgain(deploy);
    },
    DEADLINE_MS,
  );

  test.each(everywhere)(
    "its backend, at %s (%s)",
    async (place, format) => {
      const deploy = await fail(await createGated(), format);
      const error = await restoreUntil(deploy, place, async () => {
        process.kill(Number(await findWaiting(deploy)), "SIGKILL");
        await until("the server answers", answers);
      });
      expect(error.code).toBe("RESTORE_FAILED");
      await expectUntouched(deploy);
      await expectNotProven(deploy, deploy.mark, "statistics-reset");
      await expectUntouched(deploy);
      await restoreAgain(deploy);
    },
    DEADLINE_MS,
  );

  test.each(everywhere)(
    "the server, at %s (%s)",
    async (place, format) => {
      const deploy = await fail(await createGated(), format);
      const error = await restoreUntil(deploy, place, async () => {
        await crash(cluster);
      });
      expect(error.code).toBe("RESTORE_FAILED");
      await expectUntouched(deploy);
      await expectNotProven(deploy, deploy.mark, "server-restarted");
      await expectUntouched(deploy);
      await restoreAgain(deploy);
    },
    DEADLINE_MS,
  );
});

/** More than what lies between it and the server at once: at these places there is more to come. */
const WIDE = "UPDATE app.gated SET note = repeat(md5(id::text), 2000)";
const unpacking = places.slice(0, 2).map((place) => [place] as const);

describe("what unpacks an archive", () => {
  test.each(unpacking)(
    "is killed at %s: what psql has got is not taken for all there is",
    async (place) => {
      const name = await createGated();
      await cluster.psql(name, WIDE);
      const deploy = await fail(name, "custom");
      const error = await restoreUntil(deploy, place, async (openGate) => {
        process.kill(findUnpacker(deploy), "SIGKILL");
        // What it has written before is taken first.
        await openGate();
      });
      expect(error).toMatchObject({ code: "RESTORE_FAILED", fields: { tool: "pg_restore", output: "SIGKILL" } });
      await expectUntouched(deploy);
      await restoreAgain(deploy);
    },
    DEADLINE_MS,
  );

  test(
    "ends with psql, and the disk has none of the rows meanwhile",
    async () => {
      const name = await createGated();
      await cluster.psql(name, WIDE);
      const deploy = await fail(name, "custom");
      const written: string[] = [];
      const error = await restoreUntil(deploy, "half", async () => {
        const [work = ""] = listLeftovers(deploy);
        written.push(...readdirSync(join(dirname(deploy.backup.path), work)));
        process.kill(findPsql(deploy), "SIGKILL");
      });
      expect(error).toMatchObject({ code: "RESTORE_FAILED", fields: { tool: "psql", output: "SIGKILL" } });
      expect(written.toSorted()).toEqual(["begin.sql", "contents.all", "contents.list"]);
      expect(() => findUnpacker(deploy)).toThrow();
      await expectUntouched(deploy);
    },
    DEADLINE_MS,
  );
});

function findUnpacker({ backup }: Deploy): number {
  return findProcess((command) => command.includes("--single-transaction") && command.includes(backup.path));
}

/** Since the last COMMIT that is on the disk. The rows are in tables that the restore does not lock, or come behind it. */
describe("what others write around a crash is never lost", () => {
  /** It comes to nothing. */
  const spendId = async () => Number(await cluster.psql("postgres", `BEGIN; ${CURRENT_ID}; ROLLBACK`));
  const write = async ({ name }: Failed) => await cluster.psql(name, "CREATE TABLE app.notes(a int)", "app_owner");
  const readWritten = async ({ name }: Failed) =>
    Number(await cluster.psql(name, "SELECT xmin FROM pg_class WHERE oid = 'app.notes'::regclass"));

  test.each(["before", "after"] as const)(
    "%s it",
    async (when) => {
      const deploy = await fail(await createGated(), "plain");
      if (when === "before") await write(deploy);
      await deploy.session.close();
      await crash(cluster);
      if (when === "after") await write(deploy);
      await expectNotProven(deploy, deploy.base, "transactions-committed");
      expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.notes")).toBe("0");
    },
    DEADLINE_MS,
  );

  test(
    "under the id of a transaction of ours that was lost with it",
    async () => {
      const deploy = await fail(await createGated(), "plain");
      await deploy.session.script("BEGIN; SELECT pg_current_xact_id()", DURING);
      const [lost] = await deploy.session.query<{ id: string }>(`SELECT pg_current_xact_id()::text AS "id"`, DURING);
      deploy.transactionIds.push(lost?.id ?? "");
      await crash(cluster);
      await write(deploy);
      expect(await readWritten(deploy)).toBe(Number(lost?.id));
      await expectNotProven(deploy, deploy.base, "transactions-committed");
      expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.notes")).toBe("0");
    },
    DEADLINE_MS,
  );

  test(
    "under the id of a transaction of ours that was lost, when it was proven anew behind the crash",
    async () => {
      const deploy = await fail(await createGated(), "plain");
      const elsewhere = openDatabase(cluster, "postgres");
      const others = await Promise.all(Array.from({ length: 30 }, async () => await elsewhere.open("stranger")));
      for (const other of others) await other.script("BEGIN; SELECT pg_current_xact_id()", DURING);
      await deploy.session.script("BEGIN; SELECT pg_current_xact_id()", DURING);
      const [lost] = await deploy.session.query<{ id: string }>(`SELECT pg_current_xact_id()::text AS "id"`, DURING);
      deploy.transactionIds.push(lost?.id ?? "");
      await crash(cluster);
      for (const other of others) await other.close();
      const { proven } = await proveAgain(deploy);
      while ((await spendId()) < Number(lost?.id) - 1);
      await write(deploy);
      expect(await readWritten(deploy)).toBe(Number(lost?.id));
      await expectNotProven(deploy, proven as MarkedEvidence, "transactions-committed");
      expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.notes")).toBe("0");
    },
    DEADLINE_MS,
  );

  test.each([
    ["before the id by which it was confirmed", 3, "transactions-unknown"],
    ["under the id by which it was confirmed", 0, "transactions-committed"],
  ] as const)(
    "where an operator has put the disk of the server back: %s",
    async (_, ids, reason) => {
      const name = await createGated();
      const data = join(cluster.directory, "data");
      const copy = join(temporaryDirectory(), "data");
      const deploy = await fail(name, "plain", cluster, async () => {
        await cluster.psql("postgres", "CHECKPOINT");
        spawnSync("cp", ["-a", data, copy]);
        for (let spent = 0; spent < ids; spent += 1) await spendId();
      });
      await deploy.session.close();
      await crash(cluster, () => {
        spawnSync("sh", ["-c", `rm -rf ${data} && cp -a ${copy} ${data} && rm ${data}/postmaster.pid`]);
      });
      await write(deploy);
      const confirmed = Number(deploy.base.durableTransactionId);
      let last = await readWritten(deploy);
      while (ids === 0 && last < confirmed) last = Number(await cluster.psql("postgres", CURRENT_ID));
      await expectNotProven(deploy, deploy.base, reason);
      expect(await cluster.psql(deploy.name, "SELECT count(*) FROM app.notes")).toBe("0");
    },
    DEADLINE_MS,
  );
});

/** As a deploy does that goes on after a crash, or after another one that was killed. */
async function proveAgain(deploy: Failed): Promise<RecoveryPoint> {
  const { backup, mark, plan, name, database, transactionIds, base } = deploy;
  const owner = { systemIdentifier: mark.place.systemIdentifier, database: name };
  const point: RecoveryPoint = {
    journal: openJournal(dirname(backup.path), owner, "deploy", () => new Date()),
    backup,
    mark,
    restorePlan: plan,
    ownTransactionIds: transactionIds,
    areSessionsCounted: false,
    childSessions: 0,
    confirmed: base,
    proven: undefined,
  };
  const session = await database.open("deploy");
  await proveAlone(database, session, point, {
    settings: { restore: "auto" },
    tell: () => {},
  } as unknown as OperationContext);
  await session.close();
  return point;
}

test.each(everywhere)(
  "the connection is lost, at %s (%s)",
  async (place, format) => {
    const proxy = await startTcpProxy({ host: cluster.host, port: cluster.port });
    try {
      const url: Cluster["url"] = (...args) => cluster.url(...args).replace(`:${cluster.port}/`, `:${proxy.port}/`);
      const deploy = await fail(await createGated(), format, { ...cluster, url });
      const error = await restoreUntil(deploy, place, async () => proxy.resetConnections());
      expect(error.code).toBe("RESTORE_FAILED");
      await expectUntouched(deploy);
      await restoreAgain(deploy);
    } finally {
      await proxy.close();
    }
  },
  DEADLINE_MS,
);

const BIG = "INSERT INTO app.gated SELECT g, repeat(md5(g::text), 30) FROM generate_series(1001, 10000) g";

test.each(formats)(
  "the server's disk is full: nothing is lost, and with more room it works (%s)",
  async (format) => {
    await onTinyDisk("22m", cluster, async ({ directory, grow }) => {
      await cluster.psql("postgres", `CREATE TABLESPACE tiny_${format} LOCATION '${directory}'`);
      const name = await createGated(`tiny_${format}`);
      await cluster.psql(name, BIG);
      const deploy = await fail(name, format);
      const error = await deploy.restore().catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: "RESTORE_FAILED", fields: { output: expect.stringContaining("53100") } });
      await expectUntouched(deploy);
      grow("200m");
      await restoreAgain(deploy);
      await cluster.psql("postgres", `DROP DATABASE ${name} WITH (FORCE)`);
      await cluster.psql("postgres", `DROP TABLESPACE tiny_${format}`);
    });
  },
  DEADLINE_MS,
);

test(
  "the disk of the backups is full: an archive is unpacked on its way, and needs no room there",
  async () => {
    await onTinyDisk("3m", cluster, async ({ directory }) => {
      const name = await createGated();
      await cluster.psql(name, BIG);
      const deploy = await fail(name, "custom");
      cpSync(dirname(deploy.backup.path), directory, { recursive: true });
      const backup = { path: join(directory, deploy.backup.manifest.file), manifest: deploy.backup.manifest };
      const { transactionIds, session, base } = deploy;
      await deploy.restore({ backup, own: { transactionIds, sessions: [session], areSessionsCounted: true, base } });
      expect(readdirSync(directory).filter((entry) => entry.startsWith(".restore"))).toEqual([]);
      await expectRestored(deploy);
    });
  },
  DEADLINE_MS,
);

test(
  "a dump that can't be read in, since a check looks at another table: nothing is lost",
  async () => {
    const name = await createGated();
    await cluster.psql(
      name,
      `SET ROLE app_owner; CREATE TABLE app.zz_names(name text); INSERT INTO app.zz_names VALUES ('a');
       CREATE FUNCTION app.is_known(t text) RETURNS bool LANGUAGE sql STABLE AS 'select exists (select from app.zz_names where name = t)';
       CREATE TABLE app.aa_items(name text CHECK (app.is_known(name))); INSERT INTO app.aa_items VALUES ('a')`,
    );
    const deploy = await fail(name, "plain");
    const error = await deploy.restore().catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "RESTORE_FAILED", fields: { output: expect.stringContaining("23514") } });
    await expectUntouched(deploy);
  },
  DEADLINE_MS,
);
