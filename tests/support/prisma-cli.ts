/**
 * The real Prisma CLI, for tests that compare with it. It is installed once, without its engine download, into `.cache/`.
 *
 * PRISMA_ORACLE_DIR names a folder with `v6/package.json`, `v7/package.json` (which versions) and `schema-engine.mjs` (an
 * engine that needs no download). Without it these tests are skipped.
 */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { temporaryDirectory } from "./cluster.ts";

export type PrismaVersion = 6 | 7;

const oracle = process.env.PRISMA_ORACLE_DIR;

/** Why tests with the real CLI can't run here; undefined where they can. */
const prismaSkipReason =
  oracle === undefined || oracle === ""
    ? "PRISMA_ORACLE_DIR is not set"
    : existsSync(join(oracle, "schema-engine.mjs"))
      ? undefined
      : `PRISMA_ORACLE_DIR has no schema-engine.mjs: ${oracle}`;

/** Says once why a file's tests are skipped, and answers whether they are. */
export function skipsPrisma(file: string): boolean {
  if (prismaSkipReason !== undefined) console.warn(`${file}: skipped, ${prismaSkipReason}`);
  return prismaSkipReason !== undefined;
}

/** Migrations by name. `null` makes a folder without a script. */
export type Scripts = Readonly<Record<string, string | Uint8Array | null>>;

export interface PrismaProject {
  readonly directory: string;
  /** `prisma/migrations` in it. */
  readonly migrations: string;
  /** Everything a child needs to run the CLI in `directory`: PATH, DATABASE_URL, the engine. */
  readonly environment: Readonly<Record<string, string>>;
  /** Runs `prisma` with these arguments, for example `["migrate", "deploy"]`. */
  run(args: readonly string[], environment?: Readonly<Record<string, string>>): Promise<PrismaAnswer>;
}

export interface PrismaAnswer {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const RUN_DEADLINE_MS = 120_000;
const INSTALL_DEADLINE_MS = 600_000;

/** Lays out a project in a temporary folder whose `npx --no-install prisma` is the real CLI of that version. */
export async function preparePrismaProject(options: {
  readonly version: PrismaVersion;
  /** A folder to copy, or the scripts themselves. */
  readonly migrationsFrom: string | Scripts;
  readonly databaseUrl: string;
}): Promise<PrismaProject> {
  const { version, migrationsFrom, databaseUrl } = options;
  const cli = await installCli(version);
  const directory = join(mkdtempSync(join(temporaryDirectory(), "prisma-")), "project");
  const migrations = join(directory, "prisma", "migrations");
  mkdirSync(migrations, { recursive: true });
  if (typeof migrationsFrom === "string") cpSync(migrationsFrom, migrations, { recursive: true });
  else writeMigrations(migrations, migrationsFrom);
  writeProject(directory, version);
  symlinkSync(join(cli, "node_modules"), join(directory, "node_modules"));
  const environment = {
    PATH: process.env.PATH ?? "",
    HOME: process.env.HOME ?? "/",
    DATABASE_URL: databaseUrl,
    PRISMA_SCHEMA_ENGINE_BINARY: join(cli, "schema-engine.mjs"),
    // Any existing file: Prisma 6 would download a query engine, which migrations do not use.
    PRISMA_QUERY_ENGINE_LIBRARY: join(cli, "package.json"),
    CHECKPOINT_DISABLE: "1",
    NO_COLOR: "1",
  };
  return {
    directory,
    migrations,
    environment,
    run: (args, more = {}) => runIn(directory, ["node_modules/.bin/prisma", ...args], { ...environment, ...more }),
  };
}

/** Writes migration folders, and the lock file of PostgreSQL where there is none. */
export function writeMigrations(folder: string, scripts: Scripts): void {
  const lockFile = join(folder, "migration_lock.toml");
  if (!existsSync(lockFile)) writeFileSync(lockFile, 'provider = "postgresql"\n');
  for (const [name, script] of Object.entries(scripts)) {
    mkdirSync(join(folder, name), { recursive: true });
    if (script !== null) writeFileSync(join(folder, name, "migration.sql"), script);
  }
}

function writeProject(directory: string, version: PrismaVersion): void {
  const url = version === 6 ? '  url      = env("DATABASE_URL")\n' : "";
  writeFileSync(join(directory, "prisma", "schema.prisma"), `datasource db {\n  provider = "postgresql"\n${url}}\n`);
  writeFileSync(join(directory, "package.json"), '{ "private": true }\n');
  if (version === 7) {
    writeFileSync(
      join(directory, "prisma.config.ts"),
      `import { defineConfig, env } from "prisma/config";

export default defineConfig({
  schema: "prisma/schema.prisma",
  migrations: { path: "prisma/migrations" },
  datasource: { url: env("DATABASE_URL") },
});
`,
    );
  }
}

/** The folder with that version's `node_modules`. Several test runs at once may install it; the first one's stays. */
async function installCli(version: PrismaVersion): Promise<string> {
  if (oracle === undefined) throw new Error("PRISMA_ORACLE_DIR is not set");
  const cache = resolve(import.meta.dirname, "..", "..", ".cache");
  const installed = join(cache, `prisma-${version}`);
  if (!existsSync(join(installed, "node_modules", ".bin", "prisma"))) {
    mkdirSync(cache, { recursive: true });
    const fresh = mkdtempSync(join(cache, "installing-"));
    copyFileSync(join(oracle, `v${version}`, "package.json"), join(fresh, "package.json"));
    const npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"];
    const { exitCode, stderr } = await runIn(fresh, npm, process.env, INSTALL_DEADLINE_MS);
    if (exitCode !== 0) throw new Error(`npm install of Prisma ${version} failed:\n${stderr}`);
    copyFileSync(join(oracle, "schema-engine.mjs"), join(fresh, "schema-engine.mjs"));
    try {
      renameSync(fresh, installed);
    } catch {
      // Another one was faster: a folder that is not empty is never replaced.
      rmSync(fresh, { recursive: true });
    }
  }
  return installed;
}

async function runIn(
  directory: string,
  command: string[],
  environment: Readonly<Record<string, string | undefined>>,
  deadlineMs: number = RUN_DEADLINE_MS,
): Promise<PrismaAnswer> {
  const child = Bun.spawn(command, {
    cwd: directory,
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: deadlineMs,
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

/** The names of a folder's migrations, in byte order. */
export function listMigrations(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}
