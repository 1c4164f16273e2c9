/** Backups of a real database by the real pg_dump, and what the real psql makes of them. */
import { beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { type BackupContext, type BackupRequest, takeBackup } from "../../lib/backup/dump.ts";
import { IN_PLACE_SETTING, makeGuard } from "../../lib/backup/guard.ts";
import { parseManifest } from "../../lib/backup/manifest.ts";
import type { BackupFormat } from "../../lib/backup/name.ts";
import { rereadBackup } from "../../lib/backup/reread.ts";
import { type Backup, listBackups, readBackup } from "../../lib/backup/store.ts";
import { verifyBackup } from "../../lib/backup/verify.ts";
import { DeployError } from "../../lib/errors.ts";
import { type Database, makeDatabase } from "../../lib/postgres/database.ts";
import type { Session } from "../../lib/postgres/session.ts";
import { type ClientTool, findTool } from "../../lib/postgres/tools.ts";
import { parseConnectionUrl } from "../../lib/postgres/url.ts";
import { type Cluster, sharedCluster, startCluster, temporaryDirectory } from "../support/cluster.ts";
import { flipBit } from "../support/flip-bit.ts";
import { writeSpoiler } from "../support/spoiler.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";

const PASSWORD = "s3cret-p@ss/w:rd";
const DEADLINE_MS = 60_000;
const SYSTEM_IDENTIFIER = "7300000000000000001";
const FORMATS: readonly BackupFormat[] = ["plain", "custom"];

let cluster: Cluster;
let pgDump: ClientTool;
let pgRestore: ClientTool;
let psql: ClientTool;
/** Filled with the fixture, and never changed. */
let odd: string;
let backups: Record<BackupFormat, Backup>;

beforeAll(async () => {
  cluster = await sharedCluster();
  const version = Number(await cluster.psql("postgres", "SHOW server_version_num"));
  pgDump = await findTool("pg_dump", version);
  pgRestore = await findTool("pg_restore", version);
  psql = await findTool("psql", version);
  odd = await cluster.createDatabase();
  await cluster.psql(odd, readFileSync(join(import.meta.dirname, "../fixtures/odd-database.sql"), "utf8"));
  const directory = join(temporaryDirectory(), "backups");
  backups = { plain: await take(odd, { directory }), custom: await take(odd, { directory, format: "custom" }) };
}, DEADLINE_MS);

function databaseOf(name: string): Database {
  const parsed = parseConnectionUrl(cluster.url(name, { password: PASSWORD }));
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed.problem));
  return makeDatabase(parsed.target);
}

function requestFor(name: string, changes: Partial<BackupRequest> = {}): BackupRequest {
  return {
    directory: join(temporaryDirectory(), "backups"),
    format: "plain",
    database: name,
    systemIdentifier: SYSTEM_IDENTIFIER,
    serverVersion: "15.18",
    snapshot: undefined,
    lockWaitMs: 30_000,
    history: { applied: 1, last: "20240101_init" },
    precedes: ["20240202_next"],
    ...changes,
  };
}

async function take(
  name: string,
  changes: Partial<BackupRequest> = {},
  context: Partial<BackupContext> = {},
): Promise<Backup> {
  const world = { database: databaseOf(name), pgDump, pgRestore, now: () => new Date() };
  return await takeBackup(requestFor(name, changes), { ...world, ...context });
}

interface Ending {
  readonly exitCode: number | null;
  readonly output: string;
}

