/** A swap whose network breaks, and one for whose copy the server's disk has no room. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Cluster, startCluster } from "../support/cluster.ts";
import {
  expectBack,
  expectRestored,
  listDatabases,
  makeLive,
  open,
  PLACES,
  SWAPPED,
  shut,
  UNTOUCHED,
  untilAtGate,
} from "../support/gated-deploy.ts";
import { runDeploy, startDeploy } from "../support/project.ts";
import { APP } from "../support/refusal.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { onTinyDisk } from "../support/tiny-disk.ts";

const TIMEOUT_MS = 300_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ settings: { autovacuum: "off", max_connections: "50" }, tcp: true });
}, TIMEOUT_MS);

afterAll(async () => await cluster.remove());

test.each(PLACES)(
  "every connection is lost at %d: the same deploy restores by new ones",
  async (place) => {
    const proxy = await startTcpProxy({ host: cluster.host, port: cluster.port });
    try {
      const live = await makeLive(cluster);
      shut(live, place);
      const url = live.url.replace(`:${cluster.port}/`, `:${proxy.port}/`);
      const running = startDeploy(live.project, { url, args: APP });
      await untilAtGate(live, running);
      proxy.resetConnections();
      open(live, place);
      expectRestored(await running.ended);
      await expectBack(live, SWAPPED);
    } finally {
      await proxy.close();
    }
  },
  TIMEOUT_MS,
);

test(
  "the server's disk has no room for the copy: the failed database, whole and open, and with more room it works",
  async () => {
    await onTinyDisk("22m", cluster, async (disk) => {
      await cluster.psql("postgres", `CREATE TABLESPACE tiny LOCATION '${disk.directory}'`);
      const live = await makeLive(cluster);
      const { database, url, project } = live;
      await cluster.psql("postgres", `ALTER DATABASE "${database}" SET TABLESPACE tiny`);
      await cluster.psql(
        database,
        "CREATE TABLE wide AS SELECT repeat(md5(g::text), 30) FROM generate_series(1, 7000) g",
      );
      const failed = await runDeploy(project, { url, args: ["--restore", "swap", ...APP] });
      expect(failed.exitCode, failed.stderr).toBe(6);
      expect(failed.stderr).toContain("No space left on device");
      expect(await listDatabases(live)).toEqual(UNTOUCHED);
      expect(await cluster.psql(database, "SELECT count(*) FROM half, wide")).toBe("7000");
      disk.grow("200m");
      const restored = await runDeploy(project, { url, args: ["restore", "latest", "--yes-restore", database] });
      expect(restored.exitCode, restored.stderr).toBe(0);
      expect(await listDatabases(live)).toEqual(SWAPPED);
      expect(await cluster.psql(database, "SELECT count(*) FROM gone, wide")).toBe("7000");
    });
  },
  TIMEOUT_MS,
);
