/** Follows a file that a child is writing: brings it to the disk meanwhile, and tells how large it is. */
import { type FileHandle, stat } from "node:fs/promises";

export interface GrowingFile {
  /** Ends it. @throws what the disk has said to a flush: it says so once, and the next sync would hear nothing of it */
  stop(): Promise<void>;
}

const INTERVAL_MS = 50;
const TICKS_PER_REPORT = 20;
/** About as much is left to the last sync. */
const FLUSH_BYTES = 4 * 1024 * 1024;

export function followGrowth(
  handle: FileHandle,
  path: string,
  progress: ((bytes: number) => void) | undefined,
): GrowingFile {
  let flushed = 0;
  let ticks = 0;
  let isFlushing = false;
  let isStopped = false;
  let work: Promise<void> = Promise.resolve();
  let fault: unknown;
  const flush = async () => {
    isFlushing = true;
    await handle.datasync().catch((cause: unknown) => {
      fault ??= cause;
    });
    isFlushing = false;
  };
  const follow = async () => {
    const size = await readSize(path);
    if (ticks++ % TICKS_PER_REPORT === TICKS_PER_REPORT - 1) progress?.(size);
    if (isStopped || isFlushing || size - flushed < FLUSH_BYTES) return;
    flushed = size;
    work = flush();
  };
  const timer = setInterval(() => void follow(), INTERVAL_MS);
  return {
    async stop() {
      clearInterval(timer);
      isStopped = true;
      await work;
      if (fault !== undefined) throw fault;
    },
  };
}

/** 0 for a file that is not there. */
export async function readSize(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
