/** The programs as they are shipped, built once for a test file, and every way to run them. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { findClientTool, isMusl } from "../../scripts/support/postgres-binaries.mjs";
import { temporaryDirectory } from "./cluster.ts";
import type { Project } from "./project.ts";
import { findRuntimes, type Runtime } from "./runtimes.ts";

const ROOT = resolve(import.meta.dirname, "../..");

export type Program = "deploy" | "health-check";

/** One way to run the programs. */
export interface Way {
  readonly name: string;
  /** Why it can't be tried here; undefined where it can. */
  readonly missing: string | undefined;
  /** The command before the program's own arguments, to be started in the project's folder. */
  command(program: Program, project: Project): readonly string[];
}

/** From source on Bun and Deno, as scripts on every runtime, and as the binaries for glibc and musl. */
export async function makeWays(): Promise<Way[]> {
  const runtimes = await findRuntimes();
  const dist = build();
  const script = (program: Program) => join(dist, `${program}.js`);
  const source = (program: Program) => join(ROOT, "scripts", `${program}.ts`);
  const way = (name: string, command: Way["command"], missing?: string): Way => ({ name, missing, command });
  return [
    way("Bun, from source", (program) => [process.execPath, "--no-env-file", source(program)]),
    way("Bun", (program) => [process.execPath, "--no-env-file", script(program)]),
    ...runtimes.map((runtime) =>
      way(runtime.name, (program, project) => [...startRuntime(runtime, program, project), script(program)]),
    ),
    ...runtimes
      .filter(({ kind }) => kind === "deno")
      .map(({ name, path }) =>
        way(`${name}, from source`, (program, project) => [
          ...startDeno(path, denoPermissions(program, project, [join(ROOT, "node_modules")])),
          source(program),
        ]),
      ),
    way("binary for glibc", (program) => [join(dist, program)], findGlibcObstacle()),
    way(
      "binary for musl",
      (program, project) => [...enterMusl(project), join(dist, "musl", program)],
      findMuslObstacle(),
    ),
  ];
}

/** `dist` with the scripts and the binaries for this machine and for musl, outside of the repository. */
function build(): string {
  const scratch = temporaryDirectory();
  const targets = [
    ...(findGlibcObstacle() === undefined ? [`linux-${process.arch}`] : []),
    ...(findMuslObstacle() === undefined ? [MUSL_TARGET] : []),
  ];
  const args = targets.length === 0 ? ["--scripts"] : targets.flatMap((target) => ["--target", target]);
  const { status, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "scripts/build.ts"), "--outdir", scratch, ...args],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`the build failed: ${stderr}`);
  mkdirSync(join(scratch, "musl"));
  for (const name of ["deploy", "health-check"]) {
    symlinkSync(join(scratch, `prisma-safe-deploy-${MUSL_TARGET}`), join(scratch, "musl", name));
  }
  return scratch;
}

function startRuntime({ kind, path }: Runtime, program: Program, project: Project): string[] {
  return kind === "deno" ? startDeno(path, denoPermissions(program, project)) : [path];
}

function startDeno(path: string, permissions: readonly string[]): string[] {
  return [path, "run", "--no-prompt", ...permissions];
}

/**
 * The least that suffices, as docs/runtimes.md has it.
 *
 * @param packages from source, the folders that hold the grammar
 */
export function denoPermissions(
  program: Program,
  project: Pick<Project, "directory" | "backupDirectory">,
  packages: readonly string[] = [],
): string[] {
  const connects = ["--allow-env", "--allow-net=127.0.0.1"];
  if (program === "health-check") return [...connects, `--allow-read=${project.directory},/tmp`];
  return [
    ...connects,
    `--allow-read=${[project.directory, "/tmp", "/bin", "/lib", "/lib64", "/usr", ...packages]}`,
    `--allow-write=${project.backupDirectory},/tmp`,
    "--allow-sys=uid,gid,statfs",
    "--allow-run",
  ];
}

function findGlibcObstacle(): string | undefined {
  return process.platform !== "linux" || isMusl() ? "it is for Linux with glibc" : undefined;
}

const MUSL_TARGET = "linux-x64-musl";
const MUSL_ROOT = process.env.MUSL_ROOT;

function findMuslObstacle(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "it is for Linux on x64";
  if (process.getuid?.() !== 0) return "only root can change the root folder";
  if (MUSL_ROOT === undefined) return "MUSL_ROOT names no root folder with musl and its libstdc++";
  return existsSync(join(MUSL_ROOT, "lib/ld-musl-x86_64.so.1")) ? undefined : `there is no musl in ${MUSL_ROOT}`;
}

/**
 * Into the musl root, by a private view of it that leaves it as it is: with the temporary folder, this machine's client
 * tools and the libraries that those need. By exec alone, so that signals meet the program itself.
 */
function enterMusl(project: Project): string[] {
  const scratch = temporaryDirectory();
  const shared = [
    "/tmp",
    "/proc",
    "/dev",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    dirname(clientTool("pg_dump")),
  ];
  const lines = [
    `mount -t tmpfs tmpfs ${scratch}`,
    `mkdir ${scratch}/upper ${scratch}/work ${scratch}/root`,
    `mount -t overlay overlay -o lowerdir=${MUSL_ROOT},upperdir=${scratch}/upper,workdir=${scratch}/work ${scratch}/root`,
    `cd ${scratch}/root`,
    ...shared.map((path) => `mkdir -p .${path} && mount --rbind ${path} .${path}`),
    `exec chroot . /bin/sh -c 'cd ${project.directory} && exec "$@"' sh "$@"`,
  ];
  return ["unshare", "--mount", "sh", "-ec", lines.join("\n"), "sh"];
}

function clientTool(name: "pg_dump"): string {
  const path = findClientTool(name)?.path;
  if (path === undefined) throw new Error(`${name} was not found`);
  return path;
}
