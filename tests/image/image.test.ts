/**
 * The images of examples/docker, built as they are and run by a real Docker engine, on the musl stand-in for their base
 * image: see standin.ts for what that is and is not. Needs root and an engine: `IMAGE_TESTS=1`, which `.ci/run` sets
 * where it has both.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort } from "../../scripts/support/private-cluster.ts";
import { type Cluster, startCluster, temporaryDirectory } from "../support/cluster.ts";
import { copyRepository } from "../support/copy.ts";
import { commandsOf, readBlocks } from "../support/documents.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import { until } from "../support/project.ts";
import { type CommandResult, type Engine, startEngine } from "./engine.ts";
import { makePostgresStandin, POSTGRES_CHANGES } from "./postgres-standin.ts";
import { makeStandin, STANDIN_CHANGES } from "./standin.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const EXAMPLE = join(ROOT, "examples/nestjs");
const IMAGES = { notes: "Dockerfile", "notes-bundle": "Dockerfile.bundle" };
/** The commands of the examples' page: those that make the images, and those that run them. */
const [BUILDING = [], RUNNING = []] = readBlocks("examples/docker/README.md")
  .filter(({ notes }) => notes[0] === "image")
  .map(({ text }) => commandsOf(text));
const BASE_IMAGE = "node:26-alpine";
const PASSWORD = "pass w%rd";
const OWNER = 1001;
const PREPARE_MS = 3_600_000;
const TEST_MS = 180_000;

/** As little as an image can be given. */
const HARDENED = [
  "--read-only",
  "--tmpfs=/tmp",
  "--cap-drop=ALL",
  "--security-opt=no-new-privileges",
  "--pids-limit=100",
];

const FAILING = { "20260701090000_wrong": 'ALTER TABLE "Note" ADD COLUMN "tag" TEXT;\nSELECT nothing;\n' };

let engine: Engine;
let cluster: Cluster;

