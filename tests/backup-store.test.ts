/** The backup folder and the manifests in it: what counts as ours, what is removed, what is refused beforehand. */
import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { estimateBackupBytes } from "../lib/backup/estimate.ts";
import { formatManifest, type Manifest, parseManifest } from "../lib/backup/manifest.ts";
import { isMountOfContainer } from "../lib/backup/mount.ts";
import { isPartialName, makeBackupId, makeDumpName, parseManifestName } from "../lib/backup/name.ts";
import {
  checkFolder,
  isInContainerLayer,
  listAllBackups,
  listBackups,
  listLeftovers,
  prepareFolder,
  readBackup,
  recordVerification,
  removeBackup,
} from "../lib/backup/store.ts";
import { readFreeBytes, writeFileAtomically } from "../lib/system/files.ts";
import { temporaryDirectory } from "./support/cluster.ts";

const OWNER = { systemIdentifier: "7300000000000000001", database: "app" };

const MANIFEST: Manifest = {
  version: 1,
  id: "backup_20241219_143022",
  createdAt: "2024-12-19T14:30:22.123Z",
  format: "plain",
  file: "backup_20241219_143022.sql",
  sizeBytes: 4,
  sha256: "ab".repeat(32),
  ...OWNER,
  serverVersion: "15.18",
  toolVersion: "15.18",
  tables: [{ schema: "public", name: 'Tab"le; DROP', rows: 3 }],
  history: { applied: 2, last: "20240101_init" },
  precedes: ["20240202_next"],
  largeObjects: 0,
  verifiedAt: "2024-12-19T14:30:23.000Z",
};

/** Writes a backup's two files; the dump is whatever four bytes. */
function place(directory: string, changes: Partial<Manifest> & { id: string }, dump: string | null = "dump"): Manifest {
  const manifest = { ...MANIFEST, file: makeDumpName(changes.id, changes.format ?? "plain"), ...changes };
  writeFileSync(join(directory, `${manifest.id}.json`), formatManifest(manifest));
  if (dump !== null) writeFileSync(join(directory, manifest.file), dump);
  return manifest;
}

describe("names", () => {
  test("are UTC, and the second one of a second gets a suffix", () => {
    const at = new Date("2024-12-19T23:30:22.999+09:00");
    expect(makeBackupId(at, 1)).toBe("backup_20241219_143022");
    expect(makeBackupId(at, 2)).toBe("backup_20241219_143022_2");
    expect(makeDumpName(makeBackupId(at, 1), "plain")).toBe("backup_20241219_143022.sql");
    expect(makeDumpName(makeBackupId(at, 2), "custom")).toBe("backup_20241219_143022_2.dump");
  });

  test.each([
    ["backup_20241219_143022.json", "backup_20241219_143022"],
    ["backup_20241219_143022_2.json", "backup_20241219_143022_2"],
    ["backup_20241219_143022.sql", undefined],
    ["backup_20241219.json", undefined],
    ["my_backup_20241219_143022.json", undefined],
    ["backup_20241219_143022.json.bak", undefined],
    ["backup_20241219_143022_before_upgrade.json", undefined],
  ])("a manifest's name: %s", (name, id) => {
    expect(parseManifestName(name)).toBe(id as string);
  });

  test("only what a killed backup leaves is a leftover", () => {
    const names = ["backup_20241219_143022.partial", "backup_20241219_143022_2.json.partial", "x.partial", "a.sql"];
    expect(names.filter(isPartialName)).toEqual(names.slice(0, 2));
  });
});

