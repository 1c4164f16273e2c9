/** The grammar's WebAssembly file. A build replaces this module by one that carries a copy of its own. */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

export async function readGrammar(): Promise<Uint8Array<ArrayBuffer>> {
  return await readFile(createRequire(import.meta.url).resolve("libpg-query/wasm/libpg-query.wasm"));
}
