/** Where a project's own files say that its migrations and its connection string are, without running any of its code. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DeployError } from "../lib/errors.ts";
import {
  addHints,
  findMigrationsDirectories,
  findNamedDirectory,
  findUrlVariable,
} from "../lib/migrations/project-hints.ts";
import { sharedCluster, temporaryDirectory } from "./support/cluster.ts";
import { makeProject, runDeploy } from "./support/project.ts";

setDefaultTimeout(120_000);

/** Files by their path; a path that ends in `/` is a migration's folder. */
type Files = Readonly<Record<string, string>>;

const SCHEMA = 'datasource db {\n  provider = "postgresql"\n  url      = env("DATABASE_URL")\n}\n';

const FOLDERS: readonly (readonly [string, Files, readonly string[]])[] = [
  ["nothing", {}, []],
  ["Prisma's own place", { "prisma/migrations/1_a/": "" }, []],
  ["beside a schema file", { "prisma/schema.prisma": SCHEMA, "prisma/migrations/1_a/": "" }, ["prisma/migrations"]],
  ["beside a schema file at the top", { "schema.prisma": SCHEMA, "migrations/1_a/": "" }, ["migrations"]],
  [
    "a schema folder, as of 6.6",
    { "prisma/schema/main.prisma": SCHEMA, "prisma/schema/migrations/1_a/": "" },
    ["prisma/schema/migrations"],
  ],
  [
    "a schema folder, up to 6.5",
    {
      "prisma/schema/main.prisma": SCHEMA,
      "package.json": '{"prisma":{"schema":"prisma/schema"}}',
      "prisma/migrations/1_a/": "",
    },
    ["prisma/migrations < package.json"],
  ],
  [
    "package.json names the schema",
    { "package.json": '{"prisma":{"schema":"./db/my.prisma"}}', "db/my.prisma": SCHEMA, "db/migrations/1_a/": "" },
    ["db/migrations < package.json"],
  ],
  [
    "prisma.config names the folder",
    {
      "prisma.config.ts":
        'export default defineConfig({ schema: "db/schema.prisma", migrations: { path: "db/history", seed: "x" } });',
      "db/history/1_a/": "",
    },
    ["db/history < prisma.config.ts"],
  ],
  [
    "prisma.config joins the folder's name",
    {
      "prisma.config.mjs":
        'export default { migrations: {\n  // path: "wrong",\n  path: path.join("db", "history") } }',
      "db/history/1_a/": "",
      "wrong/1_a/": "",
    },
    ["db/history < prisma.config.mjs"],
  ],
  [
    "prisma.config names the schema only",
    { ".config/prisma.ts": 'export default { schema: "../db/" }', "db/a.prisma": SCHEMA, "db/migrations/1_a/": "" },
    ["db/migrations < .config/prisma.ts"],
  ],
  [
    "what it names is not there",
    {
      "prisma.config.ts": 'export default { migrations: { path: "gone" } }',
      "schema.prisma": SCHEMA,
      "migrations/1_a/": "",
    },
    ["migrations"],
  ],
  [
    "a package of a monorepo, and none of node_modules",
    {
      "packages/db/prisma/schema.prisma": SCHEMA,
      "packages/db/prisma/migrations/1_a/": "",
      "node_modules/other/prisma/schema.prisma": SCHEMA,
      "node_modules/other/prisma/migrations/1_a/": "",
    },
    ["packages/db/prisma/migrations"],
  ],
  ["a folder without migrations", { "schema.prisma": SCHEMA, "migrations/notes.txt": "" }, []],
  [
    "a lock file is enough",
    { "schema.prisma": SCHEMA, "migrations/migration_lock.toml": 'provider = "postgresql"' },
    ["migrations"],
  ],
  [
    "a package.json that is none",
    { "package.json": "{", "schema.prisma": SCHEMA, "migrations/1_a/": "" },
    ["migrations"],
  ],
];

describe("the migrations folder", () => {
  test.each([...FOLDERS])("%s", (_, files, expected) => {
    const found = findMigrationsDirectories(makeFiles(files));
    expect(found.map(({ path, namedBy }) => (namedBy === undefined ? path : `${path} < ${namedBy}`))).toEqual([
      ...expected,
    ]);
  });
});

const VARIABLES: readonly (readonly [string, Files, string | undefined])[] = [
  ["nothing", {}, undefined],
  ["DATABASE_URL itself", { "prisma/schema.prisma": SCHEMA }, "DATABASE_URL < prisma/schema.prisma"],
  [
    "a schema names another one",
    { "prisma/schema.prisma": SCHEMA.replace("DATABASE_URL", "POSTGRES_URL") },
    "POSTGRES_URL < prisma/schema.prisma",
  ],
  [
    "not directUrl, and not another block",
    {
      "schema.prisma":
        'generator client {\n  url = env("NO")\n}\ndatasource db {\n  directUrl = env("DIRECT")\n  // url = env("OLD")\n  url = env("MAIN_URL")\n}\n',
    },
    "MAIN_URL < schema.prisma",
  ],
  [
    "prisma.config with env()",
    { "prisma.config.ts": 'export default { datasource: { url: env("PG_URL"), shadowDatabaseUrl: env("SHADOW") } }' },
    "PG_URL < prisma.config.ts",
  ],
  [
    "prisma.config with process.env",
    { "prisma.config.ts": "export default { datasource: { url: process.env.PG_URL! } }" },
    "PG_URL < prisma.config.ts",
  ],
  [
    "prisma.config with process.env[]",
    { "prisma.config.ts": 'export default { datasource: { url: process.env["PG_URL"] } }' },
    "PG_URL < prisma.config.ts",
  ],
  [
    "a schema folder",
    { "prisma/schema/a.prisma": "model A {}", "prisma/schema/db.prisma": SCHEMA.replace("DATABASE_URL", "PG_URL") },
    "PG_URL < prisma/schema/db.prisma",
  ],
];