describe.skipIf(process.env.IMAGE_TESTS !== "1")("the image on the musl stand-in", () => {
  beforeAll(async () => {
    const root = temporaryDirectory();
    await makeStandin(root);
    engine = await startEngine();
    await engine.importImage(root, BASE_IMAGE, STANDIN_CHANGES);
    cluster = await startCluster({ tcp: true, auth: "scram-sha-256", password: PASSWORD });
    await buildImages();
  }, PREPARE_MS);

  afterAll(async () => {
    await engine?.remove();
    await cluster?.remove();
  }, TEST_MS);

  afterEach(async () => {
    const ids = await engine.docker("ps", "-aq");
    if (ids !== "") await engine.docker("rm", "-fv", ...ids.split("\n"));
  });

  test.each(Object.keys(IMAGES))("%s: says what an orchestrator reads", async (image) => {
    const { Config: config } = JSON.parse(await engine.docker("image", "inspect", image, "--format", "{{json .}}"));
    expect(config).toMatchObject({
      User: `${OWNER}:${OWNER}`,
      Entrypoint: ["deploy", "--"],
      Cmd: ["node", "dist/main.js"],
      Volumes: { "/app/backups": {} },
      Healthcheck: { Test: ["CMD", "health-check"] },
    });
    expect(JSON.stringify(config)).not.toContain("DATABASE_URL");
  });

  test.each(Object.keys(IMAGES))(
    "%s: the first start migrates, the second starts at once, and docker stop reaches the app",
    async (image) => {
      const volume = `--volume=backups-of-${image}:/app/backups`;
      const { name, address } = await start(HARDENED, [volume], { image });
      await untilServing(name, address);
      expect(await logs(name)).toContain("마이그레이션이 성공적으로 완료되었습니다.");
      const processOne = await engine.docker("exec", name, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; id -u");
      expect(processOne).toBe(`node dist/main.js ${OWNER}`);
      expect(await engine.docker("exec", name, "ls", "-n", "/app/backups")).toMatch(
        new RegExp(`^-rw-------\\s+1 ${OWNER}\\s+${OWNER}\\s.*backup_\\d{8}_\\d{6}\\.sql$`, "m"),
      );

      expect(await stop(name)).toEqual({ exitCode: 0, isKilled: false });

      await engine.docker("start", name);
      await untilServing(name, address);
      const second = (await logs(name)).split("고도화된 배포 프로세스 시작").at(-1);
      expect(second).toContain("데이터베이스 스키마가 최신 상태입니다.");
      const backups = await engine.docker("exec", name, "sh", "-c", "ls /app/backups/*.sql");
      expect(backups.split("\n")).toHaveLength(1);
      await engine.docker("rm", "-fv", name);

      const other = await start([], [volume, "--entrypoint=ls"], { command: ["/app/backups"] });
      expect(await engine.docker("wait", other.name)).toBe("0");
      expect(await logs(other.name)).toContain(backups.replace("/app/backups/", ""));
    },
    TEST_MS,
  );

  test.each(Object.keys(IMAGES))(
    "%s: a migration that fails ends with 5, the database is as it was, and the app never runs",
    async (image) => {
      const first = await start(HARDENED, [], { image });
      await untilServing(first.name, first.address);
      const before = await readSchema(first.database);

      const { name } = await start(HARDENED, mountMigrations(FAILING), { image, database: first.database });
      expect(await engine.docker("wait", name)).toBe("5");
      const printed = await logs(name);
      expect(printed).toContain("❌ 마이그레이션 실패!");
      expect(printed).toContain("❌ 배포 실패. 수동 확인이 필요합니다.");
      expect(printed).not.toContain("Nest");
      expect(printed).not.toContain(PASSWORD);
      expect(printed).not.toContain(encodeURIComponent(PASSWORD));
      expect(await readSchema(first.database)).toBe(before);
    },
    TEST_MS,
  );

  test(
    "docker stop during a migration rolls it back",
    async () => {
      const flag = makeFlagPath(cluster);
      const migrations = { "20260701090000_slow": `CREATE TABLE "slow" ();\n${waitForFile(flag)}` };
      const { name, database } = await start(HARDENED, mountMigrations(migrations));
      await until("it migrates", async () => (await readAtGate(cluster, database)) !== "");
      expect(await stop(name)).toEqual({ exitCode: 143, isKilled: false });
      expect(await readAtGate(cluster, database)).toBe("");
      expect(await readSchema(database)).toBe("");
    },
    TEST_MS,
  );

  test(
    "one that is killed during a migration deploys at its next start",
    async () => {
      const flag = makeFlagPath(cluster);
      const migrations = { "20260701090000_slow": `CREATE TABLE "slow" ();\n${waitForFile(flag)}` };
      const { name, address, database } = await start(HARDENED, mountMigrations(migrations));
      await until("it migrates", async () => (await readAtGate(cluster, database)) !== "");
      await engine.docker("kill", name);
      expect(await engine.docker("wait", name)).toBe("137");
      writeFileSync(flag, "");
      await engine.docker("start", name);
      await untilServing(name, address);
      expect(await readSchema(database)).toContain("20260701090000_slow|2");
    },
    TEST_MS,
  );

  test(
    "a folder for backups that belongs to somebody else is refused before anything is touched",
    async () => {
      const { name, database } = await start(HARDENED, [`--volume=${temporaryDirectory()}:/app/backups`]);
      expect(await engine.docker("wait", name)).toBe("4");
      expect(await logs(name)).toContain("/app/backups");
      expect(await readSchema(database)).toBe("");
    },
    TEST_MS,
  );

  test(
    "it needs nothing to write to but the folder of its backups",
    async () => {
      const { name, address } = await start(
        ["--read-only", "--cap-drop=ALL", "--user=65000:65000"],
        ["--tmpfs=/app/backups:uid=65000,gid=65000,mode=700"],
      );
      await untilServing(name, address);
    },
    TEST_MS,
  );

  test(
    "while it deploys it is alive and not ready, then healthy",
    async () => {
      const flag = makeFlagPath(cluster);
      const migrations = { "20260701090000_slow": waitForFile(flag) };
      const { name, database } = await start(HARDENED, [...mountMigrations(migrations), ...QUICK_CHECKS]);
      await until("it migrates", async () => (await readAtGate(cluster, database)) !== "");
      const live = await engine.tryDocker("exec", name, "health-check", "--live");
      expect([live.exitCode, live.stdout.includes("20260701090000_slow")]).toEqual([0, true]);
      expect((await engine.tryDocker("exec", name, "health-check")).exitCode).toBe(1);
      expect(await readHealth(name)).toBe("starting");
      const watched = await start(HARDENED, [...mountMigrations(migrations), ...QUICK_CHECKS, LIVE_CHECK]);
      await until("that one migrates", async () => (await readAtGate(cluster, watched.database)) !== "");
      await until("asked whether it lives it is healthy", async () => (await readHealth(watched.name)) === "healthy");
      expect(await readAtGate(cluster, watched.database)).not.toBe("");

      writeFileSync(flag, "");
      await until("it is healthy", async () => (await readHealth(name)) === "healthy");
      expect((await engine.tryDocker("exec", name, "health-check", "--live")).exitCode).toBe(0);
    },
    TEST_MS,
  );

  test(
    "its health follows the database's",
    async () => {
      const { name, address } = await start(HARDENED, QUICK_CHECKS);
      await until("it is healthy", async () => (await readHealth(name)) === "healthy");
      await cluster.stop();
      await until("it is unhealthy", async () => (await readHealth(name)) === "unhealthy");
      expect(await answers(`${address}/health`)).toBe(true);
      const log = JSON.parse(await engine.docker("inspect", name, "--format", "{{json .State.Health.Log}}"));
      expect(log.at(-1)).toMatchObject({ ExitCode: 1 });
      expect(JSON.stringify(log)).not.toContain(PASSWORD);
      await cluster.start();
      await until("it is healthy again", async () => (await readHealth(name)) === "healthy");
    },
    TEST_MS,
  );

  test(
    "what the READMEs say to do in an image, and with its container",
    async () => {
      const { name, address } = await start([]);
      await untilServing(name, address);
      const blocks = ["README.md", "README.ko.md"].flatMap(readBlocks).filter(({ notes }) => notes[0] === "image");
      const commands = new Set(blocks.flatMap(({ text }) => commandsOf(text)));
      expect(commands.size).toBeGreaterThan(4);
      for (const command of commands) {
        expectDone(command, await runDocumented(command.replace("<container>", name), name));
      }
    },
    TEST_MS,
  );

  test(
    "what the example's own page says to run",
    async () => {
      expect(RUNNING.length).toBeGreaterThan(3);
      const port = await freePort();
      const address = `http://127.0.0.1:${port}`;
      const { environment } = await makeEnvironment(port);
      for (const command of RUNNING) {
        const words = wordsOf(command).map((word) => word.replace(/^DATABASE_URL=.*/, environment[0] ?? ""));
        const isApp = words.includes("--name");
        // An engine without a network of its own, and a person who looks on.
        const surroundings = ["--network=host", ...environment.map((entry) => `--env=${entry}`)];
        const given = words[1] === "run" ? [...surroundings, ...(isApp ? ["--detach"] : [])] : [];
        expectDone(command, await engine.tryDocker(...words.slice(1, 2), ...given, ...words.slice(2)));
        if (isApp) await untilServing("notes", address);
      }
    },
    TEST_MS,
  );

  describe("compose.yaml", () => {
    let composing: Engine;

    beforeAll(async () => {
      const root = temporaryDirectory();
      makePostgresStandin(root);
      composing = await startEngine({ hasOwnNetwork: true });
      await composing.importImage(root, "postgres:17-alpine", POSTGRES_CHANGES);
      const archive = join(temporaryDirectory(), "notes.tar");
      await engine.docker("save", "--output", archive, "notes");
      await composing.docker("load", "--input", archive);
    }, PREPARE_MS);

    afterAll(async () => {
      await composing?.remove();
    }, TEST_MS);

    test(
      "the database, then the app, then what waits for it; and it goes on after a stop",
      async () => {
        await compose("up", "--detach");
        await until("it serves", async () => (await ask("/health")).includes("ok"));
        const sent = '{ method: "POST", headers: { "content-type": "application/json" }, body: `{"text":"kept"}` }';
        expect(await ask("/notes", sent)).toContain("kept");
        expect(await compose("logs", "app")).toContain("마이그레이션이 성공적으로 완료되었습니다.");
        const waiting = (await compose("ps", "--quiet", "smoke-test")).trim();
        expect(await composing.docker("wait", waiting)).toBe("0");
        expect(await composing.docker("logs", waiting)).toContain("http://app:3000/health HTTP 200");

        const app = (await compose("ps", "--quiet", "app")).trim();
        await compose("stop");
        expect(await composing.docker("inspect", app, "--format", "{{.State.ExitCode}}")).toBe("0");
        await compose("start");
        await until("it serves again", async () => (await ask("/notes")).includes("kept"));
        await compose("down", "--volumes");
      },
      TEST_MS,
    );

    async function compose(...args: readonly string[]): Promise<string> {
      const file = join(ROOT, "examples/compose.yaml");
      const result = await composing.tryBeside(
        "env",
        "POSTGRES_PASSWORD=secret",
        "docker-compose",
        "--file",
        file,
        ...args,
      );
      expectDone(`docker-compose ${args.join(" ")}`, result);
      return result.stdout;
    }

    /** @returns what the app answers on its published port; "" where it does not */
    async function ask(path: string, options = "{}"): Promise<string> {
      const script = `console.log(await (await fetch("http://127.0.0.1:3000${path}", ${options})).text())`;
      return (await composing.tryBeside(process.execPath, "-e", script)).stdout;
    }
  });
});

function expectDone(command: string, { exitCode, stdout, stderr }: CommandResult): void {
  const said = exitCode === 0 ? "" : stdout + stderr;
  expect({ command, exitCode, said }).toEqual({ command, exitCode: 0, said: "" });
}

function wordsOf(command: string): string[] {
  return (command.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ""));
}

