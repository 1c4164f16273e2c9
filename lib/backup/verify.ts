/**
 * Reads a whole backup and tells whether it can be believed. Nothing less notices a dump that was cut short: a plain one
 * restores "successfully", and `pg_restore --list` reads only the beginning of a custom one.
 */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { DeployError } from "../errors.ts";
import { type ClientTool, readOfflineEnvironment } from "../postgres/tools.ts";
import { awaitBoth } from "../system/await-both.ts";
import { run } from "../system/exec.ts";
import { describeSystemError, readErrorCode } from "../system/files.ts";
import { makeArchiveTextArguments } from "./arguments.ts";
import { type DumpContent, type DumpFindings, DumpScanner } from "./dump-scanner.ts";
import type { Manifest } from "./manifest.ts";
import type { BackupFormat } from "./name.ts";

export interface Verification extends DumpContent {
  readonly format: BackupFormat;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface VerifyOptions {
  /** Needed for the custom format only. */
  readonly pgRestore: ClientTool | undefined;
  /** What the manifest says; without one (a dump of somebody else) only the dump itself can be checked. */
  readonly expected?: Pick<Manifest, "sizeBytes" | "sha256"> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called about once a second with the bytes of SQL that have been read. */
  readonly progress?: ((bytes: number) => void) | undefined;
}

export interface FileDigest {
  readonly sizeBytes: number;
  readonly sha256: string;
}

const ARCHIVE_MAGIC = "PGDMP";
const CHUNK_BYTES = 1024 * 1024;
const FOLLOW_INTERVAL_MS = 50;
const PROGRESS_INTERVAL_MS = 1000;
/** The longest that a timer can wait; reading a backup has no deadline of its own. */
const NO_DEADLINE_MS = 2 ** 31 - 1;

/** What a file holds, whatever that is worth. */
export interface Reading extends FileDigest {
  readonly format: BackupFormat;
  readonly findings: DumpFindings;
}

/**
 * Reads a backup in full: the dump's structure to its very end, its checksum, and what it holds.
 *
 * @throws BACKUP_NOT_VERIFIED, TOOL_NOT_FOUND (custom format without pg_restore), TOOL_FAILED, or the signal's reason
 */
export async function verifyBackup(path: string, options: VerifyOptions): Promise<Verification> {
  return judgeReading(path, await readWhole(path, options), options.expected);
}

/**
 * The first half of it.
 *
 * @throws BACKUP_NOT_VERIFIED where the file can't be read, TOOL_NOT_FOUND, TOOL_FAILED, or the signal's reason
 */
export async function readWhole(path: string, options: Omit<VerifyOptions, "expected">): Promise<Reading> {
  try {
    const format = await readFormat(path);
    return format === "plain" ? await readPlain(path, options) : await readCustom(path, options);
  } catch (cause) {
    if (readErrorCode(cause) === undefined || options.signal?.aborted) throw cause;
    throw new DeployError("BACKUP_NOT_VERIFIED", { path, reason: describeSystemError(cause) }, { cause });
  }
}

/** The second half of it. @throws BACKUP_NOT_VERIFIED */
export function judgeReading(path: string, reading: Reading, expected: VerifyOptions["expected"]): Verification {
  const { findings, ...rest } = reading;
  const content = requireWhole(path, findings);
  const difference = findDifference(reading, expected);
  if (difference !== undefined) throw new DeployError("BACKUP_NOT_VERIFIED", { path, reason: difference });
  return { ...rest, ...content };
}

/**
 * Reads a plain dump once: checksum and findings. Until `growth` has fired its end is waited for, so that a dump is
 * checked as it is being written.
 */
export async function readPlainDump(
  path: string,
  options: Pick<ReadOptions, "growth" | "signal"> & Pick<VerifyOptions, "progress">,
): Promise<FileDigest & { readonly findings: DumpFindings }> {
  const scanner = new DumpScanner();
  const count = makeCounter(options.progress);
  const each = (chunk: Uint8Array) => {
    scanner.push(chunk);
    count(chunk);
  };
  const digest = await readDigest(path, { ...options, each });
  return { ...digest, findings: scanner.finish() };
}

/** About once a second: a look at the clock for each chunk costs nothing beside reading it. */
function makeCounter(progress: VerifyOptions["progress"]): (chunk: Uint8Array) => void {
  let bytes = 0;
  let toldMs = performance.now();
  return (chunk) => {
    bytes += chunk.byteLength;
    if (progress === undefined || performance.now() - toldMs < PROGRESS_INTERVAL_MS) return;
    toldMs = performance.now();
    progress(bytes);
  };
}

async function readPlain(path: string, { signal, progress }: VerifyOptions): Promise<Reading> {
  return { format: "plain", ...(await readPlainDump(path, { signal, progress })) };
}

async function readCustom(path: string, options: VerifyOptions): Promise<Reading> {
  const { pgRestore, signal, progress } = options;
  if (pgRestore === undefined) throw new DeployError("TOOL_NOT_FOUND", { tool: "pg_restore" });
  const unpacking = readArchive(path, pgRestore, { signal, progress });
  const [findings, digest] = await awaitBoth(unpacking, readDigest(path, { signal }));
  return { format: "custom", ...digest, findings };
}

export function requireWhole(path: string, findings: DumpFindings): DumpContent {
  if (findings.kind === "whole") return findings.content;
  throw new DeployError("BACKUP_NOT_VERIFIED", { path, reason: findings.reason });
}

/** pg_restore reads and unpacks every block of the archive to write its SQL, which is then read like a plain dump. */
async function readArchive(
  path: string,
  pgRestore: ClientTool,
  { signal, progress }: Pick<VerifyOptions, "signal" | "progress">,
): Promise<DumpFindings> {
  const scanner = new DumpScanner();
  const count = makeCounter(progress);
  const bytes = (chunk: Uint8Array) => {
    scanner.push(chunk);
    count(chunk);
  };
  const env = readOfflineEnvironment();
  const result = await run(
    { file: pgRestore.path, args: makeArchiveTextArguments(path), env },
    {
      stdout: { bytes },
      stderr: "capture",
      deadlineMs: NO_DEADLINE_MS,
      ...(signal === undefined ? {} : { signal }),
    },
  );
  signal?.throwIfAborted();
  if (result.startError !== undefined) {
    throw new DeployError("TOOL_FAILED", { tool: "pg_restore", reason: result.startError });
  }
  if (result.exitCode !== 0) {
    const reason =
      result.stderr.trim() === "" ? `pg_restore: ${result.signal ?? result.exitCode}` : result.stderr.trim();
    return { kind: "damaged", reason };
  }
  return scanner.finish();
}

/** By its first bytes, as pg_restore does. False for what can't be read. */
export async function isArchive(path: string): Promise<boolean> {
  return await readFormat(path).then(
    (format) => format === "custom",
    () => false,
  );
}

async function readFormat(path: string): Promise<BackupFormat> {
  const handle = await open(path, "r");
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(ARCHIVE_MAGIC.length), 0, ARCHIVE_MAGIC.length, 0);
    return buffer.toString("latin1", 0, bytesRead) === ARCHIVE_MAGIC ? "custom" : "plain";
  } finally {
    await handle.close();
  }
}

