/** The migrations folder as Prisma sees it, on real folders. */
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type DeployError, isDeployError } from "../lib/errors.ts";
import { makeChecksum } from "../lib/migrations/checksum.ts";
import { parseProvider, readMigrationsFolder, readScripts } from "../lib/migrations/folder.ts";
import { temporaryDirectory } from "./support/cluster.ts";

const isRoot = process.getuid?.() === 0;
const NOT_FOUND = "<PROVIDER NOT FOUND>";

describe("which migrations there are", () => {
  test("every direct folder is one, whatever its name; in byte order", () => {
    const names = ["20240101000000_init", "10_bar", "1_foo", "with space", "dots.in.it", "looks_like.sql", ".git", "é"];
    const path = makeFolder(names.map((name) => `${name}/migration.sql`));
    expect(readMigrationsFolder(path)).toEqual({
      path,
      names: [".git", "10_bar", "1_foo", "20240101000000_init", "dots.in.it", "looks_like.sql", "with space", "é"],
    });
  });

  test("byte order is UTF-8's, not that of JavaScript's strings", () => {
    // As UTF-16, the emoji's surrogate would come before U+FF5E.
    const names = ["a\u{1F600}", "a\uFF5E", "aZ", "a_", "a1", "a"];
    const path = makeFolder(names.map((name) => `${name}/migration.sql`));
    expect(readMigrationsFolder(path).names).toEqual(["a", "a1", "aZ", "a_", "a\uFF5E", "a\u{1F600}"]);
  });

  test("files and links are none, not even a link to a folder", () => {
    const path = makeFolder(["real/migration.sql", ".DS_Store", "README.md", "20240101000000_x.sql"]);
    symlinkSync(join(path, "real"), join(path, "linked"));
    symlinkSync(join(path, "nowhere"), join(path, "dangling"));
    expect(readMigrationsFolder(path).names).toEqual(["real"]);
  });

  test("a folder in a migration is none, and a folder without a script is one", () => {
    const path = makeFolder(["a/b/migration.sql"]);
    expect(readMigrationsFolder(path).names).toEqual(["a"]);
  });

  test("an empty folder has none", () => {
    expect(readMigrationsFolder(temporaryDirectory()).names).toEqual([]);
  });

  test("the folder itself may be a link", () => {
    const link = join(temporaryDirectory(), "migrations");
    symlinkSync(makeFolder(["a/migration.sql"]), link);
    expect(readMigrationsFolder(link).names).toEqual(["a"]);
  });
});

describe("a folder that can't be read", () => {
  test("a missing one is an error, never no migrations", () => {
    const path = join(temporaryDirectory(), "migrations");
    expect(failureOf(() => readMigrationsFolder(path))).toEqual({ code: "MIGRATIONS_DIR_NOT_FOUND", fields: { path } });
  });

  test("a file is not a folder", () => {
    const path = join(makeFolder(["migrations"]), "migrations");
    const fields = { path, reason: "ENOTDIR" };
    expect(failureOf(() => readMigrationsFolder(path))).toEqual({ code: "MIGRATIONS_DIR_UNREADABLE", fields });
  });

  test("a link that leads to itself", () => {
    const path = join(temporaryDirectory(), "migrations");
    symlinkSync(path, path);
    const fields = { path, reason: "ELOOP" };
    expect(failureOf(() => readMigrationsFolder(path))).toEqual({ code: "MIGRATIONS_DIR_UNREADABLE", fields });
  });

  test.skipIf(isRoot)("no permission (root has every permission)", () => {
    const path = makeFolder(["a/migration.sql"]);
    chmodSync(path, 0);
    const failure = failureOf(() => readMigrationsFolder(path));
    chmodSync(path, 0o700);
    expect(failure).toEqual({ code: "MIGRATIONS_DIR_UNREADABLE", fields: { path, reason: "EACCES" } });
  });
});

describe("the provider of migration_lock.toml", () => {
  const LOCK_FILES: [string, string, string][] = [
    ["as Prisma 7 writes it", '# one\n# two\nprovider = "postgresql"\n', "postgresql"],
    ["without a line break at its end", '# one\nprovider = "postgresql"', "postgresql"],
    ["with the line ends of Windows", '# one\r\nprovider = "postgresql"\r\n', "postgresql"],
    ["the first of several counts", 'provider = "postgresql"\nprovider = "mysql"\n', "postgresql"],
    ["without quotes", "provider = postgresql\n", "postgresql"],
    ["quotes are taken off at both ends, however many", 'provider = ""postgresql""""\n', "postgresql"],
    ["another provider", 'provider = "mysql"\n', "mysql"],
    ["the alias of schema.prisma is another one here", 'provider = "postgres"\n', "postgres"],
    ["without blanks", 'provider="postgresql"\n', 'provider="postgresql'],
    ["with two blanks", 'provider =  "postgresql"\n', ' "postgresql'],
    ["with single quotes", "provider = 'postgresql'\n", "'postgresql'"],
    ["with a blank at its end", 'provider = "postgresql" \n', 'postgresql" '],
    ["with a comment at its end", 'provider = "postgresql" # ours\n', 'postgresql" # ours'],
    ["with a blank before it", ' provider = "postgresql"\n', NOT_FOUND],
    ["commented out", '# provider = "postgresql"\n', NOT_FOUND],
    ["empty", "", NOT_FOUND],
    ["any line that starts so counts", 'providers = "x"\nprovider = "postgresql"\n', 'providers = "x'],
  ];

  for (const [name, content, provider] of LOCK_FILES) {
    test(`${name}: ${provider === "postgresql" ? "accepted" : "refused"}`, () => {
      const path = makeFolder(["a/migration.sql"]);
      const lockFile = join(path, "migration_lock.toml");
      writeFileSync(lockFile, content);
      expect(parseProvider(content)).toBe(provider);
      if (provider === "postgresql") expect(readMigrationsFolder(path).names).toEqual(["a"]);
      else {
        const fields = { path: lockFile, found: provider };
        expect(failureOf(() => readMigrationsFolder(path))).toEqual({ code: "PROVIDER_MISMATCH", fields });
      }
    });
  }

  test("no file: no check", () => {
    expect(parseProvider(undefined)).toBeUndefined();
  });

  test("a file that can't be read: no check", () => {
    const path = makeFolder(["a/migration.sql"]);
    symlinkSync("migration_lock.toml", join(path, "migration_lock.toml"));
    expect(readMigrationsFolder(path).names).toEqual(["a"]);
  });
});

