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
import { dumpRows } from "./support/dump.ts";
import { type Engine, SERVER_15, startEngine } from "./support/native.ts";
import { makeRandom } from "./support/random.ts";
import { dumpSchema } from "./support/schema-dump.ts";

setDefaultTimeout(600_000);

const root = process.env.HISTORIES_DIR;
if (!root) console.warn("histories-segments.test.ts: skipped, HISTORIES_DIR is not set");
const histories = root ? readdirSync(root).filter((name) => existsSync(join(root, name, "migrations"))) : [];

const WINDOWS_DRAWN = 2;

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

  test.each([5, 10, 25])("of %d, wherever they begin: all that hold no reason to be cut are one", async (size) => {
    const windows = (await Promise.all(histories.map(readHistory)))
      .flatMap((scripts) => makeSlidingWindows(scripts, size))
      .filter((window) => !holdsReasonToCut(window.map(({ text }) => text)));
    const cut = windows.filter((window) => {
      const segments = makeSegments(window, SERVER_15);
      return segments.length !== 1 || segments[0]?.mode !== "atomic";
    });
    console.log(`windows of ${size} without a reason to be cut: ${windows.length}, cut: ${cut.length}`);
    expect(windows.length).toBeGreaterThan(20);
    expect(cut.map((window) => window.map(({ name }) => name))).toEqual([]);
  });
});

function makeSlidingWindows<Item>(items: readonly Item[], size: number): Item[][] {
  return items.slice(0, Math.max(1, items.length - size + 1)).map((_, start) => items.slice(start, start + size));
}

/** By the words alone, so that the grammar does not judge itself: CONCURRENTLY, transactions, a new value's second sight. */
function holdsReasonToCut(texts: readonly string[]): boolean {
  const bare = texts.map((text) => text.replaceAll(/--.*$|\/\*[\s\S]*?\*\//gm, ""));
  if (bare.some((text) => /\bCONCURRENTLY\b/i.test(text) || controlsTransactions(text))) return true;
  const all = bare.join("\n");
  const added = [...all.matchAll(/ADD VALUE (?:IF NOT EXISTS )?('[^']+')/gi)].map((match) => match[1] ?? "");
  return added.some((value) => all.split(value).length > 2);
}

/** In any other way than around all of it. */
function controlsTransactions(text: string): boolean {
  const statements = text.split(";").map((statement) => statement.trim());
  const isControl = (statement: string) => /^(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT)\b/i.test(statement);
  const [first = "", ...others] = statements.filter((statement) => statement !== "");
  const isWholeWrap = /^(BEGIN|START)\b/i.test(first) && /^(COMMIT|END)\b/i.test(others.at(-1) ?? "");
  const inside = isWholeWrap ? others.slice(0, -1) : [first, ...others];
  return inside.some(isControl);
}

describe.skipIf(histories.length === 0).each(histories)("windows of %s, drawn by lot", (history) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

  test(`merged and one by one end in the same schema and the same rows (SEED=${seed})`, async () => {
    const random = makeRandom(seed);
    const scripts = await readHistory(history);
    for (let draw = 0; draw < WINDOWS_DRAWN; draw += 1) {
      const start = Math.floor(random() * (scripts.length - 1));
      const size = 2 + Math.floor(random() * 24);
      const window = scripts.slice(start, start + size);
      const before = await apply(makeSegments(scripts.slice(0, start), SERVER_15));
      const merged = await applyOn(before, makeSegments(window, SERVER_15));
      const single = await applyOn(
        before,
        window.flatMap((script) => makeSegments([script], SERVER_15)),
      );
      const label = `${window[0]?.name} and ${window.length - 1} more`;
      expect({ label, ...merged }).toEqual({ label, ...single });
    }
  });
});

/** A copy of the database, and the window applied to it. */
async function applyOn(before: Engine, segments: readonly Segment[]): Promise<{ schema: string; rows: string[] }> {
  const name = `copy_${crypto.randomUUID().slice(0, 8)}`;
  await before.cluster.psql("postgres", `CREATE DATABASE ${name} TEMPLATE "${before.name}"`);
  const engine = await apply(segments, name);
  return { schema: await dumpSchema(engine.cluster, name), rows: dumpRows(engine.cluster, name, withoutChance) };
}

/** A time or an identifier that is made anew differs each time, however it is applied. */
function withoutChance(rows: string): string {
  return rows
    .replaceAll(/'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^']*'/g, "'time'")
    .replaceAll(/'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'/g, "'uuid'");
}

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

async function apply(segments: readonly Segment[], name?: string): Promise<Engine> {
  const engine = await startEngine(await sharedCluster(), name === undefined ? {} : { name });
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
