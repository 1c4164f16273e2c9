#!/usr/bin/env -S bun --no-env-file
/** Writes the parts of the documents that are made from code. `--check` only tells whether they are current. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Language } from "../lib/cli/settings.ts";
import { makeHealthSettingsTable, makeSettingsTable } from "../lib/cli/settings-table.ts";
import { makeErrorPage } from "./support/error-page.ts";

const ROOT = new URL("../", import.meta.url);
const SETTINGS_SECTION = /(<!-- settings: [^\n]*-->\n)[\s\S]*?(<!-- \/settings -->)/;
const HEALTH_SETTINGS_SECTION = /(<!-- health settings: [^\n]*-->\n)[\s\S]*?(<!-- \/health settings -->)/;

const PAGES: Readonly<Record<string, (current: string) => string>> = {
  "README.md": (current) => withSettings(current, "en"),
  "README.ko.md": (current) => withSettings(current, "ko"),
  "docs/errors.md": () => makeErrorPage(),
};

for (const [path, make] of Object.entries(PAGES)) {
  const url = new URL(path, ROOT);
  const current = existsSync(url) ? readFileSync(url, "utf8") : "";
  const wanted = make(current);
  if (wanted === current) continue;
  if (process.argv.includes("--check")) process.exitCode = 1;
  else writeFileSync(url, wanted);
}

function withSettings(page: string, language: Language): string {
  const withDeploy = withSection(page, SETTINGS_SECTION, makeSettingsTable(language));
  return withSection(withDeploy, HEALTH_SETTINGS_SECTION, makeHealthSettingsTable(language));
}

function withSection(page: string, section: RegExp, text: string): string {
  return page.replace(section, (_, begin: string, end: string) => `${begin}${text}\n${end}`);
}
