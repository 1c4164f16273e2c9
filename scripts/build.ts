#!/usr/bin/env bun
/**
 * Makes `dist`: the programs as scripts of one file for Node, Bun and Deno, and as one binary that needs none of them and
 * is `deploy` or `health-check` by the name it is called by.
 *
 *   bun run build            scripts, and the binary for this machine
 *   bun run build --scripts  scripts only
 *   bun run build --all      scripts, and a binary for every target
 *   bun run build --target linux-x64-musl   (repeatable) scripts, and the binaries of these targets
 *
 * `--outdir DIRECTORY` instead of `dist`. Binaries that an earlier build left there are removed where new ones are made.
 */
import { createHash } from "node:crypto";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { formatBytes } from "../lib/messages/format.ts";
import { binaryOptions, bundleScript } from "./support/bundle.ts";
import { readCommit } from "./support/commit.ts";
import { fetchPackage } from "./support/npm-package.ts";
import { isMusl } from "./support/postgres-binaries.mjs";

const ROOT = dirname(import.meta.dirname);
const BINARIES = /^(deploy|health-check|prisma-safe-deploy-.*)$/;
const SHIPPED = /^(.*\.js|prisma-safe-deploy-.*)$/;
const SCRIPTS = ["deploy", "health-check"] as const;
const EXECUTABLE = 0o755;

/** Bun has other names for processors than Node. */
const RUNTIMES = {
  "linux-x64": "@oven/bun-linux-x64",
  "linux-x64-musl": "@oven/bun-linux-x64-musl",
  "linux-arm64": "@oven/bun-linux-aarch64",
  "linux-arm64-musl": "@oven/bun-linux-aarch64-musl",
} as const;
type Target = keyof typeof RUNTIMES;
const TARGETS = Object.keys(RUNTIMES) as Target[];
const HOST = `${process.platform}-${process.arch}${isMusl() ? "-musl" : ""}`;

await build();

async function build(): Promise<void> {
  const { targets, outdir } = readWishes();
  const commit = await readCommit(ROOT);
  mkdirSync(outdir, { recursive: true });
  if (targets.length > 0) {
    for (const name of readdirSync(outdir)) if (BINARIES.test(name)) rmSync(join(outdir, name));
  }
  for (const program of SCRIPTS) {
    writeFileSync(join(outdir, `${program}.js`), await bundleScript(program, { commit }), { mode: EXECUTABLE });
  }
  for (const target of targets) await compile(target, outdir, commit);
  writeFileSync(join(outdir, "SHA256SUMS"), listShipped(outdir).map(formatSum).join(""));
  for (const path of listShipped(outdir))
    console.log(`${relative(process.cwd(), path)}: ${formatBytes(statSync(path).size)}`);
}

/** What to make, and where. On a platform that has no target the binary is that of the Bun that runs here. */
function readWishes(): { readonly targets: readonly string[]; readonly outdir: string } {
  const { values } = parseArgs({
    options: {
      all: { type: "boolean", default: false },
      outdir: { type: "string", default: join(ROOT, "dist") },
      scripts: { type: "boolean", default: false },
      target: { type: "string", multiple: true, default: [] },
    },
  });
  const unknown = values.target.filter((target) => !TARGETS.some((known) => known === target));
  if (unknown.length > 0) {
    console.error(`Unknown target: ${unknown.join(", ")}. Known: ${TARGETS.join(", ")}`);
    process.exit(2);
  }
  const chosen = values.target.length > 0 ? values.target : values.scripts ? [] : [HOST];
  return { targets: values.all ? TARGETS : chosen, outdir: values.outdir };
}

/** Makes one binary. That of this machine is also `deploy`, with a link `health-check`. */
async function compile(target: string, outdir: string, commit: string | undefined): Promise<void> {
  const outfile = join(outdir, `prisma-safe-deploy-${target}`);
  const scratch = mkdtempSync(join(outdir, ".build-"));
  try {
    await Bun.build({
      ...binaryOptions("deploy", { commit }),
      // Real names and lines in a stack trace, at no cost that could be measured.
      sourcemap: "linked",
      // Halves the time of a start.
      bytecode: true,
      compile: {
        outfile: join(scratch, "binary"),
        ...(target === HOST ? {} : await findRuntime(target as Target)),
        // What runs a few dozen times is not worth compiling to machine code; what runs long is compiled soon enough.
        jitPolicy: 4,
        // The operator's working directory must not configure us, let alone have its code run.
        autoloadDotenv: false,
        autoloadBunfig: false,
      },
    });
    renameSync(join(scratch, "binary"), outfile);
  } finally {
    // Only source maps are left there, and those are in the binary too.
    rmSync(scratch, { recursive: true });
  }
  if (target === HOST) {
    linkSync(outfile, join(outdir, "deploy"));
    symlinkSync("deploy", join(outdir, "health-check"));
  }
}

/** Bun would download it by itself, past npm's settings. */
async function findRuntime(target: Target) {
  const directory = await fetchPackage(`${RUNTIMES[target]}@${Bun.version}`);
  return { target: `bun-${target}` as const, executablePath: join(directory, "bin", "bun") };
}

function listShipped(outdir: string): string[] {
  const names = readdirSync(outdir).filter((name) => SHIPPED.test(name));
  return names.sort().map((name) => join(outdir, name));
}

/** A line as `sha256sum --check` reads it. */
function formatSum(path: string): string {
  return `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${basename(path)}\n`;
}