/** One of Docker itself, one of Debian on this machine, and the others as root inside the container. */
async function runDocumented(command: string, name: string): Promise<CommandResult> {
  const [docker, ...words] = wordsOf(command);
  if (docker === "docker") return await engine.tryDocker(...words);
  if (docker !== "apt-get") return await engine.tryDocker("exec", "--user=0", name, "sh", "-c", command);
  const { status, stdout, stderr } = spawnSync("bash", ["-c", command], { encoding: "utf8" });
  return { exitCode: status, stdout, stderr };
}

const LIVE_CHECK = "--health-cmd=health-check --live";

/** The timing of the image is for real life. The check itself stays as the image has it. */
const QUICK_CHECKS = ["--health-interval=1s", "--health-retries=2", "--health-start-period=1h"];

/** By the commands of the example's page, in a copy of the repository, so that nothing is left in the example's folder. */
async function buildImages(): Promise<void> {
  const licenses = ["LICENSE", "THIRD_PARTY_LICENSES"];
  const copy = copyRepository(["package.json", "bunfig.toml", ...licenses, "lib", "scripts", ".git"]);
  mkdirSync(join(ROOT, ".cache"), { recursive: true });
  for (const name of ["node_modules", ".cache"]) symlinkSync(join(ROOT, name), join(copy, name));
  const filter = (path: string) => !/\/(node_modules|dist|generated|bin)$/.test(path);
  cpSync(join(ROOT, "examples"), join(copy, "examples"), { recursive: true, filter });
  expect(BUILDING.length).toBeGreaterThan(4);
  for (const command of BUILDING) {
    if (!command.startsWith("docker ")) {
      const { status, stdout, stderr } = spawnSync("bash", ["-c", command], { cwd: copy, encoding: "utf8" });
      if (status !== 0) throw new Error(`${command}: exit ${status}\n${stderr}${stdout}`);
      continue;
    }
    for (const [image, file] of Object.entries(IMAGES)) {
      const other = command.replace("Dockerfile -t notes", `${file} -t ${image}`);
      const [build = "", ...words] = wordsOf(other).slice(1);
      const paths = words.map((word) => (word.startsWith("examples/") ? join(copy, word) : word));
      await engine.docker(build, "--network=host", ...paths);
    }
  }
}

