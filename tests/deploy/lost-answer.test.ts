/** The answer to a COMMIT is lost on its way: what is true of the database decides, and nothing is guessed. */
import { expect, test } from "bun:test";
import { startCluster } from "../support/cluster.ts";
import { makeProject, startDeploy, until } from "../support/project.ts";
import { startForgetfulNetwork } from "../support/tcp-proxy.ts";

const TABLE = "CREATE TABLE made (id int);";

test(
  "of the last one: everything is applied, so the deploy goes on",
  () => loseAnswer({ "1_table": TABLE }, 0),
  300_000,
);

test(
  "of an earlier one: the deploy stops at the boundary behind it, and the next one goes on from there",
  () => loseAnswer({ "1_table": TABLE, "2_index": "CREATE INDEX CONCURRENTLY made_id ON made (id);" }, 8),
  300_000,
);

async function loseAnswer(migrations: Readonly<Record<string, string>>, exitCode: number): Promise<void> {
  const cluster = await startCluster({ tcp: true });
  const network = await startForgetfulNetwork(cluster);
  try {
    const database = await cluster.createDatabase();
    const url = cluster.url(database).replace(`:${cluster.port}/`, `:${network.port}/`);
    const project = makeProject(migrations);
    network.loseAnswersTo("COMMIT");
    const run = startDeploy(project, { url, args: ["--", "echo", "the app has started"] });
    await until("the commit", async () => (await cluster.psql(database, "SELECT to_regclass('made')")) === "made");
    network.regainAnswers();
    network.reset();
    const { exitCode: code, stdout, stderr } = await run.ended;
    expect(code, stderr).toBe(exitCode);
    expect(stdout).toBe(exitCode === 0 ? "the app has started\n" : "");
    const rows = "SELECT string_agg(migration_name, ',') FROM _prisma_migrations WHERE finished_at IS NOT NULL";
    expect(await cluster.psql(database, rows)).toBe("1_table");
    if (exitCode === 0) return;
    const next = await startDeploy(project, { url: cluster.url(database) }).ended;
    expect(next.exitCode, next.stderr).toBe(0);
  } finally {
    network.close();
    await cluster.remove();
  }
}
