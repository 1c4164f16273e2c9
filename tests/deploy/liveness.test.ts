/** A deploy at work as its orchestrator sees it: by the health check, by the probe port, and by the app that follows. */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../scripts/support/private-cluster.ts";
import { sharedCluster } from "../support/cluster.ts";
import { closeGate, WAIT_AT_GATE } from "../support/gate.ts";
import { runHealth } from "../support/health.ts";
import { makeProject, startDeploy } from "../support/project.ts";

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
