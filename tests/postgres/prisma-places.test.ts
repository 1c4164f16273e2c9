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
  /** Default: all. */
  readonly versions?: readonly PrismaVersion[];
  /** Files with a datasource, by their path. */
  readonly schema: string;
  /** Of `prisma.config.ts`, beside the connection string. */
  readonly config?: string;
  /** Of `package.json`. */
  readonly manifest?: string;
  /** Those that are there. The CLI uses the first. */
  readonly folders: readonly [string, ...string[]];
  /** Versions that use another one. */
  readonly otherwise?: Partial<Readonly<Record<PrismaVersion, string>>>;
}

const MY = { schema: "db/my.prisma", folders: ["db/migrations", "prisma/migrations"] } as const;
const IN_FOLDER = 'schema: "prisma/schema",';

const PLACES: readonly Place[] = [
  { name: "beside a schema file", schema: "prisma/schema.prisma", folders: ["prisma/migrations", "migrations"] },
  {
    name: "beside the schema that package.json names",
    versions: [6],
    ...MY,
    manifest: '"prisma": { "schema": "db/my.prisma" }',
  },
  { name: "beside the schema that prisma.config names", ...MY, config: 'schema: "db/my.prisma",' },
  {
    name: "where migrations.path says",
    schema: "prisma/schema.prisma",
    config: 'schema: "prisma/schema.prisma", migrations: { path: "db/history" },',
    folders: ["db/history", "prisma/migrations"],
  },
  {
    name: "in a schema folder",
    schema: "prisma/schema/main.prisma",
    config: IN_FOLDER,
    folders: ["prisma/schema/migrations", "prisma/migrations"],
  },
  {
    name: "in a schema folder whose datasource is deeper",
    schema: "prisma/schema/config/main.prisma",
    config: IN_FOLDER,
    folders: ["prisma/schema/migrations", "prisma/schema/config/migrations", "prisma/migrations"],
    otherwise: { 6: "prisma/schema/config/migrations" },
  },
];

describe.skipIf(skipsPrisma("prisma-places.test.ts")).each([...PLACES])("migrations $name", (place) => {
  test.each([...(place.versions ?? ([6, 7] as const))])("Prisma %i", async (version) => {
    const cluster = await sharedCluster();
    const databaseUrl = cluster.url(await cluster.createDatabase());
    const project = await preparePrismaProject({ version, migrationsFrom: {}, databaseUrl });
    layOut(project.directory, place, version);
    const status = parsePrismaStatus(await project.run(["migrate", "status"]));
    const used = place.otherwise?.[version] ?? place.folders[0];
    expect(status.pending).toEqual([nameOf(used)]);
    const named = findMigrationsDirectories(project.directory).map(({ path }) => path);
    // Where the versions differ, both are named.
    if (place.otherwise === undefined) expect(named[0]).toBe(used);
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
