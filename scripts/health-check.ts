#!/usr/bin/env -S bun --no-env-file
/** `health-check [--live] [--url URL] [flags]`: see `health-check --help`. */
import { healthCheck } from "../lib/cli/health-check.ts";
import { readStartArguments, readStartEnvironment } from "../lib/system/process-start.ts";

// Leaving at once: a socket that is still closing must not cost anybody's time.
healthCheck(readStartArguments(), readStartEnvironment()).then((exitCode) => process.exit(exitCode));
