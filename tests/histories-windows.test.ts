/**
 * What must hold: a real project's history ends in the same schema and the same rows, wherever the project changes from
 * the real Prisma CLI to `deploy` or back.
 *
 * HISTORIES_DIR names a folder of folders with a `migrations` folder each, PRISMA_ORACLE_DIR the CLI. Without both these
 * tests are skipped.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { sharedCluster } from "./support/cluster.ts";
import { listMigrations, preparePrismaProject, skipsPrisma } from "./support/prisma-cli.ts";
import { ENGINES, type Engine, makeTools, readState, type Tool } from "./support/prisma-side.ts";
import { dumpSchema } from "./support/schema-dump.ts";

setDefaultTimeout(900_000);

const root = process.env.HISTORIES_DIR;
if (!root) console.warn("histories-windows.test.ts: skipped, HISTORIES_DIR is not set");
const histories = root ? readdirSync(root).filter((name) => existsSync(join(root, name, "migrations"))) : [];
const isSkipped = histories.length === 0 || skipsPrisma("histories-windows.test.ts");

describe.skipIf(isSkipped).each(histories)("%s", (history) => {
  const folder = join(root ?? "", history, "migrations");
  const names = isSkipped ? [] : listInPrismaOrder(folder);
  const [whole, split] = ENGINES;

  test(`all ${names.length} migrations by either tool, and the change after some of them`, async () => {
    if (whole === undefined || split === undefined) throw new Error("there are two engines");
    const expected = await deployInParts(folder, [["prisma", names.length]], whole);
    const third = Math.ceil(names.length / 3);
    const windows: readonly (readonly [Engine, readonly (readonly [Tool, number])[]])[] = [
      [
        split,
        [
          ["prisma", 1],
          ["deploy", names.length],
        ],
      ],
      [
        whole,
        [
          ["deploy", third],
          ["prisma", names.length],
        ],
      ],
      [
        whole,
        [
          ["prisma", names.length - 1],
          ["deploy", names.length],
        ],
      ],
      [
        split,
        [
          ["deploy", 1],
          ["prisma", third],
          ["deploy", 2 * third],
          ["prisma", names.length],
        ],
      ],
    ];
    for (const [engine, parts] of windows) {
      const label = `${engine.name}: ${parts.map(([tool, upTo]) => `${tool} up to ${upTo}`).join(", ")}`;
      expect({ label, ...(await deployInParts(folder, parts, engine)) }).toEqual({ label, ...expected });
    }
  });
});

/** One of the histories has names whose byte order is another one. */
function listInPrismaOrder(folder: string): string[] {
  return listMigrations(folder).toSorted((a, b) => a.localeCompare(b, "en"));
}

/** Each part is deployed by its tool from a folder that ends there. */
async function deployInParts(folder: string, parts: readonly (readonly [Tool, number])[], engine: Engine) {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const project = await preparePrismaProject({ version: engine.version, migrationsFrom: {}, databaseUrl: url });
  const tools = makeTools(project, engine);
  for (const [tool, upTo] of parts) {
    for (const name of listInPrismaOrder(folder).slice(0, upTo)) {
      cpSync(join(folder, name), join(project.migrations, name), { recursive: true });
    }
    const args = tool === "prisma" ? ["migrate", "deploy"] : [];
    const { exitCode, stdout, stderr } = await tools.start(tool, args, url, { MIGRATION_ORDER: "prisma" }).ended;
    // The output says why.
    expect(exitCode === 0 ? "" : `${stdout}\n${stderr}`).toBe("");
  }
  const { rows } = await readState(cluster, database, "public");
  return { rows, schema: await dumpSchema(cluster, database) };
}
