#!/usr/bin/env -S bun --no-env-file
/**
 * The whole story on a private PostgreSQL that disappears again: a first deploy, a start with nothing to do, a migration
 * that fails and leaves nothing behind, a health check. Runs the programs as a user would; exit 0 only when each step
 * ended as it should. `--example nestjs` does it with that app, `--lang en` in English.
 */
import { cpSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, styleText } from "node:util";
import { findClientTool } from "./support/postgres-binaries.mjs";
import { type Cluster, freePort, startCluster, temporaryDirectory } from "./support/private-cluster.ts";

const ROOT = join(import.meta.dirname, "..");
/** The first one needs nothing but this folder; the other one is an app of its own, to be installed and built before. */
const EXAMPLES = {
  basic: { program: process.execPath, script: "server.js", preparation: [] },
  nestjs: { program: "node", script: "dist/main.js", preparation: ["ci --ignore-scripts", "run build"] },
} as const;
const STEP_DEADLINE_MS = 120_000;
const POLL_MS = 20;

const WORDS = {
  ko: {
    server: "임시 PostgreSQL 서버를 시작합니다",
    prepareFirst: "예제 앱이 아직 빌드되지 않았습니다. 먼저 실행하십시오:",
    firstDeploy: (count: number) => `첫 배포: 빈 데이터베이스에 마이그레이션 ${count}건`,
    seeded: "예제 데이터 입력",
    upToDate: "두 번째 시작: 할 일이 없으면 바로 앱을 시작",
    failure: "실패하는 마이그레이션: 데이터베이스는 그대로",
    health: "헬스체크",
    identical: (lines: number) => `배포 전후의 pg_dump 출력이 같습니다 (${lines}줄)`,
    backups: "백업 폴더",
    done: "데모 완료: 모든 단계가 예상대로 끝났습니다",
    stopped: (step: string) => `데모 실패: ${step}`,
    expected: (what: string, wanted: unknown, found: unknown) => `${what}: 예상 ${wanted}, 실제 ${found}`,
  },
  en: {
    server: "Starting a temporary PostgreSQL server",
    prepareFirst: "The example app is not built yet. Run this before:",
    firstDeploy: (count: number) => `First deploy: ${count} migrations on an empty database`,
    seeded: "Some rows to lose",
    upToDate: "Second start: nothing to do, so the app starts at once",
    failure: "A migration that fails: the database stays as it was",
    health: "Health check",
    identical: (lines: number) => `pg_dump says the same before and after (${lines} lines)`,
    backups: "Backup folder",
    done: "Demo finished: every step ended as it should",
    stopped: (step: string) => `Demo failed: ${step}`,
    expected: (what: string, wanted: unknown, found: unknown) => `${what}: expected ${wanted}, found ${found}`,
  },
};

type Words = (typeof WORDS)["ko"];

interface Demo {
  readonly example: keyof typeof EXAMPLES;
  readonly language: keyof typeof WORDS;
  readonly words: Words;
  readonly cluster: Cluster;
  readonly database: string;
  readonly port: number;
  readonly backups: string;
}

let step = "";
let app: Bun.Subprocess | undefined;

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      lang: { type: "string", default: process.env.DEPLOY_LANG ?? "ko" },
      example: { type: "string", default: "basic" },
    },
  });
  const language = values.lang === "en" ? "en" : "ko";
  const words = WORDS[language];
  const example = values.example === "nestjs" ? "nestjs" : "basic";
  if (!isPrepared(example, words)) return 1;
  endAppWithUs();
  let cluster: Cluster | undefined;
  try {
    title(words.server);
    cluster = await startCluster();
    const database = await cluster.createDatabase();
    const port = await freePort();
    await runSteps({ example, language, words, cluster, database, port, backups: temporaryDirectory() });
    console.log(styleText("green", `\n✅ ${words.done}`));
    return 0;
  } catch (error) {
    console.error(styleText("red", `\n❌ ${words.stopped(step)}`));
    console.error(error instanceof Error ? error.message : error);
    return 1;
  } finally {
    app?.kill("SIGKILL");
    await cluster?.remove();
  }
}

async function runSteps(demo: Demo): Promise<void> {
  const { words, cluster, database } = demo;
  const folder = join("examples", demo.example);
  const migrations = join(folder, "prisma", "migrations");

  title(words.firstDeploy(countFolders(migrations)));
  await startDeploy(demo, migrations);
  await stopApp(demo);
  await cluster.psql(database, readFileSync(join(ROOT, folder, "seed.sql"), "utf8"));
  console.log(`   ${words.seeded}: ${await countRows(demo)}`);

  title(words.upToDate);
  await startDeploy(demo, migrations);

  title(words.failure);
  const before = await dump(demo);
  const next = temporaryDirectory();
  for (const part of [migrations, join(folder, "failing-migrations")]) {
    cpSync(join(ROOT, part), next, { recursive: true });
  }
  const exitCode = await spawnDeploy(demo, next).exited;
  expectSame(demo, "exit code", 5, exitCode);
  expectSame(demo, "pg_dump", before, await dump(demo), "…");
  console.log(`   ${words.identical(before.split("\n").length)}: ${await countRows(demo)}`);
  console.log(`   ${words.backups}:`);
  for (const name of readdirSync(demo.backups).sort()) {
    console.log(`   ${String(statSync(join(demo.backups, name)).size).padStart(8)}  ${name}`);
  }

  title(words.health);
  const url = `http://127.0.0.1:${demo.port}/health`;
  const check = spawnProgram(demo, "health-check", ["--url", url, "--lang", demo.language], migrations);
  expectSame(demo, "exit code", 0, await check.exited);
  await stopApp(demo);
}

