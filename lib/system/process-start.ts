/**
 * The environment and the arguments that this process was really started with.
 *
 * Run from source, Bun changes both before our first line: it adds the `.env` of the working directory to `process.env`,
 * and takes away a `--` that stands right behind the script. On Linux the kernel's own copies tell what was given.
 * Compiled binaries are built without that loading and see their `--`; so do Deno and Node.
 */
import { readFileSync } from "node:fs";

/** A DATABASE_URL must come from where the operator put it, never from a file that happens to lie in the folder. */
export function readStartEnvironment(): Readonly<Record<string, string | undefined>> {
  const entries = isBunFromSource() ? readKernelList("/proc/self/environ") : undefined;
  return entries === undefined ? process.env : Object.fromEntries(entries.map(splitEntry));
}

/** What stands behind the script, or behind the program's own name. */
export function readStartArguments(): readonly string[] {
  const seen = process.argv.slice(2);
  const given = isBunFromSource() ? readKernelList("/proc/self/cmdline") : undefined;
  return given?.at(-1 - seen.length) === "--" ? ["--", ...seen] : seen;
}

function isBunFromSource(): boolean {
  return typeof Bun !== "undefined" && !Bun.main.startsWith("/$bunfs/");
}

/** Undefined where there is no /proc: then what the runtime has is all there is. */
function readKernelList(path: string): string[] | undefined {
  try {
    return readFileSync(path, "utf8").split("\0").slice(0, -1);
  } catch {
    return undefined;
  }
}

function splitEntry(entry: string): [string, string] {
  const at = entry.indexOf("=");
  return at === -1 ? [entry, ""] : [entry.slice(0, at), entry.slice(at + 1)];
}
