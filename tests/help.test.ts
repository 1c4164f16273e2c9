/** The help and the README's table: both are made from the settings, and must fit a terminal. */
import { describe, expect, test } from "bun:test";
import { HEALTH_SETTINGS } from "../lib/cli/health-settings.ts";
import { makeHelp } from "../lib/cli/help.ts";
import { rowsOf } from "../lib/cli/setting-table.ts";
import { COMMANDS, readRequest, SETTINGS } from "../lib/cli/settings.ts";
import { makeHealthSettingsTable, makeSettingsTable } from "../lib/cli/settings-table.ts";
import { displayWidth, padDisplay, wrapDisplay } from "../lib/system/text.ts";

const LANGUAGES = ["ko", "en"] as const;
const rows = rowsOf(SETTINGS).map(([, row]) => row);
const healthRows = rowsOf(HEALTH_SETTINGS).map(([, row]) => row);

describe("the width of a text in a terminal", () => {
  const WIDTHS: [string, string, number][] = [
    ["nothing", "", 0],
    ["ASCII", "deploy --wait 5s", 16],
    ["Hangul", "배포 잠금", 9],
    ["Hangul in pieces", "배포".normalize("NFD"), 4],
    ["Hangul letters on their own", "ㄱㅏ", 4],
    ["a letter with its mark apart", "e\u0301", 1],
    ["emoji", "🚀📊", 4],
    ["a sign that is drawn as an emoji", "\u26A0\uFE0F", 2],
    ["the same sign as text", "\u26A0", 1],
    ["an emoji of several", "👩‍👩‍👧", 2],
    ["an arrow", "a → b", 5],
    ["wide punctuation", "、「」！", 8],
    ["Chinese and Japanese", "漢字かな", 8],
    ["nothing to see", "\u200B\u0007", 0],
  ];

  test.each(WIDTHS)("%s", (_, text, columns) => {
    expect(displayWidth(text)).toBe(columns);
  });

  test("is what Bun says of everything that the help prints", () => {
    for (const line of LANGUAGES.flatMap((language) => makeHelp(language).split("\n"))) {
      expect(displayWidth(line)).toBe(Bun.stringWidth(line));
    }
  });

  test.each([
    ["배포", 6, "배포  "],
    ["배포", 4, "배포"],
    ["배포", 3, "배포"],
    ["", 2, "  "],
  ])("%j padded to %d columns", (text, columns, expected) => {
    expect(padDisplay(text, columns)).toBe(expected);
  });

  test.each([
    [["aa", "bb", "cc"], 5, ["aa bb", "cc"]],
    [["aa", "bb", "cc"], 4, ["aa", "bb", "cc"]],
    [["배포", "잠금"], 9, ["배포 잠금"]],
    [["배포", "잠금"], 8, ["배포", "잠금"]],
    [["longer", "a", "b"], 3, ["longer", "a b"]],
    [[], 3, []],
  ])("%j wrapped at %d columns", (pieces, columns, expected) => {
    expect(wrapDisplay(pieces, columns)).toEqual(expected);
  });
});

describe.each([...LANGUAGES])("the help in %s", (language) => {
  const help = makeHelp(language);
  const lines = help.split("\n");

  test("every line fits into 100 columns, without blanks at its end", () => {
    for (const line of lines) {
      expect(displayWidth(line)).toBeLessThanOrEqual(100);
      expect(line).toBe(line.trimEnd());
    }
    expect(lines.at(-1)).not.toBe("");
  });

  test("every setting, with its variable and its meaning", () => {
    for (const { flag, environment, help: words } of rows) {
      const line = lines.find((candidate) =>
        flag === undefined
          ? candidate.startsWith(`  - `) && candidate.split(/\s+/)[2] === environment
          : candidate.trim().split(" ")[0] === `--${flag}`,
      );
      expect(line).toBeDefined();
      if (environment !== undefined) expect(line?.split(/\s+/)).toContain(environment);
      expect(help.replaceAll(/\s+/g, " ")).toContain(words[language].replaceAll(/\s+/g, " "));
    }
  });

  test("every command", () => {
    for (const command of COMMANDS) expect(help).toMatch(new RegExp(`^ {2}deploy ${command} {2}`, "m"));
  });

  test("variables and defaults stand under each other", () => {
    const headings = lines.filter((line) => /^ {2}(--[a-z]|- )/.test(line));
    expect(headings.length).toBe(rows.length);
    const starts = headings.map((line) => /^ {2}(?:-|--\S+(?: \S+)?) {2,}/.exec(line)?.[0].length);
    expect(new Set(starts).size).toBe(1);
    const defaults = headings.flatMap((line) => / {2}(?:기본값|default|필수|required)/.exec(line)?.index ?? []);
    expect(defaults.length).toBeGreaterThan(10);
    expect(new Set(defaults).size).toBe(1);
  });
});

describe("a default that is shown", () => {
  test("means the same when it is given", () => {
    const url = "postgresql://app@db/shop";
    // What a child gets is what was given.
    const read = (environment: Record<string, string>) => ({
      ...readRequest([], { DATABASE_URL: url, ...environment }).settings(),
      childEnvironment: {},
    });
    const settings = read({});
    for (const line of makeSettingsTable("en").split("\n").slice(2)) {
      const [variable, , shown] = cellsOf(line);
      if (!variable || !shown || shown === "required" || /[<|]/.test(shown)) continue;
      expect(read({ [variable]: shown })).toEqual(settings);
    }
  });
});

describe.each([
  ["deploy", "ko", makeSettingsTable("ko"), rows],
  ["deploy", "en", makeSettingsTable("en"), rows],
  ["health-check", "ko", makeHealthSettingsTable("ko"), healthRows],
  ["health-check", "en", makeHealthSettingsTable("en"), healthRows],
] as const)("the README's table of %s in %s", (_, language, table, rows) => {
  const lines = table.split("\n");

  test("a heading, a rule, and a row for each setting, in their order", () => {
    expect(lines[1]).toBe("| --- | --- | --- | --- |");
    expect(lines.slice(2).map((line) => cellsOf(line)[0])).toEqual(rows.map(({ environment }) => environment ?? ""));
    expect(lines.slice(2).map((line) => cellsOf(line)[1]?.split(" ")[0])).toEqual(
      rows.map(({ flag }) => (flag === undefined ? "" : `--${flag}`)),
    );
    expect(lines.slice(2).map((line) => cellsOf(line)[3])).toEqual(rows.map(({ help }) => help[language]));
  });

  test("every row has four cells", () => {
    for (const line of lines) expect(cellsOf(line).length).toBe(4);
  });
});

test("a bar in a cell does not end it", () => {
  const row = makeSettingsTable("en")
    .split("\n")
    .find((line) => line.includes("MIGRATE_ENGINE"));
  expect(row).toContain("| `--migrate-engine native\\|prisma` | `native` |");
});

/** As a Markdown renderer cuts it: at bars without a backslash, marks of code taken off. */
function cellsOf(line: string): string[] {
  return line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim().replaceAll("\\|", "|"))
    .map((cell) => (/^`[^`]*`$/.test(cell) ? cell.slice(1, -1) : cell));
}
