/** How many workers restore an archive into a database of its own. Pure. */
import type { TableRows } from "../backup/manifest.ts";

export interface RestoreWork {
  readonly format: "plain" | "custom";
  /** Of the archive. */
  readonly sizeBytes: number;
  readonly tables: readonly TableRows[];
  /** Of this machine; the server's own number is not known. */
  readonly processors: number;
  /** Sessions that the server still has room for. */
  readonly freeConnections: number;
}

/** Measured: beyond it, what waits is the disk and the largest index. */
const JOBS_MAX = 8;
/** Below that, opening further sessions costs more than they bring. */
const PARALLEL_BYTES_MIN = 16 * 1024 * 1024;
/** For the app that comes back, and for us. */
const SPARE_CONNECTIONS = 5;

/**
 * 1 where nothing is gained: a plain dump is one script, and of a single table only its indexes could be shared out. One
 * more session than that, the leader's, is opened.
 */
export function chooseRestoreJobs({ format, sizeBytes, tables, processors, freeConnections }: RestoreWork): number {
  const filled = tables.filter(({ rows }) => rows > 0).length;
  if (format === "plain" || sizeBytes < PARALLEL_BYTES_MIN || filled === 0) return 1;
  // Even with two processors a worker waits for the server most of the time, and the server for the disk.
  return Math.max(1, Math.min(JOBS_MAX, Math.max(2, processors), freeConnections - SPARE_CONNECTIONS));
}
