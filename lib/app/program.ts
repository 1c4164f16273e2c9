/** The app's program: found and checked before anything is replaced by it. */
import { accessSync, closeSync, constants, openSync, readSync, type Stats, statSync } from "node:fs";
import { DeployError } from "../errors.ts";
import { makeCandidatePaths, parseProgramFormat } from "./command.ts";

/** A command that was found and looks as if the kernel will run it. */
export interface AppProgram {
  /** Absolute. */
  readonly path: string;
  /** The whole argument vector; the first is the name as it was given, since some programs act by it. */
  readonly args: readonly string[];
}

export type Environment = Readonly<Record<string, string | undefined>>;

const HEAD_BYTES = 4096;

/**
 * Finds the app's program as a shell would, by the environment's PATH and the working directory.
 *
 * Everything that can be checked is: Node 22 and 24 abort when `execve` fails.
 *
 * @throws APP_NOT_FOUND, APP_NOT_EXECUTABLE
 */
export function resolveAppCommand(command: readonly string[], environment: Environment): AppProgram {
  const name = command[0] ?? "";
  const directory = process.cwd();
  let notExecutable: DeployError | undefined;
  for (const path of makeCandidatePaths(name, environment.PATH, directory)) {
    const stats = readStats(path);
    if (stats === undefined) continue;
    const reason = findProblem(path, stats, directory);
    if (reason === undefined) return { path, args: command };
    // A folder or a file without permission does not end a shell's search of PATH either.
    notExecutable ??= new DeployError("APP_NOT_EXECUTABLE", { path, reason });
  }
  throw notExecutable ?? new DeployError("APP_NOT_FOUND", { command: name });
}

function readStats(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    // ENOTDIR, EACCES on a folder, ELOOP: a shell finds nothing there.
    return undefined;
  }
}

/** Why the kernel would not run this file. */
function findProblem(path: string, stats: Stats, directory: string): string | undefined {
  if (stats.isDirectory()) return "it is a directory (EISDIR)";
  if (!stats.isFile()) return "it is not a regular file (EACCES)";
  try {
    accessSync(path, constants.X_OK);
  } catch {
    return "no permission to execute it (EACCES)";
  }
  const head = readHead(path);
  // A program may be executable and not readable; then there is nothing to look at.
  if (head === undefined) return undefined;
  const format = parseProgramFormat(head, directory);
  if (format.kind === "unknown") return "it is neither a program nor a script that begins with #! (ENOEXEC)";
  const runner = format.kind === "elf" ? format.loader : format.interpreter;
  if (runner === undefined || readStats(runner) !== undefined) return undefined;
  if (format.kind === "elf") return `its loader ${runner} does not exist (ENOENT)`;
  const ending = format.hasCarriageReturn ? ": the file has Windows line endings" : "";
  return `its interpreter ${JSON.stringify(runner)} does not exist${ending} (ENOENT)`;
}

function readHead(path: string): Uint8Array | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    const head = new Uint8Array(HEAD_BYTES);
    return head.subarray(0, readSync(descriptor, head, 0, HEAD_BYTES, 0));
  } finally {
    closeSync(descriptor);
  }
}

/** An error for what only the kernel could tell: a full process table, a foreign machine's program, too many arguments. */
export function makeStartError(program: AppProgram, cause: unknown): DeployError {
  const reason = cause instanceof Error ? ((cause as { code?: string }).code ?? cause.message) : String(cause);
  return new DeployError("APP_NOT_EXECUTABLE", { path: program.path, reason }, { cause });
}

export function withoutUndefined(environment: Environment): Record<string, string> {
  const defined = Object.entries(environment).filter(([, value]) => value !== undefined);
  return Object.fromEntries(defined) as Record<string, string>;
}
