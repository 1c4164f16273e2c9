/** `plan --json`: its stable shape, as the documentation has it, and that nothing is printed where there is no plan. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { PlanReport } from "../lib/report/plan.ts";
import { sharedCluster } from "./support/cluster.ts";
import { dumpDatabase } from "./support/dump.ts";
import { makeProject, type Project, runDeploy } from "./support/project.ts";
import { expectRefused } from "./support/refusal.ts";

setDefaultTimeout(120_000);

const UP_TO_DATE: PlanReport = {
  state: "up-to-date",
  engine: "native",
  pending: [],
  segments: [],
  backup: null,
  restore: null,
  warnings: [],
};

async function makeDeployed() {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject({ "1_a": "CREATE TABLE a (id int);\n" });
  const url = cluster.url(database);
  const run = await runDeploy(project, { url });
  expect(run.exitCode, run.stderr).toBe(0);
  return { cluster, database, project, url };
}

async function readPlan(project: Project, url: string, args: readonly string[] = ["plan"]): Promise<PlanReport> {
  const run = await runDeploy(project, { url, args: [...args, "--json"] });
  expect(run.exitCode, run.stderr).toBe(0);
  expect(run.stdout).toMatch(/^\{.*\}\n$/);
  return JSON.parse(run.stdout);
}

test("up to date, one transaction, several: what would be run, backed up and restored", async () => {
  const { cluster, database, project, url } = await makeDeployed();
  const before = dumpDatabase(cluster, database);
  expect(await readPlan(project, url)).toEqual(UP_TO_DATE);

  project.add("2_b", "CREATE TABLE b (id int);\n");
  project.add("3_c", "CREATE TABLE c (id int);\n");
  const backup = { directory: project.backupDirectory, format: "plain" as const, sizeBytes: expect.any(Number) };
  const planned: PlanReport = {
    ...UP_TO_DATE,
    state: "pending",
    pending: ["2_b", "3_c"],
    segments: [{ migrations: ["2_b", "3_c"], atomic: true }],
    backup,
    restore: { rungs: ["rollback"], reasons: [], swapReasons: [] },
  };
  expect(await readPlan(project, url)).toEqual(planned);
  expect(await readPlan(project, url, ["--dry-run"])).toEqual(planned);

  project.add("0_late", "CREATE INDEX CONCURRENTLY a_id ON a (id);\n");
  expect(await readPlan(project, url, ["plan", "--restore", "in-place"])).toEqual({
    ...planned,
    pending: ["0_late", "2_b", "3_c"],
    segments: [
      { migrations: ["0_late"], atomic: false },
      { migrations: ["2_b", "3_c"], atomic: true },
    ],
    restore: { rungs: ["rollback", "in-place"], reasons: [], swapReasons: [] },
    warnings: [
      { about: "late", migrations: ["0_late"] },
      expect.objectContaining({ about: "non-atomic", migrations: ["0_late"] }),
    ],
  });
  expect(dumpDatabase(cluster, database)).toBe(before);
});

test("where a deploy would be refused nothing is printed, and the error is that of the deploy", async () => {
  const { project, url } = await makeDeployed();
  project.add("2_b", undefined);
  const run = await runDeploy(project, { url, args: ["plan", "--json"] });
  expectRefused(run, { exitCode: 3, code: "SCRIPT_MISSING" });
});

test("its fields are those of docs/status.md", () => {
  const page = readFileSync(join(import.meta.dirname, "..", "docs", "status.md"), "utf8");
  const [section = ""] = (page.split("## `plan --json`")[1] ?? "").split("\n## ");
  const named = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, field]) => field as string);
  expect(named).toEqual(Object.keys(UP_TO_DATE));
  const example: PlanReport = JSON.parse(/```json\n(.*)\n```/.exec(section)?.[1] ?? "");
  expect(Object.keys(example)).toEqual(named);
  for (const part of [...example.segments, example.backup, example.restore]) {
    for (const field of Object.keys(part ?? {})) expect(section).toContain(`\`${field}\``);
  }
});
