/** Sessions on real servers that work, refuse, die and fall silent. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { type AnyDeployError, type ErrorCode, isDeployError } from "../../lib/errors.ts";
import { openSocket } from "../../lib/postgres/connection.ts";
import { type Database, makeDatabase, type OpenOptions } from "../../lib/postgres/database.ts";
import { ServerError, type Session } from "../../lib/postgres/session.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { type Cluster, sharedCluster, startCluster, temporaryDirectory } from "../support/cluster.ts";
import { until } from "../support/project.ts";
import { startStrangeServer, startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const TEST_MS = 60_000;
const PATIENT = { during: "test", deadlineMs: 30_000 };

let cluster: Cluster;
let name: string;
let database: Database;
const sessions: Session[] = [];

beforeAll(async () => {
  cluster = await sharedCluster();
  name = await cluster.createDatabase();
  database = databaseOf(cluster.url(name));
}, TEST_MS);

afterAll(async () => {
  for (const session of sessions) await session.close();
});

describe("a statement", () => {
  test("answers rows as plain objects, with exact text where a number or a date would lose something", async () => {
    const session = await open();
    const rows = await session.query(
      `SELECT 1 AS int4, 2::int8 AS int8, 1.50 AS numeric, true AS bool, NULL AS nothing, 'é' AS text,
        '{"a": [1]}'::jsonb AS json, timestamptz '2020-01-02 03:04:05.678901+00' AT TIME ZONE 'UTC' AS timestamp,
        ARRAY[1, 2] AS list, '\\x00ff'::bytea AS bytes`,
      PATIENT,
    );
    expect(rows).toEqual([
      {
        int4: 1,
        int8: "2",
        numeric: "1.50",
        bool: true,
        nothing: null,
        text: "é",
        json: { a: [1] },
        timestamp: "2020-01-02 03:04:05.678901",
        list: "{1,2}",
        bytes: "\\x00ff",
      },
    ]);
    expect(Array.isArray(rows) && rows.constructor === Array).toBe(true);
  });

  test("takes parameters as they are", async () => {
    const session = await open();
    const parameters = [
      "it's \\ $1",
      7,
      true,
      null,
      "2020-01-02 03:04:05.678901+00",
      '{"a":"b"}',
      "\\x00ff",
      "9007199254740993",
    ];
    const [row] = await session.query(
      `SELECT $1::text AS text, $2::int + 1 AS int, $3::bool AS bool, $4::text AS nothing,
        $5::timestamptz = '2020-01-02 03:04:05.678901+00' AS time, $6::jsonb AS json, $7::bytea AS bytes, $8::int8 AS big`,
      { ...PATIENT, parameters },
    );
    expect(row).toEqual({
      text: "it's \\ $1",
      int: 8,
      bool: true,
      nothing: null,
      time: true,
      json: { a: "b" },
      bytes: "\\x00ff",
      big: "9007199254740993",
    });
  });

  test("that is wrong is answered in the server's words, and leaves the session usable", async () => {
    const session = await open();
    const error = await failureOf(session.query("SELECT 'é', nothing", PATIENT));
    expect(error).toBeInstanceOf(ServerError);
    expect((error as ServerError).server).toEqual({
      sqlState: "42703",
      message: 'column "nothing" does not exist',
      detail: undefined,
      hint: undefined,
      position: 13,
      where: undefined,
      routine: "errorMissingColumn",
    });
    const wrong = session.query("SELECT $1::int", { ...PATIENT, parameters: ["x"] });
    expect(sqlStateOf(await failureOf(wrong))).toBe("22P02");
    const pid = session.pid;
    const [row] = await session.query<{ pid: number }>("SELECT pg_backend_pid() AS pid", PATIENT);
    expect([session.isOpen, row?.pid]).toEqual([true, pid]);
  });

  test("of several that are sent at once each gets its own answer, in their order", async () => {
    const session = await open();
    const answers = await Promise.allSettled([
      session.query("SELECT pg_sleep(0.1), 1 AS n", PATIENT),
      session.query("SELECT wrong", PATIENT),
      session.query("SELECT 3 AS n", PATIENT),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(answers[2]).toMatchObject({ value: [{ n: 3 }] });
  });

  test("that waits for another one beyond its deadline was never sent, and harms nobody", async () => {
    const session = await open();
    await session.query("CREATE TABLE never_sent (a int)", PATIENT);
    const first = session.query("SELECT pg_sleep(1), 1 AS n", PATIENT);
    const late = session.query("INSERT INTO never_sent VALUES (1)", { during: "insert", deadlineMs: 50 });
    expect(await codeOf(late)).toBe("DEADLINE_EXCEEDED");
    expect(await first).toMatchObject([{ n: 1 }]);
    expect(await session.query("SELECT * FROM never_sent", PATIENT)).toEqual([]);
  });

  test("that takes longer than its deadline ends the session, and is cancelled on the server", async () => {
    const session = await open();
    await session.query("SELECT 1", PATIENT);
    const { pid } = session;
    const error = await failureOf(session.query("SELECT pg_sleep(600)", { during: "sleep", deadlineMs: 200 }));
    expect(error).toMatchObject({ code: "DEADLINE_EXCEEDED", fields: { during: "sleep", deadlineMs: 200 } });
    expect(session.isOpen).toBe(false);
    expect(await codeOf(session.query("SELECT 1", PATIENT))).toBe("CONNECTION_LOST");
    await until(
      "the backend is gone",
      async () => (await cluster.psql(name, `SELECT count(*) FROM pg_stat_activity WHERE pid = ${pid}`)) === "0",
    );
  });
});

describe("a script", () => {
  test("reaches the server byte for byte", async () => {
    const session = await open();
    const text = `-- $1 ? é '\\'' {} \${x}\nCREATE TABLE seen AS\r\n\tSELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid();`;
    await session.script(text, PATIENT);
    expect(await session.query("SELECT query FROM seen", PATIENT)).toEqual([{ query: text }]);
  });

  test("is one transaction: what fails at its end undoes its beginning", async () => {
    const session = await open();
    const text = "CREATE TABLE undone (a int);\nINSERT INTO undone VALUES (1);\nSELECT 1 / 0;";
    expect(sqlStateOf(await failureOf(session.script(text, PATIENT)))).toBe("22012");
    expect(await session.query("SELECT to_regclass('undone') AS found", PATIENT)).toEqual([{ found: null }]);
  });

  test("may be empty, may return rows, and may be long", async () => {
    const session = await open();
    await session.script("", PATIENT);
    await session.script("-- nothing", PATIENT);
    await session.script("SELECT 1; SELECT generate_series(1, 3); CREATE TEMPORARY TABLE t (a int)", PATIENT);
    await session.script(`SELECT 1; -- ${"x".repeat(5_000_000)}\nINSERT INTO t VALUES (42)`, PATIENT);
    expect(await session.query("SELECT a FROM t", PATIENT)).toEqual([{ a: 42 }]);
  });

  test("without a deadline runs until it ends", async () => {
    const session = await open();
    await session.script("SELECT pg_sleep(0.3)", { during: "sleep", deadlineMs: undefined });
    expect(session.isOpen).toBe(true);
  });

  test("that waits for data of ours is refused and undone, and the session stays usable", async () => {
    const session = await open();
    const text = "CREATE TABLE copied (a int); COPY copied FROM STDIN; CREATE TABLE after_copy (a int)";
    expect(sqlStateOf(await failureOf(session.script(text, PATIENT)))).toBe("0A000");
    const found = "SELECT to_regclass('copied') AS one, to_regclass('after_copy') AS two";
    expect(await session.query(found, PATIENT)).toEqual([{ one: null, two: null }]);
  });

  test("that waits for data of ours inside a transaction leaves it as a failed one", async () => {
    const session = await open();
    await session.script("BEGIN; CREATE TABLE copied_in_transaction (a int)", PATIENT);
    await failureOf(session.script("COPY copied_in_transaction FROM STDIN", PATIENT));
    expect(sqlStateOf(await failureOf(session.query("SELECT 1", PATIENT)))).toBe("25P02");
    await session.script("ROLLBACK", PATIENT);
  });

  test("that sends us data is refused, with the session", async () => {
    const session = await open();
    const text = "CREATE TABLE sent (a int); COPY (SELECT 1) TO STDOUT; SELECT 1 / 0";
    expect(await codeOf(session.script(text, PATIENT))).toBe("CONNECTION_LOST");
    expect(session.isOpen).toBe(false);
  });
});

describe("notices", () => {
  test("go to the one who asked", async () => {
    const notices: object[] = [];
    const session = await open(database, { onNotice: (notice) => notices.push(notice) });
    await session.script("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$", PATIENT);
    expect(notices).toEqual([
      { severity: "NOTICE", message: "one" },
      { severity: "WARNING", message: "two" },
    ]);
  });
});

describe("settings", () => {
  test("of the connection string and of the caller hold from the first statement on", async () => {
    const target = databaseOf(
      cluster.url(name, { parameters: { schema: 'My "Schema"', options: "-c geqo=off -c application_name=x" } }),
    );
    const session = await open(target, { settings: { lock_timeout: "3s" } });
    const [row] = await session.query(
      `SELECT current_setting('search_path') AS path, current_setting('geqo') AS geqo,
        current_setting('lock_timeout') AS lock, current_setting('application_name') AS app`,
      PATIENT,
    );
    expect(row).toEqual({ path: '"My ""Schema"""', geqo: "off", lock: "3s", app: "prisma-safe-deploy test" });
  });

  test("a session that migrates has no timeout of its role's, and is watched by the server", async () => {
    await cluster.psql(name, `ALTER DATABASE "${name}" SET statement_timeout = '7s'`);
    const session = await open(database, { isMigrating: true });
    const rows = await session.query(
      `SELECT name, setting FROM pg_settings WHERE setting <> '0' AND name IN ('statement_timeout', 'lock_timeout',
        'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')`,
      PATIENT,
    );
    expect(rows).toEqual([]);
    const interval = await session.query<{ ms: string }>(
      "SELECT setting AS ms FROM pg_settings WHERE name = 'client_connection_check_interval'",
      PATIENT,
    );
    for (const { ms } of interval) expect(ms).toBe("2000");
    await cluster.psql(name, `ALTER DATABASE "${name}" RESET statement_timeout`);
  });
});

describe("cancelling", () => {
  test("ends what runs, and leaves the session usable", async () => {
    const session = await open();
    await session.query("SELECT 1", PATIENT);
    const failure = failureOf(session.script("SELECT pg_sleep(600)", { during: "sleep", deadlineMs: undefined }));
    await untilRunning(session, "pg_sleep");
    await session.cancel();
    expect(sqlStateOf(await failure)).toBe("57014");
    expect(await session.query("SELECT 2 AS n", PATIENT)).toEqual([{ n: 2 }]);
  });

  test("works on the very first statement", async () => {
    const session = await open();
    const failure = failureOf(session.query("SELECT pg_sleep(600), 'the first'", PATIENT));
    await until("it runs", async () => (await cluster.psql(name, running("the first"))) === "1");
    await session.cancel();
    expect(sqlStateOf(await failure)).toBe("57014");
    expect(session.isOpen).toBe(true);
  });

  test("while nothing runs does nothing", async () => {
    const session = await open();
    await session.cancel();
    await session.query("SELECT 1", PATIENT);
    await session.cancel();
    expect(await session.query("SELECT 2 AS n", PATIENT)).toEqual([{ n: 2 }]);
  });
});

describe("the end of a session", () => {
  test("by us: the server's backend ends too, closing twice is nothing, and later statements are refused", async () => {
    const session = await open();
    const [row] = await session.query<{ pid: number }>("SELECT pg_backend_pid() AS pid", PATIENT);
    await Promise.all([session.close(), session.close()]);
    await session.close();
    expect(session.isOpen).toBe(false);
    expect(await failureOf(session.query("SELECT 1", { during: "after", deadlineMs: 1000 }))).toMatchObject({
      code: "CONNECTION_LOST",
      fields: { during: "after", reason: "the session was closed" },
    });
    await until(
      "the backend is gone",
      async () => (await cluster.psql(name, `SELECT count(*) FROM pg_stat_activity WHERE pid = ${row?.pid}`)) === "0",
    );
  });

  test("by us while a statement runs ends that one", async () => {
    const session = await open();
    await session.query("SELECT 1", PATIENT);
    const failures = [
      codeOf(session.script("SELECT pg_sleep(600)", { during: "sleep", deadlineMs: undefined })),
      codeOf(session.query("SELECT 1", PATIENT)),
    ];
    await untilRunning(session, "pg_sleep");
    await session.close();
    expect(await Promise.all(failures)).toEqual(["CONNECTION_LOST", "CONNECTION_LOST"]);
  });

  test("of one that was never used", async () => {
    const session = await open();
    await session.close();
    expect(await codeOf(session.query("SELECT 1", PATIENT))).toBe("CONNECTION_LOST");
  });

  test("by an administrator is noticed while nothing runs, and the session never comes back", async () => {
    const own = databaseOf(cluster.url(name));
    const session = await own.open("idle");
    await session.query("SELECT 1", PATIENT);
    await cluster.psql(name, `SELECT pg_terminate_backend(${session.pid})`);
    await until("it is over", () => !session.isOpen);
    const reason = "terminating connection due to administrator command (57P01)";
    for (const during of ["first", "second"]) {
      const error = await failureOf(session.query("SELECT 1", { during, deadlineMs: 5000 }));
      expect(error).toMatchObject({ code: "CONNECTION_LOST", fields: { during, reason } });
    }
    await session.close();
    expect(own.sessionsOpened).toBe(1);
    expect(await cluster.psql(name, `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '% idle'`)).toBe(
      "0",
    );
  });

  test("by an administrator right before a statement is that statement's error, whatever comes first", async () => {
    for (let round = 0; round < 10; round += 1) {
      const session = await open();
      await session.query("SELECT 1", PATIENT);
      const [killed, asked] = await Promise.allSettled([
        cluster.psql(name, `SELECT pg_terminate_backend(${session.pid})`),
        session.query("SELECT pg_sleep(30)", PATIENT),
      ]);
      expect([killed.status, asked.status]).toEqual(["fulfilled", "rejected"]);
      expect(asked.status === "rejected" && asked.reason.code).toBe("CONNECTION_LOST");
    }
  });

  test("by an administrator during a statement is that statement's error, and the next one's too", async () => {
    const session = await open();
    await session.query("SELECT 1", PATIENT);
    const failure = failureOf(session.script("SELECT pg_sleep(600)", { during: "sleep", deadlineMs: undefined }));
    await untilRunning(session, "pg_sleep");
    await cluster.psql(name, `SELECT pg_terminate_backend(${session.pid})`);
    expect(await failure).toMatchObject({
      code: "CONNECTION_LOST",
      fields: { during: "sleep", reason: "terminating connection due to administrator command (57P01)" },
    });
    expect(await codeOf(session.query("SELECT 1", PATIENT))).toBe("CONNECTION_LOST");
  });
});

describe("a server that dies", () => {
  let mortal: Cluster;

  beforeAll(async () => {
    mortal = await startCluster();
  }, TEST_MS);
  afterAll(() => mortal.remove());

  test(
    "is noticed by what runs and by what does not, and the sessions stay dead when it is back",
    async () => {
      const own = databaseOf(mortal.url("postgres"));
      const [busy, idle] = [await own.open("busy"), await own.open("idle")];
      await idle.query("SELECT 1", PATIENT);
      const failure = codeOf(busy.script("SELECT pg_sleep(600)", { during: "sleep", deadlineMs: undefined }));
      await until("it runs", async () => busy.isOpen && (await mortal.psql("postgres", running("pg_sleep"))) === "1");
      await mortal.stop("immediate");
      expect(await failure).toBe("CONNECTION_LOST");
      await until("the idle one is over", () => !idle.isOpen);
      const fresh = await own.open("fresh");
      expect(await codeOf(fresh.query("SELECT 1", PATIENT))).toBe("DATABASE_UNREACHABLE");
      await mortal.start();
      for (const session of [busy, idle, fresh]) {
        expect(await codeOf(session.query("SELECT 1", PATIENT))).toBe("CONNECTION_LOST");
        await session.close();
      }
      expect(own.sessionsOpened).toBe(2);
      const again = await own.open("again");
      expect(await again.query("SELECT 1 AS n", PATIENT)).toEqual([{ n: 1 }]);
      await again.close();
    },
    TEST_MS,
  );

  test(
    "or shuts down says so to whoever comes",
    async () => {
      const own = databaseOf(mortal.url("postgres"));
      const last = await own.open("last");
      await last.query("SELECT 1", PATIENT);
      // A smart shutdown waits for the last session, and lets nobody in.
      process.kill(mortal.pid ?? Number.NaN, "SIGTERM");
      await until("nobody is let in", async () => {
        const session = await own.open("late");
        const code = await codeOf(session.query("SELECT 1", PATIENT)).catch(() => "let in");
        await session.close();
        expect(["let in", "DATABASE_STARTING"]).toContain(code);
        return code === "DATABASE_STARTING";
      });
      await last.close();
      await until("the server has ended", () => mortal.pid === undefined);
    },
    TEST_MS,
  );
});

describe("a network", () => {
  let remote: Cluster;
  let proxy: TcpProxy;

  beforeAll(async () => {
    remote = await startCluster({ tcp: true });
  }, TEST_MS);
  afterAll(() => remote.remove());

  const throughProxy = async () => {
    proxy = await startTcpProxy(remote);
    return databaseOf(`postgresql://postgres@127.0.0.1:${proxy.port}/postgres`);
  };

  test(
    "that falls silent ends a statement at its deadline, and closing returns",
    async () => {
      const session = await (await throughProxy()).open("silent");
      await session.query("SELECT 1", PATIENT);
      proxy.fallSilent();
      const error = await failureOf(session.query("SELECT 1", { during: "read", deadlineMs: 300 }));
      expect(error).toMatchObject({ code: "DEADLINE_EXCEEDED", fields: { during: "read", deadlineMs: 300 } });
      await session.close();
      expect(await codeOf(session.query("SELECT 1", PATIENT))).toBe("CONNECTION_LOST");
      expect(proxy.connections).toBeLessThanOrEqual(2);
      await proxy.close();
    },
    TEST_MS,
  );

  test(
    "that falls silent does not hold up closing or cancelling",
    async () => {
      const own = await throughProxy();
      const [idle, busy] = [await own.open("idle"), await own.open("busy")];
      await idle.query("SELECT 1", PATIENT);
      await busy.query("SELECT 1", PATIENT);
      proxy.fallSilent();
      const failure = codeOf(busy.script("SELECT 1", { during: "script", deadlineMs: undefined }));
      await idle.close();
      await busy.cancel();
      expect(busy.isOpen).toBe(true);
      await busy.close();
      expect(await failure).toBe("CONNECTION_LOST");
      await proxy.close();
    },
    TEST_MS,
  );

  test(
    "that resets the connection ends the session, during a statement, before one and while idle",
    async () => {
      const own = await throughProxy();
      const [busy, next, idle] = [await own.open("busy"), await own.open("next"), await own.open("idle")];
      for (const session of [busy, next, idle]) await session.query("SELECT 1", PATIENT);
      const failure = codeOf(busy.query("SELECT pg_sleep(600)", PATIENT));
      await until("it runs", async () => (await remote.psql("postgres", running("pg_sleep"))) === "1");
      proxy.resetConnections();
      const atOnce = codeOf(next.query("SELECT pg_sleep(600)", PATIENT));
      expect(await Promise.all([failure, atOnce])).toEqual(["CONNECTION_LOST", "CONNECTION_LOST"]);
      await until("the idle one is over", () => !idle.isOpen);
      expect([own.sessionsOpened, proxy.connections]).toEqual([3, 3]);
      await proxy.close();
    },
    TEST_MS,
  );
});

describe("connecting", () => {
  test("is left to the first statement", async () => {
    const own = databaseOf(cluster.url(name));
    const session = await own.open("lazy");
    expect([own.sessionsOpened, session.pid, session.isOpen]).toEqual([0, undefined, true]);
    await session.query("SELECT 1", PATIENT);
    expect([own.sessionsOpened, session.isOpen, session.isEncrypted]).toEqual([1, true, false]);
    expect(session.pid).toBeGreaterThan(0);
    await session.close();
  });

  test("to nobody", async () => {
    const closed = await startStrangeServer(() => {});
    closed.close();
    const refused = await connectionFailure(`postgres://u@127.0.0.1:${closed.port}/d`);
    expect(refused).toMatchObject({ code: "DATABASE_UNREACHABLE", fields: { host: "127.0.0.1", port: closed.port } });
    expect(reasonOf(refused)).toContain("ECONNREFUSED");
    const socket = await connectionFailure(`postgres://u@/d?host=${temporaryDirectory()}`);
    expect(socket.code).toBe("DATABASE_UNREACHABLE");
    expect(reasonOf(socket)).toContain("ENOENT");
    const nameless = await connectionFailure("postgres://u@nowhere.invalid/d");
    expect(nameless.code).toBe("DATABASE_UNREACHABLE");
    expect(reasonOf(nameless)).toMatch(/ENOTFOUND|EAI_AGAIN/);
  });

  test("to someone who never answers ends with connect_timeout, whatever the statement's own deadline", async () => {
    const silent = await startStrangeServer(() => {});
    for (const parameters of ["sslmode=disable", "sslmode=prefer"]) {
      const failure = await connectionFailure(
        `postgres://u@127.0.0.1:${silent.port}/d?connect_timeout=1&${parameters}`,
      );
      expect(failure.code).toBe("DATABASE_UNREACHABLE");
      expect(reasonOf(failure)).toContain("no answer within 1000 ms");
    }
    const session = await databaseOf(`postgres://u@127.0.0.1:${silent.port}/d?connect_timeout=0`).open("test");
    expect(await codeOf(session.query("SELECT 1", { during: "read", deadlineMs: 200 }))).toBe("DEADLINE_EXCEEDED");
    silent.close();
  });

  test("can be given up", async () => {
    const silent = await startStrangeServer(() => {});
    for (const end of ["cancel", "close"] as const) {
      const session = await databaseOf(`postgres://u@127.0.0.1:${silent.port}/d?connect_timeout=0`).open("test");
      const failure = codeOf(session.query("SELECT 1", PATIENT));
      await session[end]();
      expect(await failure).toBe("CONNECTION_LOST");
    }
    silent.close();
  });

  test("to someone who hangs up, or who is no PostgreSQL", async () => {
    const rows: readonly (readonly [behave: (socket: Socket) => void, code: ErrorCode, reason: string])[] = [
      [(socket) => void socket.destroy(), "DATABASE_UNREACHABLE", ""],
      [(socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS_FAILED", "an unexpected answer"],
      // Somebody on the way puts in text of his own before the encryption begins.
      [(socket) => void socket.once("data", () => socket.write("Sextra")), "TLS_FAILED", "an unexpected answer"],
    ];
    for (const [behave, code, reason] of rows) {
      const server = await startStrangeServer(behave);
      const failure = await connectionFailure(`postgres://u@127.0.0.1:${server.port}/d?connect_timeout=5`);
      expect(failure.code).toBe(code);
      expect(reasonOf(failure)).toContain(reason);
      server.close();
    }
  });

  test("is tried once, also when the other side hangs up instead of letting us in", async () => {
    let connections = 0;
    const server = await startStrangeServer((socket) => {
      connections += 1;
      socket.once("data", () => socket.destroy());
    });
    const failure = await connectionFailure(`postgres://u@127.0.0.1:${server.port}/d?sslmode=disable`);
    expect(failure.code).toBe("DATABASE_UNREACHABLE");
    // The driver would be there again in the next turn of the event loop.
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(connections).toBe(1);
    server.close();
  });

  test("can be given up during the handshake", async () => {
    const server = await startStrangeServer((socket) => socket.once("data", () => socket.write("S")));
    const parsed = parseConnectionUrl(`postgres://u@127.0.0.1:${server.port}/d?sslmode=require`);
    if ("problem" in parsed) throw new Error("a good URL");
    const controller = new AbortController();
    const failure = codeOf(openSocket(parsed.target, controller.signal));
    await new Promise((resolve) => setTimeout(resolve, 100));
    controller.abort();
    expect(await failure).toBe("TLS_FAILED");
    server.close();
  });

  test("with what the server refuses", async () => {
    const role = `limited_${name}`;
    const closed = await cluster.createDatabase();
    await cluster.psql(
      name,
      `CREATE ROLE "${role}" LOGIN CONNECTION LIMIT 0; ALTER DATABASE "${closed}" ALLOW_CONNECTIONS false`,
    );
    const code = async (url: string) => (await connectionFailure(url)).code;
    expect(await connectionFailure(cluster.url("nowhere"))).toMatchObject({
      code: "DATABASE_NOT_FOUND",
      fields: { database: "nowhere" },
    });
    expect(await code(cluster.url(name, { user: "nobody at all" }))).toBe("AUTHENTICATION_FAILED");
    expect(await connectionFailure(cluster.url(name, { user: role }))).toMatchObject({
      code: "DATABASE_REFUSED",
      fields: { server: { sqlState: "53300" } },
    });
    expect(await connectionFailure(cluster.url(closed))).toMatchObject({
      code: "DATABASE_REFUSED",
      fields: { server: { sqlState: "55000" } },
    });
    expect(await code(cluster.url(name, { parameters: { options: "-c no_such_setting=1" } }))).toBe("DATABASE_REFUSED");
    await cluster.psql(name, `DROP ROLE "${role}"`);
  });

  test("in vain ends the session: later statements are told that it is over", async () => {
    const own = databaseOf(cluster.url("nowhere"));
    const session = await own.open("test");
    const together = [codeOf(session.query("SELECT 1", PATIENT)), codeOf(session.query("SELECT 2", PATIENT))];
    expect(await Promise.all(together)).toEqual(["DATABASE_NOT_FOUND", "CONNECTION_LOST"]);
    expect(session.isOpen).toBe(false);
    expect(await codeOf(session.query("SELECT 3", PATIENT))).toBe("CONNECTION_LOST");
    expect(own.sessionsOpened).toBe(0);
  });

  test("for a session that migrates happens at once", async () => {
    expect(await codeOf(databaseOf(cluster.url("nowhere")).open("test", { isMigrating: true }))).toBe(
      "DATABASE_NOT_FOUND",
    );
  });
});

describe("TLS", () => {
  let secure: Cluster;
  let plain: Cluster;
  let certificates: Certificates;

  beforeAll(async () => {
    certificates = makeCertificates();
    const files = { "server.crt": certificates.server, "server.key": certificates.key };
    secure = await startCluster({ tcp: true, settings: { ssl: "on" }, files });
    plain = await startCluster({ tcp: true });
  }, TEST_MS);
  afterAll(async () => {
    await secure.remove();
    await plain.remove();
  });

  /** What became of the connection: encrypted, plain, or the code of its failure. */
  async function outcomeOf(server: Cluster, query: string, host = server.host): Promise<string> {
    const session = await databaseOf(`postgres://postgres@${host}:${server.port}/postgres?${query}`).open("test");
    try {
      const [row] = await session.query<{ ssl: boolean }>(
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        PATIENT,
      );
      expect(session.isEncrypted).toBe(row?.ssl);
      return row?.ssl ? "encrypted" : "plain";
    } catch (error) {
      if (!isDeployError(error)) throw error;
      return error.code;
    } finally {
      await session.close();
    }
  }

  test("with a server that has it, verified where that is wished", async () => {
    const strict = `sslaccept=strict&sslcert=${certificates.rootPath}`;
    const other = `sslaccept=strict&sslcert=${certificates.otherRootPath}`;
    const rows: readonly (readonly [query: string, host: string, outcome: string])[] = [
      ["sslmode=disable", "127.0.0.1", "plain"],
      ["", "127.0.0.1", "encrypted"],
      ["sslmode=require", "127.0.0.1", "encrypted"],
      ["sslmode=verify-full", "127.0.0.1", "encrypted"],
      [`sslmode=require&sslcert=${certificates.otherRootPath}`, "127.0.0.1", "encrypted"],
      ["sslmode=require&sslaccept=strict", "localhost", "TLS_FAILED"],
      [`sslmode=require&${strict}`, "localhost", "encrypted"],
      [strict, "localhost", "encrypted"],
      // The certificate is for localhost only.
      [`sslmode=require&${strict}`, "127.0.0.1", "TLS_FAILED"],
      [`sslmode=require&${other}`, "localhost", "TLS_FAILED"],
      ["sslmode=require&sslaccept=strict&sslcert=/nowhere.pem", "localhost", "TLS_FAILED"],
    ];
    for (const [query, host, outcome] of rows) {
      expect([query, host, await outcomeOf(secure, query, host)]).toEqual([query, host, outcome]);
    }
  });

  test("with a server that has none", async () => {
    expect(await outcomeOf(plain, "")).toBe("plain");
    expect(await outcomeOf(plain, `sslaccept=strict&sslcert=${certificates.rootPath}`)).toBe("plain");
    const failure = await connectionFailure(`postgres://postgres@127.0.0.1:${plain.port}/postgres?sslmode=require`);
    expect(failure).toMatchObject({
      code: "TLS_FAILED",
      fields: { host: "127.0.0.1", reason: "the server does not support TLS, and sslmode=require demands it" },
    });
  });

  test("is not asked for on a socket", async () => {
    const session = await databaseOf(cluster.url(name, { parameters: { sslmode: "require" } })).open("test");
    await session.query("SELECT 1", PATIENT);
    expect(session.isEncrypted).toBe(false);
    await session.close();
  });

  test("also carries the wish to cancel, and an end by an administrator", async () => {
    const session = await databaseOf(`postgres://postgres@127.0.0.1:${secure.port}/postgres?sslmode=require`).open(
      "test",
    );
    await session.query("SELECT 1", PATIENT);
    const failure = failureOf(session.script("SELECT pg_sleep(600)", { during: "sleep", deadlineMs: undefined }));
    await until("it runs", async () => (await secure.psql("postgres", running("pg_sleep"))) === "1");
    await session.cancel();
    expect(sqlStateOf(await failure)).toBe("57014");
    await secure.psql("postgres", `SELECT pg_terminate_backend(${session.pid})`);
    await until("it is over", () => !session.isOpen);
    const error = await failureOf(session.query("SELECT 1", PATIENT));
    expect(error).toMatchObject({ fields: { reason: "terminating connection due to administrator command (57P01)" } });
  });
});

