/**
 * What a person sees, in golden files: for each scenario the output, the exit code, the rows and the schema afterwards.
 * `UPDATE=1 bun test tests/scenarios.test.ts` writes the files again; read the difference as a user would. The runtimes'
 * tests hold every way to run the program against the same files.
 */
import { test } from "bun:test";
import { sharedCluster } from "./support/cluster.ts";
import { expectGolden, play, SCENARIOS } from "./support/scenarios.ts";

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  test(`golden: ${name}`, async () => {
    expectGolden(name, await play(scenario, await sharedCluster()));
  }, 300_000);
}
