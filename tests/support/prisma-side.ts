/**
 * A project and its database that are worked on by one of two tools: the real Prisma CLI or `deploy`. What was done and
 * what was left is observed in a form in which both can be compared.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { makeChecksum } from "../../lib/migrations/checksum.ts";
import type { Status } from "../../lib/migrations/status.ts";
import { openClient } from "./client.ts";
import { type Cluster, sharedCluster } from "./cluster.ts";
import {
  listMigrations,
  type PrismaAnswer,
  type PrismaProject,
  type PrismaVersion,
  preparePrismaProject,
  type Scripts,
  writeMigrations,
} from "./prisma-cli.ts";
import { expectPrismaStatus, type PrismaStatus, parsePrismaStatus, sortNames } from "./prisma-status.ts";
import { DEPLOY_SCRIPT, makeProject, until } from "./project.ts";
import { dumpSchema } from "./schema-dump.ts";

export type Tool = "prisma" | "deploy";

/** 6.19 sends a script whole, 7.10 statement by statement. */
export interface Engine {
  readonly name: "6.19" | "7.10";
  readonly version: PrismaVersion;
  readonly environment: Readonly<Record<string, string>>;
}

export const ENGINES: readonly Engine[] = [
  { name: "6.19", version: 6, environment: {} },
  { name: "7.10", version: 7, environment: { ENGINE_SPLIT: "1" } },
];

/** What can be done to a project and its database. */
export interface Side {
  readonly database: string;
  /** The tool under comparison: its `deploy`, with settings that only ours has. */
  deploy(settings?: Readonly<Record<string, string>>): Promise<void>;
  /** Its `resolve`, with arguments that both understand, and more for ours alone. */
  resolve(args: readonly string[], ours?: readonly string[]): Promise<void>;
  /** Its `status`, as far as it is an outcome: what it says is compared at the end. */
  status(): Promise<void>;
  /** Starts its `deploy`, and does not wait for it. */
  start(settings?: Readonly<Record<string, string>>): Promise<Started>;
  /** Marks all that is in the folder: with Prisma, one `resolve --applied` for each name. */
  baseline(names: readonly string[]): Promise<void>;
  /** A script sleeps in the database. */
  isAsleep(): Promise<boolean>;
  /** The real CLI, whatever the tool: what somebody may have done before or between. */
  prisma(...args: string[]): Promise<void>;
  /** Starts the real CLI's `deploy`, which goes on until its sessions are ended. */
  startPrisma(): Promise<void>;
  endSessions(): Promise<void>;
  /** Somebody takes an advisory lock. @returns what gives it back */
  holdLock(key: number): Promise<() => Promise<void>>;
  sql(text: string): Promise<void>;
  write(scripts: Scripts): void;
  remove(name: string): void;
  /** A file beside the migrations, for example the lock file. */
  writeFile(name: string, text: string): void;
  link(name: string, target: string): void;
  /** Without its folder of migrations. */
  removeFolder(): void;
  dropDatabase(): Promise<void>;
  /** Where the tool under comparison looks for the database from now on. */
  connectTo(change: (url: string) => string): void;
}

export interface Started {
  /** Its process and everything that it has started, at once. */
  kill(): Promise<void>;
  /** Its end is an outcome. */
  finish(): Promise<void>;
}

/** What is compared. */
export interface Observation {
  /** Of each command under comparison: `ok`, or why not, in Prisma's codes. */
  readonly outcomes: readonly string[];
  /** All columns, times and ids reduced to what is the same in every run, in the order of their start. */
  readonly rows: readonly string[];
  /** What the real `migrate status` says at the end. */
  readonly status: PrismaStatus;
  /** Names of the tables, for differences that are meant. */
  readonly tables: string;
  /** `pg_dump --schema-only`, Prisma's own table included. */
  readonly schema: string;
  /** Where our status and the real one contradict each other. */
  readonly disagreements: unknown;
}

