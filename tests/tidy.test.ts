/** The house rules that no formatter or compiler knows. An exception is a row of a table here, with its reason. */
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";

const ROOT = dirname(import.meta.dirname);
const FUNCTION_LINES_MAX = 60;
/** The formatter keeps code within 120 columns and leaves comments alone: a few more are not worth breaking one anew. */
const COMMENT_COLUMNS_MAX = 130;

interface SourceFile {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

const LIBRARY = readFiles("lib", /\.ts$/);
const SCRIPTS = readFiles("scripts", /\.(ts|mjs)$/);
const PROGRAM = [...LIBRARY, ...SCRIPTS];

/** Nothing imports from a line above its own. Folders of one line may import from each other as the next table says. */
const LAYERS: readonly (readonly string[])[] = [
  ["scripts"],
  // The page of errors is made from the samples that the catalogues are tested with.
  ["tests/support"],
  ["lib/cli"],
  [
    "lib/deploy.ts",
    "lib/operations.ts",
    "lib/preflight.ts",
    "lib/migration.ts",
    "lib/resolve.ts",
    "lib/restore.ts",
    "lib/recovery.ts",
    "lib/recovery-point.ts",
    "lib/interrupted.ts",
    "lib/repetition.ts",
    "lib/reuse.ts",
    "lib/health.ts",
    "lib/backups.ts",
    "lib/locked.ts",
  ],
  ["lib/migrations", "lib/backup", "lib/restore", "lib/journal", "lib/app", "lib/report", "lib/messages", "lib/health"],
  ["lib/postgres"],
  ["lib/system"],
  ["lib/outcome.ts", "lib/events.ts", "lib/errors.ts", "lib/version.ts"],
];

const SIBLINGS: readonly { readonly from: string; readonly to: string; readonly reason: string }[] = [
  { from: "lib/report", to: "lib/messages", reason: "words are put to events there" },
  { from: "lib/restore", to: "lib/backup", reason: "a restore reads what a backup has written" },
];

/** Types alone may come from elsewhere: nothing of them is left at run time. */
const TYPES: readonly { readonly from: string; readonly to: string; readonly reason: string }[] = [
  { from: "lib/errors.ts", to: "lib/migrations", reason: "an error's fields are what was found out there" },
  { from: "lib/errors.ts", to: "lib/restore", reason: "an error's fields are what was found out there" },
  { from: "lib/events.ts", to: "lib/restore", reason: "an event's fields are what was decided there" },
  { from: "lib/outcome.ts", to: "lib/restore", reason: "an outcome says what there is to choose" },
  { from: "lib/events.ts", to: "lib/migrations", reason: "an event's fields are what was decided there" },
  { from: "lib/messages", to: "lib/journal", reason: "there are words for each kind" },
  { from: "lib/report", to: "lib/journal", reason: "what is shown was found out there" },
  { from: "lib/messages", to: "lib/restore", reason: "there are words for each kind" },
  { from: "lib/messages", to: "lib/backup", reason: "there are words for each kind" },
  { from: "lib/report", to: "lib/backup", reason: "what is shown was found out there" },
  { from: "lib/report", to: "lib/migrations", reason: "what is shown was found out there" },
  { from: "lib/messages", to: "lib/migrations", reason: "there are words for each kind" },
];

/** What a file that calls itself pure in its first comment may still import as a value, besides files like it. */
const HARMLESS: Readonly<Record<string, string>> = { "node:path": "text in, text out" };

/** What a pure file can't do without touching the world. */
const EFFECTS = /\b(process|Bun|Deno|fetch|setTimeout|setInterval|Math\.random|Date\.now|import\()\b\.?/;

/** What may stand in one place only, or at the edge. */
const RESERVED: readonly {
  readonly what: string;
  readonly pattern: RegExp;
  readonly allowed: Readonly<Record<string, string>>;
}[] = [
  {
    what: "console",
    pattern: /\bconsole\.(log|error|warn|info|debug|table)\(/,
    allowed: {
      "scripts/build.ts": "a tool for people who work on this, with its own few lines",
      "scripts/demo.ts": "a tool for people who try this, with its own few lines",
      "scripts/setup.mjs": "runs before anything is installed",
    },
  },
  {
    what: "process.exit",
    pattern: /\bprocess\.exit\(/,
    allowed: {
      "lib/cli/health-check.ts": "what nobody can catch",
      "lib/cli/main.ts": "the second signal insists",
      "scripts/build.ts": "entry point",
      "scripts/demo.ts": "entry point, interrupted",
      "scripts/deploy.ts": "entry point",
      "scripts/health-check.ts": "entry point",
      "scripts/setup.mjs": "entry point",
    },
  },
  {
    what: "the clock",
    pattern: /\bDate\.now\(|\bnew Date\(\)/,
    allowed: {
      "lib/cli/main.ts": "log lines carry the time of day",
      "lib/cli/health-check.ts": "gives the time to the check",
      "lib/operations.ts": "gives the time to the modules below, which are pure or take it as an argument",
      "lib/recovery-point.ts": "as above",
      "lib/backups.ts": "as above",
      "lib/restore.ts": "as above",
    },
  },
  {
    what: "reading the rows of the history",
    pattern: /\bFROM (\$\{tableIn\b|(\S+\.)?"?_prisma_migrations\b)/,
    allowed: {
      "lib/migrations/history.ts": "the only reader: whatever decides works on what it returns",
      "lib/restore/history-digest.ts": "a digest of the whole table, whatever is in it",
      "lib/restore/script.ts": "as above, in the script of a restore",
    },
  },
  {
    what: "starting a process",
    pattern: /\bchild_process\b|\bBun\.spawn/,
    allowed: {
      "lib/system/exec.ts": "the only place for children of the deploy",
      "lib/app/child.ts": "the app where the process can't be replaced: it shares our terminal and gets our signals",
      "scripts/demo.ts": "runs the programs as a user would",
      "scripts/screenshot.ts": "runs the demo, for its pictures",
      "scripts/support/run-command.mjs": "the set-up, which runs before anything is installed",
      "scripts/support/postgres-binaries.mjs": "used by the set-up, before anything is installed",
      "scripts/support/private-cluster.ts": "servers of the demo and the tests, which live on beside us",
    },
  },
];

test("every file begins by saying what it owns", () => {
  const silent = PROGRAM.filter(({ text }) => !/^(#!.*\n)?\/\*\*\s/.test(text));
  expect(silent.map(({ path }) => path)).toEqual([]);
});

test(`no function is longer than ${FUNCTION_LINES_MAX} lines`, () => {
  expect(PROGRAM.flatMap(findLongFunctions)).toEqual([]);
});

test("long functions are found, whatever their form", () => {
  const body = "    work();\n".repeat(FUNCTION_LINES_MAX);
  const text = [
    `export async function first(\n  a: number,\n): Promise<void> {\n${body}}\n`,
    `const second = (a) => {\n${body}};\n`,
    `const third = {\n  method(a) {\n${body}  },\n};\n`,
    `class Fourth {\n  constructor() {\n${body}  }\n}\n`,
    `if (true) {\n${body}}\n`,
    `function short() {\n}\n`,
  ].join("\n");
  const found = findLongFunctions({ path: "a.ts", text, lines: text.split("\n") });
  expect(found).toHaveLength(4);
});

test("nothing imports upwards", () => {
  expect(PROGRAM.flatMap(findUpwardImports)).toEqual([]);
});

test("an import upwards or from an unlisted sibling is found", () => {
  const file = (path: string, text: string) => ({ path, text, lines: text.split("\n") });
  expect(findUpwardImports(file("lib/system/a.ts", 'import { b } from "../postgres/b.ts";'))).toHaveLength(1);
  expect(findUpwardImports(file("lib/app/a.ts", 'const b = await import("../backup/b.ts");'))).toHaveLength(1);
  expect(findUpwardImports(file("lib/app/a.ts", 'import type { B } from "../system/b.ts";'))).toEqual([]);
  expect(findUpwardImports(file("lib/new/a.ts", 'import "../system/b.ts";'))).toEqual([
    "lib/new/a.ts: in no layer, see LAYERS",
  ]);
});

test("a file that calls itself pure is", () => {
  const found = LIBRARY.filter(isCalledPure);
  expect(found.length).toBeGreaterThan(10);
  expect(found.flatMap((file) => findImpurities(file))).toEqual([]);
});

test("an effect or an impure import in a pure file is found", () => {
  const file = (text: string) => ({ path: "lib/app/a.ts", text, lines: text.split("\n") });
  expect(isCalledPure(file("/** Names. Pure. */\nconst a = 1;"))).toBe(true);
  expect(isCalledPure(file("/** Files. */\n/** Pure. */\nconst a = 1;"))).toBe(false);
  expect(findImpurities(file('import { readFileSync } from "node:fs";'))).toHaveLength(1);
  expect(findImpurities(file('import { type A, b } from "./start.ts";'))).not.toEqual([]);
  expect(findImpurities(file('import type { A } from "./start.ts";\nimport { type B } from "./child.ts";'))).toEqual(
    [],
  );
  expect(findImpurities(file("const now = Date.now();"))).toHaveLength(1);
});

/** A type may be: it stands in the signature of what is used. */
test("no value is exported for nobody", () => {
  const files = [...PROGRAM, ...readFiles("tests", /\.ts$/), ...readFiles("bench", /\.ts$/)];
  const words = new Map(files.map(({ path, text }) => [path, new Set(text.match(/\w+/g))]));
  const unused = files.flatMap(({ path, text }) =>
    [...text.matchAll(/^export (?:async )?(?:function|const|let|class) (\w+)/gm)]
      .map(([, name = ""]) => name)
      .filter((name) => !files.some((other) => other.path !== path && words.get(other.path)?.has(name)))
      .map((name) => `${path}: ${name}`),
  );
  expect(unused).toEqual([]);
});

for (const { what, pattern, allowed } of RESERVED) {
  test(`${what}: only in its place`, () => {
    const used = PROGRAM.filter((file) => pattern.test(withoutComments(file))).map(({ path }) => path);
    expect(used.filter((path) => !(path in allowed))).toEqual([]);
    // An exception that nobody needs any more is taken back.
    expect(Object.keys(allowed).filter((path) => !used.includes(path))).toEqual([]);
  });
}

test("nothing is left to be done later", () => {
  const marks = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].join("|")})\\b`);
  const files = [...PROGRAM, ...readFiles("tests", /\.(ts|js)$/), ...readFiles("bench", /\.ts$/)];
  expect(files.filter(({ text }) => marks.test(text)).map(({ path }) => path)).toEqual([]);
});

test("no line of a comment is too long", () => {
  const long = PROGRAM.flatMap(({ path, lines }) =>
    lines.flatMap((line, index) =>
      /^\s*(\*|\/\/|\/\*)/.test(line) && line.length > COMMENT_COLUMNS_MAX && !line.includes("://")
        ? [`${path}:${index + 1}`]
        : [],
    ),
  );
  expect(long).toEqual([]);
});

test("no path of somebody's machine, no registry's host, and no mark of a merge", () => {
  const left = ["/(wo" + "rk|ro" + "ot|home/[a-z]+|Users/[A-Za-z]+)/", "registry\\.np" + "mjs", "^(<{7}|>{7}) "];
  const pattern = new RegExp(left.join("|"), "m");
  const files = [".ci", "bench", "docs", "examples", "lib", "scripts", "tests"]
    .flatMap((folder) => readFiles(folder, /./))
    .concat(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "package.json", "bun.lock"].flatMap(readFileIfPresent));
  expect(files.filter(({ text }) => pattern.test(text)).map(({ path }) => path)).toEqual([]);
});

/**
 * Functions by their layout, which the formatter guarantees: the line that opens one ends in `{`, and the first line
 * after it with the same indentation and a `}` closes it.
 */
function findLongFunctions({ path, lines }: SourceFile): string[] {
  return lines.flatMap((line, index) => {
    if (!opensFunction(line)) return [];
    const indent = indentOf(line);
    const end = lines.findIndex((other, at) => at > index && indentOf(other) === indent && /^\s*\}/.test(other));
    const start = firstLineOfSignature(lines, index, indent);
    const count = end - start + 1;
    return count > FUNCTION_LINES_MAX ? [`${path}:${start + 1} has ${count} lines`] : [];
  });
}

function opensFunction(line: string): boolean {
  if (!line.endsWith("{")) return false;
  if (/^\s*(\} )?(if|for|while|switch|catch|else|do|try|return \{)\b/.test(line) && !/=> \{$/.test(line)) return false;
  return /\bfunction\b/.test(line) || /=> \{$/.test(line) || /\)(: [^=]+)? \{$/.test(line);
}

/** A signature that is broken over several lines ends in a line that begins with `)`. */
function firstLineOfSignature(lines: readonly string[], index: number, indent: number): number {
  let start = index;
  while (start > 0 && (indentOf(lines[start] ?? "") !== indent || /^\s*[)\]}]/.test(lines[start] ?? ""))) start--;
  return start;
}

function indentOf(line: string): number {
  return line.trim() === "" ? -1 : line.length - line.trimStart().length;
}

function findUpwardImports(file: SourceFile): string[] {
  const own = layerOf(file.path);
  if (own === undefined) return [`${file.path}: in no layer, see LAYERS`];
  return importsOf(file).flatMap(({ imported, isType }) => {
    const layer = layerOf(imported);
    if (layer === undefined) return imported.includes("/") ? [`${imported}: in no layer, see LAYERS`] : [];
    if (layer.rank > own.rank || layer.name === own.name) return [];
    const listed = isType ? [...SIBLINGS, ...TYPES] : SIBLINGS;
    const isListed = listed.some(({ from, to }) => from === own.name && to === layer.name);
    // Modules that stand alone, such as lib/deploy.ts, are one thing with the others of their line.
    const isOneThing = layer.rank === own.rank && /\.ts$/.test(own.name) && /\.ts$/.test(layer.name);
    return isListed || isOneThing ? [] : [`${file.path} imports ${imported}`];
  });
}

function importsOf({ path, text }: SourceFile): { readonly imported: string; readonly isType: boolean }[] {
  const found = text.matchAll(/(?:\b(import|export) (type )?[^;"]*?\bfrom |\bimport\(|\bimport )"(\.[^"]+)"/g);
  return [...found].map(([, , type, target = ""]) => ({
    imported: normalize(join(dirname(path), target)),
    isType: type !== undefined,
  }));
}

/** The rank grows downwards. */
function layerOf(path: string): { readonly rank: number; readonly name: string } | undefined {
  for (const [rank, names] of LAYERS.entries()) {
    const name = names.find((candidate) => path === candidate || path.startsWith(`${candidate}/`));
    if (name !== undefined) return { rank, name };
  }
  return undefined;
}

function isCalledPure({ text }: SourceFile): boolean {
  return /\bPure\b/.test(text.slice(0, text.indexOf("*/")));
}

/** Its own effects, and the packages that it draws in. What it gets as an argument is its caller's. */
function findImpurities(file: SourceFile): string[] {
  const effect = EFFECTS.exec(withoutComments(file))?.[0];
  return [...(effect === undefined ? [] : [`${file.path}: ${effect}`]), ...findPackages(file, new Set())];
}

function findPackages(file: SourceFile, seen: Set<string>): string[] {
  if (seen.has(file.path)) return [];
  seen.add(file.path);
  const code = withoutComments(file);
  const targets = [...code.matchAll(/^import (?!type )([^;]*?) from "([^"]+)"/gm)]
    .filter(([, names = ""]) => !names.startsWith("{") || /[{,]\s*(?!type\b)\w/.test(names))
    .map(([, , target = ""]) => (target.startsWith(".") ? normalize(join(dirname(file.path), target)) : target));
  const packages = targets.filter((target) => !target.startsWith("lib/") && !(target in HARMLESS));
  const imported = LIBRARY.filter(({ path }) => targets.includes(path));
  return [
    ...packages.map((name) => `${file.path}: ${name}`),
    ...imported.flatMap((other) => findPackages(other, seen)),
  ];
}

function withoutComments({ lines }: SourceFile): string {
  return lines.filter((line) => !/^\s*(\*|\/\/|\/\*)/.test(line)).join("\n");
}

function readFiles(folder: string, pattern: RegExp): SourceFile[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => pattern.test(name) && !name.includes("node_modules"))
    .map((name) => join(ROOT, folder, name))
    .filter((path) => statSync(path).isFile())
    .sort()
    .map(readSource);
}

function readFileIfPresent(name: string): SourceFile[] {
  return existsSync(join(ROOT, name)) ? [readSource(join(ROOT, name))] : [];
}

function readSource(path: string): SourceFile {
  const text = readFileSync(path, "utf8");
  return { path: relative(ROOT, path), text, lines: text.split("\n") };
}
