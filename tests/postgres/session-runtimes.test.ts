/** Sessions on every runtime that is there: Bun's own socket, compiled too, and that of Node. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { makeCertificates } from "../support/certificates.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { makeRuntimeVariants } from "../support/start-runtimes.ts";

const TEST_MS = 120_000;

const variants = await makeRuntimeVariants(join(import.meta.dirname, "..", "fixtures", "long-session.ts"));
let cluster: Cluster;

beforeAll(async () => {
  const { server, key } = makeCertificates();
  const files = { "server.crt": server, "server.key": key };
  cluster = await startCluster({ tcp: true, settings: { ssl: "on" }, files });
}, TEST_MS);

afterAll(async () => {
  await cluster.remove();
});

for (const { name, command } of variants) {
  test.each([
    ["in clear", "?sslmode=disable", false],
    ["through TLS", "?sslmode=require", true],
    ["on the socket", "?host=SOCKET", false],
  ])(
    `${name}: more than any buffer holds goes both ways %s`,
    (_, query, isEncrypted) => {
      const url = `postgresql://postgres@127.0.0.1:${cluster.port}/postgres${query.replace("SOCKET", cluster.directory)}`;
      const { stdout, stderr } = Bun.spawnSync([...command, url]);
      const place = query.includes("SOCKET") ? `ENOENT ${cluster.directory}/.s.PGSQL.1` : "ECONNREFUSED 127.0.0.1:1";
      expect([JSON.parse(stdout.toString() || "null"), stderr.toString()]).toEqual([
        {
          isSent: true,
          isReceived: true,
          isEncrypted,
          isOpen: false,
          wrong: "42703",
          refused: `connect ${place}`,
        },
        "",
      ]);
    },
    TEST_MS,
  );
}
