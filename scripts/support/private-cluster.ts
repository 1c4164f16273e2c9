/**
 * A private PostgreSQL server in a temporary folder, for the demo and for the tests. Never used by a deploy.
 *
 * Whatever ends this process, SIGKILL included, the servers it started are stopped and their folders removed: a small
 * shell waits for the end of a pipe that only we hold, and goes by the process ids that were written down for it.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findClientTool, findServerDirectory } from "./postgres-binaries.mjs";

export interface ClusterOptions {
  /** Lines of postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** How every connection has to prove itself. Default: trust. */
  readonly auth?: "trust" | "scram-sha-256";
  /** Password of the superuser, needed with scram-sha-256. */
  readonly password?: string;
  /** Lines of pg_hba.conf that stand before ours. */
  readonly hba?: readonly string[];
  /** Files of the data folder, readable by the server alone, for example a TLS key. */
  readonly files?: Readonly<Record<string, string>>;
  /** Listen on 127.0.0.1 (a free port) besides the socket; `host` is then 127.0.0.1. Default: false. */
  readonly tcp?: boolean;
  /** Make every commit durable, as in production. Default: false, for speed. */
  readonly fsync?: boolean;
  /** Default: the newest server found. */
  readonly binDirectory?: string;
}

export interface Cluster {
  /** Socket folder, or 127.0.0.1. */
  readonly host: string;
  readonly port: number;
  readonly superuser: "postgres";
  readonly password: string | undefined;
  /** Of the server; client tools may be elsewhere. */
  readonly binDirectory: string;
  /** Holds the socket, `data` and `server.log`. */
  readonly directory: string;
  /** Process id of the postmaster, undefined while it is stopped. */
  readonly pid: number | undefined;
  /** A connection string in the form that Prisma reads. */
  url(database: string, options?: UrlOptions): string;
  /** A fresh database with a random name. */
  createDatabase(options?: { owner?: string; template?: string }): Promise<string>;
  /** Statements, each on its own, through the real psql; answers unaligned rows, trimmed. Throws on an error. */
  psql(database: string, sql: string, user?: string): Promise<string>;
  stop(mode?: "fast" | "immediate"): Promise<void>;
  start(options?: { waitUntilReady?: boolean }): Promise<void>;
  /** Everything that the server has logged so far. */
  readLog(): string;
  /** Stops the server and removes its folder. */
  remove(): Promise<void>;
}

export interface UrlOptions {
  readonly user?: string;
  readonly password?: string;
  readonly parameters?: Readonly<Record<string, string>>;
}

/** The user that the server runs as: PostgreSQL refuses to run as root. */
type Account = { readonly uid: number; readonly gid: number };

const READY_DEADLINE_MS = 60_000;
const COMMAND_DEADLINE_MS = 120_000;
const POLL_MS = 10;

/** Starts a server. Throws with the end of its log when it does not come up. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const account = serverAccount();
  const binDirectory = reachableBinDirectory(options.binDirectory ?? findServerDirectory(), account);
  const directory = fs.mkdtempSync(join(runDirectory(), "c"));
  if (account !== undefined) fs.chownSync(directory, account.uid, account.gid);
  await initialise(binDirectory, directory, options, account);
  const port = options.tcp === true ? await freePort() : 5432;
  configure(join(directory, "data"), port, options, account);
  const cluster = makeCluster({ binDirectory, directory, port, options, account });
  await cluster.start();
  return cluster;
}

/** A folder that is removed when this process has ended. */
export function temporaryDirectory(): string {
  return fs.mkdtempSync(join(runDirectory(), "t"));
}

interface Parts {
  readonly binDirectory: string;
  readonly directory: string;
  readonly port: number;
  readonly options: ClusterOptions;
  readonly account: Account | undefined;
}

function makeCluster(parts: Parts): Cluster {
  const { binDirectory, directory, port, options } = parts;
  const host = options.tcp === true ? "127.0.0.1" : directory;
  let server: ChildProcess | undefined;
  const cluster: Cluster = {
    host,
    port,
    superuser: "postgres",
    password: options.password,
    binDirectory,
    directory,
    get pid() {
      return server?.pid;
    },
    url: (database, urlOptions = {}) => makeUrl(cluster, database, urlOptions),
    async createDatabase({ owner = "postgres", template = "template1" } = {}) {
      const name = `db_${randomBytes(6).toString("hex")}`;
      await cluster.psql("postgres", `CREATE DATABASE "${name}" OWNER "${owner}" TEMPLATE "${template}"`);
      return name;
    },
    psql: (database, sql, user = "postgres") => runPsql(cluster, database, sql, user),
    async start({ waitUntilReady = true } = {}) {
      if (server !== undefined) throw new Error("the server is already running");
      const started = startServer(parts, () => {
        if (server === started) server = undefined;
      });
      server = started;
      if (waitUntilReady) await waitForServer(cluster, started);
    },
    async stop(mode = "fast") {
      if (server !== undefined) await endServer(server, mode === "fast" ? "SIGINT" : "SIGQUIT");
    },
    readLog: () => fs.readFileSync(join(directory, "server.log"), "utf8"),
    async remove() {
      await cluster.stop("immediate");
      fs.rmSync(directory, { recursive: true, force: true });
    },
  };
  return cluster;
}

