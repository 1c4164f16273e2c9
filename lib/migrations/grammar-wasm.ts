/** Where the grammar's WebAssembly file is. A build replaces this module by one that exports an embedded copy. */
import { createRequire } from "node:module";

export const grammarWasmPath: string = createRequire(import.meta.url).resolve("libpg-query/wasm/libpg-query.wasm");
