/**
 * The proof that nobody else has written, on a real server: what it must never claim, and what it must still be able to
 * claim. Each verdict is asked for twice, outside and as the statement of a restoring transaction, and both must agree.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Database } from "../../lib/postgres/database.ts";
import { readFingerprint } from "../../lib/postgres/fingerprint.ts";
import { ServerError, type Session } from "../../lib/postgres/session.ts";
import { confirmProof } from "../../lib/restore/confirmation.ts";
import { flushOwnSessions } from "../../lib/restore/evidence.ts";
import { type Mark, takeMark } from "../../lib/restore/mark.ts";
import { judgeProof, type MarkedEvidence, type Proof, readEvidence } from "../../lib/restore/proof.ts";
import { makeProofBlock, NOT_PROVEN_STATE } from "../../lib/restore/proof-script.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { until } from "../support/project.ts";
import { createRoles, openDatabase } from "../support/restore.ts";

const DEADLINE_MS = 60_000;
const DURING = { during: "test", deadlineMs: 30_000 };

let cluster: Cluster;

beforeAll(async () => {
  // Autovacuum's commits come when they like; one test has a server where they come often.
  cluster = await startCluster({ settings: { autovacuum: "off", max_prepared_transactions: "5" } });
  await createRoles(cluster);
}, DEADLINE_MS);

afterAll(async () => await cluster.remove());

/** A deploy between its mark and its verdict. */
interface Scene {
  readonly name: string;
  readonly database: Database;
  readonly session: Session;
  readonly mark: Mark;
  /** Ids that the deploy knows. */
  readonly transactionIds: string[];
  /** Writes as the deploy. */
  write(options?: { readonly isRecorded: boolean }): Promise<void>;
  prove(changes?: { readonly areSessionsCounted?: boolean; readonly sessions?: readonly Session[] }): Promise<Proof>;
}

async function begin(
  options: { readonly user?: string; readonly on?: Cluster; readonly name?: string } = {},
): Promise<Scene> {
  const { user = "postgres", on = cluster } = options;
  const name = options.name ?? (await createTable(on));
  const database = openDatabase(on, name, user);
  const session = await database.open("deploy");
  const coordinator = await database.open("backup");
  const mark = await takeMark({ database, coordinator, sessions: [session], historySchema: "public" });
  await coordinator.close();
  const transactionIds: string[] = [];
  return {
    name,
    database,
    session,
    mark,
    transactionIds,
    async write({ isRecorded } = { isRecorded: false }) {
      const text = `WITH written AS (INSERT INTO kept VALUES ('deploy') RETURNING 1) SELECT pg_current_xact_id()::text AS "id" FROM written`;
      const rows = await session.query<{ id: string }>(text, DURING);
      if (isRecorded) transactionIds.push(...rows.map(({ id }) => id));
    },
    async prove({ areSessionsCounted = true, sessions = [session] } = {}) {
      const counted = () => (areSessionsCounted ? database.sessionsOpened : undefined);
      const own = { transactionIds, sessions, sessionsOpened: counted() };
      const proof = judgeProof(mark, await readEvidence(session, mark, own), own);
      const block = await proveInside({ database, mark, transactionIds, sessions }, counted);
      expect(block.isProven).toBe(proof.proven !== undefined);
      if (!block.isProven) expect(block.reasons.toSorted()).toEqual(proof.reasons.toSorted());
      return proof;
    },
  };
}

async function createTable(on: Cluster): Promise<string> {
  const name = await on.createDatabase({ owner: "app_owner" });
  await on.psql(name, "CREATE TABLE kept(who text); ALTER TABLE kept OWNER TO app_owner");
  return name;
}

/** The same verdict by the statement that a restore runs, in a session of its own. */
async function proveInside(
  scene: { database: Database; mark: Mark; transactionIds: readonly string[]; sessions: readonly Session[] },
  counted: () => number | undefined,
): Promise<{ isProven: boolean; reasons: string[] }> {
  const restoring = await scene.database.open("restore");
  try {
    await flushOwnSessions([restoring], scene.mark.serverMajor);
    const ownPids = await flushOwnSessions(scene.sessions, scene.mark.serverMajor);
    const { mark, transactionIds } = scene;
    await restoring.script("BEGIN", DURING);
    await restoring.script(makeProofBlock({ mark, transactionIds, ownPids, sessionsOpened: counted() }), DURING);
    return { isProven: true, reasons: [] };
  } catch (error) {
    if (!(error instanceof ServerError) || error.server.sqlState !== NOT_PROVEN_STATE) throw error;
    return { isProven: false, reasons: JSON.parse(error.server.message) as string[] };
  } finally {
    await restoring.close();
  }
}

