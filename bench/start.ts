/**
 * What a start with nothing to do costs, as a ratio to the smallest client there is: the real `psql -XAtc 'select 1'`.
 *
 * The runs are interleaved and compared pair by pair, so that a noisy machine is noisy for both; times alone mean
 * little. Aim for the compiled binary: at most 2.5 times psql, at most 40 MiB. `bun run build` first.
 *
 * An empty compiled program stands beside ours as the least that can be. Peaks are mostly pages of the binary, of which
 * the kernel maps more or fewer with the state of its cache: the same binary was seen at 32 and at 38 MiB.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { findClientTool } from "../scripts/support/postgres-binaries.mjs";
import { startCluster, temporaryDirectory } from "../scripts/support/private-cluster.ts";

const ROOT = join(import.meta.dirname, "..");
const WARM_UP_RUNS = 3;
const MEMORY_RUNS = 5;

interface Program {
  readonly name: string;
  readonly command: readonly string[];
}

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}

/** A child's peak can't be told apart from that of the process that started it: so a small one starts it. */
const LAUNCHER = `
  const child = Bun.spawn(JSON.parse(process.argv[1]), { stdio: ["ignore", "ignore", "ignore"] });
  await child.exited;
  console.log(child.resourceUsage().maxRSS);`;

const { values } = parseArgs({ options: { runs: { type: "string", default: "31" } } });
const cluster = await startCluster({ tcp: true });
try {
  const database = await cluster.createDatabase();
  const environment = {
    PATH: process.env.PATH ?? "",
    DATABASE_URL: cluster.url(database),
    MIGRATIONS_DIR: join(ROOT, "examples", "basic", "prisma", "migrations"),
    BACKUP_DIR: temporaryDirectory(),
    PGHOST: cluster.host,
    PGPORT: String(cluster.port),
    PGUSER: cluster.superuser,
    PGDATABASE: database,
  };
  const programs = [
    ...selectPrograms(),
    { name: "an empty program", command: [await buildEmptyProgram()] },
    { name: "an empty script in Node", command: ["node", "-e", "0"] },
  ];
  // The first deploy has something to do; from then on nothing is left.
  for (const { command } of programs) {
    for (let run = 0; run < WARM_UP_RUNS; run++) await measure(command, environment);
  }
  const rounds: Sample[][] = [];
  for (let run = 0; run < Number(values.runs); run++) {
    const round: Sample[] = [];
    for (const { command } of programs) round.push(await measure(command, environment));
    rounds.push(round);
  }
  console.table(await Promise.all(programs.map((program, index) => summarise(program, index, rounds, environment))));
} finally {
  await cluster.remove();
}

function selectPrograms(): Program[] {
  const psql = findClientTool("psql")?.path;
  if (psql === undefined) throw new Error("psql was not found");
  const programs: Program[] = [{ name: "psql select 1", command: [psql, "-XAtc", "select 1"] }];
  for (const name of ["deploy", "health-check"]) {
    const binary = join(ROOT, "dist", name);
    if (existsSync(binary)) programs.push({ name: `dist/${name}`, command: [binary] });
    const bundle = join(ROOT, "dist", `${name}.js`);
    if (existsSync(bundle)) programs.push({ name: `node dist/${name}.js`, command: ["node", bundle] });
    const script = join(ROOT, "scripts", `${name}.ts`);
    programs.push({ name: `bun scripts/${name}.ts`, command: [process.execPath, "--no-env-file", script] });
  }
  return programs;
}

async function buildEmptyProgram(): Promise<string> {
  const directory = temporaryDirectory();
  const source = join(directory, "empty.ts");
  const outfile = join(directory, "empty");
  await Bun.write(source, "process.exit(0);");
  await Bun.build({ entrypoints: [source], target: "bun", format: "esm", bytecode: true, compile: { outfile } });
  return outfile;
}

async function measure(command: readonly string[], env: Record<string, string>): Promise<Sample> {
  const startMs = performance.now();
  const child = Bun.spawn([...command], { env, stdio: ["ignore", "ignore", "ignore"] });
  const exitCode = await child.exited;
  const wallMs = performance.now() - startMs;
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with ${exitCode}`);
  return { wallMs, cpuMs: Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1000 };
}

async function summarise(program: Program, index: number, rounds: Sample[][], env: Record<string, string>) {
  const of = (value: (sample: Sample) => number) => rounds.map((round) => value(round[index] as Sample));
  const ratio = (value: (sample: Sample) => number) =>
    rounds.map((round) => value(round[index] as Sample) / value(round[0] as Sample));
  const floor = await peakMiB(["/bin/true"], env);
  const peak = await peakMiB(program.command, env);
  return {
    program: program.name,
    "wall ms": median(of(({ wallMs }) => wallMs)).toFixed(1),
    "wall / psql": median(ratio(({ wallMs }) => wallMs)).toFixed(2),
    "CPU ms": median(of(({ cpuMs }) => cpuMs)).toFixed(1),
    "CPU / psql": median(ratio(({ cpuMs }) => cpuMs)).toFixed(2),
    "peak MiB": peak > floor + 1 ? peak.toFixed(1) : `< ${peak.toFixed(0)}`,
  };
}

async function peakMiB(command: readonly string[], env: Record<string, string>): Promise<number> {
  const peaks: number[] = [];
  for (let run = 0; run < MEMORY_RUNS; run++) {
    const launcher = Bun.spawn([process.execPath, "--no-env-file", "-e", LAUNCHER, JSON.stringify(command)], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    peaks.push(Number(await new Response(launcher.stdout).text()) / 1024 / 1024);
  }
  return median(peaks);
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