describe("a manifest", () => {
  test("is read as it was written", () => {
    expect(parseManifest(formatManifest(MANIFEST))).toEqual(MANIFEST);
    const withDigest = { ...MANIFEST, contentDigest: "abc", format: "custom", file: `${MANIFEST.id}.dump` } as const;
    expect(parseManifest(formatManifest(withDigest))).toEqual(withDigest);
  });

  const broken: [name: string, changes: Record<string, unknown>][] = [
    ["another program's", { producer: "somebody" }],
    ["of no program", { producer: undefined }],
    ["a later version's", { version: 2 }],
    ["one that names a path", { file: "../../etc/passwd" }],
    ["one whose file is another's", { file: "backup_20200101_000000.sql" }],
    ["one whose id is a path", { id: "../backup_20241219_143022" }],
    ["one of an unknown format", { format: "tar" }],
    ["one with a local time", { createdAt: "2024-12-19 14:30:22" }],
    ["one with no time", { createdAt: "soon" }],
    ["one that was never verified", { verifiedAt: null }],
    ["one with a negative size", { sizeBytes: -1 }],
    ["one with a size in words", { sizeBytes: "4" }],
    ["one with a short checksum", { sha256: "abc" }],
    ["one that took less than no time", { durationMs: -1 }],
    ["one with odd tables", { tables: [{ schema: "a", name: "b", rows: "1" }] }],
    ["one without history", { history: null }],
    ["one with an odd history", { history: { applied: 1 } }],
    ["one that precedes a number", { precedes: [1] }],
    ["one without large objects", { largeObjects: undefined }],
    ["one with an odd digest", { contentDigest: 7 }],
    ["one of no cluster", { systemIdentifier: undefined }],
    ["one of no database", { database: 5 }],
    ["one of no server", { serverVersion: null }],
    ["one of no tool", { toolVersion: null }],
    ["one with odd damage", { damage: 1 }],
    ["one with an odd size of its data", { dataBytes: "1" }],
  ];

  test.each(broken)("is not ours: %s", (_, changes) => {
    const value = { ...JSON.parse(formatManifest(MANIFEST)), ...changes };
    expect(parseManifest(JSON.stringify(value))).toBeUndefined();
  });

  test("is not ours when it is cut anywhere, or no object", () => {
    const text = formatManifest(MANIFEST).trimEnd();
    for (let length = 0; length < text.length; length += 1) {
      expect(parseManifest(text.slice(0, length))).toBeUndefined();
    }
    for (const other of ["null", "[]", '"text"', "7"]) expect(parseManifest(other)).toBeUndefined();
  });
});

describe("the list", () => {
  test("holds this database's backups, oldest first by the manifest, and nobody else's files", async () => {
    const directory = temporaryDirectory();
    const late = place(directory, { id: "backup_20200101_000000", createdAt: "2025-01-01T00:00:00.000Z" });
    const early = place(directory, { id: "backup_20210101_000000", createdAt: "2024-01-01T00:00:00.000Z" });
    place(directory, { id: "backup_20220101_000000", database: "other" });
    place(directory, { id: "backup_20220101_000001", systemIdentifier: "8" });
    writeFileSync(join(directory, "backup_20230101_000000.sql"), "taken by hand");
    writeFileSync(join(directory, "backup_20230101_000001.json"), "{ broken");
    writeFileSync(join(directory, "backup_20230101_000002.json"), formatManifest(MANIFEST));
    mkdirSync(join(directory, "backup_20230101_000003.json"));
    const found = await listBackups(directory, OWNER);
    expect(found.map(({ manifest }) => manifest)).toEqual([early, late]);
    expect(found[0]).toMatchObject({
      path: join(directory, "backup_20210101_000000.sql"),
      manifestPath: join(directory, "backup_20210101_000000.json"),
      state: "present",
    });
  });

  test("tells a dump that is gone and one of another size", async () => {
    const directory = temporaryDirectory();
    place(directory, { id: "backup_20200101_000000", createdAt: "2024-01-01T00:00:00.000Z" }, null);
    place(directory, { id: "backup_20200101_000001", createdAt: "2024-01-02T00:00:00.000Z" }, "dum");
    const states = (await listBackups(directory, OWNER)).map(({ state }) => state);
    expect(states).toEqual(["dump-missing", "size-differs"]);
  });

  test("tells one that was found damaged, until it is found good", async () => {
    const directory = temporaryDirectory();
    place(directory, { id: "backup_20200101_000000" });
    const read = async () => {
      const [backup] = await listBackups(directory, OWNER);
      if (backup === undefined) throw new Error("no backup");
      return backup;
    };
    const at = new Date("2026-06-15T12:00:00.000Z");
    await recordVerification(await read(), { damage: "a flipped bit" });
    expect(await read()).toMatchObject({ state: "damaged", manifest: { verifiedAt: MANIFEST.verifiedAt } });
    await recordVerification(await read(), { goodAt: at });
    expect(await read()).toMatchObject({ state: "present", manifest: { verifiedAt: at.toISOString() } });
    expect((await read()).manifest).not.toHaveProperty("damage");
    const backup = await read();
    await removeBackup(directory, backup);
    await recordVerification(backup, { goodAt: at });
    expect(readdirSync(directory)).toEqual([]);
  });

  test("of all databases that a folder serves", async () => {
    const directory = temporaryDirectory();
    place(directory, { id: "backup_20220101_000001", createdAt: "2025-01-01T00:00:00.000Z" });
    place(directory, { id: "backup_20220101_000000", createdAt: "2025-01-02T00:00:00.000Z", database: "other" });
    const found = await listAllBackups(directory);
    expect(found.map(({ manifest }) => manifest.database)).toEqual(["app", "other"]);
  });

  test("of a folder that does not exist is empty, and of what is no folder an error", async () => {
    const directory = temporaryDirectory();
    expect(await listBackups(join(directory, "nowhere"), OWNER)).toEqual([]);
    expect(existsSync(join(directory, "nowhere"))).toBe(false);
    writeFileSync(join(directory, "file"), "");
    await expect(listBackups(join(directory, "file"), OWNER)).rejects.toMatchObject({ code: "BACKUP_DIR_UNUSABLE" });
  });

  test("one backup is read by its id", async () => {
    const directory = temporaryDirectory();
    const manifest = place(directory, { id: "backup_20200101_000000" });
    expect((await readBackup(directory, manifest.id))?.manifest).toEqual(manifest);
    expect(await readBackup(directory, "backup_20200101_000001")).toBeUndefined();
  });

  test("leftovers are ours by name, and older than a day", async () => {
    const directory = temporaryDirectory();
    const now = new Date("2026-06-15T12:00:00Z");
    const ages = { "backup_20260601_000000.partial": 25, "backup_20260601_000001.json.partial": 24.1 };
    const others = { "backup_20260615_000000.partial": 23, "mine.partial": 100, "backup_20260601_000000.sql": 100 };
    for (const [name, hours] of Object.entries({ ...ages, ...others })) {
      writeFileSync(join(directory, name), "");
      const at = new Date(now.getTime() - hours * 3_600_000);
      utimesSync(join(directory, name), at, at);
    }
    expect(await listLeftovers(directory, now)).toEqual(Object.keys(ages).map((name) => join(directory, name)));
  });
});