/** A session of somebody else, that stays until it is closed. */
async function openStranger(name: string, on: Cluster = cluster): Promise<Session> {
  const stranger = await openDatabase(on, name).open("stranger");
  await stranger.script("SELECT 1", DURING);
  return stranger;
}

async function write(session: Session): Promise<void> {
  await session.script("INSERT INTO kept VALUES ('stranger')", DURING);
}

for (const user of ["postgres", "app_owner"]) {
  describe(`as ${user}`, () => {
    test("nothing has happened: A", async () => {
      const scene = await begin({ user });
      expect(await scene.prove()).toEqual({ proven: "A", reasons: [] });
    });

    test("only our own recorded transactions have committed: A, also beside others who read", async () => {
      const scene = await begin({ user });
      const stranger = await openStranger(scene.name);
      await scene.write({ isRecorded: true });
      await stranger.script("SELECT count(*) FROM kept", DURING);
      expect(await scene.prove()).toEqual({ proven: "A", reasons: [] });
      await stranger.close();
    });

    test("what others rolled back is no write: A", async () => {
      const scene = await begin({ user });
      const stranger = await openStranger(scene.name);
      await stranger.script("BEGIN; INSERT INTO kept VALUES ('stranger'); ROLLBACK", DURING);
      expect(await scene.prove()).toEqual({ proven: "A", reasons: [] });
      await stranger.close();
    });

    test("a commit of ours that nobody recorded: B", async () => {
      const scene = await begin({ user });
      await scene.write();
      expect(await scene.prove()).toEqual({ proven: "B", reasons: ["transactions-committed"] });
    });

    test("many sessions of ours that came and went: B", async () => {
      const scene = await begin({ user });
      for (let count = 0; count < 20; count += 1) {
        const session = await scene.database.open("step");
        await write(session);
        await session.close();
      }
      expect(await scene.prove()).toEqual({ proven: "B", reasons: ["transactions-committed"] });
    });

    test("a write into another database of the cluster: B", async () => {
      const [scene, elsewhere] = [await begin({ user }), await createTable(cluster)];
      await cluster.psql(elsewhere, "INSERT INTO kept VALUES ('other database')");
      expect(await scene.prove()).toEqual({ proven: "B", reasons: ["transactions-committed"] });
    });

    test(
      "a stranger who connected, wrote and left is never missed",
      async () => {
        for (let round = 0; round < 8; round += 1) {
          const scene = await begin({ user });
          // psql has ended when this returns, its backend perhaps not yet.
          await cluster.psql(scene.name, "INSERT INTO kept VALUES ('stranger')");
          expect(await scene.prove()).toEqual({
            proven: undefined,
            reasons: ["transactions-committed", "sessions-uncounted"],
          });
          await scene.session.close();
        }
      },
      DEADLINE_MS,
    );

    test(
      "a stranger who does not write but stays makes only B impossible",
      async () => {
        const scene = await begin({ user });
        await scene.write();
        const stranger = await openStranger(scene.name);
        expect((await scene.prove()).reasons).toEqual(["transactions-committed", "clients-now", "sessions-uncounted"]);
        await stranger.close();
      },
      DEADLINE_MS,
    );

    test(
      "a stranger who was there at the mark may have written and left",
      async () => {
        const name = await createTable(cluster);
        const stranger = await openStranger(name);
        const scene = await begin({ user, name });
        await write(stranger);
        await stranger.close();
        expect((await scene.prove()).reasons).toEqual(["transactions-committed", "clients-at-mark"]);
      },
      DEADLINE_MS,
    );

    test(
      "a transaction that was open at the mark and committed later",
      async () => {
        const name = await createTable(cluster);
        const stranger = await openStranger(name);
        await stranger.script("BEGIN; INSERT INTO kept VALUES ('stranger')", DURING);
        const scene = await begin({ user, name });
        expect((await scene.prove()).proven).toBe("A");
        await stranger.script("COMMIT", DURING);
        expect((await scene.prove()).proven).toBeUndefined();
        await stranger.close();
      },
      DEADLINE_MS,
    );

    test(
      "a replication connection to this database is somebody, and writes",
      async () => {
        const scene = await begin({ user });
        const child = startReplication(scene.name);
        await until(
          "it has written",
          async () => (await cluster.psql(scene.name, "SELECT count(*) FROM kept")) === "1",
        );
        const { proven, reasons } = await scene.prove();
        expect(proven).toBeUndefined();
        expect(reasons).toContain("clients-now");
        child.kill();
        await child.exited;
      },
      DEADLINE_MS,
    );
  });
}

