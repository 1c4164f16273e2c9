/**
 * What must hold: the migrations folder that the real Prisma CLI uses in a project is among those that we name where ours
 * is not found. Each folder that could be meant holds a migration of its own name, so that `migrate status` tells which is.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { findMigrationsDirectories } from "../../lib/migrations/project-hints.ts";
import { sharedCluster } from "../support/cluster.ts";
import { type PrismaVersion, preparePrismaProject, skipsPrisma, writeMigrations } from "../support/prisma-cli.ts";
import { parsePrismaStatus } from "../support/prisma-status.ts";

setDefaultTimeout(600_000);

interface Place {
  readonly name: string;
  readonly versions: readonly PrismaVersion[];
  /** Files with a datasource, by their path. */
  readonly schema: string;
  /** Of `prisma.config.ts`, beside the connection string. */
  readonly config?: string;
  /** Of `package.json`. */
  readonly manifest?: string;
  readonly folders: readonly string[];
  /** The one that the CLI uses, by version where they differ. */
  readonly used: string | Readonly<Record<PrismaVersion, string>>;
}

const PLACES: readonly Place[] = [
  {
    name: "beside a schema file",
    versions: [6, 7],
    schema: "prisma/schema.prisma",
    folders: ["prisma/migrations", "migrations"],
    used: "prisma/migrations",
  },
  {
    name: "beside the schema that package.json names",
    versions: [6],
    schema: "db/my.prisma",
    manifest: '"prisma": { "schema": "db/my.prisma" }',
    folders: ["db/migrations", "prisma/migrations"],
    used: "db/migrations",
  },
  {
    name: "beside the schema that prisma.config names",
    versions: [6, 7],
    schema: "db/my.prisma",
    config: 'schema: "db/my.prisma",',
    folders: ["db/migrations", "prisma/migrations"],
    used: "db/migrations",
  },
  {
    name: "where migrations.path says",
    versions: [6, 7],
    schema: "prisma/schema.prisma",
    config: 'schema: "prisma/schema.prisma", migrations: { path: "db/history" },',
    folders: ["db/history", "prisma/migrations"],
    used: "db/history",
  },
  {
    name: "in a schema folder",
    versions: [6, 7],
    schema: "prisma/schema/main.prisma",
    config: 'schema: "prisma/schema",',
    folders: ["prisma/schema/migrations", "prisma/migrations"],
    used: "prisma/schema/migrations",
  },
  {
    name: "in a schema folder whose datasource is deeper",
    versions: [6, 7],
    schema: "prisma/schema/config/main.prisma",
    config: 'schema: "prisma/schema",',
    folders: ["prisma/schema/migrations", "prisma/schema/config/migrations", "prisma/migrations"],
    used: { 6: "prisma/schema/config/migrations", 7: "prisma/schema/migrations" },
  },
];

describe.skipIf(skipsPrisma("prisma-places.test.ts")).each([...PLACES])("migrations $name", (place) => {
  test.each([...place.versions])("Prisma %i", async (version) => {
    const cluster = await sharedCluster();
    const databaseUrl = cluster.url(await cluster.createDatabase());
    const project = await preparePrismaProject({ version, migrationsFrom: {}, databaseUrl });
    layOut(project.directory, place, version);
    const status = parsePrismaStatus(await project.run(["migrate", "status"]));
    const used = typeof place.used === "string" ? place.used : place.used[version];
    expect(status.pending).toEqual([nameOf(used)]);
    const named = findMigrationsDirectories(project.directory).map(({ path }) => path);
    // Where the versions differ, both are named.
    if (typeof place.used === "string") expect(named[0]).toBe(used);
    else expect(named).toContain(used);
  });
});

function layOut(directory: string, { schema, config, manifest, folders }: Place, version: PrismaVersion): void {
  for (const path of ["prisma", "prisma.config.ts"]) rmSync(join(directory, path), { recursive: true, force: true });
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  };
  const url = version === 6 ? '  url = env("DATABASE_URL")\n' : "";
  write(schema, `datasource db {\n  provider = "postgresql"\n${url}}\n`);
  write("package.json", `{ "private": true${manifest === undefined ? "" : `, ${manifest}`} }\n`);
  const datasource = version === 7 ? 'datasource: { url: env("DATABASE_URL") },' : "";
  if (config !== undefined || version === 7) {
    write(
      "prisma.config.ts",
      `import { defineConfig, env } from "prisma/config";\nexport default defineConfig({ ${config ?? ""} ${datasource} });\n`,
    );
  }
  for (const folder of folders) {
    mkdirSync(join(directory, folder), { recursive: true });
    writeMigrations(join(directory, folder), { [nameOf(folder)]: "" });
  }
}

function nameOf(folder: string): string {
  return `1_${folder.replaceAll("/", "_")}`;
}
