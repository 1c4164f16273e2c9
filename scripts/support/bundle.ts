/** How a program becomes one bundle: what `scripts/build.ts` compiles into a binary. */
import { dirname, join } from "node:path";

const ROOT = dirname(dirname(import.meta.dirname));

/** The options for one of the programs in `scripts`. */
export function bundleOptions(program: string): Bun.BuildConfig {
  return {
    entrypoints: [join(ROOT, "scripts", `${program}.ts`)],
    target: "bun",
    format: "esm",
    minify: true,
    // What is imported only when it is needed stays unread until then.
    splitting: true,
    plugins: [embeddedGrammar, lateDriverImports],
    // Of the grammar's loader: the folder that it was built in is of no use to it, and nobody's business.
    define: { __dirname: '"/"', __filename: '"/"' },
  };
}

/** From source the grammar lies in node_modules, which a binary does not have: there it is a file inside the binary. */
const embeddedGrammar: Bun.BunPlugin = {
  name: "embedded-grammar",
  setup(builder) {
    builder.onLoad({ filter: /[\\/]lib[\\/]migrations[\\/]grammar-wasm\.ts$/ }, () => ({
      contents: `export { default as grammarWasmPath } from "libpg-query/wasm/libpg-query.wasm" with { type: "file" };`,
      loader: "ts",
    }));
  },
};

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
