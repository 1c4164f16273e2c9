/**
 * What a user can get wrong, or find broken: each is refused with its exit code, with words that help, without a stack or a
 * secret, and with the database as it was. And what looks alike and must work.
 */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { basename, join } from "node:path";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { type Cluster, sharedCluster, startCluster } from "../support/cluster.ts";
import { dumpDatabase } from "../support/dump.ts";
import { installServer } from "../support/npm-server.ts";
import { type DeployRunOptions, makeProject, type Project, runDeploy, startDeploy, until } from "../support/project.ts";
import {
  APP,
  type ExpectedRefusal,
  expectNoLeak,
  expectRefused,
  expectStarted,
  makeMountPassage,
  readOrdinaryRights,
  testWith,
} from "../support/refusal.ts";

const TIMEOUT_MS = 300_000;
const NEWER_MAJOR = 18;
/** Nothing that a URL has to encode, so that it can't hide in another form. */
const PASSWORD = "hunter2SECRET";
const USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a'), (2, 'b');\n";
const DEPLOYED = { "20240101000000_users": USERS };
const PENDING = { "20240102000000_orders": "CREATE TABLE orders (id int);\n" };

/** A database with one applied migration. Whoever is refused leaves it as it is, so that all may share it. */
interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
}

let live: Promise<Live> | undefined;
let guarded: Promise<Live> | undefined;

async function shared(): Promise<Live> {
  live ??= sharedCluster().then(makeLive);
  return await live;
}

/** On a server that asks for a password, reached as over a network. */
async function sharedGuarded(): Promise<Live> {
  guarded ??= startCluster({ auth: "scram-sha-256", password: PASSWORD, tcp: true }).then(makeLive);
  return await guarded;
}

async function makeLive(cluster: Cluster): Promise<Live> {
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const run = await runDeploy(makeProject(DEPLOYED), { url });
  expect(run.exitCode, run.stderr).toBe(0);
  return { cluster, database, url };
}

interface Case {
  readonly options?: Partial<DeployRunOptions>;
  /** Changes a project that has one migration to deploy. */
  readonly change?: (project: Project) => void;
}

/** Runs it on the database, which is the same afterwards. No backup is left. */
async function refuse({ cluster, database, url }: Live, { options = {}, change }: Case, expected: ExpectedRefusal) {
  const project = makeProject({ ...DEPLOYED, ...PENDING });
  change?.(project);
  const before = dumpDatabase(cluster, database);
  const run = await runDeploy(project, { url, args: APP, ...options });
  expectRefused(run, { ...expected, hides: [PASSWORD, ...(expected.hides ?? [])] });
  expect(dumpDatabase(cluster, database)).toBe(before);
  if (existsSync(project.backupDirectory)) expect(readdirSync(project.backupDirectory)).toEqual([]);
}

function migrationsOf({ directory }: Project): string {
  return join(directory, "prisma", "migrations");
}

const UNUSABLE_URLS: Readonly<Record<string, string | undefined>> = {
  none: undefined,
  empty: "",
  blank: "  \n",
  "a word": "garbage",
  "another scheme": `mysql://app:${PASSWORD}@localhost/app`,
  "of Accelerate": `prisma://accelerate.prisma-data.net/?api_key=${PASSWORD}`,
  "with a raw slash in the password": `postgresql://app:${PASSWORD}/x@localhost:5432/app`,
  "with a raw hash in the password": `postgresql://app:${PASSWORD}#x@localhost:5432/app`,
  "with a raw question mark in the password": `postgresql://app:${PASSWORD}?x@localhost:5432/app`,
  "without a host": `postgresql://app:${PASSWORD}`,
  "with two hosts": `postgresql://app:${PASSWORD}@a,b/app`,
  "with a port too large": `postgresql://app:${PASSWORD}@localhost:70000/app`,
  "with a wrong parameter": `postgresql://app:${PASSWORD}@localhost/app?connect_timeout=soon`,
};

for (const [name, url] of Object.entries(UNUSABLE_URLS)) {
  test(
    `DATABASE_URL: ${name}`,
    async () => {
      const run = await runDeploy(makeProject(PENDING), { url, args: ["--wait", "0", ...APP] });
      expectRefused(run, { exitCode: 2, code: "SETTINGS_INVALID", shows: ["DATABASE_URL"], hides: [PASSWORD] });
    },
    TIMEOUT_MS,
  );
}

