/** The text of `backups`, `verify` and `prune`. */
import { basename } from "node:path";
import type { CheckedBackup } from "../backup/check.ts";
import type { ListedBackup } from "../backup/listing.ts";
import { formatBytes } from "../messages/format.ts";
import type { Messages } from "../messages/messages.ts";
import { showControls } from "../system/text.ts";
import { align, formatTime } from "./table.ts";

const INDENT = "   ";
const DAY_MS = 24 * 60 * 60 * 1000;

export function renderListing(list: readonly ListedBackup[], directory: string, messages: Messages): string {
  const words = messages.backups;
  if (list.length === 0) return words.none(directory);
  const { headings } = words;
  // Of one database alone its name says nothing.
  const owners = new Set(list.map(({ systemIdentifier, database }) => `${systemIdentifier} ${database}`));
  const hasDatabase = owners.size > 1;
  const select = (file: string, database: string, ...rest: readonly string[]) =>
    hasDatabase ? [file, database, ...rest] : [file, ...rest];
  const { file, database, taken, size, format, state, precedes, expiry } = headings;
  const rows = list.map((backup) =>
    select(
      basename(backup.path),
      showControls(backup.database),
      formatTime(backup.createdAt),
      formatBytes(backup.sizeBytes),
      backup.format,
      words.states[backup.state](formatTime(backup.verifiedAt)),
      describePrecedes(backup.precedes, messages),
      describeExpiry(backup, messages),
    ),
  );
  const total = list.reduce((sum, { sizeBytes, state: is }) => sum + (is === "dump-missing" ? 0 : sizeBytes), 0);
  const table = align([select(file, database, taken, size, format, state, precedes, expiry), ...rows]);
  return [`${directory}:`, ...table, words.total(list.length, formatBytes(total))].join("\n");
}

function describePrecedes([first, ...others]: readonly string[], messages: Messages): string {
  return first === undefined ? "-" : messages.backups.precedes(showControls(first), others.length);
}

function describeExpiry({ expiry }: ListedBackup, messages: Messages): string {
  const words = messages.backups.expiry;
  return expiry.kind === "after" ? words.after(Math.ceil(expiry.durationMs / DAY_MS)) : words[expiry.kind];
}

export function renderChecks(checks: readonly CheckedBackup[], messages: Messages): string {
  return checks.flatMap((check) => renderCheck(check, messages)).join("\n");
}

function renderCheck(check: CheckedBackup, { backups: words }: Messages): string[] {
  const path = showControls(check.path);
  if (!check.isGood) {
    const lines = (check.reason ?? "").split("\n").map(showControls);
    return [words.bad(path), ...lines.map((line) => `${INDENT}${line}`)];
  }
  const { format, sizeBytes = 0, tables = 0, rows = 0, largeObjects = 0 } = check;
  const lines = [
    `${format}, ${formatBytes(sizeBytes)}, ${words.content(tables, rows, largeObjects)}`,
    ...check.checked.map((part) => words.checked[part]),
    ...(check.checked.includes("checksum") ? [] : [words.noManifest]),
  ];
  return [words.good(path), ...lines.map((line) => `${INDENT}${line}`)];
}

export interface PrunedToRender {
  readonly deleted: readonly string[];
  readonly kept: number;
  readonly dryRun: boolean;
}

export function renderPruned({ deleted, kept, dryRun }: PrunedToRender, { backups: words }: Messages): string {
  const summary = (dryRun ? words.wouldDelete : words.deleted)(deleted.length, kept);
  return [summary, ...deleted.map((path) => `${INDENT}${path}`)].join("\n");
}
