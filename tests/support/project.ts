/** A user's project on disk and `deploy` run in it, as a user runs it. */
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { temporaryDirectory } from "./cluster.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
export const DEPLOY_SCRIPT = join(REPOSITORY, "scripts/deploy.ts");

/** Generous: the machine may be busy. A run that hangs ends with SIGKILL and a null exit code. */
const RUN_DEADLINE_MS = 180_000;

export interface Project {
  readonly directory: string;
  readonly backupDirectory: string;
  /** Adds a migration's folder; `sql` undefined leaves it without a script. */
  add(name: string, sql: string | Uint8Array | undefined): void;
}

export function makeProject(migrations: Readonly<Record<string, string | undefined>> = {}): Project {
  const directory = temporaryDirectory();
  const folder = join(directory, "prisma", "migrations");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "migration_lock.toml"), 'provider = "postgresql"\n');
  const project: Project = {
    directory,
    backupDirectory: join(directory, "backups"),
    add: (name, sql) => {
      mkdirSync(join(folder, name), { recursive: true });
      if (sql !== undefined) writeFileSync(join(folder, name, "migration.sql"), sql);
    },
  };
  for (const [name, sql] of Object.entries(migrations)) project.add(name, sql);
  return project;
}

export interface DeployRun {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningDeploy {
  readonly pid: number;
  /** What it has printed so far. */
  readonly output: () => string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<DeployRun>;
}

export interface DeployRunOptions {
  readonly url: string | undefined;
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** What is run instead of the script in Bun. */
  readonly program?: readonly string[];
  /** Of Bun. Default: `--no-env-file`, as the script's own first line has it. */
  readonly flags?: readonly string[];
  /** A command that becomes the deploy, which is appended to it: it takes rights away, or hides files, before. */
  readonly through?: readonly string[];
  /** With a process group of its own, as in a terminal, where Ctrl-C reaches all of the group. */
  readonly isGroup?: boolean;
}

/** Runs `deploy` from source in the project's folder to its end. */
export async function runDeploy(project: Project, options: DeployRunOptions): Promise<DeployRun> {
  return await startDeploy(project, options).ended;
}

export function startDeploy(project: Project, options: DeployRunOptions): RunningDeploy {
  const environment = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    DATABASE_URL: options.url,
    BACKUP_DIR: project.backupDirectory,
    ...options.environment,
  };
  const flags = options.flags ?? ["--no-env-file"];
  const program = options.program ?? [process.execPath, ...flags, DEPLOY_SCRIPT];
  const command = [...program, ...(options.args ?? [])];
  const [file = "", ...args] = [...(options.through ?? []), ...command];
  const child = spawn(file, args, {
    cwd: project.directory,
    env: environment as NodeJS.ProcessEnv,
    stdio: ["ignore", "pipe", "pipe"],
    detached: options.isGroup === true,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const deadline = setTimeout(() => child.kill("SIGKILL"), RUN_DEADLINE_MS);
  const ended = new Promise<DeployRun>((resolveRun, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, signal) => {
      clearTimeout(deadline);
      resolveRun({ exitCode, signal, stdout, stderr });
    });
  });
  return { pid: child.pid ?? 0, output: () => stderr + stdout, kill: (signal) => child.kill(signal), ended };
}

/** Waits until the condition holds. @throws after a generous deadline, with what was waited for */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 60_000,
): Promise<void> {
  const startedMs = performance.now();
  while (!(await condition())) {
    if (performance.now() - startedMs > deadlineMs) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolvePause) => setTimeout(resolvePause, 25));
  }
}
