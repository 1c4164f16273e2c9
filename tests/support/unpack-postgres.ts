/**
 * Unpacks another PostgreSQL than this machine's, whole: server, extensions and client tools of a major (the first
 * argument) into an empty folder (the second). Prints the folder of its programs, for the front of PATH.
 *
 * They are Debian's own packages of another release, with all the libraries that they need; nothing is installed on the
 * system. Needs root, mmdebstrap and patchelf.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Which release packs it. One that is not stable yet may have gone on to a newer major. */
const SUITES: Readonly<Record<number, string>> = { 17: "trixie", 18: "forky" };
const PROGRAMS = ["initdb", "pg_dump", "pg_isready", "pg_receivewal", "pg_restore", "postgres", "psql"];
const DEADLINE_MS = 600_000;

const [major, root] = process.argv.slice(2);
if (root === undefined) throw new Error("name a major and an empty folder");
console.log(unpackPostgres(Number(major), root));

function unpackPostgres(major: number, root: string): string {
  const suite = SUITES[major];
  if (suite === undefined) throw new Error(`PostgreSQL ${major} is not known, but ${Object.keys(SUITES)}`);
  // The index of a release that is not stable is good for a few days, and a mirror may be behind.
  const options = ["--quiet", "--variant=extract", "--aptopt=Acquire::Check-Valid-Until false"];
  run("mmdebstrap", [...options, `--include=postgresql-${major},postgresql-client-${major}`, suite, root]);
  const directory = join(root, "usr/lib/postgresql", String(major), "bin");
  for (const name of readdirSync(directory)) if (!PROGRAMS.includes(name)) rmSync(join(directory, name));
  linkTo(join(root, "usr/lib"), directory);
  // The server's user has to come here.
  chmodSync(root, 0o755);
  return directory;
}

/** Makes the programs take the libraries that they came with, which may need a newer loader than this machine's. */
function linkTo(parent: string, directory: string): void {
  const libraries = join(parent, readdirSync(parent).find((name) => name.endsWith("-linux-gnu")) ?? "");
  const loader = readdirSync(libraries).find((name) => name.startsWith("ld-linux"));
  if (loader === undefined) throw new Error(`there is no loader in ${libraries}`);
  // RPATH and not RUNPATH, which would not hold for the modules that a server loads.
  const options = ["--force-rpath", "--set-rpath", libraries, "--set-interpreter", join(libraries, loader)];
  run("patchelf", [...options, ...PROGRAMS.map((name) => join(directory, name))]);
}

function run(file: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(file, args, { encoding: "utf8", timeout: DEADLINE_MS });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")}: exit ${status}\n${stderr}`, { cause: error });
}
