/** The backup folder: which backups are ours, whether another fits, and removing one. */
import type { Stats } from "node:fs";
import { constants, mkdir, open, readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DeployError } from "../errors.ts";
import {
  describeSystemError,
  isNoSpace,
  isPresent,
  readErrorCode,
  readFreeBytes,
  readNearestDirectory,
  removeFile,
  syncDirectory,
  writeFileAtomically,
} from "../system/files.ts";
import { formatManifest, type Manifest, parseManifest } from "./manifest.ts";
import { isMountOfContainer } from "./mount.ts";
import {
  isBackupId,
  isPartialName,
  makeFinalNames,
  makeManifestName,
  makeMarkName,
  makePartialName,
  parseManifestName,
} from "./name.ts";

export interface Backup {
  readonly manifest: Manifest;
  /** Of the dump. */
  readonly path: string;
  readonly manifestPath: string;
  /** What a look at the folder tells, and what `verify.ts` has found when it last read the content. */
  readonly state: "present" | "dump-missing" | "size-differs" | "damaged";
}

/** Whose backups: one folder may serve many databases. */
export interface BackupOwner {
  readonly systemIdentifier: string;
  readonly database: string;
}

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** A younger one may belong to a backup that is being taken right now. */
const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;
const PROBE_NAME = ".prisma-safe-deploy-probe";

/**
 * The backups of one database, oldest first: files with a manifest of ours and nothing else. A folder that does not
 * exist holds none.
 *
 * @throws BACKUP_DIR_UNUSABLE when the folder can't be read
 */
export async function listBackups(directory: string, owner: BackupOwner): Promise<Backup[]> {
  return (await listAllBackups(directory))
    .filter(({ manifest }) => manifest.systemIdentifier === owner.systemIdentifier)
    .filter(({ manifest }) => manifest.database === owner.database);
}

/** The same of every database that the folder serves. */
export async function listAllBackups(directory: string): Promise<Backup[]> {
  const names = await readNames(directory);
  const found = await Promise.all(names.map(async (name) => await readBackup(directory, parseManifestName(name))));
  return found.filter((backup) => backup !== undefined).sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
}

/** One backup by its id, or undefined when there is no manifest of ours. */
export async function readBackup(directory: string, id: string | undefined): Promise<Backup | undefined> {
  if (id === undefined) return undefined;
  const manifestPath = join(directory, makeManifestName(id));
  const text = await readFile(manifestPath, "utf8").catch(() => undefined);
  const manifest = text === undefined ? undefined : parseManifest(text);
  // A copy under another name speaks for files that it does not belong to.
  if (manifest === undefined || manifest.id !== id) return undefined;
  const path = join(directory, manifest.file);
  const stats = await stat(path).catch(() => undefined);
  return { manifest, path, manifestPath, state: judgeState(manifest, stats) };
}

function judgeState(manifest: Manifest, stats: Stats | undefined): Backup["state"] {
  if (stats === undefined) return "dump-missing";
  if (!stats.isFile() || stats.size !== manifest.sizeBytes) return "size-differs";
  return manifest.damage === undefined ? "present" : "damaged";
}

/** How a backup was found: good, or what is wrong with it. */
export type Finding = { readonly goodAt: Date } | { readonly damage: string };

/**
 * Writes down how the last reading of a backup went. Nothing is written where the manifest has gone meanwhile.
 *
 * @throws BACKUP_DIR_UNUSABLE, BACKUP_NO_SPACE
 */
export async function recordVerification(backup: Backup, found: Finding): Promise<void> {
  const { damage: _, ...manifest } = backup.manifest;
  const changed = { ...manifest, ...("damage" in found ? found : { verifiedAt: found.goodAt.toISOString() }) };
  await inFolder(dirname(backup.manifestPath), async () => {
    if (await isPresent(backup.manifestPath)) {
      await writeFileAtomically(backup.manifestPath, formatManifest(changed), FILE_MODE);
    }
  });
}

