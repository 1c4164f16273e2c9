/** Ways to run one program of tests/fixtures: from source, compiled, and bundled on the other runtimes. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { temporaryDirectory } from "./cluster.ts";
import { findRuntimes, type Runtime } from "./runtimes.ts";

export interface RuntimeVariant {
  readonly name: string;
  /** The command before the program's own arguments. */
  readonly command: readonly [string, ...string[]];
  /** The runtime can put another program in its place. */
  readonly replacesItself: boolean;
}

/** @param source path of the program */
export async function makeRuntimeVariants(source: string): Promise<RuntimeVariant[]> {
  const directory = temporaryDirectory();
  const bundle = join(directory, "program.mjs");
  const binary = join(directory, "program");
  build(source, "--target=node", `--outfile=${bundle}`);
  build(source, "--compile", "--minify", "--bytecode", "--format=esm", `--outfile=${binary}`);
  return [
    { name: "Bun from source", command: [process.execPath, source], replacesItself: true },
    { name: "a compiled binary", command: [binary], replacesItself: true },
    ...(await findRuntimes()).map((runtime) => makeOtherVariant(runtime, bundle)),
  ];
}

function makeOtherVariant({ name, kind, path }: Runtime, bundle: string): RuntimeVariant {
  const source = "process.stdout.write(typeof process.execve)";
  const args = kind === "deno" ? ["eval", `import process from "node:process"; ${source}`] : ["-e", source];
  const { stdout } = spawnSync(path, args, { encoding: "utf8" });
  return {
    name,
    command: kind === "deno" ? [path, "run", "--allow-all", bundle] : [path, bundle],
    replacesItself: stdout === "function",
  };
}

function build(source: string, ...options: string[]): void {
  const { status, stderr } = spawnSync(process.execPath, ["build", source, ...options], { encoding: "utf8" });
  if (status !== 0) throw new Error(`bun build failed: ${stderr}`);
}