test(
  "every wrong setting is told at once",
  async () => {
    const environment = { BACKUP_RETENTION_DAYS: "-1", BACKUP_MIN_KEEP: "0", MIGRATE_ENGINE: "drizzle" };
    const args = ["--wiat", "3s", "--lock-wait", "soon", ...APP];
    const run = await runDeploy(makeProject(PENDING), { url: undefined, args, environment });
    const shows = [
      "BACKUP_RETENTION_DAYS",
      "'-1'",
      "BACKUP_MIN_KEEP",
      "MIGRATE_ENGINE",
      "--wait",
      "soon",
      "DATABASE_URL",
    ];
    expectRefused(run, { exitCode: 2, code: "SETTINGS_INVALID", shows });
  },
  TIMEOUT_MS,
);

const WRONG_SETTINGS: Readonly<Record<string, Partial<DeployRunOptions> & { readonly shows: string }>> = {
  "BACKUP_RETENTION_DAYS=abc": { environment: { BACKUP_RETENTION_DAYS: "abc" }, shows: "BACKUP_RETENTION_DAYS" },
  "BACKUP_RETENTION_DAYS=-1": { environment: { BACKUP_RETENTION_DAYS: "-1" }, shows: "BACKUP_RETENTION_DAYS" },
  "an unknown flag": { args: ["--databse-url", "x", ...APP], shows: "--databse-url" },
  "an unknown command": { args: ["deploi", ...APP], shows: "deploi" },
  "an app command without its --": { args: ["node", "server.js"], shows: "node" },
  "a DATABASE_URL_FILE that is not there": {
    url: undefined,
    environment: { DATABASE_URL_FILE: "/nowhere/url" },
    shows: "/nowhere/url",
  },
  "an --env-file that is not there": { args: ["--env-file", "nowhere.env", ...APP], shows: "nowhere.env" },
};

for (const [name, { shows, ...options }] of Object.entries(WRONG_SETTINGS)) {
  test(
    `settings: ${name}`,
    async () => await refuse(await shared(), { options }, { exitCode: 2, code: "SETTINGS_INVALID", shows: [shows] }),
    TIMEOUT_MS,
  );
}

test(
  "a .env in the working directory is not read, with --env-file it is",
  async () => {
    const { url, cluster, database } = await shared();
    const project = makeProject(DEPLOYED);
    writeFileSync(join(project.directory, ".env"), `# local\nDATABASE_URL="${url}"\n`);
    // As `bun scripts/deploy.ts` does it, which loads the file into its own environment.
    const options = { url: undefined, flags: [] };
    expectRefused(await runDeploy(project, { ...options, args: APP }), { exitCode: 2, code: "SETTINGS_INVALID" });
    expectStarted(await runDeploy(project, { ...options, args: ["--env-file", ".env", ...APP] }));
    expect(await cluster.psql(database, "SELECT count(*) FROM _prisma_migrations")).toBe("1");
  },
  TIMEOUT_MS,
);

test(
  "DATABASE_URL_FILE is read, its line break included",
  async () => {
    const { url } = await shared();
    const project = makeProject(DEPLOYED);
    const path = join(project.directory, "secret");
    writeFileSync(path, `${url}\n`);
    expectStarted(await runDeploy(project, { url: undefined, args: APP, environment: { DATABASE_URL_FILE: path } }));
  },
  TIMEOUT_MS,
);

