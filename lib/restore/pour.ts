/** Turns an archive into SQL on its way to psql: its rows are never on the disk, and take no room there. */
import type { Write } from "../system/exec.ts";
import { ArchiveText } from "./archive-text.ts";
import { type ArchiveSource, makeToolFailure, requireSuccess, runArchiveTool } from "./archive-tool.ts";

export interface PourOptions extends ArchiveSource {
  /** pg_restore writes a setting that the server does not know. */
  readonly hasUnknownSetting: boolean;
}

/**
 * Writes the archive as SQL without its COMMIT. It may return early where nobody reads any more: then the reader says why.
 *
 * @returns whether all of it was taken
 * @throws RESTORE_FAILED where pg_restore did not come to its end, or wrote what it does not write
 */
export async function pourArchive(write: Write, listPath: string, options: PourOptions): Promise<boolean> {
  const text = new ArchiveText(options.hasUnknownSetting);
  const unread = new AbortController();
  const bytes = async (chunk: Uint8Array) => {
    const free = text.push(chunk);
    if (free.length > 0 && !unread.signal.aborted && !(await write(free))) unread.abort();
  };
  const signal = options.signal === undefined ? unread.signal : AbortSignal.any([unread.signal, options.signal]);
  // In one transaction: without it the large objects get a BEGIN and a COMMIT of their own.
  const args = ["--single-transaction", `--use-list=${listPath}`, "--file=-", "--", options.path];
  const result = await runArchiveTool(args, { bytes }, { ...options, signal });
  if (unread.signal.aborted) return false;
  requireSuccess(result);
  const last = text.finish();
  if (last === undefined) throw makeToolFailure("pg_restore", 0, ["pg_restore wrote no COMMIT at the end"]);
  return await write(last);
}
