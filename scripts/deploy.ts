#!/usr/bin/env -S bun --no-env-file
/**
 * `deploy [command] [flags] [-- app command...]`: see `deploy --help`. It is also `health-check`, where that is its first
 * argument or the name that it is called by: so an image needs one binary, and a link to it.
 */
import { readStartArguments, readStartEnvironment } from "../lib/system/process-start.ts";

const HEALTH_CHECK = "health-check";

// An idle event loop must not decide when we end, and neither may a socket that is still closing.
run(readStartArguments()).then((exitCode) => process.exit(exitCode));

async function run(argv: readonly string[]): Promise<number> {
  if (process.argv0.endsWith(HEALTH_CHECK)) return await runHealthCheck(argv);
  if (argv[0] === HEALTH_CHECK) return await runHealthCheck(argv.slice(1));
  const { main } = await import("../lib/cli/main.ts");
  return await main(argv, readStartEnvironment());
}

async function runHealthCheck(argv: readonly string[]): Promise<number> {
  const { healthCheck } = await import("../lib/cli/health-check.ts");
  return await healthCheck(argv, readStartEnvironment());
}
