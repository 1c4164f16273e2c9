/** The compiled programs, away from the sources and from node_modules, as an image has them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundleOptions } from "../scripts/support/bundle.ts";
import { type Certificates, makeCertificates } from "./support/certificates.ts";
import { type Cluster, startCluster, temporaryDirectory } from "./support/cluster.ts";
import { makeProject, type Project } from "./support/project.ts";

const ROOT = join(import.meta.dirname, "..");
const TEST_MS = 120_000;
const PASSWORD = "pass w%rd ㅋ";
const SCRIPTS = {
  "20240101000000_shop": 'CREATE TABLE "shop" ("id" SERIAL PRIMARY KEY);\nINSERT INTO "shop" DEFAULT VALUES;\n',
  "20240102000000_name": 'ALTER TABLE "shop" ADD COLUMN "name" TEXT;\n',
};

let programs: string;
let cluster: Cluster;
let certificates: Certificates;

beforeAll(async () => {
  programs = buildPrograms();
  certificates = makeCertificates();
  cluster = await startCluster({
    tcp: true,
    auth: "scram-sha-256",
    password: PASSWORD,
    settings: { ssl: "on" },
    hba: ["host all old 127.0.0.1/32 md5"],
    files: { "server.crt": certificates.server, "server.key": certificates.key },
  });
}, TEST_MS);

afterAll(async () => {
  await cluster.remove();
});

describe("deploy", () => {
  test(
    "applies what is pending, says when nothing is left, and starts the app",
    async () => {
      const project = makeProject(SCRIPTS);
      const database = await cluster.createDatabase();
      const environment = { DATABASE_URL: cluster.url(database) };
      expect(run(project, "deploy", [], environment)).toMatchObject({ exitCode: 0, stdout: "" });
      expect(await cluster.psql(database, 'SELECT "id", "name" IS NULL FROM "shop"')).toBe("1|t");
      expect(readdirSync(project.backupDirectory).filter((name) => name.endsWith(".sql"))).toHaveLength(1);

      const app = run(
        project,
        "deploy",
        ["--lang", "en", "--", "sh", "-c", "echo the app $1", "sh", "--"],
        environment,
      );
      expect(app).toMatchObject({ exitCode: 0, stdout: "the app --\n" });
      expect(app.stderr).toContain("The database schema is up to date.");
      expect(run(project, "health-check", [], environment).exitCode).toBe(0);
    },
    TEST_MS,
  );

  test("undoes a migration that fails, and says where it did", async () => {
    const project = makeProject({ "20240101000000_wrong": "CREATE TABLE a ();\nSELECT nothing;\n" });
    const database = await cluster.createDatabase();
    const failed = run(project, "deploy", [], { DATABASE_URL: cluster.url(database) });
    expect(failed.exitCode).toBe(5);
    expect(failed.stderr).toContain("migration.sql:2:8");
    expect(await cluster.psql(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).toBe("0");
  });

  test(
    "signs in with every kind of password, in clear and through TLS, verified where that is wished",
    async () => {
      const database = await cluster.createDatabase();
      await cluster.psql("postgres", `SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD '${PASSWORD}'`);
      const strict = (rootPath: string) => ({ sslmode: "require", sslaccept: "strict", sslcert: rootPath });
      const rows: readonly [user: string, host: string, parameters: Record<string, string>, isLetIn: boolean][] = [
        ["postgres", "127.0.0.1", { sslmode: "disable" }, true],
        ["old", "127.0.0.1", { sslmode: "disable" }, true],
        ["postgres", "127.0.0.1", {}, true],
        ["old", "127.0.0.1", { sslmode: "require" }, true],
        ["postgres", "localhost", strict(certificates.rootPath), true],
        ["postgres", "localhost", strict(certificates.otherRootPath), false],
      ];
      const project = makeProject();
      for (const [user, host, parameters, isLetIn] of rows) {
        const url = cluster.url(database, { user, password: PASSWORD, parameters }).replace("127.0.0.1", host);
        for (const program of ["deploy", "health-check"]) {
          const { exitCode, stderr } = run(project, program, [], { DATABASE_URL: url });
          expect([program, user, parameters, exitCode === 0, stderr]).toEqual([
            program,
            user,
            parameters,
            isLetIn,
            stderr,
          ]);
        }
      }
    },
    TEST_MS,
  );

  test("is not configured by what lies in the working directory", async () => {
    const project = makeProject();
    const url = cluster.url(await cluster.createDatabase());
    writeFileSync(join(project.directory, ".env"), `DATABASE_URL=${url}\n`);
    writeFileSync(join(project.directory, "bunfig.toml"), 'preload = ["./preloaded.ts"]\n');
    writeFileSync(join(project.directory, "preloaded.ts"), 'require("node:fs").writeFileSync("preloaded", "");');
    expect(run(project, "deploy", [], {}).exitCode).toBe(2);
    expect(run(project, "deploy", ["--env-file", ".env"], {}).exitCode).toBe(0);
    expect(existsSync(join(project.directory, "preloaded"))).toBe(false);
  });
});

test("the programs tell how they are used, and which version they are", () => {
  const { version } = require("../package.json");
  const project = makeProject();
  for (const program of ["deploy", "health-check"]) {
    expect(run(project, program, ["--version"], {})).toEqual({ exitCode: 0, stdout: `${version}\n`, stderr: "" });
    const help = run(project, program, ["--help"], {});
    expect([help.exitCode, help.stdout.includes("DATABASE_URL"), help.stderr]).toEqual([0, true, ""]);
  }
});

/** What is loaded at once costs every start, and a module of Node's costs more than all of ours. */
test.each([
  ["deploy", ["fs", "path"]],
  ["health-check", ["fs", "os", "path"]],
])("%s loads at once of Node's modules only what every start needs", async (program, needed) => {
  const { outputs } = await Bun.build(bundleOptions(program));
  const transpiler = new Bun.Transpiler({ loader: "js" });
  const loaded = new Set([`./${program}.js`]);
  for (const path of loaded) {
    const code = await outputs.find((output) => output.path === path)?.text();
    const imports = code === undefined ? [] : transpiler.scanImports(code.replace(/^#!.*/, ""));
    for (const found of imports) if (found.kind === "import-statement") loaded.add(found.path);
  }
  expect([...loaded].filter((path) => !path.startsWith("./")).sort()).toEqual(needed);
});

/** Built from a copy that is gone when they run, so that nothing of it can be missed unnoticed. */
function buildPrograms(): string {
  const copy = temporaryDirectory();
  const needed = ["lib", "scripts", "package.json", "node_modules/postgres", "node_modules/libpg-query"];
  for (const path of needed) cpSync(join(ROOT, path), join(copy, path), { recursive: true });
  const built = Bun.spawnSync([process.execPath, join(copy, "scripts", "build.ts")], { cwd: copy });
  if (built.exitCode !== 0) throw new Error(`the build failed: ${built.stderr}`);
  const directory = temporaryDirectory();
  for (const program of ["deploy", "health-check"]) {
    cpSync(join(copy, "dist", program), join(directory, program));
  }
  rmSync(copy, { recursive: true });
  return directory;
}

interface Run {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(
  project: Project,
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Run {
  const { exitCode, stdout, stderr } = Bun.spawnSync([join(programs, program), ...args], {
    cwd: project.directory,
    env: { PATH: process.env.PATH, TMPDIR: project.directory, BACKUP_DIR: project.backupDirectory, ...environment },
    timeout: TEST_MS,
  });
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}
