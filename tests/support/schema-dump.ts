/** The schema of a database as text that can be compared. */
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import type { Cluster } from "./cluster.ts";

/** `pg_dump --schema-only`, the same text for the same schema. */
export async function dumpSchema(cluster: Cluster, database: string, args: readonly string[] = []): Promise<string> {
  const tool = findClientTool("pg_dump");
  if (tool === undefined) throw new Error("pg_dump was not found");
  const child = Bun.spawn([tool.path, "--schema-only", "--restrict-key=abc", ...args, database], {
    env: { PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: cluster.superuser, LC_ALL: "C" },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [text, problem] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(problem);
  return text;
}
