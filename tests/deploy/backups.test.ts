/** `backup`, `backups`, `verify` and `prune` as a user runs them, on a real database. */
import { beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { formatManifest, type Manifest, parseManifest } from "../../lib/backup/manifest.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { type Cluster, sharedCluster, temporaryDirectory } from "../support/cluster.ts";
import { flipBit } from "../support/flip-bit.ts";
import { makeProject, type Project, runDeploy, startDeploy, until } from "../support/project.ts";
import { openDatabase } from "../support/restore.ts";
import { writeSpoiler } from "../support/spoiler.ts";

const TIMEOUT_MS = 180_000;
const DAY_MS = 86_400_000;
const SCRIPTS = {
  "20240101000000_shop":
    "CREATE TABLE shop (id int PRIMARY KEY, name text);\nINSERT INTO shop SELECT g, md5(g::text) FROM generate_series(1, 500) g;\n",
};

/** Prisma's table, so that what else is there asks for no baseline. */
const BASELINE = `CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL,
  finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
  started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count int NOT NULL DEFAULT 0)`;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await sharedCluster();
});

interface World {
  readonly project: Project;
  readonly database: string;
  readonly url: string;
  run(...args: string[]): ReturnType<typeof runDeploy>;
  /** Of the backup folder, but for the journal. */
  files(): string[];
}

/** A project that was deployed, and so has a first backup unless it is removed. */
async function makeWorld({ keepsBackups = false } = {}): Promise<World> {
  const project = makeProject(SCRIPTS);
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  expect((await runDeploy(project, { url })).exitCode).toBe(0);
  if (!keepsBackups) rmSync(project.backupDirectory, { recursive: true });
  return {
    project,
    database,
    url,
    run: async (...args) => await runDeploy(project, { url, args }),
    files: () =>
      readdirSync(project.backupDirectory)
        .filter((name) => name !== "journal.jsonl")
        .sort(),
  };
}

function readManifest(path: string): Manifest {
  const manifest = parseManifest(readFileSync(path.replace(/\.(sql|dump)$/, ".json"), "utf8"));
  if (manifest === undefined) throw new Error(`no manifest beside ${path}`);
  return manifest;
}

/** The same backup as if it had been taken so many days ago. */
function age(path: string, days: number): void {
  const manifest = readManifest(path);
  const createdAt = new Date(Date.parse(manifest.createdAt) - days * DAY_MS).toISOString();
  writeFileSync(path.replace(/\.(sql|dump)$/, ".json"), formatManifest({ ...manifest, createdAt }));
}

