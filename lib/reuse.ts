/**
 * The backup of an earlier deploy once more: where nothing has changed since, a second one would hold the same. Without
 * it a container that restarts in a loop, over a migration that fails each time, would fill the disk.
 */
import { rereadBackup } from "./backup/reread.ts";
import { type Backup, readBackup } from "./backup/store.ts";
import { listDeploys } from "./journal/deploys.ts";
import { type JournalOwner, selectOwn } from "./journal/lines.ts";
import { readJournal } from "./journal/store.ts";
import { readFingerprint } from "./postgres/fingerprint.ts";
import type { Session } from "./postgres/session.ts";
import type { ClientTool } from "./postgres/tools.ts";
import { readRow } from "./restore/evidence.ts";
import type { Mark } from "./restore/mark.ts";
import { readMarkFile, writeMarkFile } from "./restore/mark-file.ts";
import { judgeProof, type MarkedEvidence, type OwnWork, readEvidence, readTransactionsSince } from "./restore/proof.ts";
import { isUnchanged } from "./restore/unchanged.ts";

export interface ReuseOptions {
  readonly directory: string;
  readonly owner: JournalOwner;
  readonly format: "plain" | "custom";
  readonly pgRestore: ClientTool;
  /** Where what would be migrated could be undone by a restore: then the sequences must stand where they stood. */
  readonly mayBeRestored: boolean;
  /** Of the transaction that has raised our fence before the new mark; undefined without one. */
  readonly fenceTransactionId?: string | undefined;
  readonly signal: AbortSignal;
}

export interface ReusedBackup {
  readonly backup: Backup;
  /** Of the mark that the backup was taken with: what a restore from it has to come out as. */
  readonly content: Mark["content"];
}

/**
 * The backup of the last deploy, read again in full, when it is proven that it holds what the new mark holds: the catalog
 * is the same to the last row, and no transaction has committed in between but those of our fences. Undefined where that
 * can't be proven.
 *
 * @param session of ours, outside of any transaction
 */
export async function findReusable(
  session: Session,
  mark: Mark,
  options: ReuseOptions,
): Promise<ReusedBackup | undefined> {
  const { directory, owner, format, pgRestore, fenceTransactionId, signal } = options;
  const deploys = listDeploys(selectOwn(readJournal(directory), owner));
  const last = deploys.findLast(({ backup }) => backup !== undefined);
  if (last?.backup === undefined) return undefined;
  // A fence changes nothing but settings, which the marks hold as they are without it.
  const fences = [...last.fenceTransactions, ...(fenceTransactionId === undefined ? [] : [fenceTransactionId])];
  const earlier = (await readMarkFile(directory, last.backup))?.mark;
  const backup = await readBackup(directory, last.backup);
  if (earlier === undefined || backup?.state !== "present" || backup.manifest.format !== format) return undefined;
  if (!isUnchanged(earlier, mark, options)) return undefined;
  if ((await readTransactionsSince(session, earlier, fences)) !== "none-committed") return undefined;
  try {
    await rereadBackup(backup, { pgRestore, signal });
  } catch {
    signal.throwIfAborted();
    // A damaged one is no reason to go without: a new one is taken.
    return undefined;
  }
  return { backup, content: earlier.content };
}

/**
 * After a restore in place the catalog is another one, and transactions of ours have committed: without this the next try
 * would take a new backup of what this one holds. Nothing is written where it can't be proven that nobody else has written.
 *
 * @param session one of `own.sessions`
 * @param base what was proven before it
 */
export async function renewMark(
  session: Session,
  directory: string,
  { base, backup }: { readonly base: MarkedEvidence; readonly backup: Backup },
  own: OwnWork,
): Promise<void> {
  const file = await readMarkFile(directory, backup.manifest.id);
  if (file === undefined) return;
  const { snapshot } = await readRow<{ snapshot: string }>(session, `SELECT pg_current_snapshot()::text AS "snapshot"`);
  const fingerprint = await readFingerprint(session);
  // Behind them, so that they are of what was restored.
  const { proven } = judgeProof(base, await readEvidence(session, base, own), own);
  if (proven !== undefined) await writeMarkFile(directory, { ...file, mark: { ...file.mark, snapshot, fingerprint } });
}