describe("the scripts", () => {
  const SCRIPTS: [string, string][] = [
    ["a plain one", "SELECT 1;\n"],
    ["an empty one", ""],
    ["a byte order mark stays", "\uFEFFSELECT 1;"],
    ["the line ends of Windows stay", "SELECT 1;\r\nSELECT 2;\r\n"],
    ["letters beyond ASCII", "-- 한글, é, \u{1F600}, \uFFFD\n"],
  ];

  test.each(SCRIPTS)("%s: read byte for byte, with the checksum of the bytes", async (_, text) => {
    const path = makeFolder(["a/migration.sql"]);
    const script = join(path, "a", "migration.sql");
    writeFileSync(script, text);
    expect(await readScripts(path, ["a"])).toEqual([
      { name: "a", path: script, text, checksum: makeChecksum(Buffer.from(text)) },
    ]);
  });

  test("only the named ones are read, in the order of the names", async () => {
    const path = makeFolder(["a/migration.sql", "b/migration.sql", "c/migration.sql", "broken/nothing"]);
    expect((await readScripts(path, ["c", "a"])).map(({ name }) => name)).toEqual(["c", "a"]);
  });

  test("a link to a script is followed", async () => {
    const path = makeFolder(["a/other.sql"]);
    writeFileSync(join(path, "a", "other.sql"), "SELECT 1;");
    symlinkSync("other.sql", join(path, "a", "migration.sql"));
    expect((await readScripts(path, ["a"])).map(({ text }) => text)).toEqual(["SELECT 1;"]);
  });

  test("all that lack a script are told at once", async () => {
    const path = makeFolder(["a/README.md", "b/migration.sql", "c/migration.SQL.txt"]);
    symlinkSync("nowhere", join(path, "a", "migration.sql"));
    expect(await failureOfPromise(readScripts(path, ["a", "b", "c", "gone"]))).toEqual({
      code: "SCRIPT_MISSING",
      fields: { migrations: ["a", "c", "gone"] },
    });
  });

  test("a folder in the place of the script can't be read", async () => {
    const path = makeFolder(["a/migration.sql/x"]);
    expect(await failureOfPromise(readScripts(path, ["a"]))).toEqual({
      code: "SCRIPT_UNREADABLE",
      fields: { migration: "a", path: join(path, "a", "migration.sql"), reason: "EISDIR" },
    });
  });

  test.skipIf(isRoot)("no permission (root has every permission)", async () => {
    const path = makeFolder(["a/migration.sql"]);
    const script = join(path, "a", "migration.sql");
    chmodSync(script, 0);
    expect(await failureOfPromise(readScripts(path, ["a"]))).toEqual({
      code: "SCRIPT_UNREADABLE",
      fields: { migration: "a", path: script, reason: "EACCES" },
    });
  });

  const INVALID: [string, number[], number][] = [
    ["Latin-1", [...Buffer.from("-- caf"), 0xe9, 0x0a], 6],
    ["at the first byte: UTF-16", [0xff, 0xfe, 0x53, 0x00], 0],
    ["behind letters of several bytes", [...Buffer.from("한글\u{1F600}"), 0xff], 10],
    ["behind a byte order mark", [0xef, 0xbb, 0xbf, 0x41, 0x80], 4],
    ["behind a replacement character that is really there", [...Buffer.from("\uFFFD-\uFFFD"), 0xc3, 0x28], 7],
    ["cut short at the end of the file", [...Buffer.from("ab"), 0xed, 0x95], 2],
    ["a surrogate", [0x41, 0xed, 0xa0, 0x80], 1],
    ["longer than needed", [0x41, 0x42, 0xc0, 0xaf], 2],
  ];

  test.each(INVALID)("invalid UTF-8, %s: refused with its place", async (_, bytes, byteOffset) => {
    const path = makeFolder(["a/migration.sql"]);
    const script = join(path, "a", "migration.sql");
    writeFileSync(script, Uint8Array.from(bytes));
    expect(await failureOfPromise(readScripts(path, ["a"]))).toEqual({
      code: "SCRIPT_NOT_UTF8",
      fields: { migration: "a", path: script, byteOffset },
    });
  });
});

/** A temporary folder with these files, all empty. */
function makeFolder(files: readonly string[]): string {
  const path = temporaryDirectory();
  for (const file of files) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), "");
  }
  return path;
}

type Failure = Pick<DeployError, "code" | "fields">;

function failureOf(read: () => unknown): Failure | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    return toFailure(error);
  }
}

async function failureOfPromise(promise: Promise<unknown>): Promise<Failure | undefined> {
  return await promise.then(() => undefined, toFailure);
}

function toFailure(error: unknown): Failure {
  if (!isDeployError(error)) throw error;
  return { code: error.code, fields: error.fields };
}