/** The real psql, with nothing in its arguments that would help: as an operator types it. */
function restore(name: string, path: string, by: "-f" | "stdin", before = ""): Ending {
  const stdin = openSync(by === "stdin" ? path : "/dev/null", "r");
  try {
    const env = { PATH: "/usr/bin:/bin", PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres" };
    const commands = before === "" ? [] : ["-c", before];
    const args = ["-X", "-q", "-d", name, ...commands, ...(by === "-f" ? ["-f", path] : [])];
    const child = spawnSync(psql.path, args, { env, stdio: [stdin, "pipe", "pipe"], encoding: "utf8" });
    return { exitCode: child.status, output: child.stderr };
  } finally {
    closeSync(stdin);
  }
}

/** The whole content as text; the same for the same content, since the token of \\restrict is left out. */
function textOf(name: string): string {
  const env = { PATH: "/usr/bin:/bin", PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres" };
  const child = spawnSync(pgDump.path, [name], { env, encoding: "utf8", maxBuffer: 2 ** 28 });
  if (child.status !== 0) throw new Error(child.stderr);
  return child.stdout.replace(/^\\(un)?restrict .*$/gm, "");
}

async function failure(attempt: Promise<unknown>): Promise<unknown> {
  return await attempt.then(
    () => "it did not fail",
    (error: unknown) => error,
  );
}

const UNVERIFIED = { code: "BACKUP_NOT_VERIFIED" };

describe("a backup", () => {
  test.each(FORMATS)("%s: two files for their owner alone in a folder of its own", (format) => {
    const { path, manifestPath, manifest } = backups[format];
    const directory = join(path, "..");
    expect(manifest.id).toMatch(/^backup_\d{8}_\d{6}(_2)?$/);
    expect(path).toBe(join(directory, `${manifest.id}${format === "plain" ? ".sql" : ".dump"}`));
    expect([path, manifestPath, directory].map((each) => statSync(each).mode & 0o777)).toEqual([0o600, 0o600, 0o700]);
    expect(readdirSync(directory).filter((name) => !name.startsWith("backup_") || name.endsWith(".partial"))).toEqual(
      [],
    );
  });

  test.each(FORMATS)("%s: its manifest says what is in the database", async (format) => {
    const { manifest, manifestPath, path } = backups[format];
    expect(parseManifest(readFileSync(manifestPath, "utf8"))).toEqual(manifest);
    expect(manifest).toMatchObject({
      format,
      database: odd,
      systemIdentifier: SYSTEM_IDENTIFIER,
      toolVersion: pgDump.version,
      history: { applied: 1, last: "20240101_init" },
      precedes: ["20240202_next"],
      largeObjects: 2,
      sizeBytes: statSync(path).size,
      sha256: new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex"),
    });
    const counts = await cluster.psql(
      odd,
      `SELECT json_agg(json_build_object('schema', schema, 'name', name, 'rows', (xpath('/row/c/text()',
         query_to_xml(format('SELECT count(*) AS c FROM ONLY %I.%I', schema, name), false, true, '')))[1]::text::int)
         ORDER BY schema COLLATE "C", name COLLATE "C")
       FROM (SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema') tables`,
    );
    const sortKey = ({ schema, name }: { schema: string; name: string }) => Buffer.from(`${schema}\0${name}`);
    const tables = [...manifest.tables].sort((a, b) => Buffer.compare(sortKey(a), sortKey(b)));
    expect(tables).toEqual(JSON.parse(counts));
    expect(tables.length).toBeGreaterThan(15);
  });

  test("of one second gets a suffix, also when both are taken at once", async () => {
    const directory = join(temporaryDirectory(), "backups");
    const now = () => new Date("2024-12-19T14:30:22Z");
    const name = await cluster.createDatabase();
    const taken = await Promise.all(FORMATS.map((format) => take(name, { directory, format }, { now })));
    const third = await take(name, { directory }, { now });
    const ids = [...taken, third].map(({ manifest }) => manifest.id);
    expect([...ids].sort()).toEqual(["backup_20241219_143022", "backup_20241219_143022_2", "backup_20241219_143022_3"]);
    expect(await listBackups(directory, { systemIdentifier: SYSTEM_IDENTIFIER, database: name })).toHaveLength(3);
  });

  test("never takes a name that somebody's file has", async () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "backup_20241219_143022.sql"), "mine");
    writeFileSync(join(directory, "backup_20241219_143022_2.json"), "mine");
    const { manifest } = await take(odd, { directory }, { now: () => new Date("2024-12-19T14:30:22Z") });
    expect(manifest.id).toBe("backup_20241219_143022_3");
    expect(readFileSync(join(directory, "backup_20241219_143022.sql"), "utf8")).toBe("mine");
  });

  test.each(FORMATS)("%s: holds what the snapshot shows, and nothing that was written later", async (format) => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t AS SELECT n FROM generate_series(1, 10) n");
    const session = await databaseOf(name).open("test");
    try {
      const [row] = await ask<{ snapshot: string }>(
        session,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot() AS snapshot",
      );
      await cluster.psql(name, "INSERT INTO t VALUES (11); CREATE TABLE later ()");
      const { manifest } = await take(name, { format, snapshot: row?.snapshot });
      expect(manifest.tables).toEqual([{ schema: "public", name: "t", rows: 10 }]);
    } finally {
      await session.close();
    }
  });

  test("tells how far it is", async () => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t ()");
    const release = await lock(name);
    const sizes: number[] = [];
    const taking = take(name, {}, { progress: (_, bytes) => sizes.push(bytes) });
    await until(() => sizes.length > 0);
    await release();
    await taking;
    expect(sizes[0]).toBeGreaterThanOrEqual(makeGuard("backup_20260101_000000.sql").length);
  });
});

