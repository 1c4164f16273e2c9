#!/usr/bin/env bun
/**
 * Compiles the programs into binaries that need neither Bun nor node_modules: `dist/deploy` and `dist/health-check` for
 * this machine, or `dist/TARGET/…` with `--target linux-x64|linux-x64-musl|linux-arm64|linux-arm64-musl` (repeatable).
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { bundleOptions } from "./support/bundle.ts";

const ROOT = dirname(import.meta.dirname);
const PROGRAMS = ["deploy", "health-check"];
const TARGETS = ["linux-x64", "linux-x64-musl", "linux-arm64", "linux-arm64-musl"] as const;
type Target = (typeof TARGETS)[number];

const { values } = parseArgs({ options: { target: { type: "string", multiple: true } } });
for (const target of values.target ?? [undefined]) {
  for (const program of PROGRAMS) await build(program, selectTarget(target));
}

function selectTarget(text: string | undefined): Target | undefined {
  const target = TARGETS.find((known) => known === text);
  if (text !== undefined && target === undefined) {
    console.error(`Unknown target ${text}. Known: ${TARGETS.join(", ")}`);
    process.exit(2);
  }
  return target;
}

async function build(program: string, target: Target | undefined): Promise<void> {
  const outfile = join(ROOT, "dist", target ?? "", program);
  mkdirSync(dirname(outfile), { recursive: true });
  const scratch = mkdtempSync(join(dirname(outfile), ".build-"));
  try {
    await Bun.build({
      ...bundleOptions(program),
      // Real names and lines in a stack trace, at no cost that could be measured.
      sourcemap: "linked",
      // Halves the time of a start.
      bytecode: true,
      compile: {
        outfile: join(scratch, program),
        ...(target === undefined ? {} : { target: `bun-${target}` }),
        // What runs a few dozen times is not worth compiling to machine code; what runs long is compiled soon enough.
        jitPolicy: 4,
        // The operator's working directory must not configure us, let alone have its code run.
        autoloadDotenv: false,
        autoloadBunfig: false,
      },
    });
    renameSync(join(scratch, program), outfile);
  } finally {
    // Only source maps are left there, and those are in the binary too.
    rmSync(scratch, { recursive: true });
  }
  console.log(`${relative(ROOT, outfile)}: ${(Bun.file(outfile).size / 1024 / 1024).toFixed(1)} MiB`);
}