function makeUrl(cluster: Cluster, database: string, options: UrlOptions): string {
  const user = options.user ?? cluster.superuser;
  const password = options.password ?? (user === cluster.superuser ? cluster.password : undefined);
  const login = password === undefined ? encode(user) : `${encode(user)}:${encode(password)}`;
  const isSocket = cluster.host.startsWith("/");
  const parameters = new URLSearchParams({ ...(isSocket ? { host: cluster.host } : {}), ...options.parameters });
  const query = parameters.size === 0 ? "" : `?${parameters}`;
  return `postgresql://${login}@${isSocket ? "localhost" : cluster.host}:${cluster.port}/${encode(database)}${query}`;
}

function encode(part: string): string {
  return encodeURIComponent(part);
}

async function runPsql(cluster: Cluster, database: string, sql: string, user: string): Promise<string> {
  const psql = findPsql();
  if (psql === undefined) throw new Error("psql was not found");
  const environment = {
    PATH: process.env.PATH ?? "",
    LC_ALL: "C",
    PGHOST: cluster.host,
    PGPORT: String(cluster.port),
    PGUSER: user,
    PGDATABASE: database,
    PGCLIENTENCODING: "UTF8",
    ...(user === cluster.superuser && cluster.password !== undefined ? { PGPASSWORD: cluster.password } : {}),
  };
  const args = ["-XAtqw", "-v", "ON_ERROR_STOP=1"];
  return (await runCommand(psql, args, { env: environment, cwd: cluster.directory }, sql)).trim();
}

let psqlPath: string | undefined;

function findPsql(): string | undefined {
  psqlPath ??= findClientTool("psql")?.path;
  return psqlPath;
}

async function initialise(
  binDirectory: string,
  directory: string,
  options: ClusterOptions,
  account: Account | undefined,
): Promise<void> {
  const passwordFile = join(directory, "password");
  const args = [
    `--pgdata=${join(directory, "data")}`,
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    `--auth=${options.auth ?? "trust"}`,
  ];
  if (options.password !== undefined) {
    writePrivate(passwordFile, `${options.password}\n`, account);
    args.push(`--pwfile=${passwordFile}`);
  }
  // Version 18 turned checksums on by default: they cost time and protect nothing that lives for a minute.
  const help = await runCommand(join(binDirectory, "initdb"), ["--help"], serverProcess(directory, account));
  if (help.includes("--no-data-checksums")) args.push("--no-data-checksums");
  await runCommand(join(binDirectory, "initdb"), args, serverProcess(directory, account));
  fs.rmSync(passwordFile, { force: true });
}

