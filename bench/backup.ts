/**
 * What a verified backup costs, as a ratio to the bare `pg_dump > file` that it stands for: in time, and on Linux in
 * processor time of all that takes part, the server included.
 *
 * Each round runs all of them in turns and is compared within itself, so that a noisy machine is noisy for all; times
 * alone mean little. Our backup is on the disk when it is done, and a bare one is not: so there are two bare ones, of
 * which one is synced. Aim: for a plain one a median of at most 1.03 of the synced one's time. What the other shows in
 * addition is the disk's price. Reading the dump takes a processor beside pg_dump and its session: where there is none
 * to spare, time comes near to the ratio of processor time.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
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

type Way = "bare" | "synced" | "verified";
const WAYS: readonly Way[] = ["bare", "synced", "verified"];

const isCounted = process.platform === "linux";
/** Of the kernel's counters, on all that it runs on here. */
const TICK_MS = 10;

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
    const args =
      format === "plain"
        ? ["--format=plain"]
        : ["--format=custom", `--compress=${pgDump.major >= 16 ? "zstd:3" : "1"}`];
    const ways: Record<Way, () => Promise<string>> = {
      bare: () => dumpBare(database, pgDump, args, { directory, isSynced: false }),
      synced: () => dumpBare(database, pgDump, args, { directory, isSynced: true }),
      verified: () => takeOurs(ours, format, name, directory),
    };
    const rounds: Round[] = [];
    // The first round warms the caches.
    for (let run = 0; run <= Number(values.runs); run += 1) {
      const round: Partial<Round> = {};
      // In turns also within a round: who comes second finds the disk busy with the first.
      for (const way of [...WAYS.slice(run % WAYS.length), ...WAYS.slice(0, run % WAYS.length)]) {
        round[way] = await measure(cluster.pid, ways[way]);
      }
      if (run > 0) rounds.push(round as Round);
      process.stdout.write(`${format}: ${WAYS.map((way) => `${describe(round[way])} ${way}`).join(", ")}\n`);
    }
    for (const base of ["synced", "bare"] as const) {
      const what = base === "synced" ? "pg_dump > file && sync file" : "pg_dump > file, which stays in memory";
      process.stdout.write(`${format}: ${summarize(rounds, base, (cost) => cost.wallMs)} of ${what}\n`);
    }
    if (isCounted) {
      const ratio = summarize(rounds, "synced", (cost) => cost.cpuMs ?? 0);
      process.stdout.write(`${format}: ${ratio} of the synced one's processor time\n`);
    }
  }
} finally {
  await cluster.remove();
}

interface Cost {
  readonly wallMs: number;
  /** Of this process, of the tools that it has run, and of the server's sessions. */
  readonly cpuMs: number | undefined;
}

type Round = Record<Way, Cost>;

/** What is written is removed without being counted. */
async function measure(server: number | undefined, act: () => Promise<string>): Promise<Cost> {
  const sessions = readSessions(server);
  const beforeMs = readCpuMs(server);
  const startedMs = performance.now();
  const path = await act();
  const wallMs = performance.now() - startedMs;
  // What a session has taken is told by the server once it has ended.
  while (readSessions(server).some((pid) => !sessions.includes(pid))) await delay(1);
  const cpuMs = isCounted ? readCpuMs(server) - beforeMs : undefined;
  rmSync(path);
  return { wallMs, cpuMs };
}

function readSessions(server: number | undefined): readonly string[] {
  if (!isCounted) return [];
  return readFileSync(`/proc/${server}/task/${server}/children`, "latin1").trim().split(" ");
}

/** The time of ended children is in their parent's: of pg_dump in ours, of its session in the server's. */
function readCpuMs(server: number | undefined): number {
  if (!isCounted) return 0;
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000 + readChildrenMs("self") + readChildrenMs(String(server));
}

function readChildrenMs(pid: string): number {
  // The name before them may hold spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
    .replace(/^.*\) /su, "")
    .split(" ");
  return (Number(fields[13]) + Number(fields[14])) * TICK_MS;
}

function describe(cost: Cost | undefined): string {
  if (cost === undefined) return "-";
  const { wallMs, cpuMs } = cost;
  const cpu = cpuMs === undefined ? "" : ` (${(cpuMs / 1000).toFixed(2)}s of processors)`;
  return `${(wallMs / 1000).toFixed(2)}s${cpu}`;
}

function summarize(rounds: readonly Round[], base: Way, of: (cost: Cost) => number): string {
  const sorted = rounds.map((round) => of(round.verified) / of(round[base])).toSorted((a, b) => a - b);
  const at = (part: number) => (sorted[Math.floor((sorted.length - 1) * part)] ?? 0).toFixed(3);
  return `median ${at(0.5)} (quartiles ${at(0.25)}, ${at(0.75)})`;
}

async function dumpBare(
  database: Database,
  pgDump: ClientTool,
  args: readonly string[],
  { directory, isSynced }: { readonly directory: string; readonly isSynced: boolean },
): Promise<string> {
  const path = join(directory, "bare");
  const fd = openSync(path, "w");
  const result = await database.runTool(pgDump, args, { sessions: 1, stdout: { fd }, deadlineMs: 600_000 });
  if (isSynced) fsyncSync(fd);
  closeSync(fd);
  if (result.exitCode !== 0) throw new Error(result.stderr);
  return path;
}

async function takeOurs(
  tools: { database: Database; pgDump: ClientTool; pgRestore: ClientTool },
  format: BackupFormat,
  name: string,
  directory: string,
): Promise<string> {
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
  return path;
}
