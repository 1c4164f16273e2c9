/** Turns an archive into SQL on its way to psql: its rows are never on the disk, and take no room there. */
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DeployError } from "../errors.ts";
import { type ClientTool, readOfflineEnvironment } from "../postgres/tools.ts";
import { type Output, type RunResult, run, type Write } from "../system/exec.ts";
import { ArchiveText } from "./archive-text.ts";
import { selectEntries } from "./contents-list.ts";
import type { Survivors } from "./survivors.ts";

export interface ArchiveOptions {
  readonly path: string;
  readonly pgRestore: ClientTool | undefined;
  /** pg_restore writes a setting that the server does not know. */
  readonly hasUnknownSetting: boolean;
  readonly signal: AbortSignal | undefined;
}

/** The longest that a timer can wait. */
const NO_DEADLINE_MS = 2 ** 31 - 1;
const FILE_MODE = 0o600;

/**
 * Writes which entries of an archive are restored: all but those of what stays.
 *
 * @returns path of the list
 * @throws RESTORE_FAILED, TOOL_NOT_FOUND, or the signal's reason
 */
export async function writeContentsList(
  directory: string,
  survivors: Survivors,
  options: ArchiveOptions,
): Promise<string> {
  const allPath = join(directory, "contents.all");
  const listPath = join(directory, "contents.list");
  requireSuccess(await runArchiveTool(["--list", `--file=${allPath}`, "--", options.path], "ignore", options));
  const handle = await open(allPath, "r");
  try {
    await writeFile(listPath, selectEntries(await handle.readFile("utf8"), survivors), { mode: FILE_MODE });
  } finally {
    await handle.close();
  }
  return listPath;
}

/**
 * Writes the archive as SQL without its COMMIT. It may return early where nobody reads any more: then the reader says why.
 *
 * @returns whether all of it was taken
 * @throws RESTORE_FAILED where pg_restore did not come to its end, or wrote what it does not write
 */
export async function pourArchive(write: Write, listPath: string, options: ArchiveOptions): Promise<boolean> {
  const text = new ArchiveText(options.hasUnknownSetting);
  const unread = new AbortController();
  const bytes = async (chunk: Uint8Array) => {
    const free = text.push(chunk);
    if (free.length > 0 && !unread.signal.aborted && !(await write(free))) unread.abort();
  };
  const signal = options.signal === undefined ? unread.signal : AbortSignal.any([unread.signal, options.signal]);
  // In one transaction: without it the large objects get a BEGIN and a COMMIT of their own.
  const args = ["--single-transaction", `--use-list=${listPath}`, "--file=-", "--", options.path];
  const result = await runArchiveTool(args, { bytes }, { ...options, signal });
  if (unread.signal.aborted) return false;
  requireSuccess(result);
  const last = text.finish();
  if (last === undefined) throw makeFailure(0, "pg_restore wrote no COMMIT at the end");
  return await write(last);
}

async function runArchiveTool(
  args: readonly string[],
  stdout: Output,
  { pgRestore, signal }: Pick<ArchiveOptions, "pgRestore" | "signal">,
): Promise<RunResult> {
  if (pgRestore === undefined) throw new DeployError("TOOL_NOT_FOUND", { tool: "pg_restore" });
  const command = { file: pgRestore.path, args, env: readOfflineEnvironment() };
  return await run(command, {
    stdout,
    stderr: "capture",
    deadlineMs: NO_DEADLINE_MS,
    isShielded: true,
    ...(signal === undefined ? {} : { signal }),
  });
}

function requireSuccess({ exitCode, stderr, startError, signal }: RunResult): void {
  if (exitCode === 0) return;
  const parts = [...stderr.split("\n"), startError ?? signal ?? ""];
  throw makeFailure(exitCode, parts.filter((part) => part !== "").join("\n"));
}

function makeFailure(exitCode: number | undefined, output: string): DeployError {
  return new DeployError("RESTORE_FAILED", { tool: "pg_restore", exitCode, output });
}
