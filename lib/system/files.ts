/** Files that must survive a power cut: written beside their place, synced, renamed. And how much room there is. */
import { access, open, realpath, rename, statfs, unlink } from "node:fs/promises";
import { dirname } from "node:path";

const SYSTEM_CODE = /^E[A-Z0-9]+$/u;
const NO_SPACE_CODES: readonly string[] = ["ENOSPC", "EDQUOT", "EFBIG"];
/** Some file systems (CIFS, FUSE) can't sync a directory, and some directories can be written to but not opened. */
const NO_DIRECTORY_SYNC_CODES: readonly string[] = ["EINVAL", "ENOTSUP", "EBADF", "EISDIR", "EPERM", "EACCES"];

/**
 * Writes a whole file so that its path holds either what it held before or all of the new text, also after a crash.
 *
 * Its mode is 0600 unless another is given. Throws what the file system says; nothing is left beside it then.
 */
export async function writeFileAtomically(path: string, text: string, mode = 0o600): Promise<void> {
  const partialPath = `${path}.partial`;
  await removeFile(partialPath);
  const handle = await open(partialPath, "wx", mode);
  try {
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partialPath, path);
  } catch (cause) {
    await removeFile(partialPath).catch(() => false);
    throw cause;
  }
  await syncDirectory(dirname(path));
}

/** Makes the names in a directory last: a rename or an unlink is only sure after it. */
export async function syncDirectory(path: string): Promise<void> {
  try {
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (!NO_DIRECTORY_SYNC_CODES.includes(readErrorCode(cause) ?? "")) throw cause;
  }
}

/** Removes a file. False when there was none. */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (cause) {
    if (readErrorCode(cause) === "ENOENT") return false;
    throw cause;
  }
}

export async function isPresent(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** Bytes that we may still write below a directory, as its file system tells an ordinary user. */
export async function readFreeBytes(directory: string): Promise<number> {
  const stats = await statfs(directory);
  return stats.bavail * stats.bsize;
}

/** The real path of the nearest directory above (or at) a path that may not exist yet. */
export async function readNearestDirectory(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    const parent = dirname(path);
    if (parent === path) throw cause;
    return await readNearestDirectory(parent);
  }
}

/** `ENOENT` and its like. Undefined for every error that is not the operating system's. */
export function readErrorCode(cause: unknown): string | undefined {
  const code = cause instanceof Error ? (cause as { code?: unknown }).code : undefined;
  return typeof code === "string" && SYSTEM_CODE.test(code) ? code : undefined;
}

/** True for a full disk, a used-up quota and a file size limit. */
export function isNoSpace(cause: unknown): boolean {
  return NO_SPACE_CODES.includes(readErrorCode(cause) ?? "");
}

/** The words of an operating system's error without the paths and calls that Node.js adds. */
export function describeSystemError(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.replace(/, [a-z]+( '.*')?$/su, "");
}