function configure(data: string, port: number, options: ClusterOptions, account: Account | undefined): void {
  const durability = options.fsync === true ? "on" : "off";
  const settings = {
    port: String(port),
    listen_addresses: options.tcp === true ? "127.0.0.1" : "",
    unix_socket_directories: dirname(data),
    max_connections: "100",
    fsync: durability,
    synchronous_commit: durability,
    full_page_writes: durability,
    ...options.settings,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`);
  fs.appendFileSync(join(data, "postgresql.conf"), lines.join(""));
  for (const [name, text] of Object.entries(options.files ?? {})) writePrivate(join(data, name), text, account);
  if (options.hba === undefined) return;
  const hba = join(data, "pg_hba.conf");
  writePrivate(hba, `${options.hba.join("\n")}\n${fs.readFileSync(hba, "utf8")}`, account);
}

function writePrivate(path: string, text: string, account: Account | undefined): void {
  fs.writeFileSync(path, text, { mode: 0o600 });
  if (account !== undefined) fs.chownSync(path, account.uid, account.gid);
}

function startServer({ binDirectory, directory, account }: Parts, onEnd: () => void): ChildProcess {
  const log = fs.openSync(join(directory, "server.log"), "a");
  const pidFile = join(directory, "server.pid");
  try {
    const server = spawn(join(binDirectory, "postgres"), ["-D", join(directory, "data")], {
      ...serverProcess(directory, account),
      stdio: ["ignore", log, log],
      // Its own group: Ctrl-C in a terminal is for us, and we end the server in order.
      detached: true,
    });
    if (server.pid !== undefined) fs.writeFileSync(pidFile, String(server.pid));
    server.once("exit", () => {
      fs.rmSync(pidFile, { force: true });
      onEnd();
    });
    server.once("error", onEnd);
    server.unref();
    return server;
  } finally {
    fs.closeSync(log);
  }
}

/** By the status line that the postmaster keeps in its own file, as pg_ctl does: no connection is used up. */
async function waitForServer(cluster: Cluster, server: ChildProcess): Promise<void> {
  const deadline = performance.now() + READY_DEADLINE_MS;
  while (performance.now() < deadline && cluster.pid === server.pid && server.pid !== undefined) {
    const lines = readIfPresent(join(cluster.directory, "data", "postmaster.pid")).split("\n");
    if (lines[0] === String(server.pid) && lines[7]?.trim() === "ready") return;
    await sleep(POLL_MS);
  }
  await endServer(server, "SIGQUIT");
  throw new Error(`the server did not start:\n${cluster.readLog().slice(-2_000)}`);
}

async function endServer(server: ChildProcess, signal: "SIGINT" | "SIGQUIT"): Promise<void> {
  if (server.pid === undefined || server.exitCode !== null || server.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()));
  server.ref();
  const insist = setTimeout(() => server.kill("SIGKILL"), READY_DEADLINE_MS);
  server.kill(signal);
  await ended;
  clearTimeout(insist);
}

function serverProcess(directory: string, account: Account | undefined): SpawnOptions {
  return { cwd: directory, env: { PATH: process.env.PATH ?? "", LC_ALL: "C", HOME: directory }, ...account };
}

/** `postgres` where the system has that user, else `nobody`; undefined when we are not root and stay who we are. */
function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = readIfPresent("/etc/passwd")
    .split("\n")
    .map((line) => line.split(":"));
  const found = ["postgres", "nobody"].map((name) => accounts.find((fields) => fields[0] === name)).find(Boolean);
  if (found === undefined) throw new Error("PostgreSQL refuses to run as root, and no other user was found");
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

/** The other user may not be able to look into root's home, where a checkout can be: then it gets a copy. */
function reachableBinDirectory(binDirectory: string | undefined, account: Account | undefined): string {
  if (binDirectory === undefined) {
    throw new Error("no PostgreSQL server was found; `node scripts/setup.mjs --postgres` says how to get one");
  }
  if (account === undefined || isReachable(binDirectory)) return binDirectory;
  const copy = join(runDirectory(), "servers", encodeURIComponent(binDirectory));
  if (!fs.existsSync(copy)) fs.cpSync(dirname(binDirectory), copy, { recursive: true, verbatimSymlinks: true });
  return join(copy, "bin");
}

/** Can everybody enter each folder on the way? */
function isReachable(directory: string): boolean {
  for (let at = directory; at !== dirname(at); at = dirname(at)) {
    if ((fs.statSync(at).mode & 0o001) === 0) return false;
  }
  return true;
}

/** What belongs to this process as a whole, even where a test runner loads this module more than once. */
interface Run {
  readonly directory: string;
  /** Kept so that the pipe stays open as long as we live. */
  readonly minder: ChildProcess;
}

const RUN_KEY = Symbol.for("prisma-safe-deploy private-cluster run");

function runDirectory(): string {
  const holder = globalThis as { [RUN_KEY]?: Run };
  holder[RUN_KEY] ??= startRun();
  return holder[RUN_KEY].directory;
}

function startRun(): Run {
  // A socket's path may have 107 bytes at most, so a long TMPDIR is of no use.
  const parent = tmpdir().length > 60 ? "/tmp" : tmpdir();
  const directory = fs.mkdtempSync(join(parent, "psd-"));
  fs.chmodSync(directory, 0o755);
  const minder = spawn("/bin/sh", ["-c", MINDER_SCRIPT, "minder", directory], {
    cwd: "/",
    env: { PATH: process.env.PATH ?? "" },
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  minder.unref();
  return { directory, minder };
}

const MINDER_SCRIPT = `
trap '' INT TERM HUP
cat >/dev/null
for file in "$1"/c*/server.pid; do
  [ -f "$file" ] || continue
  pid=$(cat "$file")
  kill -QUIT "$pid" 2>/dev/null || continue
  tries=0
  # The file goes with the server, while a zombie stays where nobody collects it, as in a container.
  while kill -0 "$pid" 2>/dev/null && [ -f "\${file%server.pid}data/postmaster.pid" ] && [ "$tries" -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  kill -KILL "$pid" 2>/dev/null
done
rm -rf "$1"
`;

/** Runs a command to its end and answers its standard output; throws with its standard error when it failed. */
async function runCommand(file: string, args: readonly string[], options: SpawnOptions, stdin = ""): Promise<string> {
  const child = spawn(file, [...args], { ...options, stdio: ["pipe", "pipe", "pipe"], timeout: COMMAND_DEADLINE_MS });
  // A command that fails before it has read everything is told by its exit code.
  child.stdin?.on("error", () => {});
  child.stdin?.end(stdin);
  const [stdout, stderr, ending] = await Promise.all([
    readAll(child.stdout),
    readAll(child.stderr),
    new Promise<number | string | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => resolve(code ?? signal));
    }),
  ]);
  if (ending !== 0) throw new Error(`${file} ended with ${ending}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}

async function readAll(stream: AsyncIterable<Buffer> | null): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream ?? []) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** A port of 127.0.0.1. Somebody else could take it before its user does, which then says so, and nothing is lost. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

function readIfPresent(path: string): string {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

async function sleep(durationMs: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, durationMs));
}
