/** Whether another backup fits into the folder, and how large it will be. */
import type { Session } from "../postgres/session.ts";
import { readDataSize } from "./data-size.ts";
import { type EarlierBackup, estimateBackupBytes, sumData } from "./estimate.ts";
import type { BackupFormat } from "./name.ts";
import { type BackupOwner, checkFolder, listBackups } from "./store.ts";

export interface BackupRoom {
  readonly owner: BackupOwner;
  /** What there is to dump, for the next estimate. */
  readonly dataBytes: number;
  /** Of a backup in that format. */
  readonly estimateBytes: (format: BackupFormat) => number;
}

const DEADLINE_MS = 60_000;

/**
 * Creates the folder when it is missing, and proves that it has room for a backup.
 *
 * @throws BACKUP_DIR_UNUSABLE, BACKUP_NO_SPACE, or what the session throws
 */
export async function checkRoom(session: Session, directory: string, format: BackupFormat): Promise<BackupRoom> {
  const size = await readDataSize(session);
  const owner = await readOwner(session);
  const earlier = await findEarlier(directory, owner);
  const estimateBytes = (of: BackupFormat) => estimateBackupBytes(of, size, earlier[of]);
  await checkFolder(directory, estimateBytes(format));
  return { owner, dataBytes: sumData(size), estimateBytes };
}

/** @throws what the session throws */
export async function readOwner(session: Session): Promise<BackupOwner> {
  const [owner] = await session.query<BackupOwner>(
    `SELECT system_identifier::text AS "systemIdentifier", current_database()::text AS "database" FROM pg_control_system()`,
    { during: "read which database this is", deadlineMs: DEADLINE_MS },
  );
  if (owner === undefined) throw new Error("a statement that always answers one row has answered none");
  return owner;
}

/** The newest of each format. A folder that can't be read has none: what is wrong with it is told by the check. */
async function findEarlier(
  directory: string,
  owner: BackupOwner,
): Promise<Partial<Record<BackupFormat, EarlierBackup>>> {
  const earlier: Partial<Record<BackupFormat, EarlierBackup>> = {};
  for (const { manifest } of await listBackups(directory, owner).catch(() => [])) {
    const { format, sizeBytes, dataBytes } = manifest;
    if (dataBytes !== undefined) earlier[format] = { sizeBytes, dataBytes };
  }
  return earlier;
}
