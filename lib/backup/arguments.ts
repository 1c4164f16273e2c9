/**
 * Argument vectors of pg_dump and pg_restore. Pure, and public by nature: anyone on the machine can read a process's
 * arguments, so the server, the user, the password and the database travel in the environment (see `postgres/libpq.ts`).
 */
import type { ClientTool } from "../postgres/tool-choice.ts";
import type { BackupFormat } from "./name.ts";

/** First pg_dump that compresses with zstd. */
const ZSTD_MAJOR = 16;

export interface DumpTool extends Pick<ClientTool, "version" | "major"> {
  /** False where it was built without zstd although it is new enough. */
  readonly hasZstd?: boolean;
}

export interface DumpOptions {
  readonly tool: DumpTool;
  /** Of the file, which is there already. */
  readonly path: string;
  /** Name of an exported snapshot. Undefined: pg_dump takes its own. */
  readonly snapshot: string | undefined;
  /** How long pg_dump waits for a table that a migration or a VACUUM FULL holds. */
  readonly lockWaitMs: number;
}

/**
 * A whole database: a plain dump to standard output, an archive to its file. Newer versions of pg_dump can only append to
 * what they get as standard output, and would add the contents with the place of everything once more, at the end.
 */
export function makeDumpArguments(format: BackupFormat, options: DumpOptions): readonly string[] {
  // What is written is brought to the disk by us.
  const file = format === "custom" ? ["--no-sync", `--file=${options.path}`] : [];
  return [`--format=${format}`, ...file, ...compressArguments(format, options.tool), ...commonArguments(options)];
}

/** A custom-format dump turned back into SQL on standard output; it opens no connection. */
export function makeArchiveTextArguments(path: string): readonly string[] {
  return ["--file=-", "--", path];
}

function commonArguments({ snapshot, lockWaitMs }: DumpOptions): readonly string[] {
  return [`--lock-wait-timeout=${lockWaitMs}`, ...(snapshot === undefined ? [] : [`--snapshot=${snapshot}`])];
}

/** zstd costs next to nothing; gzip's default level would make the dump three times slower, its lightest 1.6 times. */
function compressArguments(format: BackupFormat, { major, hasZstd = true }: DumpTool): readonly string[] {
  if (format === "plain") return [];
  return [major >= ZSTD_MAJOR && hasZstd ? "--compress=zstd:3" : "--compress=1"];
}
