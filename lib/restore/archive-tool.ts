/** pg_restore as the reader of an archive, without a server: what the archive holds, and the same as SQL. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DeployError } from "../errors.ts";
import { type ClientTool, readOfflineEnvironment } from "../postgres/tools.ts";
import { type Output, type RunResult, run } from "../system/exec.ts";

export interface ArchiveSource {
  readonly path: string;
  readonly pgRestore: ClientTool | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The longest that a timer can wait. */
const NO_DEADLINE_MS = 2 ** 31 - 1;
const FILE_MODE = 0o600;

/** @throws TOOL_NOT_FOUND */
export function requireArchiveTool(pgRestore: ClientTool | undefined): ClientTool {
  if (pgRestore === undefined) throw new DeployError("TOOL_NOT_FOUND", { tool: "pg_restore" });
  return pgRestore;
}

/** @param lines what the tool said; empty ones are left out */
export function makeToolFailure(tool: string, exitCode: number | undefined, lines: readonly string[]): DeployError {
  return new DeployError("RESTORE_FAILED", { tool, exitCode, output: lines.filter((line) => line !== "").join("\n") });
}

/**
 * Writes which entries of an archive are restored, for `--use-list`.
 *
 * @param select gets the list of all entries
 * @returns path of the list
 * @throws RESTORE_FAILED, TOOL_NOT_FOUND, or the signal's reason
 */
export async function writeContentsList(
  directory: string,
  select: (list: string) => string,
  source: ArchiveSource,
): Promise<string> {
  const allPath = join(directory, "contents.all");
  const listPath = join(directory, "contents.list");
  const result = await runArchiveTool(["--list", `--file=${allPath}`, "--", source.path], "ignore", source);
  source.signal?.throwIfAborted();
  requireSuccess(result);
  await writeFile(listPath, select(await readFile(allPath, "utf8")), { mode: FILE_MODE });
  return listPath;
}

/** @throws TOOL_NOT_FOUND */
export async function runArchiveTool(
  args: readonly string[],
  stdout: Output,
  { pgRestore, signal }: Pick<ArchiveSource, "pgRestore" | "signal">,
): Promise<RunResult> {
  const command = { file: requireArchiveTool(pgRestore).path, args, env: readOfflineEnvironment() };
  return await run(command, {
    stdout,
    stderr: "capture",
    deadlineMs: NO_DEADLINE_MS,
    isShielded: true,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** @throws RESTORE_FAILED */
export function requireSuccess({ exitCode, stderr, startError, signal }: RunResult): void {
  if (exitCode === 0) return;
  throw makeToolFailure("pg_restore", exitCode, [...stderr.split("\n"), startError ?? signal ?? ""]);
}
