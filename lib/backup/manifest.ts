/** What we know about a backup, in the file beside it. A dump without one is not ours. Pure. */
import { type BackupFormat, isBackupId, makeDumpName } from "./name.ts";

export interface TableRows {
  /** Empty when the dump names the table without a schema. */
  readonly schema: string;
  readonly name: string;
  readonly rows: number;
}

export interface BackupHistory {
  /** Migrations that were applied when the backup was taken. */
  readonly applied: number;
  /** Name of the last of them. */
  readonly last: string | null;
}

export interface Manifest {
  readonly version: 1;
  /** `backup_YYYYMMDD_HHMMSS`, the stem of all of the backup's files. */
  readonly id: string;
  /** ISO 8601 in UTC. Retention goes by it. */
  readonly createdAt: string;
  readonly format: BackupFormat;
  /** Name of the dump in the same folder. */
  readonly file: string;
  readonly sizeBytes: number;
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string;
  readonly database: string;
  /** `system_identifier` of `pg_control_system()`: tells one cluster from another. Text, as it is a 64-bit number. */
  readonly systemIdentifier: string;
  readonly serverVersion: string;
  readonly toolVersion: string;
  /** As counted in the dump's own COPY blocks while it was verified. */
  readonly tables: readonly TableRows[];
  readonly history: BackupHistory;
  /** Migrations that were about to be applied. */
  readonly precedes: readonly string[];
  readonly largeObjects: number;
  /** When the whole dump was last read and found good, ISO 8601 in UTC. */
  readonly verifiedAt: string;
  /** How long it took to take and to verify it. */
  readonly durationMs?: number;
  /** What was found wrong when it was last read in full. Such a backup is none. */
  readonly damage?: string;
  /** What `sumData` of the estimate said: by it the next one is estimated. */
  readonly dataBytes?: number;
  /** Fingerprint of the content that a restore compares with, where one was taken. */
  readonly contentDigest?: string;
}

const PRODUCER = "prisma-safe-deploy";
const SHA256 = /^[0-9a-f]{64}$/u;

export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify({ producer: PRODUCER, ...manifest }, undefined, 2)}\n`;
}

/**
 * A manifest's text, or undefined when it is broken, of another program, or of a version that we do not know: then it
 * is not ours. `file` can only be the name that follows from `id` and `format`, never a path.
 */
export function parseManifest(text: string): Manifest | undefined {
  const value = parseJson(text);
  if (!isRecord(value) || value.producer !== PRODUCER || value.version !== 1) return undefined;
  if (!isIdentityValid(value) || !isContentValid(value)) return undefined;
  const { producer: _, ...manifest } = value;
  return manifest as unknown as Manifest;
}

type Fields = Readonly<Record<string, unknown>>;

function isIdentityValid(value: Fields): boolean {
  const { id, format, file, contentDigest, damage } = value;
  return (
    typeof id === "string" &&
    isBackupId(id) &&
    (format === "plain" || format === "custom") &&
    file === makeDumpName(id, format) &&
    isMoment(value.createdAt) &&
    isMoment(value.verifiedAt) &&
    typeof value.database === "string" &&
    typeof value.systemIdentifier === "string" &&
    typeof value.serverVersion === "string" &&
    typeof value.toolVersion === "string" &&
    (contentDigest === undefined || typeof contentDigest === "string") &&
    (damage === undefined || typeof damage === "string")
  );
}

function isContentValid(value: Fields): boolean {
  const { sha256, tables, history, precedes, dataBytes, durationMs } = value;
  return (
    isCount(value.sizeBytes) &&
    typeof sha256 === "string" &&
    SHA256.test(sha256) &&
    Array.isArray(tables) &&
    tables.every(isTableRows) &&
    isRecord(history) &&
    isCount(history.applied) &&
    (history.last === null || typeof history.last === "string") &&
    Array.isArray(precedes) &&
    precedes.every((name) => typeof name === "string") &&
    isCount(value.largeObjects) &&
    (dataBytes === undefined || isCount(dataBytes)) &&
    (durationMs === undefined || isCount(durationMs))
  );
}

function isTableRows(value: unknown): boolean {
  return isRecord(value) && typeof value.schema === "string" && typeof value.name === "string" && isCount(value.rows);
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Only what `toISOString` writes: anything looser would be read in somebody's local time. */
function isMoment(value: unknown): boolean {
  if (typeof value !== "string") return false;
  const time = Date.parse(value);
  return !Number.isNaN(time) && new Date(time).toISOString() === value;
}

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
