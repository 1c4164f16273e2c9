/** Checks backups that are already there, ours and anybody's dump: which are meant, and what is true of each. */
import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { DeployError, hasCode } from "../errors.ts";
import { findNewestTool, findTool } from "../postgres/tools.ts";
import { isBackupId, parseDumpName } from "./name.ts";
import { rereadBackup } from "./reread.ts";
import { type Backup, listAllBackups, readBackup } from "./store.ts";
import { isArchive } from "./verify.ts";

/** A file to check, with what we know about it. */
export interface CheckTarget {
  readonly path: string;
  /** Undefined for a dump without a manifest of ours. */
  readonly backup: Backup | undefined;
}

/** What was looked at, for those who want to know what "good" means. */
export type CheckPart =
  /** From the first line to the end marker and nothing behind it, statement by statement. */
  | "structure"
  /** Every block of the archive was unpacked. */
  | "blocks"
  /** Size and sha256 are those of the manifest. */
  | "checksum";

export interface CheckedBackup {
  readonly path: string;
  /** Of the manifest; undefined for a dump without one. */
  readonly createdAt: string | undefined;
  readonly database: string | undefined;
  readonly isGood: boolean;
  /** What is wrong. */
  readonly reason: string | undefined;
  readonly checked: readonly CheckPart[];
  /** Undefined where the file could not be read to its end, as all that follows. */
  readonly format: "plain" | "custom" | undefined;
  readonly sizeBytes: number | undefined;
  readonly sha256: string | undefined;
  readonly tables: number | undefined;
  readonly rows: number | undefined;
  readonly largeObjects: number | undefined;
}

/**
 * The files that a word means: `latest` (of every database that the folder serves), `all` that have a manifest, a path,
 * or the name of a backup in the folder.
 *
 * @throws BACKUP_NOT_FOUND, BACKUP_DIR_UNUSABLE
 */
export async function findTargets(directory: string, word: string): Promise<readonly CheckTarget[]> {
  if (word !== "latest" && word !== "all") return [await findFile(directory, word)];
  const backups = await listAllBackups(directory);
  if (backups.length === 0) throw new DeployError("BACKUP_NOT_FOUND", { path: directory, wanted: word });
  const newest = new Map(backups.map((one) => [`${one.manifest.systemIdentifier} ${one.manifest.database}`, one]));
  const chosen = word === "all" ? backups : backups.filter((backup) => [...newest.values()].includes(backup));
  return chosen.map((backup) => ({ path: backup.path, backup }));
}

async function findFile(directory: string, word: string): Promise<CheckTarget> {
  const named = isBackupId(word) ? await readBackup(directory, word) : undefined;
  if (named !== undefined) return { path: named.path, backup: named };
  for (const path of [resolve(word), join(directory, word)]) {
    const isFile = await stat(path).then(
      (stats) => stats.isFile(),
      () => false,
    );
    const id = parseDumpName(basename(path));
    const backup = id === undefined ? undefined : await readBackup(dirname(path), id);
    const isItsDump = backup !== undefined && basename(backup.path) === basename(path);
    if (isFile || isItsDump) return { path, backup: isItsDump ? backup : undefined };
  }
  throw new DeployError("BACKUP_NOT_FOUND", { path: directory, wanted: word });
}

/** How much there is to read of one, where that is known: of an archive, what it is unpacked to is not. */
export async function readTextBytes({ path }: CheckTarget): Promise<number | undefined> {
  if (await isArchive(path)) return undefined;
  return await stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}

export interface CheckContext {
  readonly now: () => Date;
  readonly signal?: AbortSignal | undefined;
  /** Called about once a second with what has been read. */
  readonly progress?: ((bytes: number) => void) | undefined;
}

/**
 * Reads one in full. What is found is written into its manifest, where that can be written: a damaged one does not count
 * as a backup from then on.
 *
 * @throws TOOL_NOT_FOUND (an archive without pg_restore), TOOL_FAILED, or the signal's reason
 */
export async function checkBackup({ path, backup }: CheckTarget, context: CheckContext): Promise<CheckedBackup> {
  const known = { path, createdAt: backup?.manifest.createdAt, database: backup?.manifest.database };
  try {
    const pgRestore = (await isArchive(path)) ? await findArchiveTool(backup) : undefined;
    const dump = { path, manifest: backup?.manifest };
    const { tables, ...found } = await rereadBackup(dump, { pgRestore, ...context });
    const rows = tables.reduce((sum, table) => sum + table.rows, 0);
    const checked = [...(found.format === "custom" ? (["blocks"] as const) : []), "structure" as const];
    const withChecksum = backup === undefined ? checked : [...checked, "checksum" as const];
    return { ...known, isGood: true, reason: undefined, checked: withChecksum, ...found, tables: tables.length, rows };
  } catch (cause) {
    if (!hasCode(cause, "BACKUP_NOT_VERIFIED")) throw cause;
    return { ...known, ...UNREAD, isGood: false, reason: cause.fields.reason };
  }
}

const UNREAD = {
  checked: [],
  format: undefined,
  sizeBytes: undefined,
  sha256: undefined,
  tables: undefined,
  rows: undefined,
  largeObjects: undefined,
} as const;

/** An archive is read by the pg_restore of the pg_dump that wrote it, or by a newer one. */
async function findArchiveTool(backup: Backup | undefined) {
  if (backup === undefined) return await findNewestTool("pg_restore");
  return await findTool("pg_restore", Number.parseInt(backup.manifest.toolVersion, 10) * 10_000);
}