const UNUSABLE_FOLDERS: Readonly<Record<string, Case & { readonly expected: ExpectedRefusal }>> = {
  "that is missing": {
    change: (project) => rmSync(migrationsOf(project), { recursive: true }),
    expected: { exitCode: 2, code: "MIGRATIONS_DIR_NOT_FOUND", shows: ["prisma/migrations", "--migrations-dir"] },
  },
  "that is a file": {
    options: { environment: { MIGRATIONS_DIR: "prisma/migrations/migration_lock.toml" } },
    expected: { exitCode: 2, code: "MIGRATIONS_DIR_UNREADABLE", shows: ["migration_lock.toml"] },
  },
  "of another provider": {
    change: (project) => writeFileSync(join(migrationsOf(project), "migration_lock.toml"), 'provider = "mysql"\n'),
    expected: { exitCode: 3, code: "PROVIDER_MISMATCH", shows: ["mysql", "migration_lock.toml"] },
  },
  "with a script that is not UTF-8": {
    change: (project) => project.add("20240103000000_latin", Buffer.from("SELECT 'caf\u00e9';\n", "latin1")),
    expected: { exitCode: 3, code: "SCRIPT_NOT_UTF8", shows: ["20240103000000_latin", "11"] },
  },
  "with a script in UTF-16": {
    change: (project) => project.add("20240103000000_wide", Buffer.from("\uFEFFSELECT 1;\n", "utf16le")),
    expected: { exitCode: 3, code: "SCRIPT_NOT_UTF8", shows: ["20240103000000_wide"] },
  },
  "with a script that is a folder": {
    change: (project) => {
      mkdirSync(join(migrationsOf(project), "20240103000000_odd", "migration.sql"), { recursive: true });
    },
    expected: { exitCode: 3, code: "SCRIPT_UNREADABLE", shows: ["20240103000000_odd"] },
  },
  "without a script in one of its folders": {
    change: (project) => project.add("20240103000000_empty", undefined),
    expected: { exitCode: 3, code: "SCRIPT_MISSING", shows: ["20240103000000_empty"] },
  },
  "with a script that does not parse": {
    change: (project) => project.add("20240103000000_typo", "CREATE TABEL x (id int);\n"),
    expected: { exitCode: 4, code: "SCRIPT_INVALID", shows: ["20240103000000_typo", "TABEL"] },
  },
  "with a script that holds a zero byte": {
    change: (project) => project.add("20240103000000_zero", "SELECT 1;\n\0CREATE TABLE never (id int);\n"),
    expected: { exitCode: 4, code: "SCRIPT_INVALID", shows: ["20240103000000_zero"] },
  },
};

for (const [name, { expected, ...folderCase }] of Object.entries(UNUSABLE_FOLDERS)) {
  test(`a migrations folder ${name}`, async () => await refuse(await shared(), folderCase, expected), TIMEOUT_MS);
}

test(
  "an empty folder deploys nothing, says so, and starts the app",
  async () => {
    const { cluster } = await shared();
    const database = await cluster.createDatabase();
    const project = makeProject();
    const run = await runDeploy(project, { url: cluster.url(database), args: APP });
    expectStarted(run);
    expect(run.stderr).toContain("마이그레이션 폴더가 비어 있습니다");
    expect(await cluster.psql(database, "SELECT count(*) FROM pg_class WHERE relnamespace = 2200")).toBe("0");
  },
  TIMEOUT_MS,
);

test(
  "names with spaces, dots, quotes and letters of all kinds are names",
  async () => {
    const { cluster } = await shared();
    const database = await cluster.createDatabase();
    const names = ["..2024 a. b.c ", '2024\' "quoted" $1 \\n', "2024-한글 😀", "-2024", "%s%d"];
    const project = makeProject(Object.fromEntries(names.map((name, at) => [name, `CREATE TABLE t${at} (id int);`])));
    expectStarted(await runDeploy(project, { url: cluster.url(database), args: APP }));
    const rows = await cluster.psql(
      database,
      "SELECT json_agg(migration_name ORDER BY started_at) FROM _prisma_migrations WHERE finished_at IS NOT NULL",
    );
    const byBytes = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(JSON.parse(rows)).toEqual(byBytes);
    expectStarted(await runDeploy(project, { url: cluster.url(database), args: APP }));
  },
  TIMEOUT_MS,
);

const ordinary = readOrdinaryRights();

testWith(
  ordinary.missing,
  "a script that may not be read",
  async () => {
    const change = (project: Project) => {
      chmodSync(join(migrationsOf(project), "20240102000000_orders", "migration.sql"), 0);
    };
    await refuse(
      await sharedGuarded(),
      { change, options: { through: ordinary.through } },
      { exitCode: 3, code: "SCRIPT_UNREADABLE", shows: ["20240102000000_orders", "EACCES"] },
    );
  },
  TIMEOUT_MS,
);

