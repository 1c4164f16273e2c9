/**
 * Every command of the documents does what it is said to do: the blocks of each page are run one after the other, in a
 * project of their own on a database of their own. The word behind the language of a block says how. The programs are
 * those that the README's own commands have built, found where those have put them.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { findClientTool } from "../scripts/support/postgres-binaries.mjs";
import { freePort } from "../scripts/support/private-cluster.ts";
import { denoPermissions } from "./support/built-programs.ts";
import { type Cluster, sharedCluster, temporaryDirectory } from "./support/cluster.ts";
import { copyRepository } from "./support/copy.ts";
import { type Block, commandsOf, DOCUMENTS, readBlocks } from "./support/documents.ts";

const ROOT = dirname(import.meta.dirname);
const BLOCK_DEADLINE_MS = 300_000;

interface Sandbox {
  readonly directory: string;
  readonly database: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** What a block is about to find, where it is not what the ones before it have left. */
const SITUATIONS: Readonly<Record<string, (sandbox: Sandbox) => Promise<string>>> = {
  baseline: async ({ database }) => {
    for (const name of ["20260105093000_init", "20260212141500_order_status", "20260318102000_split_customer_name"]) {
      await cluster.psql(database, readFileSync(join(ROOT, MIGRATIONS, name, "migration.sql"), "utf8"));
    }
    return "";
  },
  // As a killed Prisma CLI leaves it: all of the script is there, and its row was never finished.
  resolve: async ({ directory }) => `deploy -- true
    folder="${directory}/prisma/migrations/20260402110000_loyalty"
    mkdir "$folder"
    echo 'CREATE TABLE "Loyalty" ("id" INTEGER NOT NULL);' > "$folder/migration.sql"
    psql -q "$DATABASE_URL" -f "$folder/migration.sql" -c "INSERT INTO _prisma_migrations (id, checksum, migration_name)
      VALUES (gen_random_uuid(), repeat('0', 64), '20260402110000_loyalty')"`,
  deployed: async () => "deploy -- true",
  restore: async () => "deploy -- true",
  into: async () => "deploy -- true",
  // From which only what is older than a month goes by hand.
  cleanup: async () => `deploy -- true; touch -d "40 days ago" "$BACKUP_DIR"/backup_*; deploy backup`,
  "by-hand": async () => `cd "${clone}"`,
  package: async () => `(cd "${clone}" && npm pack --silent --pack-destination "$OLDPWD")
    echo '{ "private": true }' > package.json`,
  elsewhere: async ({ directory }) =>
    `deploy -- true; mkdir -p "${directory}/mnt/backups"; pg_dump "$DATABASE_URL" > "${directory}/mnt/backups/yesterday.sql"`,
};

/** What is wrong before the SQL of a page, where a person types that, and how a client is turned away until then. */
const REPAIRS: Readonly<Record<string, { readonly wrong: string; readonly typedIn: string; readonly told: RegExp }>> = {
  shut: {
    wrong: "ALTER DATABASE app ALLOW_CONNECTIONS false",
    typedIn: "postgres",
    told: /database "\w+" is not currently accepting connections/u,
  },
  fenced: {
    wrong: `ALTER DATABASE app SET default_transaction_read_only = on;
      ALTER DATABASE app SET application_name = 'prisma-safe-deploy fence 20241219T143022Z_ab12cd'`,
    typedIn: "app",
    told: /cannot execute \w+( \w+)? in a read-only transaction/u,
  },
};

/** What is to be seen afterwards, where the end of the commands does not say enough. */
const FINDINGS: Readonly<Record<string, string>> = {
  cleanup: `test "$(cd "$BACKUP_DIR" && ls | sed 's/_[0-9_]*//' | tr '\n' ' ')" = "backup.json backup.sql journal.jsonl "`,
  "by-hand": `test "$(ls "$BACKUP_DIR"/backup_*.sql | wc -l)" = 1`,
};

/** Run elsewhere: by a step of `.ci/run`, and by the tests of the images, of the NestJS example and of the manifests. */
const ELSEWHERE = ["clone", "image", "nestjs", "kubectl"];