/** Of our codes and of Prisma's, one word for the same thing. */
const OUTCOMES: Readonly<Record<string, string>> = {
  BASELINE_NEEDED: "P3005",
  HISTORY_FAILED: "P3009",
  MIGRATION_FAILED: "P3018",
  SCRIPT_INVALID: "P3018",
  SCRIPT_MISSING: "P3015",
  PROVIDER_MISMATCH: "P3019",
  LOCK_NOT_ACQUIRED: "P1002",
  RESOLVE_ALREADY_APPLIED: "P3008",
  RESOLVE_NEVER_APPLIED: "P3011",
  RESOLVE_NOT_FAILED: "P3012",
  RESOLVE_SCRIPT_NOT_FOUND: "P3017",
  SETTINGS_INVALID: "usage",
  DATABASE_UNREACHABLE: "P1001",
  DATABASE_NOT_FOUND: "P1003",
};

export interface WorldOptions {
  /** Prisma's `schema` parameter. */
  readonly schema?: string | undefined;
  /** Another `scripts/deploy.ts` than this repository's. */
  readonly program?: string | undefined;
}

export async function observe(
  tool: Tool,
  engine: Engine,
  steps: (side: Side) => Promise<void>,
  options: WorldOptions = {},
): Promise<Observation> {
  const world = await makeWorld(tool, engine, options);
  await steps(world.side);
  return await world.look();
}

async function makeWorld(tool: Tool, engine: Engine, { schema, program }: WorldOptions) {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  // The engine that stands in for the native one does not know the parameter, but passes the options on.
  const parameters: Record<string, string> = schema === undefined ? {} : { schema, options: `-csearch_path=${schema}` };
  const home = cluster.url(database, { parameters });
  const project = await preparePrismaProject({ version: engine.version, migrationsFrom: {}, databaseUrl: home });
  const tools = makeTools(project, engine, program);
  const outcomes: string[] = [];
  let url = home;
  let background: StartedTool | undefined;
  const compared = async (prisma: readonly string[], ours: readonly string[], settings = {}) => {
    outcomes.push(await tools.outcomeOf(tool, tool === "prisma" ? prisma : ours, url, settings));
  };
  const side: Side = {
    database,
    deploy: (settings) => compared(["migrate", "deploy"], [], settings),
    resolve: (args, ours = []) => compared(["migrate", "resolve", ...args], ["resolve", ...args, ...ours]),
    status: async () => {
      const before = outcomes.length;
      await compared(["migrate", "status"], ["status"]);
      // Its exit code is said in words: pending and failed are not told apart by it.
      if (["exit 1", "exit 3", "exit 10"].includes(outcomes[before] ?? "")) outcomes[before] = "not ok";
    },
    start: async (settings = {}) => {
      const args = tool === "prisma" ? ["migrate", "deploy"] : [];
      const started = tools.start(tool, args, url, settings);
      return {
        kill: async () => {
          started.kill();
          await started.ended;
          await endBackends(cluster, database);
        },
        finish: async () => {
          outcomes.push(outcomeOf(await started.ended));
        },
      };
    },
    baseline: async (names) => {
      if (tool === "deploy") return await compared([], ["baseline"]);
      const results: string[] = [];
      for (const name of names) {
        results.push(await tools.outcomeOf(tool, ["migrate", "resolve", "--applied", name], url, {}));
      }
      outcomes.push([...new Set(results)].join(", "));
    },
    isAsleep: async () => {
      const asleep = await cluster.psql(
        "postgres",
        `SELECT count(*) FROM pg_stat_activity WHERE datname = '${database}' AND wait_event = 'PgSleep'`,
      );
      return asleep !== "0";
    },
    prisma: async (...args) => {
      await project.run(args, engine.environment);
    },
    startPrisma: async () => {
      background = tools.start("prisma", ["migrate", "deploy"], url, {});
    },
    holdLock: async (key) => {
      const holder = await openClient(cluster, database);
      await holder.run(`SELECT pg_advisory_lock(${key})`);
      return holder.end;
    },
    endSessions: async () => {
      background?.kill();
      await background?.ended;
      await endBackends(cluster, database);
    },
    sql: async (text) => {
      await cluster.psql(database, text);
    },
    write: (scripts) => writeMigrations(project.migrations, scripts),
    remove: (name) => rmSync(join(project.migrations, name), { recursive: true }),
    writeFile: (name, text) => writeFileSync(join(project.migrations, name), text),
    link: (name, target) => symlinkSync(target, join(project.migrations, name)),
    removeFolder: () => rmSync(project.migrations, { recursive: true }),
    dropDatabase: async () => {
      await cluster.psql("postgres", `DROP DATABASE "${database}"`);
    },
    connectTo: (change) => {
      url = change(home);
    },
  };
  const look = async (): Promise<Observation> => {
    const { rows, tables } = await readState(cluster, database, schema ?? "public");
    const status = sortNames(parsePrismaStatus(await project.run(["migrate", "status"], engine.environment)));
    const disagreements = await compareStatus(
      tools,
      project,
      home,
      status,
      engine,
      tables.includes("_prisma_migrations"),
    );
    return { outcomes, rows, status, tables, schema: await dumpSchema(cluster, database), disagreements };
  };
  const readStatuses = async () => ({
    theirs: parsePrismaStatus(await project.run(["migrate", "status"], engine.environment)),
    ours: JSON.parse((await tools.start("deploy", ["status", "--json"], home, {}).ended).stdout) as Status,
  });
  return { side, look, readStatuses };
}

