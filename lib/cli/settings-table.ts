/** The README's tables of the settings. */
import { en } from "../messages/en.ts";
import { ko } from "../messages/ko.ts";
import { HEALTH_SETTINGS } from "./health-settings.ts";
import { rowsOf, type SettingTable } from "./setting-table.ts";
import { describeDefault, describeFlag, isRequired } from "./setting-words.ts";
import type { Language } from "./settings.ts";
import { SETTINGS } from "./settings.ts";

const WORDS = {
  ko: { headings: ["환경 변수", "플래그", "기본값", "의미"], required: ko.labels.required },
  en: { headings: ["Environment variable", "Flag", "Default", "Meaning"], required: en.labels.required },
} as const;

/** A Markdown table of every setting of `deploy`, in their order. No line break at the end. */
export function makeSettingsTable(language: Language): string {
  return makeTable(SETTINGS, language);
}

/** As above, of `health-check`. */
export function makeHealthSettingsTable(language: Language): string {
  return makeTable(HEALTH_SETTINGS, language);
}

function makeTable<S>(table: SettingTable<S>, language: Language): string {
  const { headings, required } = WORDS[language];
  const rows = rowsOf(table).map(([, row]) => [
    makeCode(row.environment ?? ""),
    makeCode(describeFlag(row)),
    isRequired(row) ? required : makeCode(describeDefault(row)),
    escapeCell(row.help[language]),
  ]);
  return [headings, headings.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function makeCode(text: string): string {
  return text === "" ? "" : `\`${escapeCell(text)}\``;
}

/** A bar would end the cell, even in code. */
function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|");
}
