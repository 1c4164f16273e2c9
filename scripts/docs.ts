#!/usr/bin/env -S bun --no-env-file
/** Writes the parts of the documents that are made from code. `--check` only tells whether they are current. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { makeSettingsTable } from "../lib/cli/settings-table.ts";
import { makeErrorPage } from "./support/error-page.ts";

const ROOT = new URL("../", import.meta.url);
const SETTINGS_SECTION = /(<!-- settings: [^\n]*-->\n)[\s\S]*?(<!-- \/settings -->)/;

const PAGES: Readonly<Record<string, (current: string) => string>> = {
  "README.md": (current) => withSection(current, SETTINGS_SECTION, makeSettingsTable("en")),
  "README.ko.md": (current) => withSection(current, SETTINGS_SECTION, makeSettingsTable("ko")),
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

function withSection(page: string, section: RegExp, text: string): string {
  return page.replace(section, (_, begin: string, end: string) => `${begin}${text}\n${end}`);
}
