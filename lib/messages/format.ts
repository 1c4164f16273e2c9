/** Numbers and lists as people read them, the same in every language. */

const UNITS = ["B", "KB", "MB", "GB", "TB"] as const;

/** "12.4 MB": powers of 1000, one decimal from KB on. */
export function formatBytes(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  // 999.95 is 1000.0 with one decimal, and belongs to the next unit.
  while (value >= (unit === 0 ? 1000 : 999.95) && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** "12.4 MB / about 50.0 MB (24%)"; without an expected total, or beyond it, the bytes alone. */
export function describeData(bytes: number, totalBytes: number | undefined, about: string): string {
  if (totalBytes === undefined || bytes > totalBytes) return formatBytes(bytes);
  return `${formatBytes(bytes)} / ${about} ${formatBytes(totalBytes)} (${Math.floor((bytes / totalBytes) * 100)}%)`;
}

/** "340ms", "1.8s", "2m 05s", "1h 02m". */
export function formatDuration(durationMs: number): string {
  // Rounded before the unit is chosen, or there would be 1000ms and 60.0s.
  if (Math.round(durationMs) < 1000) return `${Math.round(durationMs)}ms`;
  const tenths = Math.round(durationMs / 100);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)}s`;
  const seconds = Math.floor(tenths / 10);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${pad(seconds % 60)}s`;
  return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
}

const LIST_LENGTH_MAX = 10;

/** The items indented, one a line; a long list keeps its beginning and its end. */
export function formatList(items: readonly string[]): string[] {
  if (items.length <= LIST_LENGTH_MAX) return items.map((item) => `  ${item}`);
  const head = items.slice(0, LIST_LENGTH_MAX - 3);
  const tail = items.slice(-2);
  return [...head, `... (+${items.length - head.length - tail.length})`, ...tail].map((item) => `  ${item}`);
}

/** The names on one line, of many only the ends: in an order that is known, these say all. */
export function formatNames(names: readonly string[]): string {
  if (names.length <= LIST_LENGTH_MAX) return names.join(", ");
  const shown = [...names.slice(0, 3), `... (+${names.length - 5})`, ...names.slice(-2)];
  return shown.join(", ");
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** A value as one word of a command that is copied into a shell. */
export function quoteWord(word: string): string {
  return /^[\w./:@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