/** Says how to build the example's app where that has to be done first. */
function isPrepared(example: keyof typeof EXAMPLES, words: Words): boolean {
  const { script, preparation } = EXAMPLES[example];
  if (existsSync(join(ROOT, "examples", example, script))) return true;
  const commands = preparation.map((command) => `npm --prefix examples/${example} ${command}`);
  console.error(`${words.prepareFirst}\n\n  ${commands.join(" && ")}\n`);
  return false;
}

function countFolders(path: string): number {
  return readdirSync(join(ROOT, path), { withFileTypes: true }).filter((entry) => entry.isDirectory()).length;
}

/** Deploys and waits until the app that is started in the end answers. */
async function startDeploy(demo: Demo, migrations: string): Promise<void> {
  const child = spawnDeploy(demo, migrations);
  app = child;
  const deadline = performance.now() + STEP_DEADLINE_MS;
  while (!(await answers(demo.port))) {
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > deadline) {
      throw new Error(demo.words.expected("/health", 200, child.exitCode ?? child.signalCode ?? "timeout"));
    }
    await Bun.sleep(POLL_MS);
  }
}

async function stopApp(demo: Demo): Promise<void> {
  app?.kill("SIGTERM");
  expectSame(demo, "exit code", 0, await app?.exited);
  app = undefined;
}

function spawnDeploy(demo: Demo, migrations: string): Bun.Subprocess {
  const { program, script } = EXAMPLES[demo.example];
  const args = ["--lang", demo.language, "--", program, join("examples", demo.example, script)];
  return spawnProgram(demo, "deploy", args, migrations);
}

function spawnProgram(demo: Demo, program: string, args: readonly string[], migrations: string): Bun.Subprocess {
  const shown = args.map((arg) => (arg === process.execPath ? "bun" : arg)).join(" ");
  console.log(styleText("dim", `$ bun scripts/${program}.ts ${shown}\n`));
  return Bun.spawn([process.execPath, "--no-env-file", join("scripts", `${program}.ts`), ...args], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
    timeout: 2 * STEP_DEADLINE_MS,
    // Nothing of the surroundings: a DATABASE_URL that happens to be set is not for the demo.
    env: {
      PATH: process.env.PATH ?? "",
      HOME: process.env.HOME ?? "",
      DATABASE_URL: demo.cluster.url(demo.database),
      MIGRATIONS_DIR: migrations,
      BACKUP_DIR: demo.backups,
      HOST: "127.0.0.1",
      PORT: String(demo.port),
    },
  });
}

/** Schema and data as text, without the token that newer releases of pg_dump put into each dump at random. */
async function dump({ cluster, database }: Demo): Promise<string> {
  const tool = findClientTool("pg_dump")?.path ?? "pg_dump";
  const connection = [`--host=${cluster.host}`, `--port=${cluster.port}`, "--username=postgres"];
  const child = Bun.spawn([tool, "--no-password", ...connection, database], { stdio: ["ignore", "pipe", "inherit"] });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`pg_dump: ${child.exitCode}`);
  return text.replace(/^\\(un)?restrict .*$/gm, "");
}

async function countRows({ cluster, database }: Demo): Promise<string> {
  const names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename COLLATE \"C\"";
  const tables = (await cluster.psql(database, names)).split("\n");
  const counts = await cluster.psql(
    database,
    tables.map((table) => `SELECT '${table} ' || count(*) FROM "${table}";`).join("\n"),
  );
  return counts.split("\n").join(", ");
}

async function answers(port: number): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(1_000) }).catch(
    () => undefined,
  );
  return response?.ok === true;
}

function expectSame(demo: Demo, what: string, wanted: unknown, found: unknown, shown = wanted): void {
  if (wanted !== found) throw new Error(demo.words.expected(what, shown, shown === wanted ? found : "≠"));
}

function title(text: string): void {
  step = text;
  console.log(styleText("bold", `\n── ${text}`));
}

/** An interrupted demo leaves no app behind; the server goes with us in any case. */
function endAppWithUs(): void {
  process.once("SIGINT", () => process.exit(130));
  process.once("SIGTERM", () => process.exit(143));
  process.once("exit", () => app?.kill("SIGKILL"));
}
