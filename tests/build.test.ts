/** The compiled programs, away from the sources and from node_modules, as an image has them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseProgramFormat } from "../lib/app/command.ts";
import { binaryOptions } from "../scripts/support/bundle.ts";
import { fetchPackage } from "../scripts/support/npm-package.ts";
import { type Certificates, makeCertificates } from "./support/certificates.ts";
import { type Cluster, startCluster, temporaryDirectory } from "./support/cluster.ts";
import { copyRepository } from "./support/copy.ts";
import { makeProject, type Project } from "./support/project.ts";
import { findRuntimes, type Runtime } from "./support/runtimes.ts";

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

test("every program tells how it is used, and which version and commit it is", async () => {
  const { version } = require("../package.json");
  const line = new RegExp(`^${version.replaceAll(".", "\\.")} \\([0-9a-f]{12}(-changed)?\\)\\n$`);
  const project = makeProject();
  const runtimes = await findRuntimes();
  expect(runtimes.length).toBeGreaterThan(0);
  for (const program of ["deploy", "health-check", "deploy.js", "health-check.js"]) {
    for (const through of program.endsWith(".js") ? [[], ...runtimes.map(commandOf), [process.execPath]] : [[]]) {
      const told = run(project, program, ["--version"], {}, through);
      expect([program, through, told.exitCode, told.stderr]).toEqual([program, through, 0, ""]);
      expect(told.stdout).toMatch(line);
      const help = run(project, program, ["--help"], {}, through);
      expect([help.exitCode, help.stdout.includes("DATABASE_URL"), help.stderr]).toEqual([0, true, ""]);
      expect(help.stdout.split("\n")[0]).toContain(program.replace(".js", ""));
    }
  }
});

test("one program is both, by its first argument or by the name that it is called by", () => {
  const project = makeProject();
  symlinkSync(join(programs, "deploy"), join(project.directory, "app-health-check"));
  for (const [program, ...args] of [
    ["deploy", "health-check"],
    ["deploy.js", "health-check"],
    [join(project.directory, "app-health-check")],
  ]) {
    const help = run(project, program as string, [...args, "--help"], {});
    expect([help.exitCode, help.stdout.split("\n")[0]]).toEqual([0, expect.stringContaining("health-check")]);
  }
});

test("a script runs whatever kind of modules the package.json beside it is for", async () => {
  const project = makeProject();
  cpSync(join(programs, "deploy.js"), join(project.directory, "deploy.js"));
  for (const type of ["module", "commonjs"]) {
    writeFileSync(join(project.directory, "package.json"), JSON.stringify({ type }));
    for (const through of [...(await findRuntimes()).map(commandOf), [process.execPath]]) {
      const { exitCode, stderr } = run(project, join(project.directory, "deploy.js"), ["--version"], {}, through);
      expect([type, through, exitCode, stderr]).toEqual([type, through, 0, ""]);
    }
  }
});

test("what is bundled comes with its licence", () => {
  const sources = [...new Bun.Glob("**/*.ts").scanSync(join(ROOT, "lib"))].map((path) =>
    readFileSync(join(ROOT, "lib", path), "utf8"),
  );
  const packages = sources.flatMap((text) => [...text.matchAll(/^import (?!type).* from "([a-z@][^:"]*)"/gm)]);
  const names = [...new Set(packages.map(([, name = ""]) => name))];
  expect(names).toContain("postgres");
  for (const program of ["deploy", "deploy.js", "health-check.js"]) {
    const bytes = readFileSync(join(programs, program));
    for (const name of [
      "The prisma-safe-deploy authors",
      "libpg-query (",
      "\nBun (MIT)",
      ...names.map((name) => `${name} (`),
    ]) {
      expect([program, name, bytes.includes(name)]).toEqual([program, name, true]);
    }
  }
});

test("the sums are those of the files, and dist/deploy is one of them", () => {
  const lines = readFileSync(join(programs, "SHA256SUMS"), "utf8").trimEnd().split("\n");
  const sums = new Map(lines.map((line) => line.split("  ").reverse() as [string, string]));
  const sumOf = (name: string) =>
    new Bun.CryptoHasher("sha256").update(readFileSync(join(programs, name))).digest("hex");
  for (const [name, sum] of sums) expect([name, sum]).toEqual([name, sumOf(name)]);
  expect([...sums.keys()]).toEqual(["deploy.js", "health-check.js", expect.stringMatching(/^prisma-safe-deploy-/)]);
  expect([...sums.values()]).toContain(sumOf("deploy"));
});