describe("a pg_dump that could know zstd", () => {
  test.each([
    [
      "and does not",
      "pg_dump: error: invalid compression specification: this build does not support compression with ZSTD",
    ],
    ["and does not, in other words", "pg_dump: error: this build does not support compression with zstd"],
  ])("%s, is asked for gzip", async (_, message) => {
    const wrapper = join(temporaryDirectory(), "pg_dump");
    writeFileSync(
      wrapper,
      `#!/bin/sh\ncase "$*" in *zstd*) echo "${message}" >&2; exit 1;; esac\nexec "${pgDump.path}" "$@"\n`,
    );
    chmodSync(wrapper, 0o755);
    const newer = { ...pgDump, path: wrapper, major: 16, version: "16.4" };
    const { manifest, path } = await take(odd, { format: "custom" }, { pgDump: newer });
    expect(manifest.tables).toEqual(backups.custom.manifest.tables);
    expect((await verifyBackup(path, { pgRestore, expected: manifest })).format).toBe("custom");
  });
});

async function ask<Row extends object>(session: Session, text: string): Promise<Row[]> {
  return await session.query<Row>(text, { during: "test", deadlineMs: DEADLINE_MS });
}

/** Holds a table so that pg_dump has to wait, until the answer is called. */
async function lock(name: string): Promise<() => Promise<void>> {
  const session = await databaseOf(name).open("test");
  await ask(session, "BEGIN");
  await ask(session, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  return async () => await session.close();
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error("it never became true");
    await Bun.sleep(2);
  }
}

/** Arguments and environment of the pg_dump that works on a database. */
function findProcess(name: string): { readonly args: string; readonly environment: string } | undefined {
  for (const pid of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
      // By its name: what was found may be a script that has given its place to it.
      if (basename(args.split("\0")[0] ?? "") === "pg_dump" && environment.includes(`PGDATABASE=${name}\0`))
        return { args, environment };
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  return undefined;
}

describe.skipIf(process.platform !== "linux")("while pg_dump works", () => {
  test.each(FORMATS)("%s: the password is in its environment and nowhere else", async (format) => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t ()");
    const directory = join(temporaryDirectory(), "backups");
    const release = await lock(name);
    const taking = take(name, { format, directory });
    let found: ReturnType<typeof findProcess>;
    await until(() => {
      found = findProcess(name);
      return found !== undefined;
    });
    await release();
    await taking;
    expect(found?.environment).toContain(`PGPASSWORD=${PASSWORD}\0`);
    expect(found?.args).toContain("--lock-wait-timeout=30000\0");
    // Without it, it would wait for hours when the network has gone.
    expect(found?.args).toContain("keepalives_idle=30");
    for (const part of [PASSWORD, encodeURIComponent(PASSWORD), "s3cret"]) {
      expect(found?.args).not.toContain(part);
      for (const file of readdirSync(directory)) expect(readFileSync(join(directory, file))).not.toContain(part);
    }
  });
});

