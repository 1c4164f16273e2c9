/** How a setting is written, the same in every language. */
import type { SettingKind, SettingRow } from "./setting-table.ts";
import { formatDuration } from "./setting-table.ts";
import { SETTINGS } from "./settings.ts";

/** What is longer stands in the setting's meaning alone. */
const CHOICE_LENGTH_MAX = 24;

/** "--wait <duration>": the flag with what it takes. Empty for a setting that has none. */
export function describeFlag(row: SettingRow<unknown>): string {
  if (row.flag === undefined) return "";
  const value = describeValue(row.kind);
  return value === "" ? `--${row.flag}` : `--${row.flag} ${value}`;
}

function describeValue(kind: SettingKind<unknown>): string {
  switch (kind.type) {
    case "switch":
      return "";
    case "choice": {
      const values = kind.values.join("|");
      return values.length > CHOICE_LENGTH_MAX ? "<choice>" : values;
    }
    case "whole-number":
      return "<number>";
    default:
      return `<${kind.type}>`;
  }
}

/** The default as it would be written, so that it can be copied. Empty where nothing is used. */
export function describeDefault(row: SettingRow<unknown>): string {
  if (row.defaultShown !== undefined) return row.defaultShown;
  if (row.kind.type === "duration") return formatDuration(Number(row.default));
  // A switch that only a flag can turn on is off without it: nothing to tell.
  if (row.kind.type === "switch" && row.environment === undefined) return "";
  return String(row.default);
}

/** Only the connection string has to be given. */
export function isRequired(row: SettingRow<unknown>): boolean {
  return row === SETTINGS.databaseUrl;
}