testWith(
  ordinary.missing,
  "a migrations folder that may not be read",
  async () => {
    await refuse(
      await sharedGuarded(),
      { change: (project) => chmodSync(migrationsOf(project), 0), options: { through: ordinary.through } },
      { exitCode: 2, code: "MIGRATIONS_DIR_UNREADABLE", shows: ["EACCES"] },
    );
  },
  TIMEOUT_MS,
);

testWith(
  ordinary.missing,
  "a backup folder that may not be written to",
  async () => {
    const change = ({ backupDirectory }: Project) => mkdirSync(backupDirectory, { mode: 0o500 });
    await refuse(
      await sharedGuarded(),
      { change, options: { through: ordinary.through } },
      { exitCode: 4, code: "BACKUP_DIR_UNUSABLE", shows: ["/backups", "BACKUP_DIR"] },
    );
  },
  TIMEOUT_MS,
);

test(
  "a backup folder that can't exist, since a file is in its way",
  async () => {
    const options = { environment: { BACKUP_DIR: "prisma/migrations/migration_lock.toml/backups" } };
    const shows = ["migration_lock.toml/backups"];
    await refuse(await shared(), { options }, { exitCode: 4, code: "BACKUP_DIR_UNUSABLE", shows });
  },
  TIMEOUT_MS,
);

const FULL = 'mkdir -p "$BACKUP_DIR"; mount -t tmpfs -o size="$ROOM" tmpfs "$BACKUP_DIR"; ';
const RUN_AND_LIST = 'code=0; "$@" || code=$?; ls -A "$BACKUP_DIR" >&2; exit $code';
const small = makeMountPassage(`${FULL}exec "$@"`);
const listed = makeMountPassage(`${FULL}${RUN_AND_LIST}`);

testWith(
  small.missing,
  "a backup folder that is known to be too small",
  async () => {
    const options = { through: small.through, environment: { ROOM: "256k" } };
    await refuse(await shared(), { options }, { exitCode: 4, code: "BACKUP_NO_SPACE", shows: ["/backups"] });
  },
  TIMEOUT_MS,
);

testWith(
  listed.missing,
  "a backup folder that fills up while the backup is taken",
  async () => {
    const { cluster } = await shared();
    const database = await cluster.createDatabase();
    const url = cluster.url(database);
    const project = makeProject({ "1_notes": "CREATE TABLE notes (body text);\n" });
    expect((await runDeploy(project, { url })).exitCode).toBe(0);
    // Takes next to no room in the database, and all of it in a dump.
    await cluster.psql(database, "INSERT INTO notes SELECT repeat('a', 50000000)");
    project.add("2_next", "CREATE TABLE next (id int);");
    rmSync(project.backupDirectory, { recursive: true });
    const before = dumpDatabase(cluster, database);
    const run = await runDeploy(project, { url, args: APP, through: listed.through, environment: { ROOM: "20m" } });
    expectRefused(run, { exitCode: 4, code: "BACKUP_NO_SPACE", shows: ["/backups"] });
    // The folder's content follows the deploy's own last line.
    expect(run.stderr.split("\n").slice(-3)).toEqual(["❌ 배포 실패. 수동 확인이 필요합니다.", "journal.jsonl", ""]);
    expect(dumpDatabase(cluster, database)).toBe(before);
  },
  TIMEOUT_MS,
);

/** Wherever a package may have put them: found by looking everywhere, so that the search of the deploy is not trusted. */
function findEverywhere(...tools: readonly string[]): string {
  const names = tools.flatMap((tool, at) => [...(at === 0 ? [] : ["-o"]), "-name", tool]);
  const { stdout } = spawnSync("find", ["/", "-xdev", "(", ...names, ")", "!", "-type", "d"], { encoding: "utf8" });
  return stdout.trim();
}

/** Somebody's temporary copy may have gone since. */
const HIDE = `
  echo "$HIDDEN" | while IFS= read -r file; do
    if [ -e "$file" ]; then mount --bind /dev/null "$(readlink -f "$file")"; fi
  done
  exec "$@"`;
const hiding = makeMountPassage(HIDE);
const everywhere = hiding.missing === undefined ? findEverywhere("pg_dump", "psql").split("\n") : [];

