/**
 * Real PostgreSQL servers for tests. A test that only needs a database takes a fresh one in the shared cluster.
 */
import { type Cluster, startCluster } from "../../scripts/support/private-cluster.ts";

export {
  type Cluster,
  type ClusterOptions,
  freePort,
  startCluster,
  temporaryDirectory,
} from "../../scripts/support/private-cluster.ts";

const SHARED_KEY = Symbol.for("prisma-safe-deploy tests shared cluster");

/** One cluster shared by all test files of a run, started at first use and stopped at the end. Never stop it yourself. */
export async function sharedCluster(): Promise<Cluster> {
  const holder = globalThis as { [SHARED_KEY]?: Promise<Cluster> };
  // Every test of a run is a client of it, and a session that a test leaves open lasts until the end of the run.
  holder[SHARED_KEY] ??= startCluster({ settings: { max_connections: "500" } });
  return await holder[SHARED_KEY];
}

const CHILDREN_DEADLINE_MS = 60_000;
const POLL_MS = 50;

/** Kills the server as a power cut would, and starts it again. @param meanwhile what happens to its disk */
export async function crash(cluster: Cluster, meanwhile: () => void = () => {}): Promise<void> {
  process.kill(cluster.pid ?? 0, "SIGKILL");
  const pause = async () => await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  while (cluster.pid !== undefined) await pause();
  meanwhile();
  const deadline = performance.now() + CHILDREN_DEADLINE_MS;
  for (;;) {
    try {
      return await cluster.start();
    } catch (error) {
      // Its children end when they notice, and until then a new one is refused.
      if (performance.now() > deadline || !String(error).includes("shared memory block")) throw error;
      await pause();
    }
  }
}
