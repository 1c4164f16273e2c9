/**
 * The tool that reads a backup into the new database of `aside.ts`: psql for a plain one, pg_restore for an archive, by
 * several sessions where that is worth it.
 */
import type { BackupFormat } from "../backup/name.ts";
import { UNKNOWN_NAME, UNKNOWN_SETTING, writesUnknownSetting } from "../backup/unknown-setting.ts";
import type { Database } from "../postgres/database.ts";
import { databaseArgument } from "../postgres/libpq.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { makeToolFailure, requireArchiveTool } from "./archive-tool.ts";

export interface FillOptions {
  readonly database: Pick<Database, "target" | "runTool">;
  readonly tools: { readonly psql: ClientTool; readonly pgRestore: ClientTool | undefined };
  readonly path: string;
  readonly format: BackupFormat;
  /** File with the contents of an archive that are wanted. Undefined: all of them. */
  readonly list: string | undefined;
  readonly jobs: number;
  readonly serverMajor: number;
  readonly signal?: AbortSignal | undefined;
}

/** What the tool said, as far as it matters. */
interface Heard {
  readonly complaints: string[];
  unknownSettings: number;
  /** What pg_restore has counted in the end. */
  ignoredErrors: number | undefined;
}

const NO_DEADLINE_MS = 2 ** 31 - 1;
const OUTPUT_LINES_MAX = 20;

/** @throws RESTORE_FAILED, TOOL_NOT_FOUND */
export async function fillDatabase(options: FillOptions): Promise<void> {
  const { database, format, jobs, signal, tools } = options;
  const tool = format === "plain" ? tools.psql : requireArchiveTool(tools.pgRestore);
  // A setting that the server does not know must not end it: what else it meets is told by its own count.
  const goesOn = format === "custom" && writesUnknownSetting(tool.major, options.serverMajor);
  const args = format === "plain" ? makeScriptArguments(options) : makeArchiveArguments(options, goesOn);
  const heard: Heard = { complaints: [], unknownSettings: 0, ignoredErrors: undefined };
  const result = await database.runTool(tool, args, {
    // Beside its workers, which a script and a single job do without, there is the one that leads them.
    sessions: jobs === 1 ? 1 : jobs + 1,
    // A database or a role can be read-only by default, and give up statements that take long.
    settings: { default_transaction_read_only: "off", statement_timeout: "0" },
    stderr: { line: (line) => hear(line, heard) },
    deadlineMs: NO_DEADLINE_MS,
    isShielded: true,
    ...(signal === undefined ? {} : { signal }),
  });
  if (result.exitCode === 0 || (goesOn && result.exitCode === 1 && hasMetNothingElse(heard, jobs))) return;
  const ended = result.startError ?? (result.timedOut ? "deadline exceeded" : (result.signal ?? ""));
  throw makeToolFailure(tool.name, result.exitCode, [...heard.complaints, ended]);
}

function makeScriptArguments({ path }: FillOptions): readonly string[] {
  return ["-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", path];
}

function makeArchiveArguments({ database, path, list, jobs }: FillOptions, goesOn: boolean): readonly string[] {
  return [
    ...(goesOn ? [] : ["--exit-on-error"]),
    `--jobs=${jobs}`,
    `--dbname=${databaseArgument(database.target.database)}`,
    ...(list === undefined ? [] : [`--use-list=${list}`]),
    "--",
    path,
  ];
}

/**
 * Each session of pg_restore meets the setting once: that of a single job; or the two that lead, one after the other, and
 * those of the workers, in which it does not count it.
 */
function hasMetNothingElse({ unknownSettings, ignoredErrors }: Heard, jobs: number): boolean {
  const { leaders, workers } = jobs === 1 ? { leaders: 1, workers: 0 } : { leaders: 2, workers: jobs };
  return ignoredErrors === leaders && unknownSettings === leaders + workers;
}

/** Rows of tables, which errors quote in their details and context, are left out. */
function hear(line: string, heard: Heard): void {
  const { complaints } = heard;
  if (line === `Command was: ${UNKNOWN_SETTING}`) heard.unknownSettings += 1;
  const ignored = /^pg_restore: warning: errors ignored on restore: (?<count>\d+)$/u.exec(line)?.groups?.count;
  if (ignored !== undefined) heard.ignoredErrors = Number(ignored);
  if (!/^(psql|pg_restore):/.test(line) || line.includes("WARNING:") || /:\s+(COPY|detail:)/.test(line)) return;
  if (line.includes(UNKNOWN_NAME)) return;
  complaints.push(line);
  if (complaints.length > OUTPUT_LINES_MAX) complaints.shift();
}
