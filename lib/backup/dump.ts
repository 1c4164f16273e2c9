/** Takes a backup. When it returns, the dump has been read in full, found whole, and both files are on the disk. */
import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { DeployError } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import type { ClientTool } from "../postgres/tools.ts";
import { awaitBoth } from "../system/await-both.ts";
import type { RunResult } from "../system/exec.ts";
import {
  describeSystemError,
  isNoSpace,
  isPresent,
  readErrorCode,
  readFreeBytes,
  removeFile,
  syncDirectory,
  writeFileAtomically,
} from "../system/files.ts";
import { type DumpTool, makeDumpArguments } from "./arguments.ts";
import { followGrowth, readSize } from "./growing-file.ts";
import { makeGuard } from "./guard.ts";
import { type BackupHistory, formatManifest, type Manifest } from "./manifest.ts";
import {
  type BackupFormat,
  makeBackupId,
  makeDumpName,
  makeFinalNames,
  makeManifestName,
  makePartialName,
} from "./name.ts";
import { blankUnknownSetting } from "./readable-text.ts";
import { type Backup, prepareFolder } from "./store.ts";
import { writesUnknownSetting } from "./unknown-setting.ts";
import { readPlainDump, requireWhole, type Verification, verifyBackup } from "./verify.ts";

export interface BackupRequest {
  readonly directory: string;
  /** `auto` has been decided by the caller. */
  readonly format: BackupFormat;
  readonly database: string;
  readonly systemIdentifier: string;
  /** As `15.18`. */
  readonly serverVersion: string;
  /** Name of an exported snapshot whose session stays open meanwhile. Undefined: pg_dump takes its own. */
  readonly snapshot: string | undefined;
  readonly lockWaitMs: number;
  readonly deadlineMs?: number;
  readonly history: BackupHistory;
  readonly precedes: readonly string[];
  readonly contentDigest?: string;
  readonly dataBytes?: number;
  /** Told the id before anything is written under it. */
  readonly onClaimed?: (id: string) => void;
}

export interface BackupContext {
  readonly database: Pick<Database, "runTool">;
  readonly pgDump: ClientTool;
  /** Needed for the custom format only. */
  readonly pgRestore: ClientTool | undefined;
  readonly now: () => Date;
  readonly signal?: AbortSignal | undefined;
  /** Called about every second: with the size so far, and then with the bytes of SQL that have been read again. */
  readonly progress?: ((work: "backup" | "verify", bytes: number) => void) | undefined;
}

/** An id that is ours alone, held by its partial file. */
interface Claim {
  readonly id: string;
  readonly partialPath: string;
  readonly handle: FileHandle;
}

const FILE_MODE = 0o600;
/** More backups within one second than this are a clock that stands still. */
const ATTEMPTS_MAX = 1000;
/** The longest that a timer can wait. */
const NO_DEADLINE_MS = 2 ** 31 - 1;
const OUTPUT_CHARACTERS_MAX = 4000;
/** Of a pg_dump that was built without it. */
const NO_ZSTD = /does not support compression with ZSTD/iu;
/** pg_dump about its own file; what the server says about its disk follows an `ERROR:`. */
const NO_SPACE =
  /^pg_dump: error: (?![^\n]*ERROR:)[^\n]*(?:No space left on device|Disk quota exceeded|File too large)/mu;

/**
 * Takes a backup of a database: `.partial` (0600), pg_dump, verification in full, fsync, rename, and the manifest last.
 * Where it throws, nothing of it is left.
 *
 * @throws BACKUP_DIR_UNUSABLE, BACKUP_NO_SPACE, BACKUP_FAILED, BACKUP_NOT_VERIFIED, TOOL_NOT_FOUND (custom without
 * pg_restore), or the signal's reason
 */
