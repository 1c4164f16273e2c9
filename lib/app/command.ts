/** Decisions about the app's command: where a shell would look for it, and what the kernel needs to run it. */
import { isAbsolute, resolve } from "node:path";

/** Docker's own default, for an environment that has no PATH at all. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46];
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_INTERPRETER = 3;
const SHEBANG = "#!";

/** What runs a file: the kernel itself, or a program that the file names. */
export type ProgramFormat =
  /** `loader` is undefined for a static program, and where it can't be read from the first bytes. */
  | { readonly kind: "elf"; readonly loader: string | undefined }
  | { readonly kind: "script"; readonly interpreter: string; readonly hasCarriageReturn: boolean }
  | { readonly kind: "unknown" };

/**
 * The absolute paths where a command may be, in the order of a shell: a name with a slash is a path, any other is looked
 * up in PATH, where an empty entry means the working directory.
 */
export function makeCandidatePaths(name: string, searchPath: string | undefined, directory: string): string[] {
  if (name === "") return [];
  if (name.includes("/")) return [resolve(directory, name)];
  return (searchPath ?? DEFAULT_PATH).split(":").map((entry) => resolve(directory, entry, name));
}

/** Tells from the first bytes of a file (4096 are enough) what will run it. `directory` resolves a relative interpreter. */
export function parseProgramFormat(bytes: Uint8Array, directory: string): ProgramFormat {
  if (ELF_MAGIC.every((byte, index) => bytes[index] === byte)) return { kind: "elf", loader: parseLoader(bytes) };
  const [line = ""] = new TextDecoder("latin1").decode(bytes).split("\n", 1);
  if (!line.startsWith(SHEBANG)) return { kind: "unknown" };
  const [interpreter = ""] = line
    .slice(SHEBANG.length)
    .replace(/^[ \t]+/, "")
    .split(/[ \t\0]/, 1);
  if (interpreter === "") return { kind: "unknown" };
  return {
    kind: "script",
    interpreter: isAbsolute(interpreter) ? interpreter : resolve(directory, interpreter),
    hasCarriageReturn: interpreter.endsWith("\r"),
  };
}

/** The dynamic loader that an ELF file asks for (its PT_INTERP entry). @see elf(5) */
function parseLoader(bytes: Uint8Array): string | undefined {
  if (bytes.length < ELF_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const is64Bit = view.getUint8(4) === 2;
  const isLittleEndian = view.getUint8(5) === 1;
  const word = (at: number) =>
    is64Bit ? Number(view.getBigUint64(at, isLittleEndian)) : view.getUint32(at, isLittleEndian);
  const table = word(is64Bit ? 32 : 28);
  const entryBytes = view.getUint16(is64Bit ? 54 : 42, isLittleEndian);
  const count = view.getUint16(is64Bit ? 56 : 44, isLittleEndian);
  for (let index = 0; index < count; index += 1) {
    const entry = table + index * entryBytes;
    if (entry + entryBytes > bytes.length) return undefined;
    if (view.getUint32(entry, isLittleEndian) !== PROGRAM_HEADER_INTERPRETER) continue;
    const start = word(entry + (is64Bit ? 8 : 4));
    const end = start + word(entry + (is64Bit ? 32 : 16));
    if (end > bytes.length) return undefined;
    return new TextDecoder("latin1").decode(bytes.subarray(start, end)).replace(/\0.*$/s, "");
  }
  return undefined;
}