interface Started {
  readonly name: string;
  readonly port: number;
  readonly address: string;
  readonly database: string;
}

interface RunChoices {
  readonly database?: string;
  readonly command?: readonly string[];
  readonly image?: string;
}

let started = 0;

/** Starts a container of the image, with a fresh database unless one is named. */
async function start(
  hardening: readonly string[],
  options: readonly string[] = [],
  { database, command = [], image = "notes" }: RunChoices = {},
): Promise<Started> {
  const name = `notes-${++started}`;
  const port = await freePort();
  const { used, environment } = await makeEnvironment(port, database);
  const variables = environment.map((entry) => `--env=${entry}`);
  const args = ["run", "--detach", "--network=host", `--name=${name}`, ...hardening, ...variables, ...options];
  await engine.docker(...args, image, ...command);
  return { name, port, address: `http://127.0.0.1:${port}`, database: used };
}

/** What the app is told, "name=value": the database's address comes first. */
async function makeEnvironment(port: number, database?: string): Promise<{ used: string; environment: string[] }> {
  const used = database ?? (await cluster.createDatabase());
  const health = `HEALTH_URL=http://localhost:${port}/health`;
  return { used, environment: [`DATABASE_URL=${cluster.url(used)}`, `PORT=${port}`, health] };
}

/** A release with more migrations: the folder of the example and these, over that of the image. */
function mountMigrations(migrations: Readonly<Record<string, string>>): string[] {
  const folder = temporaryDirectory();
  cpSync(join(EXAMPLE, "prisma/migrations"), folder, { recursive: true });
  for (const [name, sql] of Object.entries(migrations)) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, "migration.sql"), sql);
  }
  chmodSync(folder, 0o755);
  return [`--volume=${folder}:/app/prisma/migrations:ro`];
}

