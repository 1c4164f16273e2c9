/**
 * The journal's file, `journal.jsonl` in the backup folder. A line is one write and is on the disk when `record` returns:
 * what comes next in the deploy may rely on it.
 */
import { closeSync, existsSync, fstatSync, fsyncSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { DeployError } from "../errors.ts";
import { describeSystemError, isNoSpace } from "../system/files.ts";
import { listDeploys, listNeededBackups } from "./deploys.ts";
import { formatLine, type JournalLine, type JournalOwner, type JournalStep, parseLines } from "./lines.ts";

const JOURNAL_NAME = "journal.jsonl";
const FILE_MODE = 0o600;
const LINE_BREAK = "\n";

/** The journal of one deploy. */
export interface Journal {
  readonly deploy: string;
  /** Appends one line and makes it last. @throws BACKUP_DIR_UNUSABLE, BACKUP_NO_SPACE */
  record(step: JournalStep): void;
  /** The same for what only helps: where it can't be written, the deploy goes on without it. */
  note(step: JournalStep): void;
}

/** Nothing is written yet. @param now the time of a line */
export function openJournal(directory: string, owner: JournalOwner, deploy: string, now: () => Date): Journal {
  const path = join(directory, JOURNAL_NAME);
  const journal: Journal = {
    deploy,
    record(step) {
      const { systemIdentifier, database } = owner;
      try {
        append(path, { version: 1, time: now().toISOString(), deploy, systemIdentifier, database, ...step });
      } catch (cause) {
        if (isNoSpace(cause)) {
          throw new DeployError("BACKUP_NO_SPACE", { path, availableBytes: 0, neededBytes: 1 }, { cause });
        }
        throw new DeployError("BACKUP_DIR_UNUSABLE", { path, reason: describeSystemError(cause) }, { cause });
      }
    },
    note(step) {
      try {
        journal.record(step);
      } catch {
        // See above.
      }
    },
  };
  return journal;
}

/** Every line of ours, of all databases. A journal that is not there, or can't be read, has none. */
export function readJournal(directory: string): JournalLine[] {
  try {
    return parseLines(readFileSync(join(directory, JOURNAL_NAME), "utf8"));
  } catch {
    return [];
  }
}

/** Ids of the folder's backups that a failure of any database may still need. */
export function readNeededBackups(directory: string): string[] {
  return listNeededBackups(listDeploys(readJournal(directory)));
}

/** O_APPEND and one write: lines of other deploys, which may use the same folder, are never mixed with it. */
function append(path: string, line: JournalLine): void {
  const isNew = !existsSync(path);
  const fd = openSync(path, "a+", FILE_MODE);
  try {
    // A writer that was killed, or a full disk, can have left half a line.
    const text = `${endsInLineBreak(fd) ? "" : LINE_BREAK}${formatLine(line)}`;
    const bytes = Buffer.from(text);
    if (writeSync(fd, bytes) !== bytes.length) {
      throw Object.assign(new Error("no space for a line of the journal"), { code: "ENOSPC" });
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  if (isNew) syncName(dirname(path));
}

function endsInLineBreak(fd: number): boolean {
  const { size } = fstatSync(fd);
  if (size === 0) return true;
  const last = Buffer.alloc(1);
  readSync(fd, last, 0, 1, size - 1);
  return last.toString("latin1") === LINE_BREAK;
}

/** Some file systems can't sync a directory. */
function syncName(directory: string): void {
  try {
    const fd = openSync(directory, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    // The file itself is synced all the same.
  }
}
