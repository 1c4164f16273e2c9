/**
 * What must hold on real projects' histories: nearly every window of consecutive migrations is one atomic segment, and a
 * history applied merged ends in the same schema, with as many rows everywhere, as one applied migration by migration.
 *
 * HISTORIES_DIR names a folder of folders with a `migrations` folder each. Without it these tests are skipped.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { analyseScripts } from "../lib/migrations/analysis.ts";
import { readMigrationsFolder, readScripts } from "../lib/migrations/folder.ts";
import { type AnalysedScript, makeSegments, type Segment } from "../lib/migrations/segments.ts";
import { sharedCluster } from "./support/cluster.ts";
import { type Engine, SERVER_15, startEngine } from "./support/native.ts";
import { dumpSchema } from "./support/schema-dump.ts";

setDefaultTimeout(600_000);

const root = process.env.HISTORIES_DIR;
if (!root) console.warn("histories-segments.test.ts: skipped, HISTORIES_DIR is not set");
const histories = root ? readdirSync(root).filter((name) => existsSync(join(root, name, "migrations"))) : [];

async function readHistory(history: string): Promise<AnalysedScript[]> {
  const folder = join(root ?? "", history, "migrations");
  return await analyseScripts(await readScripts(folder, readMigrationsFolder(folder).names));
}

/** Consecutive windows, the last one with what is left over. */
function makeWindows<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}

describe.skipIf(histories.length === 0)("windows of consecutive migrations", () => {
  test.each([
    { size: 5, percent: 93 },
    { size: 10, percent: 87 },
    { size: 25, percent: 75 },
  ])("of $size: at least $percent percent are one atomic segment", async ({ size, percent }) => {
    const windows = (await Promise.all(histories.map(readHistory))).flatMap((scripts) => makeWindows(scripts, size));
    const atomic = windows.filter((window) => {
      const segments = makeSegments(window, SERVER_15);
      return segments.length === 1 && segments[0]?.mode === "atomic";
    });
    const share = (100 * atomic.length) / windows.length;
    console.log(`windows of ${size}: ${atomic.length} of ${windows.length} atomic, ${share.toFixed(1)} percent`);
    expect(share).toBeGreaterThanOrEqual(percent);
  });
});

describe.skipIf(histories.length === 0).each(histories)("%s", (history) => {
  test("merged and one by one end in the same schema and as many rows", async () => {
    const scripts = await readHistory(history);
    const merged = await apply(makeSegments(scripts, SERVER_15));
    const single = await apply(scripts.flatMap((script) => makeSegments([script], SERVER_15)));
    // The grammar saw what the server would have refused.
    expect(merged.events.filter(({ kind }) => kind === "segment-split")).toEqual([]);
    expect(merged.committing.length).toBeLessThan(single.committing.length);
    expect(await dumpSchema(merged.cluster, merged.name)).toBe(await dumpSchema(single.cluster, single.name));
    expect(await countRows(merged)).toBe(await countRows(single));
    expect(await merged.rows()).toEqual(scripts.map(({ name }) => `${name} finished 1`));
  });
});

async function apply(segments: readonly Segment[]): Promise<Engine> {
  const engine = await startEngine(await sharedCluster());
  const result = await engine.applySegments(segments);
  // The error first: it says why.
  expect(result.kind === "failed" ? result.error.fields : undefined).toBeUndefined();
  await engine.session.close();
  return engine;
}

/** One line for each table. */
async function countRows(engine: Engine): Promise<string> {
  return await engine.ask(`string_agg(format('%s %s', oid::regclass, (xpath('/row/c/text()',
      query_to_xml(format('SELECT count(*) AS c FROM %s', oid::regclass), false, true, '')))[1]), E'\\n' ORDER BY relname)
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`);
}