/** What both say of the status at the end of the steps. */
export async function observeStatuses(
  engine: Engine,
  { steps, end }: { readonly steps: (side: Side) => Promise<void>; readonly end?: (side: Side) => Promise<void> },
): Promise<{ readonly theirs: PrismaStatus; readonly ours: Status }> {
  const { side, readStatuses } = await makeWorld("deploy", engine, {});
  try {
    await steps(side);
    return await readStatuses();
  } finally {
    await end?.(side);
  }
}

/** Our status and the real one over the same rows and folder. */
async function compareStatus(
  tools: Tools,
  project: PrismaProject,
  url: string,
  status: PrismaStatus,
  engine: Engine,
  hasTable: boolean,
): Promise<unknown> {
  // A folder that is not there is content for Prisma, and a mistake for us.
  if (!existsSync(project.migrations)) return [];
  const answer = await tools.start("deploy", ["status", "--json"], url, {}).ended;
  if (!answer.stdout.startsWith("{")) return status.says === "error" ? [] : { status, ours: answer.stderr };
  const ours = JSON.parse(answer.stdout) as Status;
  const names = listMigrations(project.migrations);
  const expected = expectPrismaStatus(ours, { version: engine.version, names, hasTable });
  // Without a table and without migrations there is nothing to agree about.
  if (names.length === 0 && expected.says === "unmanaged") return [];
  return isDeepStrictEqual(status, expected) ? [] : { status, expected };
}

export interface Tools {
  outcomeOf(
    tool: Tool,
    args: readonly string[],
    url: string,
    settings: Readonly<Record<string, string>>,
  ): Promise<string>;
  start(tool: Tool, args: readonly string[], url: string, settings: Readonly<Record<string, string>>): StartedTool;
}

export interface StartedTool {
  readonly ended: Promise<PrismaAnswer>;
  kill(): void;
}

const RUN_DEADLINE_MS = 180_000;

/** Both tools as they are run in that project; each run is a process group of its own. */
export function makeTools(project: PrismaProject, engine: Engine, program: string = DEPLOY_SCRIPT): Tools {
  const { backupDirectory } = makeProject();
  const start: Tools["start"] = (tool, args, url, settings) => {
    const prisma = join(project.directory, "node_modules", ".bin", "prisma");
    const command = tool === "prisma" ? [prisma] : [process.execPath, "--no-env-file", program];
    const own = tool === "prisma" ? engine.environment : { BACKUP_DIR: backupDirectory, DEPLOY_LANG: "en" };
    const [file = "", ...first] = command;
    const child = spawn(file, [...first, ...args], {
      cwd: project.directory,
      env: { ...project.environment, DATABASE_URL: url, ...own, ...settings },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    return follow(child);
  };
  return {
    start,
    outcomeOf: async (tool, args, url, settings) => outcomeOf(await start(tool, args, url, settings).ended),
  };
}

function follow(child: ChildProcess): StartedTool {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // Everybody has ended.
    }
  };
  const deadline = setTimeout(kill, RUN_DEADLINE_MS);
  const ended = new Promise<PrismaAnswer>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(deadline);
      resolve({ exitCode: code ?? -1, stdout, stderr });
    });
  });
  return { ended, kill };
}

