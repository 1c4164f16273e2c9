/**
 * PostgreSQL's own grammar (libpg-query, compiled to WebAssembly): a script as parse trees.
 *
 * The package's own loader looks for its file beside itself, which a compiled binary or a bundle does not have, and it
 * starts at import; so the module is loaded here, when the first script is parsed.
 */
import type { GrammarModule } from "libpg-query/wasm/libpg-query.js";
import type { TreeNode } from "./parse-tree.ts";

export interface ParsedStatement {
  /** Name of the tree's root node, for example `IndexStmt`. */
  readonly kind: string;
  readonly node: TreeNode;
  /** Offsets in UTF-16 units of the parsed text, for `slice`; the end lies before the semicolon. */
  readonly start: number;
  readonly end: number;
}

export interface ParseError {
  readonly message: string;
  /** 1-based, in characters (code points), as the server counts. Undefined where the parser gave up elsewhere. */
  readonly position: number | undefined;
}

export type ParsedScript = { readonly statements: readonly ParsedStatement[] } | { readonly error: ParseError };

interface RawStatement {
  readonly stmt: Readonly<Record<string, TreeNode>>;
  /** Offset of the statement's first word, in bytes of UTF-8; absent at 0. */
  readonly stmt_location?: number;
  /** Absent for a last statement without semicolon. */
  readonly stmt_len?: number;
}

let loading: Promise<GrammarModule> | undefined;

/** Parses a whole script. Never throws for what the script holds: what PostgreSQL's grammar refuses is an `error`. */
export async function parseScript(text: string): Promise<ParsedScript> {
  const nul = text.indexOf("\0");
  // The C parser would stop there and call the rest of the script empty.
  if (nul !== -1) return { error: { message: "invalid character: NUL", position: [...text.slice(0, nul)].length + 1 } };
  loading ??= loadModule();
  const module = await loading;
  try {
    return parse(module, text);
  } catch (error) {
    // A stack that overflowed inside of the module leaves it in an unknown state.
    loading = undefined;
    return { error: { message: error instanceof Error ? error.message : String(error), position: undefined } };
  }
}

async function loadModule(): Promise<GrammarModule> {
  const [{ default: load }, { readGrammar }] = await Promise.all([
    import("libpg-query/wasm/libpg-query.js"),
    import("./grammar-wasm.ts"),
  ]);
  const grammar = await WebAssembly.compile(await readGrammar());
  return await load({
    instantiateWasm: (imports, receive) => receive(new WebAssembly.Instance(grammar, imports)),
  });
}

/** @see libpg-query/wasm/index.js, parseSync: the layout of PgQueryParseResult and PgQueryError */
function parse(module: GrammarModule, text: string): ParsedScript {
  const sizeBytes = module.lengthBytesUTF8(text) + 1;
  const query = module._malloc(sizeBytes);
  module.stringToUTF8(text, query, sizeBytes);
  const result = module._wasm_parse_query_raw(query);
  try {
    const error = module.getValue(result + 8, "i32");
    if (error !== 0) {
      const position = module.getValue(error + 16, "i32");
      const message = module.UTF8ToString(module.getValue(error, "i32"));
      return { error: { message, position: position > 0 ? position : undefined } };
    }
    const tree = JSON.parse(module.UTF8ToString(module.getValue(result, "i32"))) as { stmts: readonly RawStatement[] };
    return { statements: placeStatements(text, tree.stmts) };
  } finally {
    module._wasm_free_parse_result(result);
    module._free(query);
  }
}

/** The tree counts in bytes; JavaScript slices in UTF-16 units. One walk through the text serves all statements. */
function placeStatements(text: string, statements: readonly RawStatement[]): ParsedStatement[] {
  let units = 0;
  let bytes = 0;
  const offsetOf = (targetBytes: number): number => {
    while (bytes < targetBytes) {
      const codePoint = text.codePointAt(units) ?? 0;
      bytes += codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
      units += codePoint < 0x10000 ? 1 : 2;
    }
    return units;
  };
  return statements.map(({ stmt, stmt_location = 0, stmt_len }) => {
    const [kind = "", node = {}] = Object.entries(stmt)[0] ?? [];
    const start = offsetOf(stmt_location);
    return { kind, node, start, end: stmt_len === undefined ? text.length : offsetOf(stmt_location + stmt_len) };
  });
}
