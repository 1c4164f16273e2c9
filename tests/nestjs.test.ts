/** The NestJS example as a user gets it: installed from npm, built, and started by `deploy` on a real server. */
import { beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort } from "../scripts/support/private-cluster.ts";
import { type Cluster, sharedCluster, temporaryDirectory } from "./support/cluster.ts";
import { runHealth } from "./support/health.ts";
import { type Project, startDeploy, until } from "./support/project.ts";

const ROOT = resolve(import.meta.dirname, "..");
const INSTALL_MS = 300_000;
const TEST_MS = 180_000;

// It downloads some 250 packages: on request only.
describe.skipIf(process.env.EXAMPLE_TESTS !== "1")("examples/nestjs", () => {
  let project: Project;
  let cluster: Cluster;
  let url: string;

  beforeAll(async () => {
    project = installExample();
    cluster = await sharedCluster();
    url = cluster.url(await cluster.createDatabase());
  }, INSTALL_MS);

  test(
    "migrates, serves with Prisma's client, and ends in order",
    async () => {
      const port = await freePort();
      const deploy = startApp(project, url, port);
      const address = `http://127.0.0.1:${port}`;
      const end = deploy.ended.then(({ stderr, stdout }) => Promise.reject(new Error(stderr + stdout)));
      await Promise.race([end, until("the app answers", () => answers(`${address}/health`))]);
      end.catch(() => {});
      expect(deploy.output()).toContain("The migration finished successfully.");

      const sent = { method: "POST", headers: { "content-type": "application/json" }, body: '{"text":"안녕"}' };
      expect(await (await fetch(`${address}/notes`, sent)).json()).toMatchObject({
        id: 1,
        text: "안녕",
        pinned: false,
      });
      expect(await (await fetch(`${address}/notes`)).json()).toHaveLength(1);

      const check = await runHealth(["--url", `http://localhost:${port}/health`], {
        environment: { DATABASE_URL: url, MIGRATIONS_DIR: join(project.directory, "prisma", "migrations") },
      });
      expect([check.exitCode, check.stderr]).toEqual([0, ""]);

      deploy.kill("SIGTERM");
      expect(await deploy.ended).toMatchObject({ exitCode: 0, signal: null });
    },
    TEST_MS,
  );

  test(
    "the demo goes through with it",
    () => {
      const args = ["scripts/demo.ts", "--example", "nestjs", "--lang", "en"];
      const { status, stdout } = spawnSync(process.execPath, args, {
        cwd: resolve(project.directory, "../.."),
        encoding: "utf8",
      });
      expect([status, stdout.includes("Note 200, _prisma_migrations 2")]).toEqual([0, true]);
    },
    TEST_MS,
  );
});

function startApp(project: Project, url: string, port: number) {
  return startDeploy(project, {
    url,
    args: ["--lang", "en", "--", "node", "dist/main.js"],
    environment: { PORT: String(port), HOST: "127.0.0.1" },
  });
}

async function answers(address: string): Promise<boolean> {
  const response = await fetch(address).catch(() => undefined);
  return response?.ok === true;
}

/** In a copy of this repository, so that nothing is left in the example, and nothing that was left there is used. */
function installExample(): Project {
  const copy = temporaryDirectory();
  for (const path of ["package.json", "lib", "scripts", "examples"]) {
    const filter = (from: string) => !/\/examples\/nestjs\/(node_modules|dist|bin|src\/generated)$/.test(from);
    cpSync(join(ROOT, path), join(copy, path), { recursive: true, filter });
  }
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  const directory = join(copy, "examples", "nestjs");
  for (const args of [
    ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    ["run", "build"],
  ]) {
    const { status, stdout, stderr } = spawnSync("npm", args, { cwd: directory, encoding: "utf8" });
    if (status !== 0) throw new Error(`npm ${args.join(" ")}: ${stdout}${stderr}`);
  }
  if (!existsSync(join(directory, "dist", "main.js"))) throw new Error("nothing was built");
  return { directory, backupDirectory: join(directory, "backups"), add: () => {} };
}
