/** The NestJS example as a user gets it: installed from npm, built, and started by `deploy` on a real server. */
import { beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort } from "../scripts/support/private-cluster.ts";
import { type Cluster, sharedCluster, temporaryDirectory } from "./support/cluster.ts";
import { commandsOf, readBlocks } from "./support/documents.ts";
import { runHealth } from "./support/health.ts";
import { type Project, startDeploy, until } from "./support/project.ts";

const ROOT = resolve(import.meta.dirname, "..");
/** The commands of the example's page, of which each test takes its own. */
const COMMANDS = readBlocks("examples/nestjs/README.md").flatMap(({ text }) => commandsOf(text));
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
      const asked = COMMANDS.filter((command) => command.startsWith("curl "));
      expect(asked).toHaveLength(2);
      for (const command of asked) {
        const script = command.replace("curl ", "curl --silent --fail ").replace("localhost:3000", `127.0.0.1:${port}`);
        const { status, stdout } = spawnSync("bash", ["-c", script], { encoding: "utf8" });
        expect([command, status, stdout]).toEqual([command, 0, expect.stringMatching(/^\{.+\}$/)]);
      }
      const notes = (await (await fetch(`${address}/notes`)).json()) as readonly { text: string }[];
      expect(notes.map(({ text }) => text).sort()).toEqual(["hello", "안녕"]);

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
  const deployed = COMMANDS.find((command) => command.startsWith("deploy ")) ?? expect.unreachable();
  return startDeploy(project, {
    url,
    args: ["--lang", "en", ...deployed.split(" ").slice(1)],
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
  for (const command of COMMANDS.filter((line) => line.startsWith("npm "))) {
    const env = { ...process.env, npm_config_audit: "false", npm_config_fund: "false" };
    const { status, stdout, stderr } = spawnSync("bash", ["-c", command], { cwd: directory, env, encoding: "utf8" });
    if (status !== 0) throw new Error(`${command}: ${stdout}${stderr}`);
  }
  if (!existsSync(join(directory, "dist", "main.js"))) throw new Error("nothing was built");
  return { directory, backupDirectory: join(directory, "backups"), add: () => {} };
}