async function stop(name: string): Promise<{ exitCode: number; isKilled: boolean }> {
  await engine.docker("stop", "-t", "60", name);
  const exitCode = Number(await engine.docker("inspect", name, "--format", "{{.State.ExitCode}}"));
  return { exitCode, isKilled: exitCode === 137 };
}

async function logs(name: string): Promise<string> {
  const { stdout, stderr } = await engine.tryDocker("logs", name);
  return stdout + stderr;
}

async function readHealth(name: string): Promise<string> {
  return await engine.docker("inspect", name, "--format", "{{.State.Health.Status}}");
}

async function readSchema(database: string): Promise<string> {
  const columns = "SELECT table_name, column_name, data_type FROM information_schema.columns";
  const rows = 'SELECT migration_name, finished_at FROM "_prisma_migrations"';
  const shown = await cluster.psql(database, `${columns} WHERE table_schema = 'public' ORDER BY 1, 2`);
  return shown.includes("_prisma_migrations") ? `${shown}\n${await cluster.psql(database, rows)}` : shown;
}

/** @throws what a container has said that has ended instead */
async function untilServing(name: string, address: string): Promise<void> {
  await until("the app serves", async () => {
    if (await answers(`${address}/notes`)) return true;
    const isRunning = await engine.docker("inspect", name, "--format", "{{.State.Running}}");
    if (isRunning !== "true") throw new Error(`the container has ended:\n${await logs(name)}`);
    return false;
  });
}

async function answers(address: string): Promise<boolean> {
  const response = await fetch(address).catch(() => undefined);
  return response?.ok === true;
}
