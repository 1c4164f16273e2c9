/** English for backups. Pure. */
import type { BackupWords } from "./backups.ts";

export const enBackups: BackupWords = {
  headings: {
    file: "File",
    database: "Database",
    taken: "Taken (UTC)",
    size: "Size",
    format: "Format",
    state: "State",
    precedes: "Precedes",
    expiry: "Pruned",
  },
  none: (directory) => `No backups: ${directory}`,
  total: (count, size) => `Backups: ${count}, ${size} in all`,
  states: {
    present: (verified) => `verified ${verified}`,
    "dump-missing": () => "file missing",
    "size-differs": () => "wrong size",
    damaged: () => "damaged",
  },
  precedes: (first, more) => (more === 0 ? first : `${first} (+${more})`),
  expiry: {
    due: "next time",
    after: (days) => `in ${days}d`,
    kept: "kept as minimum",
    needed: "a failure needs it",
  },
  good: (path) => `✅ Good: ${path}`,
  bad: (path) => `❌ Damaged: ${path}`,
  content: (tables, rows, largeObjects) =>
    `Tables: ${tables}, rows: ${rows}${largeObjects === 0 ? "" : `, large objects: ${largeObjects}`}`,
  checked: {
    structure: "Every statement and row was read, from the first line to the end marker, and nothing stands behind it.",
    blocks: "Every block was unpacked.",
    checksum: "Size and SHA-256 are those of the manifest.",
  },
  noManifest: "There is no manifest, so no checksum was compared: a change inside of a row would not be seen.",
  deleted: (count, kept) => `Deleted: ${count}, kept: ${kept}`,
  wouldDelete: (count, kept) => `To delete: ${count}, to keep: ${kept} (--dry-run: nothing was deleted)`,
};
