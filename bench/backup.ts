/**
 * What a verified plain backup costs, as a ratio to the bare `pg_dump > file` that it stands for.
 *
 * The two run in turns and are compared pair by pair, so that a noisy machine is noisy for both; times alone mean
 * little. Aim: a median of at most 1.03.
 */
import { closeSync, mkdirSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { takeBackup } from "../lib/backup/dump.ts";
import type { BackupFormat } from "../lib/backup/name.ts";
import { type Database, makeDatabase } from "../lib/postgres/database.ts";
import { type ClientTool, findTool } from "../lib/postgres/tools.ts";
import { parseConnectionUrl } from "../lib/postgres/url.ts";
import { startCluster, temporaryDirectory } from "../scripts/support/private-cluster.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "11" },
    megabytes: { type: "string", default: "300" },
    format: { type: "string", default: "plain,custom" },
  },
});

/** Rows of texts, JSON and ids, of which some are stored out of line. */
const CONTENT = `
  CREATE TABLE t AS SELECT g AS id, md5(g::text) AS a, jsonb_build_object('n', g, 's', md5(g::text)) AS doc,
    gen_random_uuid() AS uuid, now() - g * interval '1 minute' AS at
    FROM generate_series(1, :rows) g;
  CREATE TABLE wide AS SELECT g AS id, (SELECT string_agg(md5((g * i)::text), ' ') FROM generate_series(1, 200) i) AS text
    FROM generate_series(1, :rows / 200) g;
  VACUUM ANALYZE;`;
const BYTES_A_ROW = 200;

const cluster = await startCluster({ settings: { autovacuum: "off" } });
try {
  const name = await cluster.createDatabase();
  const rows = Math.ceil((Number(values.megabytes) * 1_000_000) / BYTES_A_ROW);
  await cluster.psql(name, CONTENT.replaceAll(":rows", String(rows)));
  const parsed = parseConnectionUrl(cluster.url(name));
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed.problem));
  const database = makeDatabase(parsed.target);
  const version = Number(await cluster.psql("postgres", "SHOW server_version_num"));
  const pgDump = await findTool("pg_dump", version);
  const pgRestore = await findTool("pg_restore", version);
  const directory = join(temporaryDirectory(), "backups");
  mkdirSync(directory);
  const ours = { database, pgDump, pgRestore };
  for (const format of values.format.split(",") as BackupFormat[]) {
    const args = format === "plain" ? ["--format=plain"] : ["--format=custom", "--compress=1"];
    const ratios: number[] = [];
    // The first pair warms the caches.
    for (let run = 0; run <= Number(values.runs); run += 1) {
      // In turns also within a pair: who comes second finds the disk busy with the first.
      const isFirst = run % 2 === 0;
      const early = isFirst ? await takeOurs(ours, format, name, directory) : 0;
      const bare = await dumpBare(database, pgDump, args, directory);
      const taken = isFirst ? early : await takeOurs(ours, format, name, directory);
      if (run > 0) ratios.push(taken / bare);
      process.stdout.write(`${format}: ${(bare / 1000).toFixed(2)}s bare, ${(taken / 1000).toFixed(2)}s verified\n`);
    }
    const sorted = ratios.toSorted((a, b) => a - b);
    const at = (part: number) => (sorted[Math.floor((sorted.length - 1) * part)] ?? 0).toFixed(3);
    process.stdout.write(`${format}: median ${at(0.5)} of pg_dump > file (quartiles ${at(0.25)}, ${at(0.75)})\n`);
  }
} finally {
  await cluster.remove();
}

async function dumpBare(
  database: Database,
  pgDump: ClientTool,
  args: readonly string[],
  directory: string,
): Promise<number> {
  const path = join(directory, "bare");
  const fd = openSync(path, "w");
  const startedMs = performance.now();
  const result = await database.runTool(pgDump, args, { sessions: 1, stdout: { fd }, deadlineMs: 600_000 });
  const durationMs = performance.now() - startedMs;
  closeSync(fd);
  if (result.exitCode !== 0) throw new Error(result.stderr);
  rmSync(path);
  return durationMs;
}

async function takeOurs(
  tools: { database: Database; pgDump: ClientTool; pgRestore: ClientTool },
  format: BackupFormat,
  name: string,
  directory: string,
): Promise<number> {
  const startedMs = performance.now();
  const { path } = await takeBackup(
    {
      directory,
      format,
      database: name,
      systemIdentifier: "1",
      serverVersion: tools.pgDump.version,
      snapshot: undefined,
      lockWaitMs: 30_000,
      history: { applied: 0, last: null },
      precedes: [],
    },
    { ...tools, now: () => new Date() },
  );
  const durationMs = performance.now() - startedMs;
  rmSync(path);
  return durationMs;
}
