/**
 * What must hold: over real projects' histories nothing is said of a script that is not true. Before it has run, nothing
 * may speak against «it can run again»; after it, nothing against «it is applied»; and at the end, nothing against any.
 *
 * HISTORIES_DIR names a folder of folders with a `migrations` folder each. Without it these tests are skipped.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { lookUp } from "../lib/migrations/catalog-lookup.ts";
import { type Diagnosis, type Examination, examine, type ScriptToDiagnose } from "../lib/migrations/diagnosis.ts";
import { parseScript } from "../lib/migrations/grammar.ts";
import { sharedCluster } from "./support/cluster.ts";
import { listMigrations } from "./support/prisma-cli.ts";
import { openDatabase } from "./support/restore.ts";

setDefaultTimeout(600_000);

const root = process.env.HISTORIES_DIR;
if (!root) console.warn("histories-diagnosis.test.ts: skipped, HISTORIES_DIR is not set");
const histories = root ? readdirSync(root).filter((name) => existsSync(join(root, name, "migrations"))) : [];

describe.skipIf(histories.length === 0).each(histories)("%s", (history) => {
  test("nothing untrue is said of its scripts", async () => {
    const cluster = await sharedCluster();
    const database = await cluster.createDatabase();
    const session = await openDatabase(cluster, database).open("diagnosis");
    const ask = async ({ objects, judge }: Examination): Promise<Diagnosis[]> => judge(await lookUp(session, objects));
    try {
      const scripts = await readScripts(join(root ?? "", history, "migrations"));
      const told = { before: 0, after: 0 };
      for (const script of scripts) {
        const examination = examine([script], "public");
        const [before] = await ask(examination);
        await cluster.psql(database, script.text);
        const [after] = await ask(examination);
        expect([script.name, before?.contradicted.includes("rolled-back")]).toEqual([script.name, false]);
        expect([script.name, after?.contradicted.includes("applied")]).toEqual([script.name, false]);
        if (before?.contradicted.includes("applied")) told.before += 1;
        if (after?.contradicted.includes("rolled-back")) told.after += 1;
      }
      const atTheEnd = await ask(examine(scripts, "public"));
      expect(atTheEnd.filter(({ contradicted }) => contradicted.includes("applied"))).toEqual([]);
      // Saying nothing at all would be no merit.
      expect(told.before).toBeGreaterThan(scripts.length / 2);
      expect(told.after).toBeGreaterThan(scripts.length / 2);
    } finally {
      await session.close();
    }
  });
});

async function readScripts(folder: string): Promise<ScriptToDiagnose[]> {
  const scripts: ScriptToDiagnose[] = [];
  for (const name of listMigrations(folder)) {
    const text = readFileSync(join(folder, name, "migration.sql"), "utf8");
    scripts.push({ name, text, parsed: await parseScript(text), hasError: false });
  }
  return scripts;
}