describe("removing", () => {
  test("takes both files and nothing else, and is content with one that is gone", async () => {
    const directory = temporaryDirectory();
    place(directory, { id: "backup_20200101_000000" });
    place(directory, { id: "backup_20200101_000001", createdAt: "2024-12-20T00:00:00.000Z" }, null);
    writeFileSync(join(directory, "backup_20200101_000000.dump"), "somebody's");
    for (const backup of await listBackups(directory, OWNER)) await removeBackup(directory, backup);
    expect(readdirSync(directory)).toEqual(["backup_20200101_000000.dump"]);
  });

  test("takes the manifest first: what is half removed is no backup", async () => {
    const directory = temporaryDirectory();
    place(directory, { id: "backup_20200101_000000" }, null);
    const [backup] = await listBackups(directory, OWNER);
    // A folder in the dump's place can't be unlinked.
    mkdirSync(join(directory, "backup_20200101_000000.sql"));
    if (backup === undefined) throw new Error("no backup was listed");
    await expect(removeBackup(directory, backup)).rejects.toMatchObject({ code: "BACKUP_DIR_UNUSABLE" });
    expect(readdirSync(directory)).toEqual(["backup_20200101_000000.sql"]);
  });
});

describe("the folder", () => {
  const modeOf = (path: string) => statSync(path).mode & 0o777;

  test("is created for its owner alone, with its parents", async () => {
    const directory = join(temporaryDirectory(), "a", "backups");
    await prepareFolder(directory);
    expect([modeOf(directory), modeOf(join(directory, ".."))]).toEqual([0o700, 0o700]);
  });

  test("keeps its mode when it is there, also behind a link", async () => {
    const directory = temporaryDirectory();
    chmodSync(directory, 0o755);
    symlinkSync(directory, join(directory, "link"));
    await checkFolder(join(directory, "link"), 1);
    expect(modeOf(directory)).toBe(0o755);
    expect(readdirSync(directory)).toEqual(["link"]);
  });

  test.each([
    ["a path below a file", (directory: string) => join(directory, "file", "backups")],
    ["a file", (directory: string) => join(directory, "file")],
    ["a place where nobody may write", () => "/proc/prisma-safe-deploy/backups"],
  ])("is refused: %s", async (_, pathIn) => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "file"), "");
    const path = pathIn(directory);
    const refusal = await checkFolder(path, 1).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(refusal).toMatchObject({ code: "BACKUP_DIR_UNUSABLE", fields: { path } });
    const { reason } = (refusal as { fields: { reason: string } }).fields;
    expect(reason).toMatch(/^E[A-Z]+: [a-z ]+$/);
  });

  test("without the right to write is refused, by trying", async () => {
    if (process.getuid?.() === 0) return await refuseReadOnlyMount();
    const directory = temporaryDirectory();
    chmodSync(directory, 0o500);
    await expect(checkFolder(directory, 1)).rejects.toMatchObject({ code: "BACKUP_DIR_UNUSABLE" });
  });

  test("without enough room is refused, with both numbers", async () => {
    const directory = temporaryDirectory();
    await checkFolder(directory, 1);
    const neededBytes = Number.MAX_SAFE_INTEGER;
    const refusal = await checkFolder(directory, neededBytes).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: "BACKUP_NO_SPACE", fields: { path: directory, neededBytes } });
    const { availableBytes } = (refusal as { fields: { availableBytes: number } }).fields;
    const free = await readFreeBytes(directory);
    expect(availableBytes).toBeGreaterThan(free / 2);
    expect(availableBytes).toBeLessThan(free * 2);
  });
});

