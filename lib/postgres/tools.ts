/** Finds PostgreSQL's client tools on this machine. Which one is taken is decided in `tool-choice.ts`. */
import { access, constants, readdir, realpath, stat } from "node:fs/promises";
import { basename, isAbsolute, join } from "node:path";
import { DeployError } from "../errors.ts";
import { run } from "../system/exec.ts";
import {
  type ClientTool,
  chooseTool,
  formatServerVersion,
  makeServerMajor,
  parseToolVersion,
  type ToolName,
} from "./tool-choice.ts";

export type { ClientTool, ToolName } from "./tool-choice.ts";

/** Where tools are looked for. In a folder's name `*` stands for the rest of one path segment. */
export interface ToolSearch {
  /** PATH's own form. */
  readonly path: string;
  readonly folders: readonly string[];
}

/** Where packages put the tools of each major beside PATH: Debian, Alpine, Red Hat, source, Homebrew, Postgres.app. */
const USUAL_FOLDERS: readonly string[] = [
  "/usr/lib/postgresql/*/bin",
  "/usr/libexec/postgresql*",
  "/usr/pgsql-*/bin",
  "/usr/local/pgsql/bin",
  "/usr/local/bin",
  "/usr/bin",
  "/opt/homebrew/opt/postgresql@*/bin",
  "/opt/homebrew/opt/libpq/bin",
  "/usr/local/opt/postgresql@*/bin",
  "/usr/local/opt/libpq/bin",
  "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/** `--version` opens no connection; a wrapper script on a loaded machine may still take a while. */
const VERSION_DEADLINE_MS = 20_000;

/**
 * The tool on this machine that suits a server best: of its own major, otherwise of the nearest newer one.
 *
 * @param serverVersionNumber as `server_version_num` has it, for example 150018
 * @throws TOOL_NOT_FOUND, TOOL_TOO_OLD
 */
export async function findTool(
  name: ToolName,
  serverVersionNumber: number,
  search: ToolSearch = { path: process.env.PATH ?? "", folders: USUAL_FOLDERS },
): Promise<ClientTool> {
  const serverMajor = makeServerMajor(serverVersionNumber);
  const { programs, wrappers } = await findCandidates(name, search);
  let choice = chooseTool(await readTools(name, programs), serverMajor);
  // Debian's /usr/bin/pg_dump is a slow script that picks a version by rules of its own: only when nothing else fits.
  if (choice.kind !== "chosen" && wrappers.length > 0) {
    choice = chooseTool(await readTools(name, [...programs, ...wrappers]), serverMajor);
  }
  switch (choice.kind) {
    case "chosen":
      return choice.tool;
    case "none":
      throw new DeployError("TOOL_NOT_FOUND", { tool: name });
    case "too-old": {
      const { path, version } = choice.newest;
      const serverVersion = formatServerVersion(serverVersionNumber);
      throw new DeployError("TOOL_TOO_OLD", { tool: name, path, toolVersion: version, serverVersion });
    }
  }
}

/**
 * The newest on this machine, for what no server has to understand.
 *
 * @throws TOOL_NOT_FOUND
 */
export async function findNewestTool(
  name: ToolName,
  search: ToolSearch = { path: process.env.PATH ?? "", folders: USUAL_FOLDERS },
): Promise<ClientTool> {
  const { programs, wrappers } = await findCandidates(name, search);
  const tools = await readTools(name, [...programs, ...wrappers]);
  const newest = tools.toSorted((a, b) => b.major - a.major)[0];
  if (newest === undefined) throw new DeployError("TOOL_NOT_FOUND", { tool: name });
  return newest;
}

/** For a tool that opens no connection: nothing that names a server, and messages that can be searched for. */
export function readOfflineEnvironment(): Record<string, string> {
  const inherited = ["PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];
  const entries = inherited.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : []));
  return { ...Object.fromEntries(entries), LC_ALL: "C" };
}

/** Executable files of that name, each once; those that are really another program's (a wrapper's) apart. */
async function findCandidates(
  name: ToolName,
  search: ToolSearch,
): Promise<{ readonly programs: readonly string[]; readonly wrappers: readonly string[] }> {
  // A relative entry of PATH means whatever the working directory holds.
  const folders = search.path.split(":").filter(isAbsolute);
  for (const pattern of search.folders) folders.push(...(await expandFolder(pattern)));
  const byTarget = new Map<string, string>();
  for (const folder of folders) {
    const path = join(folder, name);
    const target = await readExecutable(path);
    if (target !== undefined && !byTarget.has(target)) byTarget.set(target, path);
  }
  const programs: string[] = [];
  const wrappers: string[] = [];
  for (const [target, path] of byTarget) (basename(target) === name ? programs : wrappers).push(path);
  return { programs, wrappers };
}

async function expandFolder(pattern: string): Promise<string[]> {
  const [before = "", after] = pattern.split("*");
  if (after === undefined) return [pattern];
  const parent = before.slice(0, before.lastIndexOf("/"));
  const prefix = before.slice(parent.length + 1);
  const names = await readdir(parent).catch(() => []);
  return names.filter((name) => name.startsWith(prefix)).map((name) => `${parent}/${name}${after}`);
}

async function readExecutable(path: string): Promise<string | undefined> {
  try {
    await access(path, constants.X_OK);
    const target = await realpath(path);
    return (await stat(target)).isFile() ? target : undefined;
  } catch {
    return undefined;
  }
}

async function readTools(name: ToolName, paths: readonly string[]): Promise<ClientTool[]> {
  const found = await Promise.all(paths.map(async (path) => await readTool(name, path)));
  return found.filter((tool) => tool !== undefined);
}

async function readTool(name: ToolName, path: string): Promise<ClientTool | undefined> {
  const command = { file: path, args: ["--version"], env: readOfflineEnvironment() };
  const result = await run(command, { stdout: "capture", deadlineMs: VERSION_DEADLINE_MS });
  const parsed = result.exitCode === 0 ? parseToolVersion(result.stdout) : undefined;
  return parsed === undefined ? undefined : { name, path, ...parsed };
}
