/**
 * The mark on the disk, beside the backup that it belongs to: what a later run needs to find out what a killed deploy has
 * left, and to put the marked state back.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeMarkName } from "../backup/name.ts";
import { writeFileAtomically } from "../system/files.ts";
import type { Mark } from "./mark.ts";

export interface MarkFile<Row = unknown> {
  readonly version: 1;
  /** Id of the deploy that took the mark. */
  readonly deploy: string;
  /** Id of the backup. */
  readonly backup: string;
  /** The snapshot that it names is gone with the session that exported it. */
  readonly mark: Mark;
  /** Rows of `_prisma_migrations` at the mark. */
  readonly rows: readonly Row[];
  /** Schema that holds the table, null where there was none yet. */
  readonly historySchema: string | null;
  /** Names that were about to be applied, in order. */
  readonly pending: readonly string[];
}

const PRODUCER = "prisma-safe-deploy";
const FILE_MODE = 0o600;

/** Writes it so that it lasts. Throws what the file system says. */
export async function writeMarkFile(directory: string, file: MarkFile): Promise<void> {
  const text = `${JSON.stringify({ producer: PRODUCER, ...file })}\n`;
  await writeFileAtomically(join(directory, makeMarkName(file.backup)), text, FILE_MODE);
}

/** The mark of a backup. Undefined where there is none of ours, and where it can't be read. */
export async function readMarkFile<Row>(directory: string, backup: string): Promise<MarkFile<Row> | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(directory, makeMarkName(backup)), "utf8"));
    const file = value as Partial<MarkFile<Row>> & { readonly producer?: unknown };
    const isOurs = file.producer === PRODUCER && file.version === 1 && file.backup === backup;
    return isOurs && Array.isArray(file.rows) && Array.isArray(file.pending) && typeof file.mark === "object"
      ? (file as MarkFile<Row>)
      : undefined;
  } catch {
    return undefined;
  }
}
