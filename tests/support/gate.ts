/** A migration that goes on when the test says so. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { type Client, openClient } from "./client.ts";
import type { Cluster } from "./cluster.ts";
import { until } from "./project.ts";

const KEY = 424_242;

/** Waits at the gate without holding up anything else, and with nothing that a lock timeout would end. */
export const WAIT_AT_GATE = `DO $gate$ BEGIN
  LOOP EXIT WHEN pg_try_advisory_xact_lock(${KEY}); PERFORM pg_sleep(0.02); END LOOP;
END $gate$;
`;

export interface Gate {
  readonly client: Client;
  /** Waits until a migration stands at the gate. @returns its backend */
  reached(): Promise<string>;
  /** Lets everybody through, from now on, and leaves the database. */
  open(): Promise<void>;
}

export async function closeGate(cluster: Cluster, database: string): Promise<Gate> {
  const client = await openClient(cluster, database);
  await client.run(`SELECT pg_advisory_lock(${KEY})`);
  const backends = `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
    AND query LIKE '%$gate$%' AND pid <> pg_backend_pid()`;
  return {
    client,
    async reached() {
      let pid = "";
      await until("a migration stands at the gate", async () => {
        pid = await client.run(backends);
        return pid !== "";
      });
      return pid;
    },
    open: () => client.end(),
  };
}

/**
 * A gate that needs nobody to be connected: a file of the server's machine, which a superuser may look for.
 *
 * @param path of a file that is not there; creating it lets everybody through
 */
export function waitForFile(path: string): string {
  return `DO $gate$ BEGIN
    WHILE (pg_stat_file('${path}', true)).size IS NULL LOOP PERFORM pg_sleep(0.02); END LOOP;
  END $gate$;
  `;
}

/** For `waitForFile`: where the server may look. */
export function makeFlagPath(cluster: Cluster): string {
  return join(cluster.directory, `go-on-${randomBytes(6).toString("hex")}`);
}

/** The backends that stand at a gate, seen from another database. */
export async function readAtGate(cluster: Cluster, database: string): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND state = 'active' AND query LIKE '%$gate$%'`,
  );
}
