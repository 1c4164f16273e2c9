/** Runs a command of the set-up to its end. Plain JavaScript on Node 20 without dependencies, as the set-up is. */
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

const INSTALL_DEADLINE_MS = 15 * 60_000;

/** Nobody is asked anything. What it has said, on both streams, is for a message about its failure. */
export function run(file, args, cwd = root) {
  const result = spawnSync(file, args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: INSTALL_DEADLINE_MS,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
  const output = `${result.stdout ?? ""}${result.stderr ?? ""}${result.error ?? ""}`.trim();
  return { isDone: result.status === 0, output };
}
