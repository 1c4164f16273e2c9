/** Takes out of the text of a dump what an older server does not know: see `unknown-setting.ts`. */
import { chmod, copyFile, type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { findUnknownSetting, HEAD_BYTES, isUnknownTo, UNKNOWN_SETTING } from "./unknown-setting.ts";

const FOLLOW_INTERVAL_MS = 20;
const FILE_MODE = 0o600;

/**
 * Overwrites it with spaces, where it is. A file that still grows is waited for until enough of it is there.
 *
 * @param growth fires when nothing more is written
 */
export async function blankUnknownSetting(path: string, growth: AbortSignal = AbortSignal.abort()): Promise<void> {
  const handle = await open(path, "r+");
  try {
    for (;;) {
      // Asked before the read: what is written in between is found by the next round.
      const mayGrow = !growth.aborted;
      const head = await readHead(handle);
      const position = findUnknownSetting(head);
      if (position !== undefined) await handle.write(" ".repeat(UNKNOWN_SETTING.length), position, "latin1");
      if (position !== undefined || head.length === HEAD_BYTES || !mayGrow) return;
      await delay(FOLLOW_INTERVAL_MS, undefined, { signal: growth }).catch(() => undefined);
    }
  } finally {
    await handle.close();
  }
}

/** Whether a plain dump that somebody else has made holds it where the server does not know it. */
export async function holdsUnknownSetting(path: string, serverMajor: number): Promise<boolean> {
  if (!isUnknownTo(serverMajor)) return false;
  const handle = await open(path, "r");
  try {
    return findUnknownSetting(await readHead(handle)) !== undefined;
  } finally {
    await handle.close();
  }
}

/** A copy without it, in a folder of ours. @returns its path */
export async function copyWithoutUnknownSetting(path: string, directory: string): Promise<string> {
  const copy = join(directory, "dump.sql");
  await copyFile(path, copy);
  await chmod(copy, FILE_MODE);
  await blankUnknownSetting(copy);
  return copy;
}

async function readHead(handle: FileHandle): Promise<Buffer> {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
  return buffer.subarray(0, bytesRead);
}
