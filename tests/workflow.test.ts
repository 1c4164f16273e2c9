/** The example for GitHub Actions: its own commands, run as a runner runs them, on the package that it says to install. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { type Cluster, sharedCluster, temporaryDirectory } from "./support/cluster.ts";
import { dumpDatabase } from "./support/dump.ts";
import { OFFLINE, packRepository } from "./support/packed.ts";
import { makeProject, type Project, runDeploy } from "./support/project.ts";

setDefaultTimeout(180_000);

const EXAMPLE = readFileSync(resolve(import.meta.dirname, "../examples/github-actions.yml"), "utf8");
const PASSPHRASE = "open sesame";
const PLANNER = "workflow_planner";
const FIRST = { "1_users": "CREATE TABLE users (id serial PRIMARY KEY);\n" };

interface Step {
  readonly name?: string;
  readonly run?: string;
  readonly env?: Readonly<Record<string, string>>;
}

type Job = "plan" | "deploy";

const { jobs } = Bun.YAML.parse(EXAMPLE) as { jobs: Record<Job, { environment: string; steps: readonly Step[] }> };

let cluster: Cluster;
let home: string;
let app: Project;

beforeAll(async () => {
  cluster = await sharedCluster();
  home = temporaryDirectory();
  app = makeProject(FIRST);
  installAsTheExampleSays(app.directory, packRepository(home));
  const grant = EXAMPLE.match(/CREATE ROLE plan .*;/)?.[0].replaceAll(/\bplan\b/g, PLANNER);
  await cluster.psql("postgres", grant ?? "");
});

afterAll(async () => {
  spawnSync("gpgconf", ["--homedir", join(home, ".gnupg"), "--kill", "all"]);
});

/** @returns a database with the app's first migration; a second one lies in the folder */
async function makeDeployed(): Promise<string> {
  const database = await cluster.createDatabase();
  const project = makeProject(FIRST);
  const { exitCode, stderr } = await runDeploy(project, { url: cluster.url(database) });
  expect(exitCode, stderr).toBe(0);
  app.add("2_posts", "CREATE TABLE posts (id int);\n");
  return database;
}

describe("the job for pull requests", () => {
  test("its role that only reads is told what would run, and nothing is changed", async () => {
    const used = await makeDeployed();
    const before = dumpDatabase(cluster, used);
    const { stderr } = runSteps("plan", { PLAN_DATABASE_URL: cluster.url(used, { user: PLANNER }) });
    expect(stderr).toContain("   Pending: 1 migration in 1 transaction\n     2_posts\n");
    expect(dumpDatabase(cluster, used)).toBe(before);
  });

  test("it is refused what the example says that it lacks, and where that is granted it plans", async () => {
    const used = await makeDeployed();
    await cluster.psql(used, "SELECT lo_from_bytea(4711, ''); ALTER TABLE users ENABLE ROW LEVEL SECURITY");
    const url = cluster.url(used, { user: PLANNER });
    const refused = await runDeploy(app, { url, args: ["plan", "--lang", "en"] });
    expect(refused.exitCode).toBe(4);
    const lacking = ["GRANT SELECT ON LARGE OBJECT 4711 TO", "BYPASSRLS"];
    for (const words of [...lacking, "BACKUP_DENIED"]) expect(refused.stderr).toContain(words);
    for (const words of ["GRANT SELECT ON LARGE OBJECT ... TO", "BYPASSRLS"]) expect(EXAMPLE).toContain(words);

    await cluster.psql(used, `GRANT SELECT ON LARGE OBJECT 4711 TO ${PLANNER}; ALTER ROLE ${PLANNER} BYPASSRLS`);
    const allowed = await runDeploy(app, { url, args: ["plan", "--lang", "en"] });
    await cluster.psql(used, `ALTER ROLE ${PLANNER} NOBYPASSRLS`);
    expect(allowed.exitCode, allowed.stderr).toBe(0);
  });

  test("the way back that it is told is its own, not that of the role that deploys", async () => {
    const used = await makeDeployed();
    app.add("2_posts", "CREATE INDEX CONCURRENTLY users_id ON users (id);\nCREATE TABLE posts (id int);\n");
    const [reader, owner] = [PLANNER, cluster.superuser].map((user) =>
      runDeploy(app, { url: cluster.url(used, { user }), args: ["plan", "--json"] }).then(({ stdout }) => stdout),
    );
    expect(JSON.parse((await reader) ?? "").restore.rungs).not.toContain("swap");
    expect(JSON.parse((await owner) ?? "").restore.rungs).toContain("swap");
  });
});