export function outcomeOf({ exitCode, stderr }: PrismaAnswer): string {
  if (exitCode === 0) return "ok";
  const own = /^ +Code {3}([A-Z0-9_]+) \(exit code \d+\)$/m.exec(stderr)?.[1];
  if (own !== undefined) return OUTCOMES[own] ?? own;
  const code = /^Error: (P\d{4})\b/m.exec(stderr)?.[1];
  if (code !== undefined) return code;
  if (/called markMigrationRolledBack on a database without migrations table/.test(stderr)) return "P3011";
  if (/must be part of the command like|Pass either --applied or --rolled-back/.test(stderr)) return "usage";
  return /^Error: (.*)$/m.exec(stderr)?.[1] ?? `exit ${exitCode}`;
}

/** A backend goes on with its statement when its client is killed; here nobody waits for it. */
export async function endBackends(cluster: Cluster, database: string): Promise<void> {
  await until("the killed tool's sessions have ended", async () => {
    await cluster.psql(
      "postgres",
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = '${database}' AND backend_type = 'client backend' AND application_name <> 'psql'`,
    );
    const left = await cluster.psql(
      "postgres",
      `SELECT count(*) FROM pg_stat_activity
       WHERE datname = '${database}' AND backend_type = 'client backend' AND application_name <> 'psql'`,
    );
    return left === "0";
  });
}

/** A row as `readState` writes it. */
export function makeRow(
  name: string,
  script: string,
  state: "finished" | "failed" | "rolled back" | "marked applied",
): string {
  const [steps, times, logs] = {
    finished: [1, "finished", "no logs"],
    failed: [0, "unfinished", "logs"],
    "rolled back": [0, "unfinished, rolled back", "logs"],
    "marked applied": [0, "finished at once", "empty logs"],
  }[state];
  return `${name} ${makeChecksum(script)} ${steps} steps, ${times}, ${logs}`;
}

export async function readState(cluster: Cluster, database: string, schema: string) {
  const tables = await cluster.psql(
    database,
    `SELECT string_agg(relname, ',' ORDER BY relname COLLATE "C") FROM pg_class
     WHERE relkind = 'r' AND relnamespace = '${schema}'::regnamespace`,
  );
  if (!tables.includes("_prisma_migrations")) return { tables, rows: [] };
  const rows = await cluster.psql(
    database,
    `SELECT migration_name || ' ' || checksum || ' ' || applied_steps_count || ' steps, ' || CASE
         WHEN finished_at IS NULL THEN 'unfinished' WHEN finished_at = started_at THEN 'finished at once'
         WHEN finished_at > started_at THEN 'finished' ELSE 'finished before it began' END
       || CASE WHEN rolled_back_at IS NULL THEN '' WHEN rolled_back_at > started_at THEN ', rolled back'
         ELSE ', rolled back before it began' END
       || CASE WHEN logs IS NULL THEN ', no logs' WHEN logs = '' THEN ', empty logs' ELSE ', logs' END
       || CASE WHEN id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' THEN '' ELSE ', id ' || id END
       || CASE WHEN started_at BETWEEN now() - interval '1 hour' AND now() + interval '1 second' THEN '' ELSE ', at a strange time' END
     FROM "${schema}"._prisma_migrations ORDER BY started_at, migration_name COLLATE "C"`,
  );
  return { tables, rows: rows === "" ? [] : rows.split("\n") };
}
