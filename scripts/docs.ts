#!/usr/bin/env -S bun --no-env-file
/** Writes the parts of the README that are made from code. `--check` only tells whether they are current. */
import { readFileSync, writeFileSync } from "node:fs";
import { makeSettingsTable } from "../lib/cli/settings-table.ts";

const README = new URL("../README.md", import.meta.url);
const SECTION = /(<!-- settings: [^\n]*-->\n)[\s\S]*?(<!-- \/settings -->)/;

const current = readFileSync(README, "utf8");
const wanted = current.replace(
  SECTION,
  (_, begin: string, end: string) => `${begin}${makeSettingsTable("en")}\n${end}`,
);
if (process.argv.includes("--check")) process.exitCode = wanted === current ? 0 : 1;
else writeFileSync(README, wanted);