describe("what fails leaves nothing behind", () => {
  test("a table that stays locked", async () => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t ()");
    const directory = join(temporaryDirectory(), "backups");
    const release = await lock(name);
    const error = await failure(take(name, { directory, lockWaitMs: 50 }));
    await release();
    expect(error).toMatchObject({ code: "BACKUP_FAILED", fields: { tool: "pg_dump", exitCode: 1 } });
    expect((error as DeployError<"BACKUP_FAILED">).fields.output).toContain("LOCK TABLE public.t");
    expect(readdirSync(directory)).toEqual([]);
  });

  test("a database that does not exist, and a tool that is not there", async () => {
    const directory = join(temporaryDirectory(), "backups");
    const missing = await failure(take("no_such_database", { directory }));
    expect(missing).toMatchObject({ code: "BACKUP_FAILED", fields: { exitCode: 1 } });
    const gone = { ...pgDump, path: join(directory, "pg_dump") };
    const unstarted = await failure(take(odd, { directory }, { pgDump: gone }));
    expect(unstarted).toMatchObject({ code: "BACKUP_FAILED", fields: { exitCode: undefined, output: "ENOENT" } });
    const unread = await failure(take(odd, { directory, format: "custom" }, { pgRestore: undefined }));
    expect(unread).toMatchObject({ code: "TOOL_NOT_FOUND", fields: { tool: "pg_restore" } });
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each(FORMATS)("%s: a dump that is cut short though its command says it went well", async (format) => {
    const directory = join(temporaryDirectory(), "backups");
    const wrapper = join(temporaryDirectory(), "pg_dump");
    writeSpoiler(wrapper, pgDump.path, "head -c 9000");
    const error = await failure(take(odd, { directory, format }, { pgDump: { ...pgDump, path: wrapper } }));
    expect(error).toMatchObject(UNVERIFIED);
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each(FORMATS)("%s: an interruption in the middle of the rows", async (format) => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 150000) n");
    const directory = join(temporaryDirectory(), "backups");
    const stop = new AbortController();
    const taking = failure(take(name, { directory, format }, { signal: stop.signal }));
    await until(() => sizeOfPartial(directory) > 100_000);
    const interruption = new DeployError("INTERRUPTED", { signal: "SIGTERM" });
    stop.abort(interruption);
    expect(await taking).toBe(interruption);
    expect(readdirSync(directory)).toEqual([]);
    expect(findProcess(name)).toBeUndefined();
    const sessions = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${name}' AND application_name LIKE '%pg_dump%'`;
    await until(async () => (await cluster.psql("postgres", sessions)) === "0");
  });

  test.each(FORMATS)(
    "%s: a connection that is lost in the middle of the rows",
    async (format) => {
      const own = await startCluster({ tcp: true });
      const proxy = await startTcpProxy({ host: own.host, port: own.port });
      try {
        const name = await own.createDatabase();
        await own.psql(name, "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 300000) n");
        const parsed = parseConnectionUrl(own.url(name).replace(`:${own.port}/`, `:${proxy.port}/`));
        if ("problem" in parsed) throw new Error(JSON.stringify(parsed.problem));
        const directory = join(temporaryDirectory(), "backups");
        const database = makeDatabase(parsed.target);
        const taking = failure(take(name, { directory, format }, { database }));
        await until(() => sizeOfPartial(directory) > 1_000_000);
        proxy.resetConnections();
        expect(await taking).toMatchObject({ code: "BACKUP_FAILED", fields: { tool: "pg_dump", exitCode: 1 } });
        expect(readdirSync(directory)).toEqual([]);
        expect(database.sessionsOpened).toBe(0);
        // And then it works.
        expect((await take(name, { directory, format }, { database })).manifest.tables).toHaveLength(1);
      } finally {
        await proxy.close();
        await own.remove();
      }
    },
    DEADLINE_MS,
  );

  test("an interruption before it begins", async () => {
    const directory = join(temporaryDirectory(), "backups");
    const signal = AbortSignal.abort(new DeployError("INTERRUPTED", { signal: "SIGINT" }));
    expect(await failure(take(odd, { directory }, { signal }))).toMatchObject({ code: "INTERRUPTED" });
    expect(readdirSync(join(directory, ".."))).toEqual([]);
  });

  test("a folder that can't be written to", async () => {
    const file = join(temporaryDirectory(), "file");
    writeFileSync(file, "");
    const error = await failure(take(odd, { directory: join(file, "backups") }));
    expect(error).toMatchObject({ code: "BACKUP_DIR_UNUSABLE", fields: { path: join(file, "backups") } });
  });
});

function sizeOfPartial(directory: string): number {
  try {
    const name = readdirSync(directory).find((each) => each.endsWith(".partial"));
    return name === undefined ? 0 : statSync(join(directory, name)).size;
  } catch {
    return 0;
  }
}

/** Runs a test on a tiny file system of its own. Only root may mount one; elsewhere the test is skipped and says so. */
async function onTinyDisk(options: string, act: (directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory();
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", directory]);
  if (mounted.status !== 0) {
    console.warn("backup.test.ts: a full disk is skipped, a tiny file system can't be mounted here");
    return;
  }
  try {
    await act(directory);
  } finally {
    spawnSync("umount", [directory]);
  }
}

describe("a full disk", () => {
  test.each(FORMATS)("%s: is told with what there was, and nothing is left on it", async (format) => {
    const name = await cluster.createDatabase();
    await cluster.psql(
      name,
      "CREATE TABLE t AS SELECT n, md5(n::text) || md5(random()::text) FROM generate_series(1, 40000) n",
    );
    await onTinyDisk("size=1m", async (directory) => {
      const error = await failure(take(name, { directory, format }));
      expect(error).toMatchObject({ code: "BACKUP_NO_SPACE", fields: { path: directory } });
      const { availableBytes, neededBytes } = (error as DeployError<"BACKUP_NO_SPACE">).fields;
      expect(availableBytes).toBeGreaterThan(500_000);
      expect(availableBytes).toBeLessThanOrEqual(1024 * 1024);
      expect(neededBytes).toBeGreaterThan(availableBytes);
      expect(readdirSync(directory)).toEqual([]);
      // The room is there again.
      await take(await cluster.createDatabase(), { directory, format });
    });
  });

  test("with room for the dump but not for its manifest leaves no dump either", async () => {
    // The folder and one file.
    await onTinyDisk("size=8m,nr_inodes=2", async (directory) => {
      expect(await failure(take(odd, { directory }))).toMatchObject({ code: "BACKUP_NO_SPACE" });
      expect(readdirSync(directory)).toEqual([]);
    });
  });
});

/**
 * A disk that loses what is written to it until `mend` is called: its file system promises more room than there is below
 * it. `remount` makes it read again what it holds. Only root may mount it; elsewhere the test is skipped and says so.
 */
async function onFailingDisk(
  act: (directory: string, disk: { isFull: () => boolean; mend: () => void; remount: () => void }) => Promise<void>,
): Promise<void> {
  const [below, directory] = [temporaryDirectory(), temporaryDirectory()];
  const image = join(below, "image");
  const sh = (script: string) => spawnSync("sh", ["-ec", script, "sh", below, image, directory]).status === 0;
  const mount = 'mount -o loop "$2" "$3"';
  try {
    if (
      !sh(`mount -t tmpfs -o size=4m tmpfs "$1"; truncate -s 100m "$2"; mkfs.ext4 -q -O ^has_journal "$2"; ${mount}`)
    ) {
      console.warn("backup.test.ts: a failing disk is skipped, a file system in a file can't be mounted here");
      return;
    }
    await act(join(directory, "backups"), {
      isFull: () => statfsSync(below).bavail === 0,
      mend: () => sh('mount -o remount,size=200m "$1"'),
      remount: () => sh(`umount "$3"; ${mount}`),
    });
  } finally {
    sh('umount "$3" || true; umount -l "$1" || true');
  }
}

test("a disk that fails while pg_dump writes, and works again at the end, is not believed", async () => {
  const name = await cluster.createDatabase();
  await cluster.psql(name, "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 60000) n");
  await onFailingDisk(async (directory, disk) => {
    const wrapper = join(temporaryDirectory(), "pg_dump");
    const mended = `${wrapper}.mended`;
    const pause = `head -c 30000000; while [ ! -e ${mended} ]; do sleep 0.05; done; cat`;
    writeFileSync(wrapper, `#!/bin/sh\n"${pgDump.path}" "$@" | { ${pause}; }\n`);
    chmodSync(wrapper, 0o755);
    let ticks = 0;
    const progress = () => (ticks += 1);
    const taking = take(name, { directory }, { pgDump: { ...pgDump, path: wrapper }, progress }).catch(
      (error) => error,
    );
    await until(() => sizeOfPartial(directory) >= 30_000_000 && disk.isFull());
    const failedAt = ticks;
    await until(() => ticks > failedAt + 2);
    disk.mend();
    writeFileSync(mended, "");
    const taken: Backup | DeployError = await taking;
    if (taken instanceof DeployError) {
      expect(["BACKUP_NO_SPACE", "BACKUP_DIR_UNUSABLE"]).toContain(taken.code);
      expect(readdirSync(directory)).toEqual([]);
    } else {
      // The disk was mended before anything was lost.
      disk.remount();
      expect((await verifyBackup(taken.path, { pgRestore, expected: taken.manifest })).format).toBe("plain");
    }
  });
});

describe("verification", () => {
  const expectedOf = ({ manifest: { sizeBytes, sha256 } }: Backup) => ({ sizeBytes, sha256 });

  test.each(FORMATS)("%s: finds a good one good, with and without its manifest", async (format) => {
    const { path, manifest } = backups[format];
    for (const expected of [undefined, expectedOf(backups[format])]) {
      const verification = await verifyBackup(path, { pgRestore, expected });
      const { sizeBytes, sha256, tables, largeObjects } = manifest;
      expect(verification).toEqual({ format, sizeBytes, sha256, tables, largeObjects });
    }
  });

  test("finds a dump of somebody else good: the specification's own command", async () => {
    const path = join(temporaryDirectory(), "by-hand.sql");
    writeFileSync(path, textOf(odd));
    const { tables, largeObjects } = await verifyBackup(path, { pgRestore: undefined });
    expect(tables).toEqual(backups.plain.manifest.tables);
    expect(largeObjects).toBe(2);
  });

  test.each(FORMATS)("%s: finds one that was cut anywhere damaged, without its manifest", async (format) => {
    const { path, manifest } = backups[format];
    const copy = join(temporaryDirectory(), "copy");
    const needed = format === "plain" ? readFileSync(path, "utf8").trimEnd() : undefined;
    const last = needed === undefined ? manifest.sizeBytes - 1 : Buffer.byteLength(needed) - 1;
    const middles = [0, 1, 4, 100, ...[0.1, 0.3, 0.5, 0.7, 0.9, 0.99].map((part) => Math.floor(last * part))];
    for (const length of [...middles, last - 80, last - 40, last - 8, last]) {
      copyFileSync(path, copy);
      truncateSync(copy, length);
      expect({ length, error: await failure(verifyBackup(copy, { pgRestore })) }).toMatchObject({
        length,
        error: { ...UNVERIFIED, fields: { path: copy } },
      });
    }
    const { reason } = ((await failure(verifyBackup(copy, { pgRestore }))) as DeployError<"BACKUP_NOT_VERIFIED">)
      .fields;
    expect(reason).toStartWith(format === "plain" ? "its last line" : "pg_restore: error: could not read");
  });

  test.each(FORMATS)("%s: finds a single flipped bit by its manifest", async (format) => {
    const { path } = backups[format];
    const copy = join(temporaryDirectory(), "copy");
    for (const part of [0.2, 0.5, 0.8]) {
      copyFileSync(path, copy);
      flipBit(copy, part);
      expect(await failure(verifyBackup(copy, { pgRestore, expected: expectedOf(backups[format]) }))).toMatchObject(
        UNVERIFIED,
      );
    }
  });

  test("finds another whole dump in its place by its manifest", async () => {
    const path = join(temporaryDirectory(), "other.sql");
    writeFileSync(path, textOf(await cluster.createDatabase()));
    const error = await failure(verifyBackup(path, { pgRestore, expected: expectedOf(backups.plain) }));
    expect((error as DeployError<"BACKUP_NOT_VERIFIED">).fields.reason).toContain("its manifest says");
  });

  test("a pg_restore that was killed says nothing against the file, and a flipped bit does", async () => {
    const backup = await take(odd, { directory: join(temporaryDirectory(), "backups"), format: "custom" });
    const state = async () => (await readBackup(dirname(backup.path), backup.manifest.id))?.state;
    const killed = { ...pgRestore, path: join(temporaryDirectory(), "pg_restore") };
    writeFileSync(killed.path, "#!/bin/sh\nkill -9 $$\n", { mode: 0o755 });
    expect(await failure(rereadBackup(backup, { pgRestore: killed }))).toMatchObject(UNVERIFIED);
    expect(await state()).toBe("present");
    flipBit(backup.path);
    expect(await failure(rereadBackup(backup, { pgRestore }))).toMatchObject(UNVERIFIED);
    expect(await state()).toBe("damaged");
    flipBit(backup.path);
    await rereadBackup(backup, { pgRestore, now: () => new Date() });
    expect(await state()).toBe("present");
  });

  test("a file that is gone is not verified", async () => {
    const path = join(temporaryDirectory(), "gone.sql");
    expect(await failure(verifyBackup(path, { pgRestore }))).toMatchObject({
      ...UNVERIFIED,
      fields: { path, reason: "ENOENT: no such file or directory" },
    });
  });
});

describe("a plain backup poured into", () => {
  const WAYS = ["-f", "stdin"] as const;

  test.each(WAYS)("an empty database restores it completely (%s)", async (by) => {
    const name = await cluster.createDatabase();
    expect(restore(name, backups.plain.path, by)).toEqual({ exitCode: 0, output: "" });
    expect(textOf(name)).toBe(textOf(odd));
  });

  test.each(WAYS)("a live database is refused in both languages, and changes nothing (%s)", async (by) => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE lines (line text); INSERT INTO lines VALUES ('mine')");
    const before = textOf(name);
    const { exitCode, output } = restore(name, backups.plain.path, by);
    expect(exitCode).toBe(3);
    expect(output).toContain("ERROR:  this backup was not restored: the database is not empty. Nothing was changed.");
    expect(output).toContain("이 백업은 복원되지 않았습니다.");
    expect(output).toContain(`DETAIL:  Database "${name}" holds public.lines.`);
    expect(output).toContain(`createdb NEW_DATABASE && psql -X -d NEW_DATABASE -f ${backups.plain.manifest.file}`);
    expect(textOf(name)).toBe(before);
  });

  test("the very database that it was taken from is refused", async () => {
    const before = textOf(odd);
    expect(restore(odd, backups.plain.path, "stdin").exitCode).toBe(3);
    expect(textOf(odd)).toBe(before);
  });

  test.each([
    ["view", "CREATE VIEW x AS SELECT 1"],
    ["sequence", "CREATE SEQUENCE x"],
    ["materialized view", "CREATE MATERIALIZED VIEW x AS SELECT 1"],
    ["table in another schema", "CREATE SCHEMA s; CREATE TABLE s.x ()"],
    ["partitioned table", "CREATE TABLE x (a int) PARTITION BY LIST (a)"],
  ])("a database with nothing but a %s is refused", async (_, sql) => {
    const name = await cluster.createDatabase();
    await cluster.psql(name, sql);
    expect(restore(name, backups.plain.path, "-f").exitCode).toBe(3);
  });

  test("a database whose extension brought its own relations is empty", async () => {
    const name = await cluster.createDatabase();
    const extension = "pg_stat_statements";
    const known = await cluster.psql(name, `SELECT count(*) FROM pg_available_extensions WHERE name = '${extension}'`);
    if (known === "0") return console.warn(`backup.test.ts: skipped, the server has no ${extension}`);
    await cluster.psql(name, `CREATE EXTENSION ${extension}`);
    expect(restore(name, backups.plain.path, "-f")).toEqual({ exitCode: 0, output: "" });
  });

  test.each(["LATIN1", "EUC_KR", "SQL_ASCII"])("a %s database works like any other", async (encoding) => {
    const name = await cluster.createDatabase();
    await cluster.psql("postgres", `DROP DATABASE "${name}"`);
    await cluster.psql(
      "postgres",
      `CREATE DATABASE "${name}" TEMPLATE template0 ENCODING '${encoding}' LC_COLLATE 'C' LC_CTYPE 'C'`,
    );
    const source = await cluster.createDatabase();
    await cluster.psql(source, "CREATE TABLE t AS SELECT 'a' AS x");
    const { path } = await take(source);
    expect(restore(name, path, "-f")).toEqual({ exitCode: 0, output: "" });
    const again = restore(name, path, "stdin");
    expect(again.exitCode).toBe(3);
    expect(again.output).toContain("the database is not empty");
    expect(again.output).not.toContain("invalid byte sequence");
  });

  test("a search_path with somebody's own operators does not fool it", async () => {
    const name = await cluster.createDatabase();
    await cluster.psql(
      name,
      `CREATE SCHEMA evil;
       CREATE FUNCTION evil.never(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
       CREATE OPERATOR evil.!~ (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.never);
       ALTER DATABASE "${name}" SET search_path = evil, pg_catalog;
       CREATE TABLE public.x ()`,
    );
    expect(restore(name, backups.plain.path, "-f").exitCode).toBe(3);
  });
});

describe("within a transaction of one's own", () => {
  let name: string;
  let path: string;

  beforeAll(async () => {
    name = await cluster.createDatabase();
    await cluster.psql(name, "CREATE TABLE t AS SELECT n FROM generate_series(1, 5) n");
    path = (await take(name)).path;
  });

  test("a backup is restored after everything was removed", async () => {
    const script = join(temporaryDirectory(), "script.sql");
    writeFileSync(script, `\\set ON_ERROR_STOP on\nBEGIN;\nDROP TABLE t;\n\\i ${path}\nCOMMIT;\n`);
    const before = textOf(name);
    expect(restore(name, script, "-f")).toEqual({ exitCode: 0, output: "" });
    expect(textOf(name)).toBe(before);
  });

  test("what may stay is let through by the setting, and by nothing else", async () => {
    await cluster.psql(name, "CREATE TABLE stays ()");
    const before = textOf(name);
    const script = join(temporaryDirectory(), "script.sql");
    const body = `DROP TABLE t;\n\\i ${path}\nCOMMIT;\n`;
    const refused = ["", `SET LOCAL ${IN_PLACE_SETTING.name} = 'yes';`];
    for (const setting of refused) {
      writeFileSync(script, `\\set ON_ERROR_STOP on\nBEGIN;\n${setting}\n${body}`);
      expect(restore(name, script, "-f").exitCode).toBe(3);
      expect(textOf(name)).toBe(before);
    }
    writeFileSync(
      script,
      `\\set ON_ERROR_STOP on\nBEGIN;\nSET LOCAL ${IN_PLACE_SETTING.name} = '${IN_PLACE_SETTING.value}';\n${body}`,
    );
    expect(restore(name, script, "-f")).toEqual({ exitCode: 0, output: "" });
    expect(textOf(name)).toBe(before);
  });
});

test("a custom backup is refused by psql, and restored by pg_restore", async () => {
  const name = await cluster.createDatabase();
  expect(restore(name, backups.custom.path, "-f").exitCode).not.toBe(0);
  const env = { PATH: "/usr/bin:/bin", PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres" };
  const args = ["--exit-on-error", "-d", name, backups.custom.path];
  const child = spawnSync(pgRestore.path, args, { env, encoding: "utf8" });
  expect({ status: child.status, stderr: child.stderr }).toEqual({ status: 0, stderr: "" });
  expect(textOf(name)).toBe(textOf(odd));
});
