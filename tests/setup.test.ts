/** The set-up where nothing has to be installed. That it installs what is missing is for a bare machine to show. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findClientTool, findServerDirectory } from "../scripts/support/postgres-binaries.mjs";
import { temporaryDirectory } from "./support/cluster.ts";

setDefaultTimeout(120_000);

const SCRIPT = join(import.meta.dirname, "..", "scripts", "setup.mjs");

test("it says nothing and does nothing when all is there", () => {
  const { status, stdout, stderr } = runSetUp({});
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
});

test("a POSTGRES_BIN without a server is refused by name", () => {
  const empty = temporaryDirectory();
  const { status, stderr } = runSetUp({ POSTGRES_BIN: empty });
  expect(status).toBe(1);
  expect(stderr).toContain(`POSTGRES_BIN has no postgres and initdb in it: ${empty}`);
});

test("POSTGRES_BIN comes first, for the server and for the tools", () => {
  const directory = temporaryDirectory();
  for (const name of ["postgres", "initdb"]) writeProgram(join(directory, name), "postgres (PostgreSQL) 99.1");
  writeProgram(join(directory, "pg_dump"), "pg_dump (PostgreSQL) 99.1");
  expect(findServerDirectory({ POSTGRES_BIN: directory })).toBe(directory);
  expect(findClientTool("pg_dump", { POSTGRES_BIN: directory })).toEqual({
    path: join(directory, "pg_dump"),
    major: 99,
  });
});

test("a server that pg_dump could not dump is passed over", () => {
  const directory = temporaryDirectory();
  for (const name of ["postgres", "initdb"]) writeProgram(join(directory, name), "postgres (PostgreSQL) 99beta1");
  expect(findServerDirectory({ PATH: directory })).not.toBe(directory);
  writeProgram(join(directory, "pg_dump"), "pg_dump (PostgreSQL) 99beta1");
  expect(findServerDirectory({ PATH: directory })).toBe(directory);
});

test("each npm script sets up first what it needs, so that it runs in a fresh clone", () => {
  const { scripts } = require("../package.json") as { readonly scripts: Readonly<Record<string, string>> };
  const isReady = (name: string) =>
    [scripts[name], scripts[`pre${name}`]].some((command) => command?.startsWith("node scripts/setup.mjs"));
  const names = Object.keys(scripts);
  const helpers = names.filter((name) => names.some((other) => name === `pre${other}`));
  expect(helpers.length).toBeGreaterThan(5);
  expect(names.filter((name) => !helpers.includes(name) && !isReady(name))).toEqual([]);
});

function runSetUp(environment: Record<string, string>) {
  const env = { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", ...environment };
  return spawnSync(process.execPath, [SCRIPT, "--postgres"], { encoding: "utf8", env });
}

function writeProgram(path: string, answer: string): void {
  writeFileSync(path, `#!/bin/sh\necho '${answer}'\n`);
  chmodSync(path, 0o755);
}