/** Paths of what killed backups left behind: ours by name, and not written to for a day. */
export async function listLeftovers(directory: string, now: Date): Promise<string[]> {
  const paths = (await readNames(directory)).filter(isPartialName).map((name) => join(directory, name));
  const isOld = async (path: string) => {
    const stats = await stat(path).catch(() => undefined);
    return stats?.isFile() === true && now.getTime() - stats.mtimeMs > LEFTOVER_AGE_MS;
  };
  const old = await Promise.all(paths.map(isOld));
  return paths.filter((_, index) => old[index]).sort();
}

/** Removes what a killed backup has left under its id. Where the backup is whole, nothing is. */
export async function removeUnfinished(directory: string, id: string): Promise<void> {
  if (!isBackupId(id) || (await isPresent(join(directory, makeManifestName(id))))) return;
  const names = [makePartialName(id), ...makeFinalNames(id), makeMarkName(id)];
  // What can't be removed is a leftover that pruning removes.
  for (const name of names) await removeFile(join(directory, name)).catch(() => false);
}

/**
 * Removes a backup, its manifest first: a backup that is half removed must not count as one. A file that is gone
 * already is fine.
 *
 * @throws BACKUP_DIR_UNUSABLE
 */
export async function removeBackup(directory: string, backup: Backup): Promise<void> {
  await inFolder(directory, async () => {
    await removeFile(backup.manifestPath);
    await syncDirectory(directory);
    await removeFile(backup.path);
    await removeFile(join(directory, makeMarkName(backup.manifest.id)));
    await syncDirectory(directory);
  });
}

/**
 * Creates the folder (0700) when it is missing; an existing one keeps its mode, since it may be somebody's volume.
 *
 * @throws BACKUP_DIR_UNUSABLE
 */
export async function prepareFolder(directory: string): Promise<void> {
  await inFolder(directory, async () => {
    const firstCreated = await mkdir(directory, { recursive: true, mode: FOLDER_MODE });
    if (firstCreated !== undefined) await syncDirectory(dirname(firstCreated));
  });
}

/**
 * Creates the folder when it is missing and proves by writing that a backup of `neededBytes` can be put there.
 *
 * @throws BACKUP_DIR_UNUSABLE, BACKUP_NO_SPACE
 */
export async function checkFolder(directory: string, neededBytes: number): Promise<void> {
  await prepareFolder(directory);
  const availableBytes = await inFolder(directory, async () => {
    await probe(directory);
    return await readFreeBytes(directory);
  });
  if (availableBytes < neededBytes) {
    throw new DeployError("BACKUP_NO_SPACE", { path: directory, availableBytes, neededBytes });
  }
}

/** True when the folder's files die with the container. A guess for a warning: false when it can't be told. */
export async function isInContainerLayer(directory: string): Promise<boolean> {
  try {
    const mounts = await readFile("/proc/self/mountinfo", "utf8");
    return isMountOfContainer(mounts, await readNearestDirectory(directory));
  } catch {
    return false;
  }
}

async function readNames(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (cause) {
    if (readErrorCode(cause) === "ENOENT") return [];
    throw unusable(directory, cause);
  }
}

/** Rights and read-only file systems can't be asked reliably (root may do anything, it seems): only a write tells. */
async function probe(directory: string): Promise<void> {
  const path = join(directory, PROBE_NAME);
  // Not exclusively: another deploy may be probing the same folder.
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, FILE_MODE);
  await handle.close();
  await removeFile(path);
}

async function inFolder<T>(directory: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (cause) {
    if (!isNoSpace(cause)) throw unusable(directory, cause);
    const availableBytes = await readFreeBytes(directory).catch(() => 0);
    throw new DeployError("BACKUP_NO_SPACE", { path: directory, availableBytes, neededBytes: availableBytes + 1 });
  }
}

function unusable(directory: string, cause: unknown): DeployError {
  return new DeployError("BACKUP_DIR_UNUSABLE", { path: directory, reason: describeSystemError(cause) }, { cause });
}

function sortKey({ manifest }: Backup): string {
  return `${manifest.createdAt} ${manifest.id}`;
}