export async function takeBackup(request: BackupRequest, context: BackupContext): Promise<Backup> {
  const { directory, format } = request;
  context.signal?.throwIfAborted();
  await prepareFolder(directory);
  const createdAt = context.now();
  const startedMs = performance.now();
  const claim = await claimId(directory, createdAt);
  try {
    request.onClaimed?.(claim.id);
    const verification = await writeDump(claim, request, context);
    context.signal?.throwIfAborted();
    const durationMs = Math.round(performance.now() - startedMs);
    const manifest = { ...makeManifest(claim.id, createdAt, verification, request, context), durationMs };
    return await publish(claim, manifest, directory);
  } catch (cause) {
    const writtenBytes = await readSize(claim.partialPath);
    await removeAll(directory, claim, format);
    throw await translate(cause, directory, writtenBytes);
  } finally {
    await claim.handle.close();
  }
}

/** Whoever creates the partial file has the id: two deploys may use one folder in the same second. */
async function claimId(directory: string, at: Date): Promise<Claim> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const id = makeBackupId(at, attempt);
    const partialPath = join(directory, makePartialName(id));
    const handle = await createExclusively(directory, partialPath);
    if (handle === undefined) continue;
    const present = await Promise.all(makeFinalNames(id).map(async (name) => await isPresent(join(directory, name))));
    if (!present.includes(true)) return { id, partialPath, handle };
    await handle.close();
    await removeFile(partialPath);
  }
  throw new DeployError("BACKUP_DIR_UNUSABLE", { path: directory, reason: `${makeBackupId(at, 1)} exists` });
}

async function createExclusively(directory: string, path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "wx", FILE_MODE);
  } catch (cause) {
    if (readErrorCode(cause) === "EEXIST") return undefined;
    throw await translate(cause, directory, 0);
  }
}

async function writeDump(claim: Claim, request: BackupRequest, context: BackupContext): Promise<Verification> {
  if (request.format === "plain") return await writePlain(claim, request, context);
  await runDump(claim, request, context);
  const { pgRestore, signal, progress } = context;
  const told = (bytes: number) => progress?.("verify", bytes);
  const verifying = verifyBackup(claim.partialPath, { pgRestore, signal, progress: told });
  // The disk works while the processor does: nothing of either changes the file.
  const [verification] = await awaitBoth(verifying, claim.handle.sync());
  return verification;
}

/** A plain dump is read and checked while pg_dump still writes it: the check then costs next to no time. */
async function writePlain(claim: Claim, request: BackupRequest, context: BackupContext): Promise<Verification> {
  const path = claim.partialPath;
  await claim.handle.write(makeGuard(makeDumpName(claim.id, "plain")));
  const growth = new AbortController();
  const stop = new AbortController();
  const read = async () => {
    // Before it is read, since the checksum is that of what stays.
    if (isOlderServer(request, context)) await blankUnknownSetting(path, growth.signal);
    return await readPlainDump(path, { growth: growth.signal, signal: stop.signal });
  };
  const reading = read();
  // It is awaited below, but may fail first.
  reading.catch(() => undefined);
  try {
    await runDump(claim, request, context);
    growth.abort();
    const [{ findings, ...digest }] = await awaitBoth(reading, claim.handle.sync());
    return { format: "plain", ...digest, ...requireWhole(path, findings) };
  } finally {
    stop.abort();
    growth.abort();
    await reading.catch(() => undefined);
  }
}

function isOlderServer({ serverVersion }: BackupRequest, { pgDump }: BackupContext): boolean {
  return writesUnknownSetting(pgDump.major, Number.parseInt(serverVersion, 10));
}

async function runDump(claim: Claim, request: BackupRequest, context: BackupContext): Promise<void> {
  const growing = followGrowth(claim.handle, claim.partialPath, (bytes) => context.progress?.("backup", bytes));
  try {
    await runDumpTool(claim, request, context);
  } catch (cause) {
    await growing.stop().catch(() => undefined);
    throw cause;
  }
  await growing.stop();
}

