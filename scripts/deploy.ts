#!/usr/bin/env -S bun --no-env-file
/** `deploy [command] [flags] [-- app command...]`: see `deploy --help`. */
import { main } from "../lib/cli/main.ts";
import { readStartEnvironment } from "../lib/system/environment.ts";

// An idle event loop must not decide when we end, and neither may a socket that is still closing.
process.exit(await main(process.argv.slice(2), readStartEnvironment()));
