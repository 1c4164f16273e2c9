/** A deploy at work as its orchestrator sees it: by the health check, by the probe port, and by the app that follows. */
import { afterAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { HEARTBEAT_STALE_MS } from "../../lib/app/heartbeat.ts";
import { freePort } from "../../scripts/support/private-cluster.ts";
import { sharedCluster, temporaryDirectory } from "../support/cluster.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import { runHealth } from "../support/health.ts";
import { makeProject, startDeploy, until } from "../support/project.ts";
import { APP, expectStarted, makeMountPassage, testWith } from "../support/refusal.ts";

const taken = Bun.serve({ port: 0, fetch: () => new Response("taken") });
const TAKEN = String(taken.port);
afterAll(() => taken.stop(true));

test("alive and not ready while it migrates; ready, and the port free, when the app starts", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const project = makeProject({ "1_slow": `${WAIT_AT_GATE}CREATE TABLE slow (id int);` });
  const gate = await closeGate(cluster, database);
  const port = await freePort();
  // The app listens on the port that the probes were answered on, at once, and says whether it could.
  const app = `Bun.serve({ port: ${port}, fetch: () => new Response("app") }).stop(); console.log("the app has the port")`;
  const deploy = startDeploy(project, {
    url,
    args: ["--probe-port", String(port), "--", process.execPath, "-e", app],
    environment: { TMPDIR: project.directory },
  });
  const check = (...args: string[]) =>
    runHealth(args, { cwd: project.directory, environment: { DATABASE_URL: url, TMPDIR: project.directory } });

  await gate.reached();
  expect(await check("--live")).toMatchObject({ exitCode: 0, line: expect.stringContaining("1_slow") });
  expect(await check()).toMatchObject({ exitCode: 1, line: expect.stringContaining("deploy") });
  expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200);
  const ready = await fetch(`http://127.0.0.1:${port}/readyz`);
  expect(ready.status).toBe(503);
  expect(await ready.json()).toMatchObject({ step: "migrate" });

  await gate.open();
  const { exitCode, stdout, stderr } = await deploy.ended;
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toBe("the app has the port\n");
  expect(readdirSync(project.directory).filter((name) => name.startsWith("prisma-safe-deploy-"))).toEqual([]);
  expect((await check()).exitCode).toBe(0);
}, 120_000);

test("a deploy that was killed at work is not alive", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject({ "1_slow": WAIT_AT_GATE });
  const gate = await closeGate(cluster, database);
  const environment = { TMPDIR: project.directory };
  const deploy = startDeploy(project, { url: cluster.url(database), environment });
  await gate.reached();
  deploy.kill("SIGKILL");
  await deploy.ended;
  await gate.open();
  const stateFile = join(project.directory, "state.json");
  const left = readdirSync(project.directory).filter((name) => name.startsWith("prisma-safe-deploy-"));
  expect(left).toHaveLength(1);
  // Its time is over: the same file, as it will be seen half a minute later.
  const content = await Bun.file(join(project.directory, String(left[0]))).json();
  const updatedAt = new Date(Date.now() - 60_000).toISOString();
  await Bun.write(stateFile, JSON.stringify({ ...content, updatedAt }));
  const result = await runHealth(["--live"], { cwd: project.directory, environment: { STATE_FILE: stateFile } });
  expect(result.exitCode).toBe(1);
}, 120_000);

test("a deploy that hangs is not alive, and is again when it goes on", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const project = makeProject({ "1_slow": WAIT_AT_GATE });
  const gate = await closeGate(cluster, database);
  const stateFile = join(project.directory, "state.json");
  const environment = { STATE_FILE: stateFile };
  const deploy = startDeploy(project, { url: cluster.url(database), environment });
  const isAlive = async () => (await runHealth(["--live"], { cwd: project.directory, environment })).exitCode === 0;
  await gate.reached();
  expect(await isAlive()).toBe(true);
  deploy.kill("SIGSTOP");
  // As it will be seen when it has stood still for longer than a deploy that works is silent.
  const content = await Bun.file(stateFile).json();
  const updatedAt = new Date(Date.parse(content.updatedAt) - HEARTBEAT_STALE_MS).toISOString();
  await Bun.write(stateFile, JSON.stringify({ ...content, updatedAt }));
  await until("it is taken for dead", async () => !(await isAlive()));
  deploy.kill("SIGCONT");
  await until("it is alive again", isAlive);
  await gate.open();
  const { exitCode, stderr } = await deploy.ended;
  expect(exitCode, stderr).toBe(0);
}, 120_000);

const READ_ONLY = temporaryDirectory();
const readOnly = makeMountPassage(`mount -t tmpfs -o ro tmpfs "${READ_ONLY}"; exec "$@"`);
const CANT_SHOW_ITSELF: readonly {
  readonly where: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly words: string;
  readonly through?: readonly string[];
  readonly missing?: string | undefined;
}[] = [
  { where: "a folder that is not there", environment: { STATE_FILE: "/nowhere/state.json" }, words: "(ENOENT)" },
  {
    where: "a file system that nobody may write to",
    environment: { TMPDIR: READ_ONLY },
    words: "(EROFS)",
    ...readOnly,
  },
  { where: "a port that another program has", environment: { PROBE_PORT: TAKEN }, words: "EADDRINUSE" },
];

for (const { where, environment, words, through, missing } of CANT_SHOW_ITSELF) {
  testWith(
    missing,
    `${where}: a deploy that can't show itself says so and deploys`,
    async () => {
      const cluster = await sharedCluster();
      const database = await cluster.createDatabase();
      const options = { url: cluster.url(database), args: APP, environment, ...(through && { through }) };
      const run = await startDeploy(makeProject({ "1_a": "SELECT 1;" }), options).ended;
      expectStarted(run);
      expect(run.stderr).toContain(words);
    },
    120_000,
  );
}
