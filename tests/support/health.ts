/** Runs the real health check, with nothing of our own environment. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, temporaryDirectory } from "./cluster.ts";

const SCRIPT = join(import.meta.dirname, "..", "..", "scripts", "health-check.ts");

export interface HealthResult {
  readonly exitCode: number | null;
  /** Without the line break at its end. */
  readonly line: string;
  readonly stderr: string;
}

export interface HealthRun {
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The program before its flags, if not the script. */
  readonly program?: readonly string[];
}

/** A fresh folder is the working directory and the place of the state file, so that no other test's deploy is seen. */
export async function runHealth(args: readonly string[], run: HealthRun = {}): Promise<HealthResult> {
  const cwd = run.cwd ?? temporaryDirectory();
  const child = Bun.spawn([...(run.program ?? [process.execPath, "--no-env-file", SCRIPT]), ...args], {
    cwd,
    env: { PATH: process.env.PATH ?? "", DEPLOY_LANG: "en", TMPDIR: cwd, ...run.environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  return { exitCode: child.exitCode, line: stdout.replace(/\n$/, ""), stderr };
}

/** A migrations folder without any script: nobody should open one. */
export function makeFolder(...names: string[]): string {
  const path = join(temporaryDirectory(), "migrations");
  mkdirSync(path);
  writeFileSync(join(path, "migration_lock.toml"), 'provider = "postgresql"\n');
  for (const name of names) mkdirSync(join(path, name));
  return path;
}

export interface Row {
  readonly name: string;
  readonly state: "applied" | "unfinished" | "rolled-back";
}

/** Prisma's table with these rows. @see schema-engine, flavour/postgres.rs, create_migrations_table */
export async function createHistory(cluster: Cluster, database: string, rows: readonly Row[], schema = "public") {
  const values = rows.map(({ name, state }, index) => {
    const finishedAt = state === "applied" ? "now()" : "NULL";
    const rolledBackAt = state === "rolled-back" ? "now()" : "NULL";
    return `(gen_random_uuid(), 'checksum', ${finishedAt}, '${name}', ${rolledBackAt}, now() + ${index} * interval '1 s')`;
  });
  await cluster.psql(
    database,
    `CREATE TABLE ${schema}._prisma_migrations (
       id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
       migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
       started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count int NOT NULL DEFAULT 0);
     ${
       values.length === 0
         ? ""
         : `INSERT INTO ${schema}._prisma_migrations
       (id, checksum, finished_at, migration_name, rolled_back_at, started_at) VALUES ${values.join(", ")};`
     }`,
  );
}

/** The program as `bun run build` compiles it. */
export function makeBinary(): string {
  const binary = join(temporaryDirectory(), "health-check");
  const { exitCode, stderr } = Bun.spawnSync([
    ...[process.execPath, "build", SCRIPT, "--compile", "--minify", "--bytecode", "--format=esm", "--splitting"],
    ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig", `--outfile=${binary}`],
  ]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  return binary;
}
