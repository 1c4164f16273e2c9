#!/usr/bin/env bun
/**
 * Compiles the programs into binaries that need neither Bun nor node_modules: `dist/deploy` and `dist/health-check` for
 * this machine, or `dist/TARGET/…` with `--target linux-x64|linux-x64-musl|linux-arm64|linux-arm64-musl` (repeatable).
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";

const ROOT = dirname(import.meta.dirname);
const PROGRAMS = ["deploy", "health-check"];
const TARGETS = ["linux-x64", "linux-x64-musl", "linux-arm64", "linux-arm64-musl"] as const;
type Target = (typeof TARGETS)[number];

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
 * The driver imports `tls`, `crypto`, `stream` and others for what a session needs now and then, or never with a socket
 * of ours. To load them takes half as long as a whole start: so each is loaded when something of it is asked for.
 */
const lateDriverImports: Bun.BunPlugin = {
  name: "late-driver-imports",
  setup(builder) {
    builder.onLoad({ filter: /[\\/]node_modules[\\/]postgres[\\/]src[\\/]\w+\.js$/ }, async ({ path }) => {
      const source = await Bun.file(path).text();
      const contents = source
        .replace(
          /^import (\w+) from '(\w+)'$/gm,
          "const $1 = new Proxy({}, { get: (_, name) => require('node:$2')[name] })",
        )
        .replace(/^import \{ performance \} from 'perf_hooks'$/m, "const { performance } = globalThis");
      const left = /^import .* from '(?!\.).*'$/m.exec(contents)?.[0];
      if (left !== undefined) throw new Error(`${path}: what is to become of "${left}"?`);
      return { contents, loader: "js" };
    });
  },
};

const { values } = parseArgs({ options: { target: { type: "string", multiple: true } } });
for (const target of values.target ?? [undefined]) {
  for (const program of PROGRAMS) await build(program, selectTarget(target));
}

function selectTarget(text: string | undefined): Target | undefined {
  const target = TARGETS.find((known) => known === text);
  if (text !== undefined && target === undefined) {
    console.error(`Unknown target ${text}. Known: ${TARGETS.join(", ")}`);
    process.exit(2);
  }
  return target;
}

async function build(program: string, target: Target | undefined): Promise<void> {
  const outfile = join(ROOT, "dist", target ?? "", program);
  mkdirSync(dirname(outfile), { recursive: true });
  const scratch = mkdtempSync(join(dirname(outfile), ".build-"));
  try {
    await Bun.build({
      entrypoints: [join(ROOT, "scripts", `${program}.ts`)],
      target: "bun",
      format: "esm",
      // Real names and lines in a stack trace, at no cost that could be measured.
      sourcemap: "linked",
      minify: true,
      // Halves the time of a start; what is imported only when it is needed stays unread thanks to the splitting.
      bytecode: true,
      splitting: true,
      plugins: [embeddedGrammar, lateDriverImports],
      // Of the grammar's loader: the folder that it was built in is of no use to it, and nobody's business.
      define: { __dirname: '"/"', __filename: '"/"' },
      compile: {
        outfile: join(scratch, program),
        ...(target === undefined ? {} : { target: `bun-${target}` }),
        // The operator's working directory must not configure us, let alone have its code run.
        autoloadDotenv: false,
        autoloadBunfig: false,
      },
    });
    renameSync(join(scratch, program), outfile);
  } finally {
    // Only source maps are left there, and those are in the binary too.
    rmSync(scratch, { recursive: true });
  }
  console.log(`${relative(ROOT, outfile)}: ${(Bun.file(outfile).size / 1024 / 1024).toFixed(1)} MiB`);
}