/** Root may write anywhere but on a file system that is mounted read-only. */
async function refuseReadOnlyMount(): Promise<void> {
  const directory = temporaryDirectory();
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", directory]);
  if (mounted.status !== 0) {
    console.warn("backup-store.test.ts: the read-only folder is skipped, root may not mount here");
    return;
  }
  try {
    await expect(checkFolder(directory, 1)).rejects.toMatchObject({
      code: "BACKUP_DIR_UNUSABLE",
      fields: { reason: "EROFS: read-only file system" },
    });
  } finally {
    spawnSync("umount", [directory]);
  }
}

describe("a container's own layer", () => {
  const mounts = [
    "1 0 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w",
    "2 1 0:5 / /proc rw - proc proc rw",
    "3 1 254:1 /data /app/backups rw,relatime shared:7 - ext4 /dev/vda1 rw",
    "4 1 254:1 /data /app/my\\040backups rw - ext4 /dev/vda1 rw",
    "5 1 0:51 / /mnt/inner rw - overlay overlay rw",
    "6 5 254:1 / /mnt/inner rw - xfs /dev/vdb rw",
    "",
  ].join("\n");

  test.each([
    ["/app", true],
    ["/app/backups-of-mine", true],
    ["/app/backups", false],
    ["/app/backups/today", false],
    ["/app/my backups", false],
    ["/mnt/inner/x", false],
    ["/", true],
  ])("%s: %p", (path, expected) => {
    expect(isMountOfContainer(mounts, path)).toBe(expected);
    const [first, ...rest] = mounts.split("\n");
    expect(isMountOfContainer([...rest, first].join("\n"), path)).toBe(expected);
  });

  test("is no guess without mounts to read", () => {
    expect(isMountOfContainer("", "/app")).toBe(false);
  });

  test("is asked for a folder that does not exist yet", async () => {
    const directory = temporaryDirectory();
    expect(await isInContainerLayer(join(directory, "a", "b"))).toBe(await isInContainerLayer(directory));
    expect(await isInContainerLayer("/proc/self")).toBe(false);
  });
});

describe("a file that is written atomically", () => {
  test("holds the new text, for its owner alone, and leaves nothing beside it", async () => {
    const directory = temporaryDirectory();
    const path = join(directory, "file");
    writeFileSync(`${path}.partial`, "left by a killed run");
    await writeFileAtomically(path, "first");
    await writeFileAtomically(path, "second");
    expect(readFileSync(path, "utf8")).toBe("second");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(["file"]);
  });

  test("leaves nothing when it can't take its place", async () => {
    const directory = temporaryDirectory();
    mkdirSync(join(directory, "taken", "inside"), { recursive: true });
    await expect(writeFileAtomically(join(directory, "taken"), "text")).rejects.toThrow();
    expect(readdirSync(directory)).toEqual(["taken"]);
  });
});

describe("an estimate", () => {
  const MIB = 1024 * 1024;
  const rows = (tableBytes: number) => ({ tableBytes, toastBytes: 0, largeObjectBytes: 0 });

  test("is never below what an empty database needs", () => {
    expect(estimateBackupBytes("plain", rows(0))).toBe(MIB);
    expect(estimateBackupBytes("plain", rows(1e9))).toBe(1e9 + MIB);
    expect(estimateBackupBytes("custom", rows(1e9))).toBe(5e8 + MIB);
  });

  test("expects what is stored compressed to grow", () => {
    expect(estimateBackupBytes("plain", { tableBytes: 100, toastBytes: 10, largeObjectBytes: 1 })).toBe(122 + MIB);
  });

  test("goes by an earlier backup, but not by one of next to nothing", () => {
    const size = { tableBytes: 20 * MIB, toastBytes: 20 * MIB, largeObjectBytes: 0 };
    const earlier = { sizeBytes: 2 * MIB, dataBytes: 20 * MIB };
    expect(estimateBackupBytes("custom", size, earlier)).toBe(Math.ceil(4.4 * MIB) + MIB);
    expect(estimateBackupBytes("custom", size, { sizeBytes: 1e6, dataBytes: MIB - 1 })).toBe(30 * MIB + MIB);
  });
});
