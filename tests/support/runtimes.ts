/** The other runtimes that the tests run the programs on: those of this machine, else packages of npm that carry them. */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { fetchPackage } from "../../scripts/support/npm-package.ts";

export interface Runtime {
  /** For example `Node 20`. */
  readonly name: string;
  readonly kind: "node" | "deno";
  /** Absolute, or a name in PATH. */
  readonly path: string;
}

/** The oldest Node that is supported, the oldest that can put another program in its place, and the current one. */
const NODE_VERSIONS = ["20.20.2", "22.23.3", "26.10.0"] as const;
const DENO_VERSION = "2.9.6";

let found: Promise<Runtime[]> | undefined;

/**
 * Node 20, 22, the current Node, and Deno, fetched where they are missing. One that can't be had is left out, with a line
 * that says so, but never in CI: there it is an error.
 */
export function findRuntimes(): Promise<Runtime[]> {
  found ??= Promise.all([...NODE_VERSIONS.map(findNode), findDeno()]).then((all) => all.flatMap((one) => one ?? []));
  return found;
}

async function findNode(version: string): Promise<Runtime | undefined> {
  const major = Number.parseInt(version, 10);
  const name = `Node ${major}`;
  if (readVersion("node").startsWith(`v${major}.`)) return { name, kind: "node", path: "node" };
  const path = await fetchProgram(name, `node-${process.platform}-${process.arch}@${version}`, "bin/node");
  return path === undefined ? undefined : { name, kind: "node", path };
}

async function findDeno(): Promise<Runtime | undefined> {
  const name = "Deno";
  if (readVersion("deno").startsWith("deno 2.")) return { name, kind: "deno", path: "deno" };
  const libc = process.platform === "linux" ? "-glibc" : "";
  const specifier = `@deno/${process.platform}-${process.arch}${libc}@${DENO_VERSION}`;
  const path = await fetchProgram(name, specifier, "deno");
  return path === undefined ? undefined : { name, kind: "deno", path };
}

async function fetchProgram(name: string, specifier: string, program: string): Promise<string | undefined> {
  try {
    const path = join(await fetchPackage(specifier), program);
    chmodSync(path, 0o755);
    const { status, stderr } = spawnSync(path, ["--version"], { encoding: "utf8" });
    if (status !== 0) throw new Error(`${path} does not run: ${stderr}`);
    return path;
  } catch (cause) {
    if (process.env.CI !== undefined) throw cause;
    console.warn(`Not tested on ${name}: ${cause instanceof Error ? cause.message : cause}`);
    return undefined;
  }
}

function readVersion(program: string): string {
  return spawnSync(program, ["--version"], { encoding: "utf8" }).stdout ?? "";
}
