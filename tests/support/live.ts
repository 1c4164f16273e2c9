/** A database whose project has deployed its first migrations, and is about to deploy the next ones. */
import { expect } from "bun:test";
import { type Cluster, sharedCluster } from "./cluster.ts";
import { dumpDatabase } from "./dump.ts";
import { makeProject, type Project, runDeploy, until } from "./project.ts";

export interface Live {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
  readonly before: string;
}

type Migrations = Readonly<Record<string, string>>;

/** @param options.owner of the database, who deploys */
export async function deployFirst(
  base: Migrations,
  pending: Migrations,
  options: { readonly on?: Cluster; readonly owner?: string | undefined } = {},
): Promise<Live> {
  const { on: cluster = await sharedCluster(), owner } = options;
  const database = await cluster.createDatabase(owner === undefined ? {} : { owner });
  const url = cluster.url(database, owner === undefined ? {} : { user: owner });
  const project = makeProject(base);
  const first = await runDeploy(project, { url });
  expect(first.exitCode, first.stderr).toBe(0);
  for (const [name, sql] of Object.entries(pending)) project.add(name, sql);
  return { cluster, database, url, project, before: dumpDatabase(cluster, database) };
}

/** Numbers of our backends. Seen from another database, so that a look is no client of this one. */
export async function readOurs({ cluster, database }: Live, condition = "true"): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT pid FROM pg_stat_activity
     WHERE datname = '${database}' AND application_name LIKE 'prisma-safe-deploy%' AND ${condition}`,
  );
}

/** A backend notices the end of its client within seconds, whatever it is doing. */
export async function untilNoneOfOurs(live: Live): Promise<void> {
  await until("no backend of ours is left", async () => (await readOurs(live)) === "");
}
