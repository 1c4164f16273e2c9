/** Signing in with every odd name and password, and libpq's tools beside our own sessions, on a real server. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Database, makeDatabase } from "../../lib/postgres/database.ts";
import { databaseArgument } from "../../lib/postgres/libpq.ts";
import { type ClientTool, findTool } from "../../lib/postgres/tools.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { type Cluster, startCluster, temporaryDirectory } from "../support/cluster.ts";

const TEST_MS = 120_000;
const PATIENT = { during: "test", deadlineMs: 30_000 };
const TOOL = { sessions: 1, stdout: "capture", stderr: "capture", deadlineMs: 30_000 } as const;
const PASSWORD = "p@ss:/?#[]% word";
const WHO_AND_WHERE = "SELECT current_user || '@' || current_database()";

let cluster: Cluster;
let certificates: Certificates;
let psql: ClientTool;

beforeAll(async () => {
  certificates = makeCertificates();
  cluster = await startCluster({
    tcp: true,
    auth: "scram-sha-256",
    password: PASSWORD,
    settings: { ssl: "on" },
    files: { "server.crt": certificates.server, "server.key": certificates.key },
    hba: ["host all md5_user 127.0.0.1/32 md5", "host all clear_user 127.0.0.1/32 password"],
  });
  psql = await findTool("psql", 150_000);
}, TEST_MS);
afterAll(() => cluster.remove());

describe("signing in", () => {
  const characters = [
    ...Array.from({ length: 95 }, (_, index) => String.fromCharCode(0x20 + index)),
    ..."é한😀ㅋ\u00a0\u00ad１e\u0301",
  ];

  test(
    "works with every character in a user's name and password, for our sessions and for the tools",
    async () => {
      const users = characters.map((character, index) => ({
        user: `u${index} ${character}${character}`,
        password: `${character}p${character}`,
      }));
      const statements = users.map(
        ({ user, password }) => `CREATE ROLE ${identifier(user)} LOGIN PASSWORD ${literal(password)};`,
      );
      await cluster.psql("postgres", statements.join("\n"));
      for (const [index, { user, password }] of users.entries()) {
        const database = databaseOf(cluster.url("postgres", { user, password }));
        expect(await askSession(database)).toBe(`${user}@postgres`);
        // A process for each is slow, so the tools get what is special to shells, files and URLs, and other scripts.
        if (!/[a-zA-Z0-9]/.test(characters[index] ?? "")) expect(await askTool(database)).toBe(`${user}@postgres`);
      }
    },
    TEST_MS,
  );

  test(
    "works with every name that a database can have in a URL",
    async () => {
      const names = [
        "a b",
        "a+b",
        "a%20b",
        "a=b",
        "host=nowhere",
        "it's",
        'quo"te',
        "back\\slash",
        "a,b",
        "a@b:c",
        "postgres:",
        "한글",
        "$HOME",
        "-h",
        "UPPER",
      ];
      for (const name of names) {
        await cluster.psql("postgres", `CREATE DATABASE ${identifier(name)}`);
        const database = databaseOf(
          `postgresql://postgres:${encodeURIComponent(PASSWORD)}@127.0.0.1:${cluster.port}/${name}`,
        );
        expect(await askSession(database)).toBe(`postgres@${name}`);
        expect(await askTool(database)).toBe(`postgres@${name}`);
        const named = await database.runTool(
          psql,
          ["-XAtc", WHO_AND_WHERE, `--dbname=${databaseArgument(name)}`],
          TOOL,
        );
        expect(named.stdout.trim()).toBe(`postgres@${name}`);
      }
    },
    TEST_MS,
  );

  test("works with every way to ask for a password", async () => {
    for (const [user, encryption] of [
      ["md5_user", "md5"],
      ["clear_user", "scram-sha-256"],
    ] as const) {
      const password = "ａㅋ\u00a0x";
      const create = `CREATE ROLE ${user} LOGIN PASSWORD ${literal(password)}`;
      await cluster.psql("postgres", `SET password_encryption = '${encryption}'; ${create}`);
      const database = databaseOf(cluster.url("postgres", { user, password }));
      expect(await askSession(database)).toBe(`${user}@postgres`);
      expect(await askTool(database)).toBe(`${user}@postgres`);
    }
  });

  test("works on the socket", async () => {
    const url = `postgresql://postgres:${encodeURIComponent(PASSWORD)}@localhost:${cluster.port}/postgres`;
    const database = databaseOf(`${url}?host=${cluster.directory}&sslmode=require`);
    expect(await askSession(database)).toBe("postgres@postgres");
    expect(await askTool(database)).toBe("postgres@postgres");
  });

  test("fails with a wrong password, and with none, without asking for one", async () => {
    for (const login of ["postgres:wrong", "postgres", "postgres:"]) {
      const database = databaseOf(`postgresql://${login}@127.0.0.1:${cluster.port}/postgres`);
      await expect(askSession(database)).rejects.toMatchObject({
        code: "AUTHENTICATION_FAILED",
        fields: { user: "postgres", host: "127.0.0.1", reason: 'password authentication failed for user "postgres"' },
      });
      const result = await database.runTool(psql, ["-XAtc", "SELECT 1"], TOOL);
      expect(result.exitCode).toBe(2);
      expect(result.stderr).toMatch(/password authentication failed|no password supplied/);
      expect(database.sessionsOpened).toBe(0);
    }
  });
});

describe("the user's own settings for libpq", () => {
  test("and for the driver are not looked at", async () => {
    const home = temporaryDirectory();
    mkdirSync(join(home, ".postgresql"));
    // Each of these would send a client elsewhere, or let it fail.
    writeFileSync(join(home, ".postgresql", "root.crt"), certificates.otherRoot);
    writeFileSync(join(home, ".pg_service.conf"), "[x]\nhost=nowhere.invalid\n");
    writeFileSync(join(home, ".pgpass"), `*:*:*:*:${PASSWORD.replaceAll(":", "\\:")}\n`);
    chmodSync(join(home, ".pgpass"), 0o600);
    const variables = {
      HOME: home,
      PGHOST: "nowhere.invalid",
      PGHOSTADDR: "127.0.0.2",
      PGPORT: "1",
      PGUSER: "nobody",
      PGDATABASE: "nowhere",
      PGPASSWORD: "wrong",
      PGSERVICE: "x",
      PGSSLMODE: "verify-full",
      PGOPTIONS: "-c search_path=wrong",
      PGAPPNAME: "wrong",
      PGTARGETSESSIONATTRS: "standby",
      PGREQUIREPEER: "nobody",
    };
    const saved = Object.keys(variables).map((name) => [name, process.env[name]] as const);
    Object.assign(process.env, variables);
    try {
      const database = databaseOf(cluster.url("postgres", { parameters: { sslmode: "require" } }));
      expect(await askSession(database)).toBe("postgres@postgres");
      expect(await askTool(database)).toBe("postgres@postgres");
      expect(process.env.PGTARGETSESSIONATTRS).toBe("standby");
      // Prisma reads neither PGPASSWORD nor ~/.pgpass.
      const without = databaseOf(`postgresql://postgres@127.0.0.1:${cluster.port}/postgres`);
      await expect(askSession(without)).rejects.toMatchObject({ code: "AUTHENTICATION_FAILED" });
      expect((await without.runTool(psql, ["-XAtc", "SELECT 1"], TOOL)).exitCode).toBe(2);
    } finally {
      for (const [name, value] of saved) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  });
});

describe("a tool", () => {
  const run = async (parameters: Record<string, string>, host = "127.0.0.1", args = ["-XAtc", WHO_AND_WHERE]) => {
    const url = cluster.url("postgres", { parameters }).replace("@127.0.0.1:", `@${host}:`);
    return await databaseOf(url).runTool(psql, args, TOOL);
  };

  test("verifies the server's certificate where Prisma would, and nowhere else", async () => {
    const { rootPath, otherRootPath } = certificates;
    const rows: readonly (readonly [parameters: Record<string, string>, host: string, exitCode: number])[] = [
      [{ sslmode: "require" }, "127.0.0.1", 0],
      [{ sslmode: "require", sslcert: otherRootPath }, "127.0.0.1", 0],
      [{ sslmode: "require", sslaccept: "strict", sslcert: rootPath }, "localhost", 0],
      [{ sslmode: "require", sslaccept: "strict", sslcert: rootPath }, "127.0.0.1", 2],
      [{ sslmode: "require", sslaccept: "strict", sslcert: otherRootPath }, "localhost", 2],
      [{ sslmode: "require", sslaccept: "strict" }, "localhost", 2],
    ];
    for (const [parameters, host, exitCode] of rows) {
      const result = await run(parameters, host);
      expect([parameters, host, result.exitCode]).toEqual([parameters, host, exitCode]);
    }
  });

  test(
    "goes without TLS where a strict session did, because the server has none",
    async () => {
      const plain = await startCluster({ tcp: true });
      const database = databaseOf(`postgres://postgres@127.0.0.1:${plain.port}/postgres?sslaccept=strict`);
      expect(await askSession(database)).toBe("postgres@postgres");
      expect(await askTool(database)).toBe("postgres@postgres");
      await plain.remove();
    },
    TEST_MS,
  );

  test("gets its settings whole, and our name", async () => {
    const database = databaseOf(cluster.url("postgres", { parameters: { options: "-c geqo=off" } }));
    const settings = { "my.text": `a  b\\c'"d\te`, statement_timeout: "0" };
    const show =
      "current_setting('geqo') || '|' || current_setting('my.text') || '|' || current_setting('application_name')";
    const result = await database.runTool(psql, ["-XAtc", `SELECT ${show}`], { ...TOOL, settings });
    expect(result.stdout).toBe(`off|a  b\\c'"d\te|prisma-safe-deploy psql\n`);
  });

  test("never asks for a password, and gets it by its environment only", async () => {
    const path = join(temporaryDirectory(), "tool");
    writeFileSync(path, '#!/bin/sh\nprintf "%s\\n" "$@"\necho "password=$PGPASSWORD"\n', { mode: 0o700 });
    const database = databaseOf(cluster.url("postgres"));
    const result = await database.runTool({ ...psql, path }, ["--x", "a b"], TOOL);
    const keepalives = "--dbname=keepalives_idle=30 keepalives_interval=10 keepalives_count=3";
    expect(result.stdout).toBe(`--no-password\n${keepalives}\n--x\na b\npassword=${PASSWORD}\n`);
  });

  test("speaks English, whatever the user's language", async () => {
    const saved = process.env.LC_ALL;
    process.env.LC_ALL = "ko_KR.UTF-8";
    try {
      expect((await run({}, "127.0.0.1", ["-XAtc", "SELECT wrong"])).stderr).toContain("ERROR:");
    } finally {
      if (saved === undefined) delete process.env.LC_ALL;
      else process.env.LC_ALL = saved;
    }
  });
});

describe("sessions", () => {
  test("are counted as the server counts them", async () => {
    const name = await cluster.createDatabase();
    const database = databaseOf(cluster.url(name));
    const watcher = databaseOf(cluster.url("postgres"));
    const session = await watcher.open("watch");
    const countSessions = async () => {
      const text = `SELECT sessions::int AS sessions FROM pg_stat_database WHERE datname = '${name}'`;
      return (await session.query<{ sessions: number }>(text, PATIENT))[0]?.sessions ?? Number.NaN;
    };
    const before = await countSessions();
    await askSession(database);
    await askSession(database);
    await askTool(database);
    const failed = await database.runTool(psql, ["-XAtc", "SELECT wrong"], TOOL);
    expect([failed.exitCode, database.sessionsOpened]).toEqual([1, 3]);
    database.addSessions(1);
    for (let attempt = 0; attempt < 200 && (await countSessions()) < before + 4; attempt += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(await countSessions()).toBe(before + database.sessionsOpened);
    await session.close();
  });
});

async function askSession(database: Database): Promise<string | undefined> {
  const session = await database.open("test");
  try {
    return (await session.query<{ answer: string }>(`${WHO_AND_WHERE} AS answer`, PATIENT))[0]?.answer;
  } finally {
    await session.close();
  }
}

async function askTool(database: Database): Promise<string> {
  const result = await database.runTool(psql, ["-XAtc", WHO_AND_WHERE], TOOL);
  return result.exitCode === 0 ? result.stdout.replace(/\n$/, "") : result.stderr;
}

function databaseOf(url: string): Database {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed));
  return makeDatabase(parsed.target);
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

test(
  "behind a fence of ours, our sessions and tools may write, and others may not",
  async () => {
    const name = await cluster.createDatabase();
    await cluster.psql("postgres", `ALTER DATABASE "${name}" SET default_transaction_read_only = on`);
    const query = "SELECT current_setting('transaction_read_only') AS value";
    const ask = async (database: Database) => {
      const session = await database.open("test");
      const [row] = await session.query<{ value: string }>(query, PATIENT);
      await session.close();
      const { stdout } = await database.runTool(psql, ["-XAtc", query], TOOL);
      return [row?.value, stdout.trim()];
    };
    const url = cluster.url(name, { password: PASSWORD });
    const database = databaseOf(url);
    expect(await ask(database)).toEqual(["on", "on"]);
    database.passFence();
    expect(await ask(database)).toEqual(["off", "off"]);
    // PgBouncer would refuse to be told when it is connected to.
    const pooled = databaseOf(`${url}?pgbouncer=true`);
    pooled.passFence();
    expect((await ask(pooled))[0]).toBe("off");
  },
  TEST_MS,
);