for (const tool of ["pg_dump", "psql"]) {
  testWith(
    hiding.missing,
    `without ${tool} on the machine nothing is deployed, and an up-to-date start needs none`,
    async () => {
      const hidden = everywhere.filter((path) => basename(path) === tool).join("\n");
      const options = { through: hiding.through, environment: { HIDDEN: hidden } };
      const shows = [tool, "postgresql-client"];
      await refuse(await shared(), { options }, { exitCode: 4, code: "TOOL_NOT_FOUND", shows });
      const { url } = await shared();
      expectStarted(await runDeploy(makeProject(DEPLOYED), { url, args: APP, ...options }));
    },
    TIMEOUT_MS,
  );
}

const isOldEnough = (findClientTool("pg_dump")?.major ?? NEWER_MAJOR) < NEWER_MAJOR;
const newer = isOldEnough ? installServer(NEWER_MAJOR) : { missing: `pg_dump is not older than ${NEWER_MAJOR}` };

testWith(
  "missing" in newer ? newer.missing : undefined,
  "a server that is newer than pg_dump",
  async () => {
    if ("missing" in newer) return;
    const cluster = await startCluster({ binDirectory: newer.directory });
    const database = await cluster.createDatabase();
    const run = await runDeploy(makeProject(PENDING), { url: cluster.url(database), args: APP });
    expectRefused(run, { exitCode: 4, code: "TOOL_TOO_OLD", shows: ["pg_dump", `PostgreSQL ${NEWER_MAJOR}`] });
    expect(await cluster.psql(database, "SELECT count(*) FROM pg_class WHERE relnamespace = 2200")).toBe("0");
    await cluster.remove();
  },
  TIMEOUT_MS,
);

test(
  "a wrong password, and a role that does not exist",
  async () => {
    const guard = await sharedGuarded();
    const { cluster, database } = guard;
    const wrong = cluster.url(database, { password: `not-${PASSWORD}` });
    const expected = { exitCode: 7, code: "AUTHENTICATION_FAILED", shows: ["postgres", "DATABASE_URL"] };
    await refuse(guard, { options: { url: wrong } }, expected);
    const stranger = cluster.url(database, { user: "stranger", password: PASSWORD });
    await refuse(guard, { options: { url: stranger } }, { ...expected, shows: ["stranger"] });
    await refuse(guard, { options: { url: cluster.url(database, { password: "" }) } }, expected);
  },
  TIMEOUT_MS,
);

test(
  "a database that does not exist is not made unless that is asked for",
  async () => {
    const { cluster, url } = await sharedGuarded();
    const missing = new URL(url);
    missing.pathname = "/not_there";
    const run = await runDeploy(makeProject(PENDING), { url: missing.href, args: APP });
    const shows = ["not_there", "deploy --create-database", "createdb not_there"];
    expectRefused(run, { exitCode: 7, code: "DATABASE_NOT_FOUND", shows, hides: [PASSWORD] });
    expect(await listDatabases(cluster)).not.toContain("not_there");
  },
  TIMEOUT_MS,
);

test(
  "--create-database creates the database and deploys to it",
  async () => {
    const { cluster } = await sharedGuarded();
    const name = "New-one.2";
    const url = cluster.url(name);
    expectStarted(await runDeploy(makeProject(DEPLOYED), { url, args: ["--create-database", ...APP] }));
    expect(await cluster.psql(name, "SELECT count(*) FROM users")).toBe("2");
    expectStarted(await runDeploy(makeProject(DEPLOYED), { url, args: ["--create-database", ...APP] }));
  },
  TIMEOUT_MS,
);

test(
  "--create-database with ?schema= creates both, as Prisma does, and nothing in public",
  async () => {
    const { cluster } = await sharedGuarded();
    const url = cluster.url("with_schema", { parameters: { schema: "other" } });
    expectStarted(await runDeploy(makeProject(DEPLOYED), { url, args: ["--create-database", ...APP] }));
    const tables =
      "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('public', 'other') ORDER BY 1";
    expect(await cluster.psql("with_schema", tables)).toBe("other._prisma_migrations\nother.users");
    expectStarted(await runDeploy(makeProject(DEPLOYED), { url, args: APP }));
  },
  TIMEOUT_MS,
);

