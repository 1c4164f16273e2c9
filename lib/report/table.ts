/** Tables of text, and the times in them. Pure. */
import { displayWidth, padDisplay } from "../system/text.ts";

const GAP = "  ";

/** `2024-12-19 14:30:22` of ISO 8601 in UTC. */
export function formatTime(at: string): string {
  return at.slice(0, "2024-12-19T14:30:22".length).replace("T", " ");
}

/** Cells under each other, nothing behind the last one. */
export function align(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell));
  }
  return rows.map((row) =>
    row
      .map((cell, column) => padDisplay(cell, widths[column] ?? 0))
      .join(GAP)
      .trimEnd(),
  );
}