describe("what makes B void", () => {
  test("a session more that hides a session of ours that failed: tools that fail are not counted", async () => {
    const scene = await begin();
    const tool = findClientTool("psql");
    if (tool === undefined) throw new Error("psql was not found");
    const options = { sessions: 1, deadlineMs: 30_000 };
    const psql = { name: "psql", version: "15.0", ...tool } as const;
    await scene.database.runTool(psql, ["-X", "-c", "SELECT broken"], options);
    await cluster.psql(scene.name, "INSERT INTO kept VALUES ('stranger')");
    expect((await scene.prove()).proven).toBeUndefined();
  });

  test("an unknown number of sessions that something opened for us", async () => {
    const scene = await begin();
    await scene.write();
    expect((await scene.prove({ areSessionsCounted: false })).reasons).toEqual([
      "transactions-committed",
      "sessions-unknown",
    ]);
  });

  test(
    "a session of ours in a transaction is not surely counted, and so is a stranger's",
    async () => {
      const scene = await begin();
      await scene.write();
      const open = await scene.database.open("step");
      await open.script("BEGIN; SELECT 1", DURING);
      expect((await scene.prove({ sessions: [scene.session, open] })).reasons).toContain("clients-now");
      await open.script("COMMIT", DURING);
      expect((await scene.prove({ sessions: [scene.session, open] })).proven).toBe("B");
      await open.close();
    },
    DEADLINE_MS,
  );

  test("counters that were set back", async () => {
    const scene = await begin();
    await scene.write();
    await scene.session.script("SELECT pg_stat_reset()", DURING);
    expect((await scene.prove()).reasons).toContain("statistics-reset");
  });

  test(
    "a prepared transaction, at the mark and now",
    async () => {
      const scene = await begin();
      await scene.write();
      await scene.session.script("BEGIN; INSERT INTO kept VALUES ('later'); PREPARE TRANSACTION 'pending'", DURING);
      expect((await scene.prove()).reasons).toEqual(["transactions-committed", "prepared-transactions"]);
      const next = await begin({ name: scene.name });
      await scene.session.script("COMMIT PREPARED 'pending'", DURING);
      await scene.session.close();
      expect((await next.prove()).reasons).toContain("prepared-transactions");
    },
    DEADLINE_MS,
  );

  test("a subscription", async () => {
    const scene = await begin();
    await scene.write();
    await scene.session.script(
      "CREATE SUBSCRIPTION incoming CONNECTION 'dbname=none' PUBLICATION none WITH (connect = false)",
      DURING,
    );
    expect((await scene.prove()).reasons).toEqual(["transactions-committed", "subscriptions"]);
    await scene.session.script(
      "ALTER SUBSCRIPTION incoming SET (slot_name = NONE); DROP SUBSCRIPTION incoming",
      DURING,
    );
  });
});

