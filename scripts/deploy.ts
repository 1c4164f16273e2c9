#!/usr/bin/env -S bun --no-env-file
/** `deploy [command] [flags] [-- app command...]`: see `deploy --help`. */
import { main } from "../lib/cli/main.ts";
import { readStartArguments, readStartEnvironment } from "../lib/system/process-start.ts";

// An idle event loop must not decide when we end, and neither may a socket that is still closing.
process.exit(await main(readStartArguments(), readStartEnvironment()));
