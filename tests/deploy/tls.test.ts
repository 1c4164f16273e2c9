/** What goes over a network in clear is told by each command that connects, and by the health check never. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type DeployRun, makeProject, runDeploy } from "../support/project.ts";

const TIMEOUT_MS = 180_000;
/** Leads to this machine, which its name does not say. */
const REMOTE = "0.0.0.0";
const WARNING = "TLS 없이 원격 서버에 연결합니다: ";

let cluster: Cluster;

beforeAll(async () => {
  const certificates: Certificates = makeCertificates();
  const files = { "server.crt": certificates.server, "server.key": certificates.key };
  cluster = await startCluster({ tcp: true, settings: { ssl: "on" }, files });
}, TIMEOUT_MS);

afterAll(async () => {
  await cluster.remove();
});

function countWarnings({ stderr }: DeployRun): number {
  return stderr.split(WARNING).length - 1;
}

test.each([
  ["a remote host without TLS", REMOTE, "disable", 1],
  ["a remote host with TLS", REMOTE, "require", 0],
  ["a remote host, with TLS because the server has it", REMOTE, "prefer", 0],
  ["this machine without TLS", "127.0.0.1", "disable", 0],
])(
  "%s",
  async (_, host, sslmode, warnings) => {
    const database = await cluster.createDatabase();
    const url = cluster.url(database, { parameters: { sslmode } }).replace("127.0.0.1", host);
    const project = makeProject({ "1_users": "CREATE TABLE users (id int);\n" });
    const commands: readonly (readonly [args: readonly string[], exitCode: number])[] = [
      [["status"], 10],
      [["plan"], 0],
      [["--", "true"], 0],
      [["--", "true"], 0],
      [["baseline"], 3],
      [["backup"], 0],
      [["prune", "--dry-run"], 0],
      [["prune"], 0],
      [["restore", "--yes-restore", database], 0],
    ];
    for (const [args, exitCode] of commands) {
      const run = await runDeploy(project, { url, args });
      expect([args, run.exitCode, countWarnings(run)], run.stderr).toEqual([args, exitCode, warnings]);
    }
    for (const args of [["health-check"], ["backups"], ["history"]]) {
      const run = await runDeploy(project, { url, args });
      expect([args, run.exitCode, run.stderr]).toEqual([args, 0, ""]);
    }
  },
  TIMEOUT_MS,
);

test(
  "a program reads it in the log, and in the plan",
  async () => {
    const database = await cluster.createDatabase();
    const url = cluster.url(database, { parameters: { sslmode: "disable" } }).replace("127.0.0.1", REMOTE);
    const project = makeProject({ "1_users": "CREATE TABLE users (id int);\n" });
    const warning = { about: "no-tls", host: REMOTE };
    const plan = await runDeploy(project, { url, args: ["plan", "--json"] });
    expect(JSON.parse(plan.stdout).warnings).toEqual([warning]);
    const { stderr } = await runDeploy(project, { url, args: ["--log-format", "json"] });
    const events = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(events).toContainEqual(expect.objectContaining({ warning }));
  },
  TIMEOUT_MS,
);