describe("another life of the server", () => {
  let own: Cluster;
  beforeAll(async () => {
    own = await startCluster({ settings: { autovacuum: "off" } });
    await createRoles(own);
  }, DEADLINE_MS);
  afterAll(async () => await own.remove());

  async function proveAfter(scene: Scene): Promise<Proof> {
    await scene.session.close();
    const session = await openDatabase(own, scene.name).open("deploy");
    const work = { transactionIds: [], sessions: [session], sessionsOpened: scene.mark.sessionsOpened + 1 };
    const proof = judgeProof(scene.mark, await readEvidence(session, scene.mark, work), work);
    const block = await proveInside({ ...scene, sessions: [session] }, () => work.sessionsOpened + 1);
    expect(block).toEqual({ isProven: proof.proven !== undefined, reasons: [...proof.reasons] });
    await session.close();
    return proof;
  }

  test(
    "a restart",
    async () => {
      const scene = await begin({ on: own });
      await own.stop();
      await own.start();
      expect(await proveAfter(scene)).toEqual({ proven: undefined, reasons: ["server-restarted"] });
    },
    DEADLINE_MS,
  );

  test(
    "a crash of one backend, under the same postmaster",
    async () => {
      const scene = await begin({ on: own });
      const victim = await openStranger(scene.name, own);
      process.kill(Number(victim.pid), "SIGKILL");
      await until("both are cut off", () => !victim.isOpen && !scene.session.isOpen);
      await until("the server answers", async () => (await own.psql(scene.name, "SELECT 1").catch(() => "")) === "1");
      expect(await proveAfter(scene)).toEqual({ proven: undefined, reasons: ["statistics-reset"] });
    },
    DEADLINE_MS,
  );

  test("transaction ids of another database or timeline mean nothing", async () => {
    const scene = await begin({ on: own });
    for (const place of [{ databaseOid: "1" }, { systemIdentifier: "1" }, { timeline: "0000000F" }]) {
      const mark = { ...scene.mark, place: { ...scene.mark.place, ...place } };
      const work = { transactionIds: [], sessions: [scene.session], sessionsOpened: scene.database.sessionsOpened };
      expect(judgeProof(mark, await readEvidence(scene.session, mark, work), work).reasons).toEqual(["other-server"]);
      const block = await proveInside({ ...scene, mark, sessions: [scene.session] }, () => work.sessionsOpened);
      expect(block).toEqual({ isProven: false, reasons: ["other-server"] });
    }
  });
});

test(
  "autovacuum commits what nobody asked for: B still holds",
  async () => {
    const busy = await startCluster({
      settings: { autovacuum_naptime: "1s", autovacuum_analyze_threshold: "1", autovacuum_analyze_scale_factor: "0" },
    });
    try {
      await createRoles(busy);
      const scene = await begin({ on: busy, user: "app_owner" });
      await scene.write({ isRecorded: true });
      await scene.write({ isRecorded: true });
      await until("autovacuum has come", async () => {
        const text = "SELECT last_autoanalyze IS NOT NULL AS done FROM pg_stat_user_tables WHERE relname = 'kept'";
        return (await scene.session.query<{ done: boolean }>(text, DURING))[0]?.done === true;
      });
      expect(await scene.prove()).toEqual({ proven: "B", reasons: ["transactions-committed"] });
    } finally {
      await busy.remove();
    }
  },
  DEADLINE_MS,
);