describe("the variable of the connection string", () => {
  test.each([...VARIABLES])("%s", (_, files, expected) => {
    const found = findUrlVariable(makeFiles(files), "url");
    expect(found && `${found.variable} < ${found.path}`).toBe(expected);
  });

  test("DATABASE_URL itself is no hint", () => {
    const error = new DeployError("SETTINGS_INVALID", { problems: [{ kind: "missing", name: "DATABASE_URL" }] });
    expect(addHints(error, makeFiles({ "prisma/schema.prisma": SCHEMA }))).toEqual(error);
  });

  test.each([
    ["schema.prisma", 'datasource db {\n  url = env("MAIN")\n  directUrl = env("UNPOOLED")\n}\n'],
    ["prisma.config.ts", 'export default { datasource: { url: env("MAIN"), directUrl: env("UNPOOLED") } }'],
  ])("the direct one of %s is said where a pooler stands in the way", (path, text) => {
    const pooler = new DeployError("POOLER_IN_TRANSACTION_MODE", { host: "db", port: 6432 });
    expect(addHints(pooler, makeFiles({ [path]: text }))).toMatchObject({
      fields: { host: "db", port: 6432, direct: { path, variable: "UNPOOLED" } },
    });
    expect(addHints(pooler, makeFiles({}))).toEqual(pooler);
  });
});

describe("another folder than ours", () => {
  const files = {
    "prisma.config.ts": 'export default { migrations: { path: "db/history" } }',
    "db/history/1_a/": "",
    "prisma/schema.prisma": SCHEMA,
    "prisma/migrations/1_a/": "",
  };

  test("is told where a file names it, and is there", () => {
    const directory = makeFiles(files);
    expect(findNamedDirectory(directory, "prisma/migrations")).toEqual({
      path: "db/history",
      namedBy: "prisma.config.ts",
    });
    expect(findNamedDirectory(directory, "./db/history/")).toBeUndefined();
    expect(findNamedDirectory(directory, join(directory, "db/history"))).toBeUndefined();
    const { "db/history/1_a/": _, ...withoutIt } = files;
    expect(findNamedDirectory(makeFiles(withoutIt), "prisma/migrations")).toBeUndefined();
  });

  test("is said before it is migrated from ours", async () => {
    const cluster = await sharedCluster();
    const place = { ...makeProject(), directory: makeFiles(files) };
    const url = cluster.url(await cluster.createDatabase());
    const run = await runDeploy(place, { url, args: ["--lang", "en"] });
    expect(run.exitCode).toBe(0);
    expect(run.stderr).toContain("prisma.config.ts leads the CLI of Prisma to another folder: db/history");
  });
});

test("an error that has nothing to do with it stays what it is", () => {
  const error = new DeployError("SCRIPT_MISSING", { migrations: [] });
  expect(addHints(error, temporaryDirectory())).toBe(error);
  expect(addHints("thrown", temporaryDirectory())).toBe("thrown");
  const other = new DeployError("SETTINGS_INVALID", { problems: [{ kind: "missing-value", flag: "--wait" }] });
  expect(addHints(other, temporaryDirectory())).toEqual(other);
});

test("both are said by the program", async () => {
  const project = makeProject();
  const directory = makeFiles({
    "db/schema.prisma": SCHEMA.replace("DATABASE_URL", "POSTGRES_URL"),
    "db/migrations/1_a/": "",
    // Whoever runs it would fail.
    "prisma.config.ts": 'throw new Error("executed"); export default { migrations: { path: "db/migrations" } }',
  });
  const place = { ...project, directory };
  const folder = await runDeploy(place, { url: "postgresql://a@127.0.0.1:1/b", args: ["--lang", "en"] });
  expect(folder.exitCode).toBe(2);
  expect(folder.stderr).toContain("--migrations-dir db/migrations (named by prisma.config.ts)");
  const url = await runDeploy(place, { url: undefined, args: ["--lang", "en"] });
  expect(url.exitCode).toBe(2);
  expect(url.stderr).toContain("DATABASE_URL (db/schema.prisma names POSTGRES_URL)");
});

function makeFiles(files: Files): string {
  const directory = temporaryDirectory();
  for (const [name, text] of Object.entries(files)) {
    const path = join(directory, name.endsWith("/") ? `${name}migration.sql` : name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  return directory;
}