interface ReadOptions {
  readonly each?: (chunk: Uint8Array) => void;
  /** Fires when nothing more is written. */
  readonly growth?: AbortSignal;
  readonly signal?: AbortSignal | undefined;
}

async function readDigest(path: string, { each, growth, signal }: ReadOptions): Promise<FileDigest> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let sizeBytes = 0;
  const handle = await open(path, "r");
  try {
    for (;;) {
      signal?.throwIfAborted();
      // Asked before the read: what is written in between is found by the next round.
      const mayGrow = growth !== undefined && !growth.aborted;
      const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, sizeBytes);
      if (bytesRead === 0 && !mayGrow) return { sizeBytes, sha256: hash.digest("hex") };
      if (bytesRead === 0) await delay(FOLLOW_INTERVAL_MS, undefined, { signal: growth }).catch(() => undefined);
      const chunk = buffer.subarray(0, bytesRead);
      hash.update(chunk);
      each?.(chunk);
      sizeBytes += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

/** How a file differs from the one that its manifest describes. Pure. */
export function findDifference(found: FileDigest, expected: FileDigest | undefined): string | undefined {
  if (expected === undefined) return undefined;
  if (found.sizeBytes !== expected.sizeBytes) {
    return `it has ${found.sizeBytes} bytes, and its manifest says ${expected.sizeBytes}`;
  }
  return found.sha256 === expected.sha256 ? undefined : "its sha256 is not the one in its manifest";
}