async function runDumpTool(claim: Claim, request: BackupRequest, context: BackupContext): Promise<void> {
  const { pgDump, signal } = context;
  const path = claim.partialPath;
  const { snapshot, lockWaitMs, format } = request;
  const options = {
    sessions: 1,
    stdout: { fd: claim.handle.fd },
    stderr: "capture",
    deadlineMs: request.deadlineMs ?? NO_DEADLINE_MS,
    ...(signal === undefined ? {} : { signal }),
  } as const;
  const run = async (tool: DumpTool) =>
    await context.database.runTool(pgDump, makeDumpArguments(format, { tool, path, snapshot, lockWaitMs }), options);
  let result = await run(pgDump);
  // It says so before it connects: nothing has been written.
  if (result.exitCode !== 0 && NO_ZSTD.test(result.stderr)) result = await run({ ...pgDump, hasZstd: false });
  signal?.throwIfAborted();
  if (result.exitCode !== 0) throw await describeFailure(result, claim, request);
}

async function describeFailure(result: RunResult, claim: Claim, request: BackupRequest): Promise<DeployError> {
  if (NO_SPACE.test(result.stderr)) {
    return await makeNoSpace(request.directory, await readSize(claim.partialPath));
  }
  const said = result.stderr.trim().slice(-OUTPUT_CHARACTERS_MAX);
  const ended = result.startError ?? (result.timedOut ? "deadline exceeded" : (result.signal ?? ""));
  const output = [said, ended].filter((part) => part !== "").join("\n");
  return new DeployError("BACKUP_FAILED", { tool: "pg_dump", exitCode: result.exitCode, output });
}

function makeManifest(
  id: string,
  createdAt: Date,
  verification: Verification,
  request: BackupRequest,
  context: BackupContext,
): Manifest {
  const { contentDigest, dataBytes } = request;
  return {
    version: 1,
    id,
    createdAt: createdAt.toISOString(),
    format: request.format,
    file: makeDumpName(id, request.format),
    sizeBytes: verification.sizeBytes,
    sha256: verification.sha256,
    database: request.database,
    systemIdentifier: request.systemIdentifier,
    serverVersion: request.serverVersion,
    toolVersion: context.pgDump.version,
    tables: verification.tables,
    history: request.history,
    precedes: request.precedes,
    largeObjects: verification.largeObjects,
    verifiedAt: context.now().toISOString(),
    ...(dataBytes === undefined ? {} : { dataBytes }),
    ...(contentDigest === undefined ? {} : { contentDigest }),
  };
}

/** The dump gets its name, then the manifest is written, which alone makes it a backup. */
async function publish(claim: Claim, manifest: Manifest, directory: string): Promise<Backup> {
  const path = join(directory, manifest.file);
  const manifestPath = join(directory, makeManifestName(manifest.id));
  await rename(claim.partialPath, path);
  await syncDirectory(directory);
  await writeFileAtomically(manifestPath, formatManifest(manifest), FILE_MODE);
  return { manifest, path, manifestPath, state: "present" };
}

/** What can't be removed is a leftover that a later run removes; the reason why we are here matters more. */
async function removeAll(directory: string, { id, partialPath }: Claim, format: BackupFormat): Promise<void> {
  const names = [makeManifestName(id), makeDumpName(id, format)];
  const paths = [...names.map((name) => join(directory, name)), partialPath];
  for (const path of paths) await removeFile(path).catch(() => false);
  await syncDirectory(directory).catch(() => undefined);
}

async function translate(cause: unknown, directory: string, writtenBytes: number): Promise<unknown> {
  if (isNoSpace(cause)) return await makeNoSpace(directory, writtenBytes);
  if (readErrorCode(cause) === undefined) return cause;
  return new DeployError("BACKUP_DIR_UNUSABLE", { path: directory, reason: describeSystemError(cause) }, { cause });
}

/** What was there before we began, and at least what we have found not to fit. */
async function makeNoSpace(path: string, writtenBytes: number): Promise<DeployError> {
  const availableBytes = writtenBytes + (await readFreeBytes(path).catch(() => 0));
  return new DeployError("BACKUP_NO_SPACE", { path, availableBytes, neededBytes: availableBytes + 1 });
}
