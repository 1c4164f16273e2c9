/** The text of `--help`, made from the table of the settings. */
import { en } from "../messages/en.ts";
import { ko } from "../messages/ko.ts";
import type { Messages } from "../messages/messages.ts";
import { align } from "../report/table.ts";
import { wrapDisplay } from "../system/text.ts";
import { rowsOf } from "./setting-table.ts";
import { describeDefault, describeFlag, isRequired } from "./setting-words.ts";
import type { Language } from "./settings.ts";
import { SETTINGS } from "./settings.ts";

const LINE_COLUMNS = 100;
const INDENT = "  ";
const MEANING_INDENT = "      ";

/** Every command, setting and exit code, in lines of at most 100 columns. No line break at the end. */
export function makeHelp(language: Language): string {
  const { labels, commandHelp } = { ko, en }[language];
  const commands = [
    ["deploy", commandHelp.deploy],
    ["deploy status", commandHelp.status],
    ["deploy plan", commandHelp.plan],
    ["deploy resolve", commandHelp.resolve],
    ["deploy baseline", commandHelp.baseline],
    ["deploy backup", commandHelp.backup],
    ["deploy backups", commandHelp.backups],
    ["deploy history", commandHelp.history],
    ["deploy verify", commandHelp.verify],
    ["deploy restore", commandHelp.restore],
    ["deploy prune", commandHelp.prune],
    ["health-check", commandHelp.healthCheck],
  ];
  return [
    labels.usage,
    "",
    labels.commands,
    ...align(commands).map((line) => `${INDENT}${line}`),
    "",
    labels.settings,
    ...makeSettingLines(language, labels),
    "",
    ...wrapDisplay(labels.exitCodes.split(/(?<=,) /), LINE_COLUMNS),
  ].join("\n");
}

/** Two lines or more for each setting: how it is written and its default, then what it means. */
function makeSettingLines(language: Language, labels: Messages["labels"]): string[] {
  const rows = rowsOf(SETTINGS).map(([, row]) => row);
  const headings = align(
    rows.map((row) => [describeFlag(row) || "-", row.environment ?? "-", describeNeed(row, labels)]),
  );
  return rows.flatMap((row, index) => [
    `${INDENT}${headings[index] ?? ""}`,
    ...wrapDisplay(row.help[language].split(" "), LINE_COLUMNS - MEANING_INDENT.length).map(
      (line) => `${MEANING_INDENT}${line}`,
    ),
  ]);
}

function describeNeed(row: Parameters<typeof isRequired>[0], labels: Messages["labels"]): string {
  if (isRequired(row)) return labels.required;
  const value = describeDefault(row);
  return value === "" ? "" : `${labels.default}: ${value}`;
}