describe("backup", () => {
  test(
    "takes one now, says where it is, and what it precedes",
    async () => {
      const { project, run, files } = await makeWorld();
      project.add("20240202000000_next", "SELECT 1;");
      const { exitCode, stdout, stderr } = await run("backup");
      expect(exitCode, stderr).toBe(0);
      const path = stdout.trim();
      expect(files()).toEqual([`${basename(path, ".sql")}.json`, basename(path)]);
      expect(stderr).toContain(`✅ PostgreSQL 백업 완료: ${path}`);
      expect(readManifest(path)).toMatchObject({
        history: { applied: 1, last: "20240101000000_shop" },
        precedes: ["20240202000000_next"],
      });
      // Nothing was deployed by it.
      expect((await run("status")).exitCode).toBe(10);
    },
    TIMEOUT_MS,
  );

  test(
    "in the format that is asked for, as JSON, without a migrations folder",
    async () => {
      const { project, run } = await makeWorld();
      rmSync(join(project.directory, "prisma"), { recursive: true });
      const { exitCode, stdout, stderr } = await run("backup", "--backup-format", "custom", "--json", "--lang", "en");
      expect(exitCode, stderr).toBe(0);
      const printed = JSON.parse(stdout);
      expect(printed).toMatchObject({ format: "custom", precedes: [], history: { applied: 1 } });
      expect(printed).toEqual({ path: printed.path, ...readManifest(printed.path) });
      expect(stderr).toContain("✅ PostgreSQL backup finished:");
    },
    TIMEOUT_MS,
  );

  test(
    "waits for a deploy, and keeps one waiting",
    async () => {
      const { database, run, project, url } = await makeWorld();
      const holder = await openDatabase(cluster, database).open("holder");
      await holder.query("SELECT pg_advisory_lock(72707369)", { during: "test", deadlineMs: 60_000 });
      const held = await run("backup", "--lock-wait", "0");
      expect(held.exitCode).toBe(75);
      const waiting = startDeploy(project, { url, args: ["backup"] });
      await until("it says that it waits", () => waiting.output().includes("pid"));
      await holder.close();
      expect((await waiting.ended).exitCode).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    "of a history that no deploy would go on from",
    async () => {
      const { cluster: _, ...world } = { cluster, ...(await makeWorld()) };
      await cluster.psql(world.database, "ALTER TABLE _prisma_migrations RENAME COLUMN checksum TO other");
      expect((await world.run("status")).exitCode).toBe(3);
      const { exitCode, stdout } = await world.run("backup");
      expect(exitCode).toBe(0);
      expect(readManifest(stdout.trim()).history).toEqual({ applied: 0, last: null });
    },
    TIMEOUT_MS,
  );

  test(
    "a database that is not there, and no settings",
    async () => {
      const project = makeProject();
      const missing = await runDeploy(project, { url: cluster.url("no_such_database"), args: ["backup"] });
      expect(missing.exitCode).toBe(7);
      expect((await runDeploy(project, { url: undefined, args: ["backup"] })).exitCode).toBe(2);
      expect((await runDeploy(project, { url: undefined, args: ["prune"] })).exitCode).toBe(2);
    },
    TIMEOUT_MS,
  );
});

test(
  "one that takes longer tells how far it is: a line in the log, and an event",
  async () => {
    const { project, url } = await makeWorld();
    const folder = temporaryDirectory();
    const path = join(folder, "pg_dump");
    const real = findClientTool("pg_dump")?.path ?? "pg_dump";
    writeFileSync(path, `#!/bin/sh\ncase "$*" in *--version*) ;; *) sleep 5;; esac\nexec "${real}" "$@"\n`);
    chmodSync(path, 0o755);
    const environment = { PATH: `${folder}:${process.env.PATH}` };
    const human = await runDeploy(project, { url, args: ["backup"], environment });
    const lines = human.stderr.match(/^ {3}백업 중: \d.*$/gm) ?? [];
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^ {3}백업 중: [\d.]+ K?B \/ 약 1\.\d MB \(0%\), [\d.]+ K?B\/s, [\d.]+s$/);
    const args = ["backup", "--log-format", "json"];
    const events = (await runDeploy(project, { url, args, environment })).stderr.trim().split("\n");
    const progress = events.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "data-progress");
    expect(progress).toMatchObject([{ work: "backup", totalBytes: expect.any(Number) }]);
    expect(progress[0].elapsedMs).toBeGreaterThanOrEqual(2_000);
  },
  TIMEOUT_MS,
);

describe("what a tool does wrong is told before anything is migrated", () => {
  /** A pg_dump that does its work and then something to the result. */
  function spoil(after: string): Record<string, string> {
    const folder = temporaryDirectory();
    const real = findClientTool("pg_dump")?.path ?? "pg_dump";
    const path = join(folder, "pg_dump");
    writeSpoiler(path, real, after);
    return { PATH: `${folder}:${process.env.PATH}`, POSTGRES_FOLDER: folder };
  }

  test.each([
    ["plain", "head -c 3000"],
    ["custom", "head -c 3000"],
    // A byte that is lost, and not a bit that is flipped: what pg_dump compresses with zstd has no sum of its own.
    ["custom", "perl -0777 -pe 'substr($_, length($_) * 0.5, 1) = q()'"],
  ])(
    "%s through %s: the deploy stops, and an earlier backup stays the newest",
    async (format, after) => {
      const { project, url, database, run, files } = await makeWorld();
      const first = (await run("backup", "--backup-format", format)).stdout.trim();
      const before = files();
      project.add("20240202000000_next", "CREATE TABLE next ();");
      const environment = spoil(after);
      const args = ["--backup-format", format];
      const failed = await runDeploy(project, { url, args, environment });
      expect({ exitCode: failed.exitCode, text: failed.stderr }).toMatchObject({ exitCode: 4 });
      expect(failed.stderr).toContain("BACKUP_NOT_VERIFIED");
      expect(await cluster.psql(database, "SELECT to_regclass('next')")).toBe("");
      expect(files()).toEqual(before);
      const list = JSON.parse((await run("backups", "--json")).stdout);
      expect(list.map(({ path }: { path: string }) => path)).toEqual([first]);
    },
    TIMEOUT_MS,
  );
});

