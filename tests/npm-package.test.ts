/** What `npm pack` makes, and that it works from the packed file in an empty folder, without a network. */
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sharedCluster, temporaryDirectory } from "./support/cluster.ts";
import { OFFLINE, packRepository } from "./support/packed.ts";
import { makeProject } from "./support/project.ts";

setDefaultTimeout(180_000);

const { version } = require("../package.json");
const VERSION_LINE = new RegExp(`^${version.replaceAll(".", "\\.")} \\([0-9a-f]{12}(-changed)?\\)\\n$`);

let archive: string;
let home: string;

beforeAll(() => {
  home = temporaryDirectory();
  archive = packRepository(home);
});

function run(file: string, args: readonly string[], cwd: string, environment: Record<string, string | undefined> = {}) {
  const env = { PATH: process.env.PATH, HOME: home, ...OFFLINE, ...environment };
  const { status, stdout, stderr, error } = spawnSync(file, args, { cwd, env, encoding: "utf8" });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${status}: ${error ?? ""}${stderr}${stdout}`);
  return { stdout, stderr };
}

test("it holds the two scripts and what tells about them, and nothing of somebody's folder", () => {
  const { stdout } = run("tar", ["-tzf", archive], home);
  const expected = [
    "LICENSE",
    "README.md",
    "THIRD_PARTY_LICENSES",
    "dist/deploy.js",
    "dist/health-check.js",
    "package.json",
  ];
  expect(stdout.trimEnd().split("\n").sort()).toEqual(expected.map((name) => `package/${name}`));
});

test("npx runs it from the packed file, and tells the app's arguments from its own", async () => {
  const cluster = await sharedCluster();
  const project = makeProject({ "1_users": "CREATE TABLE users (id int);\n" });
  const environment = {
    DATABASE_URL: cluster.url(await cluster.createDatabase()),
    BACKUP_DIR: project.backupDirectory,
  };
  writeFileSync(join(project.directory, "main.js"), "console.log('the app', process.argv.slice(2));");
  const npx = ["--yes", "--package", archive];
  const deployed = run(
    "npx",
    [...npx, "prisma-safe-deploy", "--", "node", "main.js", "--lang"],
    project.directory,
    environment,
  );
  expect(deployed.stdout).toBe("the app [ '--lang' ]\n");
  expect(deployed.stderr).toContain("✅ 마이그레이션이 성공적으로 완료되었습니다.\n");
  const healthy = run("npx", [...npx, "prisma-safe-deploy", "health-check", "--quiet"], project.directory, environment);
  expect(healthy.stdout).toBe("");
  const other = run("npx", [...npx, "prisma-safe-deploy-health-check", "--lang", "en"], project.directory, environment);
  expect(other.stdout).toContain("healthy");
});

test("installed in a project it draws in nothing else, and npx and bunx find it", () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "package.json"), '{ "name": "app", "private": true }');
  run("npm", ["install", archive], directory);
  expect(readdirSync(join(directory, "node_modules")).filter((name) => !name.startsWith("."))).toEqual([
    "prisma-safe-deploy",
  ]);
  for (const program of ["prisma-safe-deploy", "prisma-safe-deploy-health-check"]) {
    expect(run("npx", [program, "--version"], directory).stdout).toMatch(VERSION_LINE);
    expect(run(process.execPath, ["x", program, "--version"], directory).stdout).toMatch(VERSION_LINE);
    expect(run(join(directory, "node_modules/.bin", program), ["--version"], directory).stdout).toMatch(VERSION_LINE);
  }
});

test("bunx runs it where there is no Node", () => {
  const directory = temporaryDirectory();
  run(process.execPath, ["add", archive], directory);
  const bin = join(directory, "path");
  mkdirSync(bin);
  for (const name of ["bun", "bunx"]) symlinkSync(process.execPath, join(bin, name));
  const told = run("bunx", ["prisma-safe-deploy", "--version"], directory, { PATH: bin });
  expect(told.stdout).toMatch(VERSION_LINE);
});
