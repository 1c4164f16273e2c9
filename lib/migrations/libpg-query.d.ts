/** The part of libpg-query's Emscripten module that `grammar.ts` calls; the package has types for its wrapper only. */
declare module "libpg-query/wasm/libpg-query.js" {
  export interface GrammarModule {
    lengthBytesUTF8(text: string): number;
    stringToUTF8(text: string, pointer: number, capacityBytes: number): void;
    UTF8ToString(pointer: number): string;
    getValue(pointer: number, type: "i32"): number;
    _malloc(sizeBytes: number): number;
    _free(pointer: number): void;
    _wasm_parse_query_raw(text: number): number;
    _wasm_free_parse_result(result: number): void;
  }

  export default function loadModule(options: {
    instantiateWasm(imports: WebAssembly.Imports, receive: (instance: WebAssembly.Instance) => void): void;
  }): Promise<GrammarModule>;
}
