/**
 * What a health check costs, since it runs every few seconds for ever: `--live` as a ratio to `pg_isready`, the ready
 * check as a ratio to the real `psql -XAtc 'select 1'`, both pair by pair, so that a noisy machine is noisy for both.
 *
 * Aim for the compiled binary: `--live` at most 1.3 times pg_isready (wall), ready at most 2.5 times psql (wall and
 * CPU), at most 8 MiB of memory of its own. `bun run build` first.
 */
import { cpSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { findClientTool } from "../scripts/support/postgres-binaries.mjs";
import { startCluster, temporaryDirectory } from "../scripts/support/private-cluster.ts";

const ROOT = join(import.meta.dirname, "..");
const BINARY = join(ROOT, "dist", "health-check");
const WARM_UP_RUNS = 3;

interface Program {
  readonly name: string;
  readonly command: readonly string[];
}

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}

const { values } = parseArgs({ options: { runs: { type: "string", default: "31" } } });
if (!existsSync(BINARY)) throw new Error("dist/health-check is not there: bun run build");

const cluster = await startCluster({ tcp: true });
const app = Bun.serve({ port: 0, fetch: () => new Response("ok") });
try {
  const database = await cluster.createDatabase();
  const migrations = join(temporaryDirectory(), "migrations");
  cpSync(join(ROOT, "examples", "basic", "prisma", "migrations"), migrations, { recursive: true });
  const environment = {
    PATH: process.env.PATH ?? "",
    DATABASE_URL: cluster.url(database),
    MIGRATIONS_DIR: migrations,
    BACKUP_DIR: temporaryDirectory(),
    PGHOST: cluster.host,
    PGPORT: String(cluster.port),
    PGUSER: cluster.superuser,
    PGDATABASE: database,
  };
  await measure([process.execPath, "--no-env-file", join(ROOT, "scripts", "deploy.ts")], environment);
  const url = `http://localhost:${app.port}/`;
  await compare(makeClient("pg_isready", []), "--live", [["--live"], ["--live", "--url", url]], environment);
  await compare(makeClient("psql", ["-XAtc", "select 1"]), "ready", [[], ["--url", url]], environment);
  console.log(`memory of its own (RssAnon) while it waits for the server: ${await readOwnMiB()} MiB`);
} finally {
  await app.stop(true);
  await cluster.remove();
}

function makeClient(tool: "pg_isready" | "psql", args: readonly string[]): Program {
  const path = findClientTool("psql")?.path;
  if (path === undefined) throw new Error("psql was not found");
  return { name: [tool, ...args].join(" "), command: [path.replace(/psql$/, tool), ...args] };
}

async function compare(
  reference: Program,
  title: string,
  flags: readonly (readonly string[])[],
  environment: Record<string, string>,
): Promise<void> {
  const programs = [
    reference,
    ...flags.map((own) => ({ name: ["health-check", ...own].join(" "), command: [BINARY, ...own] })),
  ];
  const rounds: Sample[][] = [];
  for (let run = -WARM_UP_RUNS; run < Number(values.runs); run += 1) {
    const round: Sample[] = [];
    for (const { command } of programs) round.push(await measure(command, environment));
    if (run >= 0) rounds.push(round);
  }
  console.log(title);
  console.table(
    programs.map(({ name }, index) => {
      const of = (value: (sample: Sample) => number) => rounds.map((round) => value(round[index] as Sample));
      const ratio = (value: (sample: Sample) => number) =>
        rounds.map((round) => value(round[index] as Sample) / value(round[0] as Sample));
      return {
        program: name,
        "wall ms": median(of(({ wallMs }) => wallMs)).toFixed(1),
        "wall ratio": median(ratio(({ wallMs }) => wallMs)).toFixed(2),
        "CPU ms": median(of(({ cpuMs }) => cpuMs)).toFixed(1),
        "CPU ratio": median(ratio(({ cpuMs }) => cpuMs)).toFixed(2),
      };
    }),
  );
}

async function measure(command: readonly string[], env: Record<string, string>): Promise<Sample> {
  const startMs = performance.now();
  const child = Bun.spawn([...command], { env, stdio: ["ignore", "ignore", "ignore"] });
  const exitCode = await child.exited;
  const wallMs = performance.now() - startMs;
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with ${exitCode}`);
  return { wallMs, cpuMs: Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1000 };
}

/** A server that takes the connection and never answers holds the check still, so that its memory can be read. */
async function readOwnMiB(): Promise<string> {
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const child = Bun.spawn([BINARY, "--timeout", "2s"], {
    env: { DATABASE_URL: `postgresql://user@127.0.0.1:${silent.port}/database` },
    stdio: ["ignore", "ignore", "ignore"],
  });
  await Bun.sleep(500);
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  await child.exited;
  silent.stop(true);
  return (Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]) / 1024).toFixed(1);
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