test.each([
  [
    "a table of another role",
    "CREATE TABLE theirs (a int)",
    ["public.theirs", "GRANT SELECT ON TABLE public.theirs TO reader;"],
  ],
  [
    "a sequence of another role",
    "CREATE SEQUENCE theirs",
    ["public.theirs", "GRANT SELECT ON SEQUENCE public.theirs TO reader;"],
  ],
  [
    "a schema of another role",
    "CREATE SCHEMA s; CREATE TABLE s.t (); GRANT SELECT ON s.t TO reader",
    ["GRANT USAGE ON SCHEMA s TO reader;"],
  ],
  [
    "a large object of another role",
    "SELECT lo_create(4242)",
    ["4242", "GRANT SELECT ON LARGE OBJECT 4242 TO reader;"],
  ],
  [
    "row-level security that is forced on the owner",
    "CREATE TABLE t (a int); ALTER TABLE t OWNER TO reader; ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    ["public.t", "ALTER ROLE reader BYPASSRLS;"],
  ],
])(
  "%s: what a backup can't read is told before anything is migrated",
  async (_, sql, shows) => {
    const database = await cluster.createDatabase();
    await cluster.psql(
      database,
      `DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
       GRANT CREATE ON SCHEMA public TO reader; ${sql}`,
    );
    const project = makeProject({ "20240101000000_next": "CREATE TABLE next ();" });
    await cluster.psql(database, BASELINE, "reader");
    const url = cluster.url(database, { user: "reader" });
    for (const args of [[], ["backup"], ["plan"]]) {
      const run = await runDeploy(project, { url, args });
      expect(run.exitCode, run.stderr).toBe(4);
      for (const text of ["BACKUP_DENIED", "reader", ...shows]) expect(run.stderr).toContain(text);
    }
    expect(await cluster.psql(database, "SELECT to_regclass('next')")).toBe("");
    await cluster.psql(database, shows.at(-1) ?? "");
    const allowed = await runDeploy(project, { url });
    expect(allowed.exitCode, allowed.stderr).toBe(0);
    await cluster.psql("postgres", "ALTER ROLE reader NOBYPASSRLS");
  },
  TIMEOUT_MS,
);

test(
  "a folder without room: told before anything is begun, with what there is and what is needed",
  async () => {
    const { project, url, database } = await makeWorld();
    await cluster.psql(
      database,
      `CREATE TABLE wide AS SELECT g, repeat(md5(g::text), 20) AS t FROM generate_series(1, 6000) g;
       CREATE INDEX ON wide (t); CREATE INDEX ON wide (t, g)`,
    );
    const directory = temporaryDirectory();
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", directory]);
    if (mounted.status !== 0) return console.warn("backups.test.ts: skipped, a tiny file system can't be mounted here");
    try {
      project.add("20240202000000_next", "CREATE TABLE next ();");
      const environment = { BACKUP_DIR: directory };
      for (const args of [[], ["plan"], ["backup"]]) {
        const run = await runDeploy(project, { url, args: [...args, "--lang", "en"], environment });
        expect(run.exitCode, run.stderr).toBe(4);
        expect(run.stderr).toContain("BACKUP_NO_SPACE");
        expect(run.stderr).toMatch(/\(3\.1 MB left, 5\.\d MB needed\)/);
        expect(readdirSync(directory)).toEqual([]);
      }
      // Indexes are in no dump: with room for the rows it goes well, and compressed in half of that.
      spawnSync("mount", ["-o", "remount,size=4m", directory]);
      const taken = await runDeploy(project, { url, args: ["backup", "--backup-format", "custom"], environment });
      expect(taken.exitCode, taken.stderr).toBe(0);
      spawnSync("mount", ["-o", "remount,size=16m", directory]);
      expect((await runDeploy(project, { url, environment })).exitCode).toBe(0);
    } finally {
      spawnSync("umount", [directory]);
    }
  },
  TIMEOUT_MS,
);

