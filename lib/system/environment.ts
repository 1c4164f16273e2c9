/** The environment that this process was started with. */
import { readFileSync } from "node:fs";

/**
 * Run from source, Bun adds the `.env` of the working directory to `process.env` before our first line. A DATABASE_URL
 * must come from where the operator put it, so on Linux the kernel's own copy of the start environment is read instead.
 * Compiled binaries are built without that loading, Deno and Node don't load one.
 */
export function readStartEnvironment(): Readonly<Record<string, string | undefined>> {
  const isBunFromSource = typeof Bun !== "undefined" && !Bun.main.startsWith("/$bunfs/");
  if (!isBunFromSource) return process.env;
  try {
    const entries = readFileSync("/proc/self/environ", "utf8").split("\0").filter(Boolean);
    return Object.fromEntries(entries.map((entry) => splitOnce(entry)));
  } catch {
    // Not Linux, or no /proc: what the runtime has is all there is.
    return process.env;
  }
}

function splitOnce(entry: string): [string, string] {
  const at = entry.indexOf("=");
  return at === -1 ? [entry, ""] : [entry.slice(0, at), entry.slice(at + 1)];
}
