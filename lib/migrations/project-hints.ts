/**
 * Where a project probably keeps what was not found: its files are read as text, and none of the user's code is run.
 *
 * Where Prisma looks for `migrations`: beside the schema file (5 to 7), inside of a schema folder (6.6 and later) or
 * beside it (5), and wherever `migrations.path` of `prisma.config` says (6.12 and later).
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, resolve } from "node:path";
import { DeployError, hasCode, type MigrationsDirectoryHint, type SettingProblem } from "../errors.ts";

const CONFIG_EXTENSIONS = ["ts", "mts", "cts", "js", "mjs", "cjs"];
const CONFIG_FILES = ["prisma.config", ".config/prisma"].flatMap((name) =>
  CONFIG_EXTENSIONS.map((extension) => `${name}.${extension}`),
);

/** Far enough for a package of a monorepo. */
const SEARCH_DEPTH_MAX = 4;
const SEARCH_FOLDERS_MAX = 1_000;
const NOT_SEARCHED = ["node_modules", "dist", "build", "coverage", "vendor", "target"];

/** The error with what the project's files say about it; any other error as it is. Never throws. */
export function addHints(error: unknown, directory: string): unknown {
  try {
    if (hasCode(error, "MIGRATIONS_DIR_NOT_FOUND")) {
      const { path } = error.fields;
      const candidates = findMigrationsDirectories(directory).filter((candidate) => candidate.path !== normalize(path));
      return new DeployError("MIGRATIONS_DIR_NOT_FOUND", { path, candidates }, { cause: error.cause });
    }
    if (hasCode(error, "SETTINGS_INVALID")) {
      const problems = error.fields.problems.map((problem) => hintMissing(problem, directory));
      return new DeployError("SETTINGS_INVALID", { problems }, { cause: error.cause });
    }
    if (hasCode(error, "POOLER_IN_TRANSACTION_MODE")) {
      const direct = findUrlVariable(directory, "directUrl");
      return new DeployError("POOLER_IN_TRANSACTION_MODE", { ...error.fields, direct }, { cause: error.cause });
    }
  } catch {
    // A file that can't be read gives no hint.
  }
  return error;
}

function hintMissing(problem: SettingProblem, directory: string): SettingProblem {
  if (problem.kind !== "missing" || problem.name !== "DATABASE_URL") return problem;
  const elsewhere = findUrlVariable(directory, "url");
  return { ...problem, elsewhere: elsewhere?.variable === "DATABASE_URL" ? undefined : elsewhere };
}

/** Folders that hold migrations, the likeliest first, as values of MIGRATIONS_DIR. */
export function findMigrationsDirectories(directory: string): MigrationsDirectoryHint[] {
  const config = readConfig(directory);
  const schemas = [...namedSchemas(directory, config), ...findSchemas(directory)];
  const candidates: MigrationsDirectoryHint[] = [
    ...(config?.migrations === undefined ? [] : [{ path: config.migrations, namedBy: config.path }]),
    ...schemas.flatMap(({ path, namedBy }) =>
      [join(path, "migrations"), join(dirname(path), "migrations")].map((folder) => ({ path: folder, namedBy })),
    ),
  ];
  const seen = new Set<string>();
  return candidates
    .map(({ path, namedBy }) => ({ path: normalize(path), namedBy }))
    .filter(({ path }) => {
      if (seen.has(path) || !holdsMigrations(join(directory, path))) return false;
      seen.add(path);
      return true;
    });
}

/** The folder that a file of the project leads Prisma's CLI to, where it is another one than ours. Never throws. */
export function findNamedDirectory(
  directory: string,
  ours: string,
): { readonly path: string; readonly namedBy: string } | undefined {
  try {
    const [first] = findMigrationsDirectories(directory);
    if (first?.namedBy === undefined || resolve(directory, first.path) === resolve(directory, ours)) return undefined;
    return { path: first.path, namedBy: first.namedBy };
  } catch {
    // A file that can't be read gives no hint.
    return undefined;
  }
}

/**
 * The variable that the project's own files take a connection string from. `directUrl` is Prisma's up to 6: where its CLI
 * connects to, while the app goes through a pooler.
 */
