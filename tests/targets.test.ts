/**
 * The binaries of every target, also of machines that are not this one: made for what they are called, and as large as
 * the documents say. On request, since their runtimes come from npm: `RUNTIME_MATRIX=1 bun test tests/targets.test.ts`.
 */
import { expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseProgramFormat } from "../lib/app/command.ts";
import { temporaryDirectory } from "./support/cluster.ts";
import { readDocument } from "./support/documents.ts";

const ROOT = join(import.meta.dirname, "..");
const BUILD_DEADLINE_MS = 600_000;
const HEAD_BYTES = 4096;

/** Numbers of <elf.h>, and where they stand in a file. */
const MACHINE_AT = 18;
const X86_64 = 62;
const AARCH64 = 183;

const TARGETS: readonly (readonly [target: string, machine: number, loader: string])[] = [
  ["linux-x64", X86_64, "/lib64/ld-linux-x86-64.so.2"],
  ["linux-x64-musl", X86_64, "/lib/ld-musl-x86_64.so.1"],
  ["linux-arm64", AARCH64, "/lib/ld-linux-aarch64.so.1"],
  ["linux-arm64-musl", AARCH64, "/lib/ld-musl-aarch64.so.1"],
];

/** Of the tables of sizes: the last cell of a row. */
const GLIBC = /^\| `prisma-safe-deploy-linux-x64`, .* (\d+) MB \|$/mu;
const MUSL = /^\| `prisma-safe-deploy-linux-x64-musl`, .* (\d+) MB \|$/mu;
const SCRIPTS = /^\| `deploy\.js`, .* ([\d.]+) MB, ([\d.]+) MB \|$/mu;
const TOLERANCE_MB = 3;

test.skipIf(process.env.RUNTIME_MATRIX !== "1")(
  "each binary is for its processor and its libc, and of the size that the documents tell",
  () => {
    const outdir = temporaryDirectory();
    const args = TARGETS.flatMap(([target]) => ["--target", target]);
    const built = Bun.spawnSync([process.execPath, join(ROOT, "scripts/build.ts"), "--outdir", outdir, ...args]);
    expect(built.exitCode, built.stderr.toString()).toBe(0);
    const made = TARGETS.map(([target]) => {
      const head = readFileSync(join(outdir, `prisma-safe-deploy-${target}`)).subarray(0, HEAD_BYTES);
      return [target, head.readUInt16LE(MACHINE_AT), parseProgramFormat(head, "/")];
    });
    expect(made).toEqual(TARGETS.map(([target, machine, loader]) => [target, machine, { kind: "elf", loader }]));
    const sizesMB = TARGETS.map(([target]) => statSync(join(outdir, `prisma-safe-deploy-${target}`)).size / 1e6);
    const toldMB = TARGETS.map(([target]) => readToldMB("docs/runtimes.md", target.includes("musl") ? MUSL : GLIBC));
    for (const [index, sizeMB] of sizesMB.entries()) {
      expect(Math.abs(sizeMB - (toldMB[index] ?? 0)), `${TARGETS[index]}: ${sizeMB} MB`).toBeLessThan(TOLERANCE_MB);
    }
    const scripts = ["deploy.js", "health-check.js"].map((name) => statSync(join(outdir, name)).size / 1e6);
    expect(SCRIPTS.exec(readDocument("docs/runtimes.md"))?.slice(1)).toEqual(
      scripts.map((sizeMB) => sizeMB.toFixed(1)),
    );
    const biggestMB = readToldMB("docs/prisma-differences.md", /runtime of its own is about (\d+) MB/u);
    expect(Math.abs(Math.max(...sizesMB) - biggestMB)).toBeLessThan(TOLERANCE_MB);
  },
  BUILD_DEADLINE_MS,
);

function readToldMB(path: string, pattern: RegExp): number {
  return Number(pattern.exec(readDocument(path))?.[1]);
}
