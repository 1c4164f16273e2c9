#!/usr/bin/env -S bun --no-env-file
/** `health-check [--live] [--url URL] [flags]`: see `health-check --help`. */
import { healthCheck } from "../lib/cli/health-check.ts";
import { readStartArguments, readStartEnvironment } from "../lib/system/process-start.ts";

// What the driver throws where nobody can catch it must not make a code of its own.
process.on("uncaughtException", () => process.exit(1));

// Leaving at once: a socket that is still closing must not cost anybody's time.
process.exit(await healthCheck(readStartArguments(), readStartEnvironment()));