async function open(from: Database = database, options?: OpenOptions): Promise<Session> {
  const session = await from.open("test", options);
  sessions.push(session);
  return session;
}

function databaseOf(url: string): Database {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed));
  return makeDatabase(parsed.target);
}

async function connectionFailure(url: string): Promise<AnyDeployError> {
  const session = await databaseOf(url).open("test");
  const error = await failureOf(session.query("SELECT 1", PATIENT));
  await session.close();
  if (!isDeployError(error)) throw error;
  return error;
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    (value) => {
      throw new Error(`it succeeded: ${JSON.stringify(value)}`);
    },
    (error: unknown) => error,
  );
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await failureOf(promise);
  if (!isDeployError(error)) throw error;
  return error.code;
}

function sqlStateOf(error: unknown): string {
  if (!(error instanceof ServerError)) throw error;
  return error.server.sqlState;
}

function reasonOf(error: AnyDeployError): string {
  return "reason" in error.fields ? String(error.fields.reason) : "";
}

/** How many other sessions run a statement with that text in it. */
function running(text: string): string {
  return `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND position('${text}' IN query) > 0`;
}

async function untilRunning(session: Session, text: string): Promise<void> {
  await until(`it runs: ${text}`, async () => {
    const count = await cluster.psql(name, `${running(text)} AND pid = ${session.pid}`);
    return count === "1";
  });
}