describe("backups", () => {
  test(
    "lists what there is without a database, in both languages and as JSON",
    async () => {
      const { project, run } = await makeWorld();
      project.add("20240202000000_next", "SELECT 1;");
      project.add("20240303000000_more", "SELECT 1;");
      const old = (await run("backup")).stdout.trim();
      age(old, 100);
      const other = (await run("backup", "--backup-format", "custom")).stdout.trim();
      const bare = async (...args: string[]) => await runDeploy(project, { url: undefined, args });
      const json = JSON.parse((await bare("backups", "--json")).stdout);
      expect(json).toMatchObject([
        { path: old, format: "plain", state: "present", expiry: { kind: "kept" } },
        { path: other, format: "custom", precedes: ["20240202000000_next", "20240303000000_more"] },
      ]);
      const ko = await bare("backups", "--backup-min-keep", "1");
      expect(ko.exitCode).toBe(0);
      const lines = ko.stdout.split("\n");
      expect(lines[2]).toMatch(/^backup_\S+\.sql +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}[\d.]+ KB {2}plain +검증됨 /);
      expect(lines[2]).toContain("20240202000000_next 외 1건");
      expect(lines[2]).toEndWith("다음 정리 때");
      expect(lines[3]).toEndWith("최소 보관");
      expect((await bare("backups", "--lang", "en")).stdout).toContain("kept as minimum");
    },
    TIMEOUT_MS,
  );

  test(
    "an empty folder, one that is not there, and several databases in one",
    async () => {
      const first = await makeWorld({ keepsBackups: true });
      const second = await makeWorld();
      const environment = { BACKUP_DIR: first.project.backupDirectory };
      const taken = await runDeploy(second.project, { url: second.url, args: ["backup"], environment });
      expect(taken.exitCode).toBe(0);
      const { stdout } = await first.run("backups");
      expect(stdout).toContain(first.database);
      expect(stdout).toContain(second.database);
      const nowhere = await second.run("backups");
      expect(nowhere).toMatchObject({ exitCode: 0, stdout: `백업이 없습니다: ${second.project.backupDirectory}\n` });
    },
    TIMEOUT_MS,
  );
});

