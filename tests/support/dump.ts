/** A database as text, to be compared: schema and rows as the real pg_dump writes them. */
import { execFileSync } from "node:child_process";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import type { Cluster } from "./cluster.ts";

/** Looking for it asks every candidate for its version, and a distribution's wrapper is slow to answer. */
let tool: { readonly path: string } | undefined;

/** Two dumps of the same content are equal. `args` for pg_dump, for example `--schema-only`. */
export function dumpDatabase(cluster: Cluster, database: string, args: readonly string[] = []): string {
  tool ??= findClientTool("pg_dump");
  if (tool === undefined) throw new Error("pg_dump is not installed");
  const output = execFileSync(tool.path, ["--restrict-key=test", ...args, `--dbname=${database}`], {
    env: {
      PATH: process.env.PATH,
      PGHOST: cluster.host,
      PGPORT: String(cluster.port),
      PGUSER: cluster.superuser,
      PGPASSWORD: cluster.password,
    },
    encoding: "utf8",
    // What it warns of is shown only where it fails.
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1 << 30,
  });
  return output.replace(/^-- Dumped .*$/gm, "");
}

/**
 * The lines of all rows in an order of their own, Prisma's own table left out: where a row lies depends on when dead ones
 * before it were swept up, and so does the order in which pg_dump finds them.
 */
export function dumpRows(cluster: Cluster, database: string, normalise = (text: string) => text): string[] {
  const args = ["--data-only", "--inserts", "--exclude-table=_prisma_migrations"];
  return normalise(dumpDatabase(cluster, database, args))
    .split("\n")
    .sort();
}
