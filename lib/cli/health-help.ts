/** The text of `health-check --help`, made from the table of its settings. */
import { healthEn } from "../messages/health-en.ts";
import { healthKo } from "../messages/health-ko.ts";
import { wrapDisplay } from "../system/text.ts";
import { HEALTH_SETTINGS } from "./health-settings.ts";
import { rowsOf, type SettingRow } from "./setting-table.ts";
import { describeDefault, describeFlag } from "./setting-words.ts";
import type { Language } from "./settings.ts";

const LINE_COLUMNS = 100;
const MEANING_INDENT = "      ";

/** Every setting and exit code, in lines of at most 100 columns. No line break at the end. */
export function makeHealthHelp(language: Language): string {
  const { help } = { ko: healthKo, en: healthEn }[language];
  const rows = rowsOf(HEALTH_SETTINGS).map(([, row]) => row);
  return [
    help.usage,
    "",
    ...wrapDisplay(help.about.split(" "), LINE_COLUMNS),
    "",
    help.settings,
    ...rows.flatMap((row) => [
      `  ${makeHeading(row, help.default)}`,
      ...wrapDisplay(row.help[language].split(" "), LINE_COLUMNS - MEANING_INDENT.length).map(
        (line) => `${MEANING_INDENT}${line}`,
      ),
    ]),
    "",
    help.exitCodes,
  ].join("\n");
}

function makeHeading(row: SettingRow<unknown>, defaultWord: string): string {
  const value = describeDefault(row);
  const names = [describeFlag(row), row.environment ?? ""].filter((name) => name !== "");
  return value === "" ? names.join("  ") : `${names.join("  ")}  (${defaultWord}: ${value})`;
}