describe("the job that deploys", () => {
  test.skipIf(Bun.which("gpg") === null)("it migrates, and what it keeps opens with the passphrase alone", async () => {
    const used = await makeDeployed();
    const { stderr, scratch } = runSteps("deploy", {
      DATABASE_URL: cluster.url(used),
      BACKUP_PASSPHRASE: PASSPHRASE,
    });
    expect(stderr).toContain("The migration finished successfully.");
    const kept = readdirSync(join(scratch, "backups")).filter((name) => name.endsWith(".sql.gpg"));
    expect(kept).toHaveLength(1);
    const path = join(scratch, "backups", kept[0] ?? "");
    const open = (passphrase: string) =>
      spawnSync("gpg", ["--batch", "--quiet", "--decrypt", "--passphrase-fd", "0", path], {
        input: passphrase,
        env: { PATH: process.env.PATH, HOME: home } as NodeJS.ProcessEnv,
      });
    expect(open(PASSPHRASE).stdout.equals(readFileSync(path.replace(/\.gpg$/, "")))).toBe(true);
    expect(open("anything else").status).not.toBe(0);
  });
});

test("every secret of a job is named at the head of the example", () => {
  const head = EXAMPLE.slice(0, EXAMPLE.indexOf("\nname:"));
  for (const [job, { environment }] of Object.entries(jobs)) {
    expect(head).toContain(`environment \`${environment}\``);
    const secrets = [...JSON.stringify(jobs[job as Job]).matchAll(/secrets\.(\w+)/g)].map(([, name = ""]) => name);
    expect(secrets.filter((name) => !new RegExp(`\\b${name}\\b`).test(head))).toEqual([]);
  }
});

/** With the command at the head of the example, in a project that a runner then checks out. */
function installAsTheExampleSays(directory: string, archive: string): void {
  const [, file = ""] = EXAMPLE.match(/npm install --save-dev \.\/(\S+)/) ?? [];
  expect(basename(file)).toBe(basename(archive));
  mkdirSync(join(directory, "vendor"));
  copyFileSync(archive, join(directory, file));
  writeFileSync(join(directory, "package.json"), '{ "name": "app", "private": true }');
  runShell(`npm install --save-dev ./${file}`, directory, {});
}

/**
 * Those commands of a job that are the app's own: a runner's `sudo apt-get` is left out. Each as a runner starts it.
 * @returns what they have said, and the runner's folder for scratch
 */
function runSteps(job: Job, secrets: Readonly<Record<string, string>>): { stderr: string; scratch: string } {
  const scratch = temporaryDirectory();
  const fill = (text: string) =>
    text
      .replaceAll(/\$\{\{ secrets\.(\w+) \}\}/g, (_, name: string) => secrets[name] ?? "")
      .replaceAll(/\$\{\{ runner\.temp \}\}/g, scratch);
  const own = jobs[job].steps.filter(({ run }) => run !== undefined && !run.startsWith("sudo "));
  expect(own.length).toBeGreaterThan(1);
  const said = own.map(({ run = "", env = {} }) => {
    const environment = Object.entries(env).map(([name, value]) => [name, fill(value)]);
    return runShell(run, app.directory, { RUNNER_TEMP: scratch, ...Object.fromEntries(environment) });
  });
  return { stderr: said.join(""), scratch };
}

/** @throws with all that was said where it fails */
function runShell(script: string, cwd: string, environment: Readonly<Record<string, string>>): string {
  const env = { PATH: process.env.PATH, HOME: home, ...OFFLINE, ...environment } as NodeJS.ProcessEnv;
  const { status, stdout, stderr } = spawnSync("bash", ["-e", "-c", script], { cwd, env, encoding: "utf8" });
  if (status !== 0) throw new Error(`exit ${status} of: ${script}\n${stderr}${stdout}`);
  return stderr;
}