const MIGRATIONS = join("examples", "basic", "prisma", "migrations");

let cluster: Cluster;
let clone: string;
/** As the README's `clone` commands leave it. */
let searchPath: string;

beforeAll(async () => {
  cluster = await sharedCluster();
  clone = makeClone();
  searchPath = build();
}, BLOCK_DEADLINE_MS);

const ALL_BLOCKS = DOCUMENTS.flatMap(readBlocks);
const BLOCKS = ALL_BLOCKS.filter(({ language }) => language === "sh");
const REPAIR_BLOCKS = ALL_BLOCKS.filter(({ language }) => language === "sql");

test("every block of commands says how it is tested", () => {
  const known = ["run", "deno", ...Object.keys(SITUATIONS), ...ELSEWHERE];
  expect(BLOCKS.length).toBeGreaterThan(15);
  expect(BLOCKS.filter(({ notes }) => !known.includes(notes[0] ?? "")).map(placeOf)).toEqual([]);
});

test("every block of SQL says what it mends", () => {
  expect(REPAIR_BLOCKS.map(({ notes }) => notes[0] ?? "").sort()).toEqual(Object.keys(REPAIRS).sort());
});

test("what is run in a clone is a step of .ci/run", () => {
  const steps = readFileSync(join(ROOT, ".ci", "run"), "utf8").replaceAll(" --silent", "");
  const commands = BLOCKS.filter(({ notes }) => notes[0] === "clone").flatMap(({ text }) => commandsOf(text));
  const made = commands.filter((command) => command.startsWith("npm "));
  expect(made.length).toBeGreaterThan(2);
  expect(made.filter((command) => !steps.includes(command))).toEqual([]);
});

test("Deno's permissions are those that the programs are tested with", () => {
  const blocks = BLOCKS.filter(({ notes }) => notes[0] === "deno").map(({ text }) => text);
  const named = (["deploy", "health-check"] as const).map((program) => {
    const text = blocks.find((block) => block.includes(`${program}.js`));
    return text?.match(/--(?:allow-\S+)/gu)?.map((flag) => flag.replace("=db", "=127.0.0.1"));
  });
  const project = { directory: "/app", backupDirectory: "/app/backups" };
  expect(named).toEqual([denoPermissions("deploy", project), denoPermissions("health-check", project)]);
});

for (const path of DOCUMENTS) {
  const blocks = BLOCKS.filter((block) => block.path === path && block.notes[0] === "run");
  if (blocks.length === 0) continue;
  test(
    `${path}: commands, one after the other`,
    async () => {
      const sandbox = await makeSandbox();
      const app = Bun.spawn([process.execPath, join(ROOT, "examples/basic/server.js")], {
        env: { PORT: sandbox.environment.PORT ?? "" },
        stdio: ["ignore", "ignore", "ignore"],
      });
      try {
        for (const block of blocks) await runBlock(block, sandbox, "");
      } finally {
        app.kill("SIGKILL");
        await app.exited;
      }
    },
    BLOCK_DEADLINE_MS,
  );
}

test.each(
  BLOCKS.filter(({ notes }) => (notes[0] ?? "") in SITUATIONS).map((block) => [placeOf(block), block] as const),
)(
  "%s",
  async (_, block) => {
    const sandbox = await makeSandbox();
    const before = (await SITUATIONS[block.notes[0] ?? ""]?.(sandbox)) ?? "";
    await runBlock(block, sandbox, before);
  },
  BLOCK_DEADLINE_MS,
);

test.each(REPAIR_BLOCKS.map((block) => [placeOf(block), block] as const))("%s", async (_, { notes, path, text }) => {
  const { wrong, typedIn, told } = REPAIRS[notes[0] ?? ""] ?? expect.unreachable();
  const database = await cluster.createDatabase();
  const named = (sql: string) => sql.replaceAll(/\bapp\b/gu, database);
  const write = () => cluster.psql(database, "CREATE TABLE written ()");
  await cluster.psql("postgres", named(wrong));
  await expect(write()).rejects.toThrow(told);
  expect(readFileSync(join(ROOT, path), "utf8")).toMatch(told);

  await cluster.psql(named(typedIn), named(text));
  await write();
  const settings = `SELECT setconfig FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase`;
  expect(await cluster.psql("postgres", `${settings} WHERE datname = '${database}'`)).toBe("");
});

