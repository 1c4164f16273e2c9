/**
 * Merging must never change what a file means: histories drawn by lot, of what is known to behave differently in a shared
 * transaction, end in the same schema, rows and settings, whether they are merged or applied one by one.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { analyseScripts } from "../../lib/migrations/analysis.ts";
import { makeSegments, type Segment } from "../../lib/migrations/segments.ts";
import { sharedCluster } from "../support/cluster.ts";
import { dumpDatabase, dumpRows } from "../support/dump.ts";
import { makeScript, startEngine } from "../support/native.ts";
import { makeRandom } from "../support/random.ts";

setDefaultTimeout(300_000);

const ROUNDS = 5;
const MIGRATIONS = 14;
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

const BASE = `
  CREATE TYPE kind AS ENUM ('a');
  CREATE TABLE parent (id int PRIMARY KEY, name text);
  CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE item (id int, kind kind, note text);
  CREATE TABLE log (id int, setting text, value text);
  DO $$ BEGIN CREATE ROLE merged_other SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
  GRANT ALL ON ALL TABLES IN SCHEMA public TO merged_other;
`;

/** What a script finds of the session, so that it can be seen that the one before has changed nothing for it. */
const LOG_SETTINGS = (n: number) => `INSERT INTO public.log SELECT ${n}, name, CASE name
    WHEN 'role' THEN current_user::text ELSE setting END
  FROM pg_catalog.pg_settings WHERE name IN ('search_path', 'TimeZone', 'work_mem', 'lock_timeout', 'DateStyle', 'role',
    'session_replication_role', 'default_transaction_isolation', 'transaction_isolation', 'check_function_bodies');`;

/** Each is valid wherever it stands; `n` is its number. */
const PIECES: readonly ((n: number) => string)[] = [
  LOG_SETTINGS,
  LOG_SETTINGS,
  (n) => `INSERT INTO public.child VALUES (${n}, ${n}); INSERT INTO public.parent VALUES (${n}, 'late');`,
  (n) => `INSERT INTO public.child VALUES (${n}, ${n}); INSERT INTO public.parent VALUES (${n}, 'late');
    ALTER TABLE public.item ADD COLUMN c_${n} int DEFAULT ${n};`,
  (n) => `UPDATE public.parent SET name = name || '-${n}'; DELETE FROM public.item WHERE id % 7 = ${n % 7};`,
  (n) => `CREATE TABLE public.t_${n} AS SELECT * FROM public.parent; CREATE INDEX ON public.t_${n} (id);`,
  (n) => `SET search_path = pg_catalog; CREATE TABLE public.s_${n} (id int4);`,
  () => "SELECT pg_catalog.set_config('search_path', '', false);",
  () => "SET TimeZone = 'Asia/Seoul'; SET DateStyle = 'German'; SET LOCAL work_mem = '1MB';",
  () => "SET check_function_bodies = off; SET lock_timeout = '7s'; SET session_replication_role = replica;",
  () => "SET ROLE merged_other; SET default_transaction_isolation = 'serializable';",
  () => "RESET ALL;",
  (n) => `CREATE TEMP TABLE same (id int) ON COMMIT DROP; INSERT INTO same VALUES (${n});
    INSERT INTO public.item SELECT id, 'a', 'temporary' FROM same;`,
  (n) =>
    `DECLARE same CURSOR FOR SELECT * FROM public.parent; FETCH same; ALTER TABLE public.log ADD COLUMN c_${n} int;`,
  (n) => `ALTER TYPE public.kind ADD VALUE IF NOT EXISTS 'v${n % 3}';`,
  (n) => `ALTER TYPE public.kind ADD VALUE IF NOT EXISTS 'v${n % 3}';
    CREATE FUNCTION public.f_${n}() RETURNS int LANGUAGE sql AS 'SELECT ${n}';`,
  (n) => `DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_enum WHERE enumlabel = 'v${n % 3}') THEN
      EXECUTE 'INSERT INTO public.item VALUES (${n}, ''v${n % 3}'', ''seen'')';
    END IF;
  END $do$;`,
  (n) => `CREATE TABLE public.p_${n} (id int) PARTITION BY RANGE (id);
    CREATE TABLE public.p_${n}_0 PARTITION OF public.p_${n} FOR VALUES FROM (0) TO (9);
    INSERT INTO public.p_${n} VALUES (1);`,
];

/** Not behind rows of the same script that are yet to be checked. */
const SOLE: readonly ((n: number) => string)[] = [
  (n) => `ALTER TABLE public.child ADD COLUMN c_${n} int;`,
  () => "SET CONSTRAINTS ALL IMMEDIATE;",
];

/** Outside of any transaction, and so each a cut. */
const LONE: readonly ((n: number) => string)[] = [
  (n) => `CREATE INDEX CONCURRENTLY i_${n} ON public.parent (name);`,
  () => "VACUUM public.parent;",
];

function drawScript(n: number, random: () => number): string {
  const draw = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  if (random() < 0.06) return draw(LONE)(n);
  const wrap = random();
  // None of them twice: some would be in their own way.
  const pieces = [...PIECES].sort(() => random() - 0.5);
  const [first = "", second = "", third = ""] = pieces.slice(0, 3).map((piece, at) => piece(3 * n + at));
  if (random() < 0.1) return draw(SOLE)(n);
  const text = random() < 0.5 ? first : `${first}\n${second}`;
  if (wrap < 0.3) return `BEGIN;\n${text}\nCOMMIT;\n`;
  return wrap < 0.4 ? `${text}\nBEGIN;\n${third}\nCOMMIT;\n` : `-- ${n}\n${text}\n`;
}

async function applyTo(segments: readonly Segment[]) {
  const cluster = await sharedCluster();
  const name = await cluster.createDatabase();
  await cluster.psql(name, BASE);
  const engine = await startEngine(cluster, { name });
  const result = await engine.applySegments(segments);
  await engine.session.close();
  return {
    // The error first: it says why.
    failure: result.kind === "failed" ? { migration: result.failed, ...result.error.fields } : undefined,
    schema: dumpDatabase(cluster, name, ["--schema-only"]),
    rows: dumpRows(cluster, name),
    history: await engine.rows(),
    transactions: engine.committing.length,
  };
}

test.each(Array.from({ length: ROUNDS }, (_, round) => SEED + round))(
  "merged and one by one mean the same (SEED=%d)",
  async (seed) => {
    const random = makeRandom(seed);
    const texts = Array.from({ length: MIGRATIONS }, (_, n) => drawScript(n, random));
    const scripts = await analyseScripts(texts.map((text, n) => makeScript(String(n).padStart(3, "0"), text)));
    const { versionNumber } = await readVersion();
    const merged = await applyTo(makeSegments(scripts, versionNumber));
    const single = await applyTo(scripts.flatMap((script) => makeSegments([script], versionNumber)));
    expect({ ...merged, transactions: 0, texts }).toEqual({ ...single, transactions: 0, texts });
    expect(merged.failure).toBeUndefined();
    expect(merged.transactions).toBeLessThan(single.transactions);
  },
);

async function readVersion(): Promise<{ versionNumber: number }> {
  const cluster = await sharedCluster();
  return { versionNumber: Number(await cluster.psql("postgres", "SELECT current_setting('server_version_num')")) };
}
