/**
 * Packages of npm that only carry a program, such as another runtime: fetched when they are first needed, and kept in
 * `.cache/packages`. Not in package.json, since nobody who installs this project needs them.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { type RunResult, run } from "../../lib/system/exec.ts";

const CACHE = join(dirname(dirname(import.meta.dirname)), ".cache", "packages");
const FETCH_DEADLINE_MS = 10 * 60_000;

/**
 * Whatever the platform that it is made for: npm would refuse to install it, but not to fetch it.
 *
 * @param specifier name and exact version, for example `@oven/bun-linux-x64@1.4.5`
 * @returns its folder
 * @throws with npm's own words where it could not be fetched
 */
export async function fetchPackage(specifier: string): Promise<string> {
  const directory = join(CACHE, specifier.replace("/", "+"));
  if (existsSync(directory)) return directory;
  mkdirSync(CACHE, { recursive: true });
  const scratch = mkdtempSync(join(CACHE, ".fetch-"));
  try {
    await runTool("npm", ["pack", "--silent", "--pack-destination", scratch, specifier], scratch);
    const [archive = ""] = readdirSync(scratch);
    await runTool("tar", ["-xzf", archive], scratch);
    install(join(scratch, "package"), directory);
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return directory;
}

/** Somebody else may have fetched it in the meantime: theirs is as good. */
function install(unpacked: string, directory: string): void {
  try {
    renameSync(unpacked, directory);
  } catch (cause) {
    if (!existsSync(directory)) throw cause;
  }
}

async function runTool(file: string, args: readonly string[], cwd: string): Promise<void> {
  const env = Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => !!entry[1]));
  const result = await run(
    { file, args, env, cwd },
    { stdout: "capture", stderr: "capture", deadlineMs: FETCH_DEADLINE_MS },
  );
  if (result.exitCode !== 0) throw new Error(`${file} ${args.join(" ")} failed: ${describe(result)}`);
}

function describe({ startError, timedOut, stderr, stdout }: RunResult): string {
  return startError ?? (timedOut ? "it took too long" : `${stderr}${stdout}`.trim());
}