/** Bun would download the other runtime, and past npm's settings; a build behind a firewall must not depend on that. */
test.skipIf(process.platform !== "linux" || process.getuid?.() !== 0)(
  "once its runtime is here, a binary for another libc is made without a network",
  async () => {
    await fetchPackage(`@oven/bun-linux-x64-musl@${Bun.version}`);
    const outdir = temporaryDirectory();
    const command = [
      process.execPath,
      join(ROOT, "scripts/build.ts"),
      "--target",
      "linux-x64-musl",
      "--outdir",
      outdir,
    ];
    const environment = { PATH: process.env.PATH, HOME: outdir, BUN_INSTALL_CACHE_DIR: join(outdir, "cache") };
    const built = Bun.spawnSync(["unshare", "--net", ...command], { env: environment });
    expect(built.exitCode, built.stderr.toString()).toBe(0);
    const head = await Bun.file(join(outdir, "prisma-safe-deploy-linux-x64-musl")).slice(0, 4096).bytes();
    expect(parseProgramFormat(head, "/")).toEqual({ kind: "elf", loader: "/lib/ld-musl-x86_64.so.1" });
  },
);

/** What is loaded at once costs every start, and a module of Node's costs more than all of ours. */
test.each([
  ["the program", "scripts/deploy.ts", ["fs"]],
  ["deploy", "lib/cli/main.ts", ["fs", "path"]],
  ["health-check", "lib/cli/health-check.ts", ["fs", "os", "path"]],
])("%s loads at once of Node's modules only what every start needs", async (_, source, needed) => {
  const { outputs } = await Bun.build({ ...binaryOptions("deploy"), entrypoints: [join(ROOT, source)] });
  const transpiler = new Bun.Transpiler({ loader: "js" });
  const entry = outputs.find(({ kind }) => kind === "entry-point")?.path ?? "";
  const loaded = new Set([entry]);
  for (const path of loaded) {
    const code = await outputs.find((output) => output.path === path)?.text();
    const imports = code === undefined ? [] : transpiler.scanImports(code.replace(/^#!.*/, ""));
    for (const found of imports) if (found.kind === "import-statement") loaded.add(found.path);
  }
  expect([...loaded].filter((path) => !path.startsWith("./")).sort()).toEqual(needed);
});

/** As above, of the script: there Node tells what was asked for. */
test("with nothing to do the script loads of Node's modules only files, paths and a socket", async () => {
  const project = makeProject();
  const environment = {
    DATABASE_URL: cluster.url(await cluster.createDatabase(), { parameters: { sslmode: "disable" } }),
  };
  const spy = join(project.directory, "spy.cjs");
  writeFileSync(
    spy,
    `const { getBuiltinModule } = process;
     const asked = new Set();
     process.getBuiltinModule = (name) => asked.add(name) && getBuiltinModule(name);
     process.on("exit", () => console.log([...asked].sort().join(" "), process.moduleLoadList.includes("NativeModule net")));`,
  );
  for (const { kind, path } of await findRuntimes()) {
    if (kind !== "node") continue;
    const started = run(project, "deploy.js", [], environment, [path, "--require", spy]);
    expect(started).toMatchObject({ exitCode: 0, stdout: "node:crypto node:fs node:path true\n" });
  }
});

function commandOf({ kind, path }: Runtime): string[] {
  return kind === "deno" ? [path, "run", "--allow-all"] : [path];
}

/** Built from a copy that is gone when they run, so that nothing of it can be missed unnoticed. */
function buildPrograms(): string {
  const needed = ["lib", "scripts", "package.json", "LICENSE", "THIRD_PARTY_LICENSES", ".git"];
  const copy = copyRepository([...needed, "node_modules/postgres", "node_modules/libpg-query"]);
  const built = Bun.spawnSync([process.execPath, join(copy, "scripts", "build.ts")], { cwd: copy });
  if (built.exitCode !== 0) throw new Error(`the build failed: ${built.stderr}`);
  const directory = temporaryDirectory();
  cpSync(join(copy, "dist"), directory, { recursive: true, verbatimSymlinks: true });
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
  through: readonly string[] = [],
): Run {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...through, resolve(programs, program), ...args], {
    cwd: project.directory,
    env: { PATH: process.env.PATH, TMPDIR: project.directory, BACKUP_DIR: project.backupDirectory, ...environment },
    timeout: TEST_MS,
  });
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}
