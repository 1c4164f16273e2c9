/** Parses as often as its argument says, and prints what the first and the last time took, and its greatest memory. */
import { readFileSync, writeSync } from "node:fs";
import { parseScript } from "../lib/migrations/grammar.ts";

async function probe(times: number): Promise<void> {
  const tookMs: number[] = [];
  for (let time = 0; time < times; time += 1) {
    const startMs = performance.now();
    await parseScript("ALTER TABLE users ADD COLUMN email text NOT NULL DEFAULT '';");
    tookMs.push(performance.now() - startMs);
  }
  const memoryMiB = Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) / 1024;
  writeSync(1, JSON.stringify({ firstMs: tookMs[0] ?? 0, lastMs: tookMs.at(-1) ?? 0, memoryMiB }));
}

void probe(Number(process.argv[2]));