export function findUrlVariable(
  directory: string,
  key: "url" | "directUrl",
): { readonly path: string; readonly variable: string } | undefined {
  const config = readConfig(directory);
  const inText = new RegExp(`\\b${key}\\s*:\\s*(?:env\\(\\s*|process\\.env(?:\\.|\\[\\s*))["'\`]?(\\w+)`);
  const inSchema = new RegExp(`^\\s*${key}\\s*=\\s*env\\(\\s*"(\\w+)"`, "m");
  const inConfig = config && inText.exec(config.text)?.[1];
  const found: { path: string; variable: string | undefined }[] = [{ path: config?.path ?? "", variable: inConfig }];
  for (const { path } of [...namedSchemas(directory, config), ...findSchemas(directory)]) {
    for (const file of schemaFiles(directory, path)) {
      const source = /\bdatasource\s+\w+\s*\{[^}]*\}/.exec(readText(directory, file))?.[0] ?? "";
      found.push({ path: file, variable: inSchema.exec(source)?.[1] });
    }
  }
  return found.flatMap(({ path, variable }) => (variable === undefined ? [] : [{ path, variable }]))[0];
}

interface Config {
  readonly path: string;
  readonly text: string;
  readonly schema: string | undefined;
  readonly migrations: string | undefined;
}

function readConfig(directory: string): Config | undefined {
  const path = CONFIG_FILES.find((file) => existsSync(join(directory, file)));
  if (path === undefined) return undefined;
  const text = readText(directory, path);
  const inFolder = (value: string | undefined) => (value === undefined ? undefined : join(dirname(path), value));
  const migrations = /\bmigrations\s*:\s*\{([^}]*)\}/.exec(text)?.[1] ?? "";
  return { path, text, schema: inFolder(pathOf(text, "schema")), migrations: inFolder(pathOf(migrations, "path")) };
}

/** `key: "a/b"`, or `key: path.join("a", "b")` as far as its parts are written there. */
function pathOf(text: string, key: string): string | undefined {
  const value = new RegExp(`\\b${key}\\s*:\\s*(["'\`][^"'\`]*["'\`]|(?:path\\.)?(?:join|resolve)\\([^)]*\\))`).exec(
    text,
  )?.[1];
  const parts = [...(value ?? "").matchAll(/(["'`])(.*?)\1/g)].map(([, , part = ""]) => part);
  return parts.length === 0 ? undefined : join(...parts);
}

interface SchemaPlace {
  /** A file or a folder. */
  readonly path: string;
  readonly namedBy: string | undefined;
}

function namedSchemas(directory: string, config: Config | undefined): SchemaPlace[] {
  const schema = readManifest(directory).prisma?.schema;
  return [
    ...(config?.schema === undefined ? [] : [{ path: config.schema, namedBy: config.path }]),
    ...(typeof schema === "string" ? [{ path: normalize(schema), namedBy: "package.json" }] : []),
  ];
}

function readManifest(directory: string): { readonly prisma?: { readonly schema?: unknown } } {
  try {
    return JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) ?? {};
  } catch {
    return {};
  }
}

/** Every `*.prisma` file, those nearest to the top first. */
function findSchemas(directory: string): SchemaPlace[] {
  const found: SchemaPlace[] = [];
  let folders = ["."];
  let visited = 0;
  for (let depth = 0; depth <= SEARCH_DEPTH_MAX && visited < SEARCH_FOLDERS_MAX; depth++) {
    const next: string[] = [];
    for (const folder of folders) {
      visited++;
      for (const entry of listFolder(join(directory, folder))) {
        const path = join(folder, entry.name);
        if (entry.isFile() && entry.name.endsWith(".prisma")) found.push({ path, namedBy: undefined });
        const isSearched = !entry.name.startsWith(".") && !NOT_SEARCHED.includes(entry.name);
        if (entry.isDirectory() && isSearched) next.push(path);
      }
    }
    folders = next.slice(0, SEARCH_FOLDERS_MAX - visited);
  }
  return found;
}

function schemaFiles(directory: string, path: string): string[] {
  if (!statSync(join(directory, path), { throwIfNoEntry: false })?.isDirectory()) return [path];
  return listFolder(join(directory, path))
    .filter((entry) => entry.isFile() && entry.name.endsWith(".prisma"))
    .map((entry) => join(path, entry.name));
}

function holdsMigrations(path: string): boolean {
  return listFolder(path).some(
    (entry) => entry.name === "migration_lock.toml" || existsSync(join(path, entry.name, "migration.sql")),
  );
}

function listFolder(path: string) {
  try {
    return readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch {
    return [];
  }
}

/** Without comments. Empty where there is no such file. */
function readText(directory: string, path: string): string {
  try {
    return readFileSync(join(directory, path), "utf8").replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/[^\n]*/g, " ");
  } catch {
    return "";
  }
}