test(
  "--create-database without the right to: refused, and nothing is there",
  async () => {
    const { cluster } = await sharedGuarded();
    await cluster.psql("postgres", `CREATE ROLE modest LOGIN PASSWORD '${PASSWORD}'`);
    const url = cluster.url("not_mine", { user: "modest", password: PASSWORD });
    const run = await runDeploy(makeProject(DEPLOYED), { url, args: ["--create-database", ...APP] });
    expectRefused(run, { exitCode: 4, code: "RIGHTS_MISSING", shows: ["permission denied"], hides: [PASSWORD] });
    expect(await listDatabases(cluster)).not.toContain("not_mine");
  },
  TIMEOUT_MS,
);

async function listDatabases(cluster: Cluster): Promise<string[]> {
  return (await cluster.psql("postgres", "SELECT datname FROM pg_database")).split("\n");
}

test(
  "a database that is read-only: refused when something is pending, else it starts",
  async () => {
    const { cluster } = await shared();
    const { database, url } = await makeLive(cluster);
    await cluster.psql("postgres", `ALTER DATABASE "${database}" SET default_transaction_read_only = on`);
    const shows = ["default_transaction_read_only"];
    await refuse({ cluster, database, url }, {}, { exitCode: 7, code: "DATABASE_READ_ONLY", shows });
    expectStarted(await runDeploy(makeProject(DEPLOYED), { url, args: APP }));
  },
  TIMEOUT_MS,
);

test(
  "nobody listens at that address",
  async () => {
    const url = `postgresql://app:${PASSWORD}@127.0.0.1:${await findFreePort()}/app`;
    for (const wait of ["0", "700ms"]) {
      const run = await runDeploy(makeProject(PENDING), { url, args: ["--wait", wait, ...APP] });
      const shows = ["127.0.0.1", "ECONNREFUSED"];
      expectRefused(run, { exitCode: 7, code: "DATABASE_UNREACHABLE", shows, hides: [PASSWORD] });
      // The time that was waited, not that of the last try.
      if (wait !== "0") expect(run.stderr).toMatch(/ECONNREFUSED [^ ,]+, (7\d\dms|[89]\d\dms|\d+(\.\d)?s) 동안 시도/);
    }
  },
  TIMEOUT_MS,
);

test(
  "what listens at that address is no PostgreSQL, or never answers",
  async () => {
    for (const answer of ["HTTP/1.1 400 Bad Request\r\n\r\n", undefined]) {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        if (answer !== undefined) socket.end(answer);
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as AddressInfo;
      const url = `postgresql://app:${PASSWORD}@127.0.0.1:${port}/app?connect_timeout=1`;
      const run = await runDeploy(makeProject(PENDING), { url, args: ["--wait", "0", ...APP] });
      const code = run.stderr.includes("TLS_FAILED") ? "TLS_FAILED" : "DATABASE_UNREACHABLE";
      expectRefused(run, { exitCode: 7, code, shows: ["127.0.0.1"], hides: [PASSWORD] });
      server.close();
    }
  },
  TIMEOUT_MS,
);

/** A server that these tests may stop. */
let lonely: Promise<Live> | undefined;

async function sharedLonely(): Promise<Live> {
  lonely ??= startCluster().then(makeLive);
  return await lonely;
}

test(
  "a server that is started while the deploy waits",
  async () => {
    const { cluster, database, url } = await sharedLonely();
    await cluster.stop();
    const run = startDeploy(makeProject({ ...DEPLOYED, ...PENDING }), { url, args: ["--wait", "2m", ...APP] });
    await until("the deploy waits", () => run.output().includes("데이터베이스 응답을 기다리는 중"));
    await cluster.start();
    expectStarted(await run.ended);
    expect(await cluster.psql(database, "SELECT count(*) FROM _prisma_migrations")).toBe("2");
  },
  TIMEOUT_MS,
);

