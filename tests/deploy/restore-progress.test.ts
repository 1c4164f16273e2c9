/** How far a restore by hand is, as a machine reads it: a person who waits for it sees the same on a line. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { temporaryDirectory } from "../support/cluster.ts";
import { makeLive, open, removeQuietCluster, shut, untilAtGate } from "../support/gated-deploy.ts";
import { runDeploy, startDeploy, until } from "../support/project.ts";

setDefaultTimeout(300_000);

afterAll(removeQuietCluster);

test.each([
  ["swapped in", (database: string) => ["--yes-restore", database]],
  ["into a new database", (database: string) => ["--into", `${database}_restore_new`]],
])("%s: it is told while it works", async (_, where) => {
  const live = await makeLive();
  const { database, project, url } = live;
  expect((await runDeploy(project, { url, args: ["backup"] })).exitCode).toBe(0);
  shut(live, 500);
  const args = ["restore", "latest", ...where(database), "--log-format", "json"];
  const running = startDeploy(project, { url, args });
  await untilAtGate(live, running);
  await until("it is told", () => running.output().includes('"work":"restore"'));
  open(live, 500);
  const run = await running.ended;
  expect(run.exitCode, run.stderr).toBe(0);
});

test("the backup is read before: that is told too, each time", async () => {
  const { database, project, url } = await makeLive();
  const archive = ["backup", "--backup-format", "custom"];
  expect((await runDeploy(project, { url, args: archive })).exitCode).toBe(0);
  const slow = temporaryDirectory();
  const real = findClientTool("pg_restore")?.path ?? "";
  // Longer for the first time: a log takes what goes on from where it was for the same reading.
  const script = `#!/bin/sh\ncase "$*" in *--version*|*--dbname*|*--list*) ;; *) mkdir "$0.read" 2>&- && sleep 2; sleep 2 ;; esac\nexec "${real}" "$@"\n`;
  writeFileSync(join(slow, "pg_restore"), script);
  chmodSync(join(slow, "pg_restore"), 0o755);
  const environment = { PATH: `${slow}:${dirname(real)}:${process.env.PATH}` };
  const args = ["restore", "latest", "--yes-restore", database, "--log-format", "json"];
  const run = await runDeploy(project, { url, args, environment });
  expect(run.exitCode, run.stderr).toBe(0);
  expect(run.stderr.split('"work":"verify"').length - 1, run.stderr).toBe(2);
});
