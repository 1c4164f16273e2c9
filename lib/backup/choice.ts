/** Which backup is meant: a file, the newest one of a database, or the one that was taken before a migration. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { DeployError } from "../errors.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { findTargets, readTextBytes } from "./check.ts";
import type { DumpHazard } from "./dump-scanner.ts";
import type { Manifest } from "./manifest.ts";
import { makeBackupId } from "./name.ts";
import { rereadBackup } from "./reread.ts";
import { type Backup, type BackupOwner, listBackups } from "./store.ts";

export interface BackupRequest {
  /** `latest`, the name of a backup in the folder, or a path. */
  readonly wanted: string;
  /** A migration: the newest backup that was taken before it, in place of the newest of all. */
  readonly before: string | undefined;
}

/** A backup that was read to its end. */
export interface ChosenBackup {
  readonly path: string;
  /** Of a dump without one: made of what was read. */
  readonly manifest: Manifest;
  readonly hasManifest: boolean;
  readonly hazard: DumpHazard | undefined;
}

/**
 * Finds the file and reads it in full.
 *
 * @throws BACKUP_NOT_FOUND, BACKUP_NOT_VERIFIED, BACKUP_DIR_UNUSABLE, TOOL_NOT_FOUND, or the signal's reason
 */
export async function chooseBackup(
  directory: string,
  owner: BackupOwner,
  request: BackupRequest,
  options: {
    readonly pgRestore: ClientTool;
    readonly signal: AbortSignal;
    readonly now: () => Date;
    /** Of how much there is to read, where that is known: what is told about once a second with what has been. */
    readonly watch: (totalBytes: number | undefined) => (bytes: number) => void;
  },
): Promise<ChosenBackup> {
  const { path, backup } = await findBackup(directory, owner, request);
  const dump = { path, manifest: backup?.manifest };
  const progress = options.watch(await readTextBytes({ path, backup }));
  const { hazard, ...found } = await rereadBackup(dump, { ...options, progress });
  if (backup !== undefined) return { path, manifest: backup.manifest, hasManifest: true, hazard };
  const { mtime } = await stat(path);
  const manifest: Manifest = {
    version: 1,
    id: makeBackupId(mtime, 1),
    createdAt: mtime.toISOString(),
    file: basename(path),
    ...found,
    database: "",
    systemIdentifier: "",
    serverVersion: "",
    toolVersion: "",
    history: { applied: 0, last: null },
    precedes: [],
    verifiedAt: mtime.toISOString(),
  };
  return { path, manifest, hasManifest: false, hazard };
}

async function findBackup(
  directory: string,
  owner: BackupOwner,
  { wanted, before }: BackupRequest,
): Promise<{ readonly path: string; readonly backup: Backup | undefined }> {
  if (before === undefined && wanted !== "latest") {
    const [target] = await findTargets(directory, wanted);
    if (target !== undefined) return target;
  }
  const backup = selectNewest(await listBackups(directory, owner), before);
  if (backup === undefined) throw new DeployError("BACKUP_NOT_FOUND", { path: directory, wanted: before ?? wanted });
  return { path: backup.path, backup };
}

/** The newest that is whole, as far as is known. Pure. @param backups oldest first */
function selectNewest<B extends Pick<Backup, "manifest" | "state">>(
  backups: readonly B[],
  before: string | undefined,
): B | undefined {
  return backups.findLast(
    ({ manifest, state }) => state === "present" && (before === undefined || manifest.precedes.includes(before)),
  );
}