test(
  "a server that is starting up: waited for, and refused when that takes too long",
  async () => {
    const { cluster, url } = await sharedLonely();
    const data = join(cluster.directory, "data");
    await cluster.stop();
    // Recovery asks for the next piece of the log, and goes on when it is told that there is none.
    appendFileSync(
      join(data, "postgresql.conf"),
      "restore_command = 'until [ -e go-on ]; do sleep 0.05; done; false'\n",
    );
    writeServerFile(data, "recovery.signal");
    await cluster.start({ waitUntilReady: false });
    await until("the server says that it is starting up", () => isStartingUp(cluster));

    const impatient = await runDeploy(makeProject(DEPLOYED), { url, args: ["--wait", "0", ...APP] });
    expectRefused(impatient, { exitCode: 7, code: "DATABASE_STARTING", shows: ["--wait 5m"] });

    const project = makeProject({ ...DEPLOYED, ...PENDING, "20240103000000_tags": "CREATE TABLE tags (id int);" });
    const run = startDeploy(project, { url, args: ["--wait", "2m", ...APP] });
    await until("the deploy waits", () => run.output().includes("the database system is starting up"));
    writeServerFile(data, "go-on");
    expectStarted(await run.ended);
  },
  TIMEOUT_MS,
);

test(
  "a hot standby: refused when something is pending, else it starts",
  async () => {
    const { cluster, database, url } = await sharedLonely();
    await cluster.stop();
    writeServerFile(join(cluster.directory, "data"), "standby.signal");
    await cluster.start({ waitUntilReady: false });
    const applied = { ...DEPLOYED, ...PENDING, "20240103000000_tags": "CREATE TABLE tags (id int);" };
    expectStarted(await runDeploy(makeProject(applied), { url, args: ["--wait", "2m", ...APP] }));
    expect(await cluster.psql(database, "SELECT pg_is_in_recovery()")).toBe("t");

    const project = makeProject({ ...applied, "20240104000000_more": "CREATE TABLE more (id int);" });
    const run = await runDeploy(project, { url, args: APP });
    expectRefused(run, { exitCode: 7, code: "DATABASE_READ_ONLY", shows: ["복제본"] });
    expect(await cluster.psql(database, "SELECT count(*) FROM _prisma_migrations")).toBe("3");
    await cluster.remove();
  },
  TIMEOUT_MS,
);

/** As one of the server's own: it removes them itself. */
function writeServerFile(data: string, name: string): void {
  const { uid, gid } = statSync(data);
  writeFileSync(join(data, name), "");
  chownSync(join(data, name), uid, gid);
}

async function isStartingUp(cluster: Cluster): Promise<boolean> {
  const answer = await cluster.psql("postgres", "SELECT 1").catch(String);
  return answer.includes("the database system is starting up");
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const BAD_COMMANDS: Readonly<
  Record<string, { readonly command: string; readonly exitCode: number; readonly code: string }>
> = {
  "that is in no folder of PATH": { command: "no-such-program", exitCode: 127, code: "APP_NOT_FOUND" },
  "whose path leads nowhere": { command: "./no-such-program", exitCode: 127, code: "APP_NOT_FOUND" },
  "that is not executable": { command: "./app.sh", exitCode: 126, code: "APP_NOT_EXECUTABLE" },
  "that is a folder": { command: "./prisma", exitCode: 126, code: "APP_NOT_EXECUTABLE" },
};

for (const [name, { command, exitCode, code }] of Object.entries(BAD_COMMANDS)) {
  test(
    `an app command ${name}: migrated, and said so`,
    async () => {
      const { cluster } = await shared();
      const database = await cluster.createDatabase();
      const project = makeProject(DEPLOYED);
      writeFileSync(join(project.directory, "app.sh"), "#!/bin/sh\n", { mode: 0o644 });
      const run = await runDeploy(project, { url: cluster.url(database), args: ["--", command] });
      expect(run.exitCode, run.stderr).toBe(exitCode);
      expect(run.stderr).toContain(`   코드  ${code} (종료 코드 ${exitCode})\n`);
      expect(run.stderr).toContain("   상태  데이터베이스는 최신 상태입니다. 앱을 시작하지 못했습니다.\n");
      expect(run.stderr).toContain(basename(command));
      expectNoLeak(run, []);
      expect(await cluster.psql(database, "SELECT count(*) FROM _prisma_migrations")).toBe("1");
    },
    TIMEOUT_MS,
  );
}
