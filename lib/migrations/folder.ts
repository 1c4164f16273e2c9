/** The migrations folder: which migrations it holds, in which order, and their scripts. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DeployError } from "../errors.ts";

export interface MigrationsFolder {
  readonly path: string;
  /** Names of the migrations in byte order. */
  readonly names: readonly string[];
}

export interface MigrationScript {
  readonly name: string;
  readonly path: string;
  /** The file as UTF-8 text, a byte order mark included. */
  readonly text: string;
  /** SHA-256 of the file's bytes in hexadecimal. */
  readonly checksum: string;
}

const PROVIDER = "postgresql";

/**
 * Lists the migrations: every direct child that is a directory. Symbolic links and files are ignored, as Prisma does.
 *
 * @throws MIGRATIONS_DIR_NOT_FOUND, MIGRATIONS_DIR_UNREADABLE, PROVIDER_MISMATCH
 * @see packages/migrate/src/utils/listMigrations.ts
 */
export function readMigrationsFolder(path: string): MigrationsFolder {
  const names = readMigrationNames(path);
  const lockFile = join(path, "migration_lock.toml");
  const provider = parseProvider(readTextIfThere(lockFile));
  if (provider !== undefined && provider !== PROVIDER) {
    throw new DeployError("PROVIDER_MISMATCH", { path: lockFile, found: provider });
  }
  return { path, names };
}

/**
 * The names alone, in byte order.
 *
 * @throws MIGRATIONS_DIR_NOT_FOUND, MIGRATIONS_DIR_UNREADABLE
 */
export function readMigrationNames(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort(compareBytes);
  } catch (cause) {
    const code = (cause as { code?: string }).code ?? String(cause);
    if (code === "ENOENT") throw new DeployError("MIGRATIONS_DIR_NOT_FOUND", { path }, { cause });
    throw new DeployError("MIGRATIONS_DIR_UNREADABLE", { path, reason: code }, { cause });
  }
}

function readTextIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Unreadable or missing: Prisma makes no check then.
    return undefined;
  }
}

/**
 * The provider that a `migration_lock.toml` names. Undefined where there is no file.
 * Prisma does not read it as TOML; neither do we, so that both accept and refuse the same files.
 * @see schema-engine/connectors/schema-connector/src/migrations_directory.rs, read_provider_from_lock_file
 */
export function parseProvider(lockFile: string | undefined): string | undefined {
  if (lockFile === undefined) return undefined;
  const lines = lockFile.split(lockFile.includes("\r") ? /\r?\n/ : "\n");
  const line = lines.find((candidate) => candidate.startsWith("provider"));
  if (line === undefined) return "<PROVIDER NOT FOUND>";
  // The usual line, for which no pattern has to be compiled.
  if (line === `provider = "${PROVIDER}"`) return PROVIDER;
  return line.replace(/^provider = /, "").replace(/^"+|"+$/g, "");
}

/** The order of `memcmp` over UTF-8, which is also PostgreSQL's "C" collation. */
function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * Reads the scripts of the named migrations. All that lack one are reported at once.
 *
 * @throws SCRIPT_MISSING, SCRIPT_UNREADABLE, SCRIPT_NOT_UTF8
 */
export async function readScripts(path: string, names: readonly string[]): Promise<MigrationScript[]> {
  const { makeChecksum } = await import("./checksum.ts");
  const missing: string[] = [];
  const scripts: MigrationScript[] = [];
  for (const name of names) {
    const script = join(path, name, "migration.sql");
    const bytes = readScriptBytes(name, script);
    if (bytes === undefined) missing.push(name);
    else scripts.push({ name, path: script, text: decode(name, script, bytes), checksum: makeChecksum(bytes) });
  }
  if (missing.length > 0) throw new DeployError("SCRIPT_MISSING", { migrations: missing });
  return scripts;
}

/** The scripts that are there and can be read: without one, a migration that is applied is none of our business. */
export async function readPresentScripts(path: string, names: readonly string[]): Promise<MigrationScript[]> {
  const scripts = await Promise.all(names.map((name) => readScripts(path, [name]).catch(() => [])));
  return scripts.flat();
}

function readScriptBytes(migration: string, path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch (cause) {
    const code = (cause as { code?: string }).code ?? String(cause);
    if (code === "ENOENT") return undefined;
    throw new DeployError("SCRIPT_UNREADABLE", { migration, path, reason: code }, { cause });
  }
}

function decode(migration: string, path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    // Prisma replaces what it can't read and sends the rest: data would be changed silently.
    throw new DeployError("SCRIPT_NOT_UTF8", { migration, path, byteOffset: firstInvalidByte(bytes) }, { cause });
  }
}

/** Offset of the first byte that a lenient decoder would replace. */
function firstInvalidByte(bytes: Uint8Array): number {
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  for (let at = text.indexOf("\uFFFD"); at !== -1; at = text.indexOf("\uFFFD", at + 1)) {
    const offset = Buffer.byteLength(text.slice(0, at));
    const isReplacementItself = bytes[offset] === 0xef && bytes[offset + 1] === 0xbf && bytes[offset + 2] === 0xbd;
    if (!isReplacementItself) return offset;
  }
  return 0;
}