describe("verify", () => {
  const formats = ["plain", "custom"] as const;

  test.each(formats)(
    "%s: a good one, then cut, then with a flipped bit: it no longer counts, until it is found good again",
    async (format) => {
      const { project, run } = await makeWorld();
      const path = (await run("backup", "--backup-format", format)).stdout.trim();
      const good = await run("verify");
      expect(good.exitCode, good.stderr).toBe(0);
      expect(good.stdout).toStartWith(`✅ 정상: ${path}\n   ${format}, `);
      expect(good.stdout).toContain("테이블 2개, 501행");
      expect(good.stdout).toContain("SHA-256");
      expect(good.stdout.includes("블록")).toBe(format === "custom");
      const bytes = readFileSync(path);
      const damages = [() => truncateSync(path, Math.floor(bytes.length * 0.7)), () => flipBit(path)];
      for (const damage of damages) {
        writeFileSync(path, bytes);
        damage();
        const bad = await run("verify", basename(path));
        expect(bad.exitCode).toBe(4);
        expect(bad.stdout).toStartWith(`❌ 손상: ${path}\n   `);
        const [listed] = JSON.parse((await run("backups", "--json")).stdout);
        expect(["damaged", "size-differs"]).toContain(listed.state);
      }
      writeFileSync(path, bytes);
      const bare = { url: undefined, args: ["verify", path, "--json"] };
      expect(JSON.parse((await runDeploy(project, bare)).stdout)).toMatchObject([{ isGood: true, rows: 501 }]);
      expect(JSON.parse((await run("backups", "--json")).stdout)).toMatchObject([{ state: "present" }]);
    },
    TIMEOUT_MS,
  );

  test(
    "the specification's own dump, without a manifest: whole, cut, and with something behind its end",
    async () => {
      const { project, database, run } = await makeWorld();
      const path = join(project.directory, "by-hand.sql");
      const dump = spawnSync("sh", ["-c", `"${findClientTool("pg_dump")?.path}" "$DATABASE_URL" > ${path}`], {
        env: { DATABASE_URL: `postgresql://postgres@/${database}?host=${cluster.host}&port=${cluster.port}` },
      });
      expect(dump.status).toBe(0);
      const whole = await run("verify", "by-hand.sql", "--lang", "en");
      expect(whole).toMatchObject({ exitCode: 0 });
      expect(whole.stdout).toContain("from the first line to the end marker");
      expect(whole.stdout).toContain("There is no manifest");
      const text = readFileSync(path, "utf8");
      const end = text.indexOf("-- PostgreSQL database dump complete");
      const spoiled = [text.slice(0, end), text.slice(0, text.length / 2), `${text}DROP TABLE shop;\n`, ""];
      for (const each of spoiled) {
        writeFileSync(path, each);
        expect((await run("verify", path)).exitCode).toBe(4);
      }
      expect(readdirSync(project.directory).filter((name) => name.includes("hand"))).toEqual(["by-hand.sql"]);
    },
    TIMEOUT_MS,
  );

  test(
    "an archive without a manifest",
    async () => {
      const { project, run } = await makeWorld();
      const taken = (await run("backup", "--backup-format", "custom")).stdout.trim();
      const path = join(project.directory, "mine.bin");
      renameSync(taken, path);
      const { exitCode, stdout } = await run("verify", path, "--json");
      expect(exitCode).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject([{ format: "custom", checked: ["blocks", "structure"], tables: 2 }]);
    },
    TIMEOUT_MS,
  );

  test(
    "all: a damaged one does not hide the others, and the exit code tells",
    async () => {
      const { run } = await makeWorld();
      const paths = [];
      for (const format of ["plain", "custom", "plain"]) {
        paths.push((await run("backup", "--backup-format", format)).stdout.trim());
      }
      flipBit(paths[0] ?? "");
      const { exitCode, stdout } = await run("verify", "all", "--json");
      expect(exitCode).toBe(4);
      expect(JSON.parse(stdout)).toMatchObject(paths.map((path, index) => ({ path, isGood: index > 0 })));
      expect((await run("verify", "latest")).exitCode).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    "what is not there",
    async () => {
      const { run, project } = await makeWorld();
      for (const word of ["latest", "all", "nothing.sql", "backup_20200101_000000"]) {
        const { exitCode, stderr } = await run("verify", word);
        expect(exitCode).toBe(4);
        expect(stderr).toContain("BACKUP_NOT_FOUND");
      }
      mkdirSync(project.backupDirectory);
      const path = (await run("backup")).stdout.trim();
      rmSync(path);
      expect((await run("verify", path)).exitCode).toBe(4);
      expect((await run("verify", "latest")).exitCode).toBe(4);
    },
    TIMEOUT_MS,
  );
});

describe("prune", () => {
  test(
    "by the policy, this database's alone, and a dry run deletes nothing",
    async () => {
      const { run, files, project } = await makeWorld();
      const other = await makeWorld();
      const environment = { BACKUP_DIR: project.backupDirectory };
      const foreign = (await runDeploy(other.project, { url: other.url, args: ["backup"], environment })).stdout.trim();
      age(foreign, 400);
      const paths = [];
      for (let count = 0; count < 5; count += 1) paths.push((await run("backup")).stdout.trim());
      for (const [index, path] of paths.entries()) age(path, 50 - index);
      writeFileSync(join(project.backupDirectory, "backup_20200101_000000.sql"), "taken by hand");
      // A person has deleted the dump of the newest one.
      rmSync(paths[4] ?? "");
      const before = files();

      const dry = await run("prune", "--dry-run", "--json");
      expect(dry.exitCode, dry.stderr).toBe(0);
      const expected = [paths[0], paths[4]];
      expect(JSON.parse(dry.stdout)).toEqual({ deleted: expected, kept: 3, dryRun: true });
      expect(files()).toEqual(before);

      const done = await run("prune");
      expect(done).toMatchObject({ exitCode: 0 });
      expect(done.stdout).toStartWith("삭제 2개, 보관 3개\n");
      const gone = expected.flatMap((path = "") => [basename(path), basename(path).replace(".sql", ".json")]);
      expect(files()).toEqual(before.filter((name) => !gone.includes(name)));
      expect(JSON.parse((await run("prune", "--json")).stdout)).toMatchObject({ deleted: [], kept: 3 });
    },
    TIMEOUT_MS,
  );
});