describe("the fingerprint of the catalogs", () => {
  let name: string;
  let session: Session;
  beforeAll(async () => {
    name = await createTable(cluster);
    session = await openDatabase(cluster, name).open("deploy");
    await session.script(
      "CREATE TABLE other(a int PRIMARY KEY); CREATE SEQUENCE counter; INSERT INTO other VALUES (1)",
      DURING,
    );
  });

  /** Each on its own: some may not run in a transaction block. */
  async function run(text: string): Promise<void> {
    for (const statement of text.split(";")) if (statement.trim() !== "") await session.script(statement, DURING);
  }

  test.each([
    "SELECT 1",
    "INSERT INTO other VALUES (2); UPDATE other SET a = 3 WHERE a = 2; DELETE FROM other WHERE a = 3",
    "SELECT nextval('counter')",
    "VACUUM; ANALYZE; VACUUM FREEZE",
    "CREATE TEMP TABLE t(a int PRIMARY KEY, b text DEFAULT 'x', c serial); CREATE TEMP VIEW v AS SELECT 1; COMMENT ON TABLE t IS 'x'; DROP TABLE t",
    "BEGIN; ALTER TABLE other ADD COLUMN b int; CREATE TABLE third(); ROLLBACK",
  ])("stays the same: %s", async (text) => {
    const before = await readFingerprint(session);
    await run(text);
    expect(await readFingerprint(session)).toBe(before);
  });

  test.each([
    "CREATE TABLE added()",
    "ALTER TABLE other ADD COLUMN added int",
    "ALTER TABLE other ALTER COLUMN a SET DEFAULT 1",
    "CREATE INDEX CONCURRENTLY added_index ON other(a)",
    "GRANT SELECT ON other TO app_ro",
    "GRANT UPDATE (a) ON other TO app_rw",
    "COMMENT ON TABLE other IS 'added'",
    "CREATE TYPE added_kind AS ENUM ('a')",
    "ALTER TYPE added_kind ADD VALUE 'b'",
    "CREATE FUNCTION added() RETURNS int LANGUAGE sql AS 'select 1'",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE OPERATOR FAMILY added USING btree",
    "CREATE CAST (text AS int) WITH INOUT",
    "CREATE TEXT SEARCH CONFIGURATION added (COPY = pg_catalog.simple)",
    "ALTER TEXT SEARCH CONFIGURATION added DROP MAPPING FOR word",
    'CREATE COLLATION added FROM "C"',
    "CREATE STATISTICS added ON a, added FROM other",
    "ALTER TABLE other ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY added ON other USING (true)",
    "CREATE RULE added AS ON DELETE TO kept DO INSTEAD NOTHING",
    "CREATE PUBLICATION added FOR TABLE other",
    "ALTER PUBLICATION added DROP TABLE other",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app_ro",
    "CREATE FOREIGN DATA WRAPPER added",
    "CREATE SERVER added FOREIGN DATA WRAPPER added",
    "CREATE USER MAPPING FOR PUBLIC SERVER added",
    "SELECT lo_create(0)",
    "CREATE SCHEMA added",
    "ALTER SEQUENCE counter INCREMENT 2",
    "VACUUM FULL other",
    "CREATE EXTENSION citext",
    "ALTER DATABASE CURRENT SET work_mem = '5MB'",
    "COMMENT ON DATABASE CURRENT IS 'added'",
    "ALTER DATABASE CURRENT CONNECTION LIMIT 44",
    "GRANT TEMP ON DATABASE CURRENT TO app_ro",
  ])("changes: %s", async (text) => {
    const before = await readFingerprint(session);
    await run(text.replace("DATABASE CURRENT", `DATABASE "${name}"`));
    expect(await readFingerprint(session)).not.toBe(before);
  });

  test("an owner reads the same as a superuser", async () => {
    const owner = await openDatabase(cluster, name, "app_owner").open("deploy");
    expect(await readFingerprint(owner)).toBe(await readFingerprint(session));
    await owner.close();
  });
});

/** Such a connection runs SQL as any other, and no count has it. */
function startReplication(name: string) {
  const tool = findClientTool("psql");
  return Bun.spawn([tool?.path ?? "psql", "-XAtq", `dbname=${name} replication=database`], {
    env: { PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres", LC_ALL: "C" },
    stdin: new Blob(["INSERT INTO kept VALUES ('replication'); SELECT pg_sleep(600);"]),
    stdout: "ignore",
    stderr: "ignore",
  });
}

test(
  "what was confirmed by A counts our sessions too, though nobody knew how many there had been before",
  async () => {
    const { database, session, mark, name } = await begin();
    const own = (sessionsOpened: number | undefined) => ({ transactionIds: [], sessions: [session], sessionsOpened });
    const confirmed = await confirmProof(session, mark, database, () => own(undefined));
    const evidence = confirmed.evidence as MarkedEvidence;
    const verdict = async () => {
      const work = own(database.sessionsOpened);
      return judgeProof(evidence, await readEvidence(session, evidence, work), work);
    };
    expect(confirmed.proven).toBe("A");
    expect(await verdict()).toEqual({ proven: "B", reasons: ["transactions-committed"] });
    for (let number = 0; number < database.sessionsOpened; number += 1) {
      await cluster.psql(name, "INSERT INTO kept VALUES ('stranger')");
    }
    expect((await verdict()).reasons).toEqual(["transactions-committed", "sessions-uncounted"]);
    await session.close();
  },
  DEADLINE_MS,
);