afterAll(async () => {
  await cluster.psql("postgres", 'DROP DATABASE IF EXISTS "app_check"');
});

/** As a shell runs it that stops at the first command that fails. */
async function runBlock(block: Block, { directory, environment }: Sandbox, before: string): Promise<void> {
  const text = block.text
    .replaceAll(/^export DATABASE_URL=.*$/gmu, "")
    .replaceAll(" /mnt/backups/", ` ${directory}/mnt/backups/`)
    .replaceAll("/path/to/app", directory);
  const after = FINDINGS[block.notes[0] ?? ""] ?? "";
  await cluster.psql("postgres", 'DROP DATABASE IF EXISTS "app_check"');
  const shell = Bun.spawn(["bash", "-euo", "pipefail", "-c", `${before}\n${text}\n${after}`], {
    cwd: directory,
    env: { ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: BLOCK_DEADLINE_MS,
  });
  const [output, log] = await Promise.all([new Response(shell.stdout).text(), new Response(shell.stderr).text()]);
  const exitCode = await shell.exited;
  expect({ place: placeOf(block), exitCode, said: exitCode === 0 ? "" : `${output}${log}` }).toEqual({
    place: placeOf(block),
    exitCode: 0,
    said: "",
  });
}

/** As Git makes it, with the packages that the set-up has installed. */
function makeClone(): string {
  const made = ["node_modules", "dist", "backups", ".cache"];
  const copy = copyRepository(readdirSync(ROOT).filter((name) => !made.includes(name)));
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  return copy;
}

/** By the README's block, as somebody does it whose shell knows neither Bun nor our programs. */
function build(): string {
  const [block] = BLOCKS.filter(({ notes, text }) => notes[0] === "clone" && text.includes("npm run build"));
  const own = (process.env.PATH ?? "").split(delimiter).filter((path) => !path.endsWith("node_modules/.bin"));
  const PATH = [...own, makeClientTools()];
  const script = `{ ${block?.text}\n} >&2; printf %s "$PATH"`;
  const built = Bun.spawnSync(["bash", "-euo", "pipefail", "-c", script], {
    cwd: clone,
    env: { PATH: PATH.join(delimiter), HOME: process.env.HOME ?? "" },
  });
  if (!built.success) throw new Error(built.stderr.toString());
  return built.stdout.toString();
}

/** For a machine that has them only among what the set-up has installed: the README wants them in the PATH. */
function makeClientTools(): string {
  const directory = temporaryDirectory();
  for (const name of ["pg_dump", "pg_restore", "psql"] as const) {
    const path = join(directory, name);
    writeFileSync(path, `#!/bin/sh\nexec "${findClientTool(name)?.path}" "$@"\n`);
    chmodSync(path, 0o755);
  }
  return directory;
}

/** A project with the example's migrations and an app that ends at once. */
async function makeSandbox(): Promise<Sandbox> {
  const directory = temporaryDirectory();
  cpSync(join(ROOT, "examples", "basic", "prisma"), join(directory, "prisma"), { recursive: true });
  mkdirSync(join(directory, "dist"));
  writeFileSync(join(directory, "dist", "main.js"), 'console.log("the app has started");\n');
  const database = await cluster.createDatabase();
  return {
    directory,
    database,
    environment: {
      PATH: searchPath,
      HOME: process.env.HOME ?? "",
      DATABASE_URL: cluster.url(database),
      DATABASE_NAME: database,
      BACKUP_DIR: join(directory, "backups"),
      PORT: String(await freePort()),
    },
  };
}

function placeOf({ path, line }: Block): string {
  return `${path}:${line}`;
}
