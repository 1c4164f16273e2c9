/**
 * What PostgreSQL's grammar costs a deploy that has something pending: a process that parses one statement against the
 * same process that parses none, pair by pair. It is loaded then only.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { binaryOptions, bundleScript } from "../scripts/support/bundle.ts";
import { temporaryDirectory } from "../scripts/support/private-cluster.ts";

const PROBE = "../bench/parser-probe";
/** More than once, so that what only the first one costs can be told. */
const PARSED = 20;
const WARM_UP_RUNS = 2;

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly memoryMiB: number;
  readonly firstMs: number;
  readonly lastMs: number;
}

const { values } = parseArgs({ options: { runs: { type: "string", default: "21" } } });
const directory = temporaryDirectory();
const binary = join(directory, "probe");
const bundle = join(directory, "probe.js");
await Bun.build({ ...binaryOptions(PROBE), bytecode: true, compile: { outfile: binary } });
writeFileSync(bundle, await bundleScript(PROBE));

const source = join(import.meta.dirname, "parser-probe.ts");
const rows = [
  compare("compiled binary", [binary]),
  compare("script of one file, Node", ["node", bundle]),
  compare("script of one file, Bun", [process.execPath, bundle]),
  compare("source, Bun", [process.execPath, source]),
];
console.table(rows);

function compare(name: string, command: readonly string[]) {
  const pairs: { without: Sample; with: Sample }[] = [];
  for (let run = -WARM_UP_RUNS; run < Number(values.runs); run += 1) {
    const pair = { without: measure([...command, "0"]), with: measure([...command, String(PARSED)]) };
    if (run >= 0) pairs.push(pair);
  }
  const extra = (value: (sample: Sample) => number) =>
    median(pairs.map((pair) => value(pair.with) - value(pair.without))).toFixed(1);
  return {
    program: name,
    "wall ms more": extra(({ wallMs }) => wallMs),
    "CPU ms more": extra(({ cpuMs }) => cpuMs),
    "peak MiB more": extra(({ memoryMiB }) => memoryMiB),
    "first statement ms": extra(({ firstMs }) => firstMs),
    "a later one ms": median(pairs.map((pair) => pair.with.lastMs)).toFixed(2),
  };
}

function measure([file = "", ...args]: readonly string[]): Sample {
  const startMs = performance.now();
  const child = Bun.spawnSync([file, ...args], { stdout: "pipe", stderr: "inherit" });
  const wallMs = performance.now() - startMs;
  if (child.exitCode !== 0) throw new Error(`${file} ended with ${child.exitCode}`);
  const cpuMs = Number(child.resourceUsage.cpuTime.total) / 1_000;
  return { wallMs, cpuMs, ...JSON.parse(child.stdout.toString()) };
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
