/** How a program becomes one bundle: a module that is compiled into a binary, or a script that runs as it is. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

const ROOT = dirname(dirname(import.meta.dirname));
const GRAMMAR = "libpg-query/wasm/libpg-query.wasm";
/** The best one would save a tenth more and take ten times as long. */
const COMPRESSION_QUALITY = 9;

export interface BundleChoices {
  /** What `--version` names. Undefined where nobody knows. */
  readonly commit?: string | undefined;
}

/** The options of what is compiled: one of the programs in `scripts`. */
export function binaryOptions(program: string, { commit }: BundleChoices = {}): Bun.BuildConfig {
  return {
    entrypoints: [join(ROOT, "scripts", `${program}.ts`)],
    target: "bun",
    format: "esm",
    minify: true,
    // What is imported only when it is needed stays unread until then.
    splitting: true,
    // The licences lie where nobody reads them before there is work.
    plugins: [grammarBy(makeLicenseComment() + GRAMMAR_AS_FILE), lateDriverImports],
    define: definitions(commit),
  };
}

/**
 * One of the programs as one file for Node, Bun and Deno, whatever lies beside it.
 *
 * Names and lines stay as they are, so that a stack trace can be read without a map; to minify them would save a start
 * nothing that could be measured.
 */
export async function bundleScript(program: string, { commit }: BundleChoices = {}): Promise<string> {
  const { outputs } = await Bun.build({
    entrypoints: [join(ROOT, "scripts", `${program}.ts`)],
    target: "node",
    // In this format alone an import of Node's is done when the module is that needs it.
    format: "cjs",
    minify: { syntax: true },
    plugins: [grammarBy(makeGrammarText()), lateDriverImports],
    define: definitions(commit),
  });
  const [output, ...others] = outputs;
  if (output === undefined || others.length > 0) throw new Error(`${program} did not become one file`);
  const code = (await output.text()).replace(/^#!.*\n/, "");
  return `${SCRIPT_HEAD}${escapeForeign(code)}\n${makeLicenseComment()}`;
}

/**
 * `require` is the only word that tells a CommonJS module from another: with one of our own the file is both, so that a
 * package.json beside it may say what it likes. Before 20.16 Node has its own only.
 */
const SCRIPT_HEAD = `#!/usr/bin/env node
"use strict";
var require = process.getBuiltinModule ?? require;
`;

/** Text of one byte a character is read and kept in half the space, and whatever the system's encoding. */
function escapeForeign(code: string): string {
  return code.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** What the licences of what is bundled ask for. */
function makeLicenseComment(): string {
  const texts = ["LICENSE", "THIRD_PARTY_LICENSES"].map((name) => readFileSync(join(ROOT, name), "utf8").trim());
  return `/*!\n${texts.join("\n\n").replaceAll("*/", "* /")}\n*/\n`;
}

function definitions(commit: string | undefined): Record<string, string> {
  return {
    // Of the grammar's loader: the folder that it was built in is of no use to it, and nobody's business.
    __dirname: '"/"',
    __filename: '"/"',
    ...(commit === undefined ? {} : { BUILD_COMMIT: JSON.stringify(commit) }),
  };
}

/** From source the grammar lies in node_modules, which no bundle has. In a binary it is a file ... */
const GRAMMAR_AS_FILE = `
  import path from ${JSON.stringify(GRAMMAR)} with { type: "file" };
  import { readFile } from "node:fs/promises";
  export const readGrammar = () => readFile(path);`;

/** ... and in a script a text, since there is no other way to keep bytes in one. */
function makeGrammarText(): string {
  const bytes = readFileSync(Bun.resolveSync(GRAMMAR, join(ROOT, "lib")));
  const compressed = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: COMPRESSION_QUALITY } });
  return `
    import { brotliDecompressSync } from "node:zlib";
    const GRAMMAR = "${compressed.toString("base64")}";
    export const readGrammar = async () => brotliDecompressSync(Buffer.from(GRAMMAR, "base64"));`;
}

function grammarBy(contents: string): Bun.BunPlugin {
  return {
    name: "grammar",
    setup(builder) {
      builder.onLoad({ filter: /[\\/]lib[\\/]migrations[\\/]grammar-wasm\.ts$/ }, () => ({ contents, loader: "ts" }));
    },
  };
}

/**
 * The driver imports `tls`, `crypto`, `stream` and more, for what a session needs seldom, or never with a socket of ours.
 * To load them takes half as long as all of a start that has nothing to do: so each is loaded when it is first used.
 */
const lateDriverImports: Bun.BunPlugin = {
  name: "late-driver-imports",
  setup(builder) {
    builder.onLoad({ filter: /[\\/]node_modules[\\/]postgres[\\/]src[\\/]\w+\.js$/ }, async ({ path }) => ({
      contents: makeImportsLate(await Bun.file(path).text()),
      loader: "js",
    }));
  },
};

const LATE_IMPORT = "const $1 = new Proxy({}, { get: (_, name) => require('node:$2')[name] })";

/** @throws where an import of another kind has come with a new version of the driver */
function makeImportsLate(source: string): string {
  const late = source
    .replace(/^import (\w+) from '(\w+)'$/gm, LATE_IMPORT)
    .replace(/^import { performance } from 'perf_hooks'$/m, "const { performance } = globalThis");
  const left = /^import .*['"](?!\.).*['"]/m.exec(late);
  if (left !== null) throw new Error(`the driver imports in a way that is not known here: ${left[0]}`);
  return late;
}
