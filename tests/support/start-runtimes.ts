/** Ways to run one program of tests/fixtures: from source, compiled, and bundled on the other runtimes that are there. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { temporaryDirectory } from "./cluster.ts";

export interface RuntimeVariant {
  readonly name: string;
  /** The command before the program's own arguments. */
  readonly command: readonly [string, ...string[]];
  /** The runtime can put another program in its place. */
  readonly replacesItself: boolean;
}

/** More runtimes than PATH has, for example several releases of Node: absolute paths, separated by colons. */
const EXTRA_RUNTIMES = process.env.TEST_RUNTIMES ?? "";

/** @param source path of the program */
export function makeRuntimeVariants(source: string): RuntimeVariant[] {
  const directory = temporaryDirectory();
  const bundle = join(directory, "program.mjs");
  const binary = join(directory, "program");
  build(source, "--target=node", `--outfile=${bundle}`);
  build(source, "--compile", "--minify", "--bytecode", "--format=esm", `--outfile=${binary}`);
  const others = ["node", "deno", ...EXTRA_RUNTIMES.split(":").filter((path) => path !== "")];
  return [
    { name: "Bun from source", command: [process.execPath, source], replacesItself: true },
    { name: "a compiled binary", command: [binary], replacesItself: true },
    ...others.flatMap((runtime) => makeOtherVariant(runtime, bundle) ?? []),
  ];
}

function makeOtherVariant(runtime: string, bundle: string): RuntimeVariant | undefined {
  const source = "process.stdout.write(typeof process.execve + ' ' + process.version)";
  const isDeno = runtime.endsWith("deno");
  const args = isDeno ? ["eval", `import process from "node:process"; ${source}`] : ["-e", source];
  const answer = spawnSync(runtime, args, { encoding: "utf8" });
  if (answer.status !== 0) return undefined;
  const [execve, version] = answer.stdout.split(" ");
  return {
    name: isDeno ? "Deno" : `Node ${version}`,
    command: isDeno ? [runtime, "run", "--allow-all", bundle] : [runtime, bundle],
    replacesItself: execve === "function",
  };
}

function build(source: string, ...options: string[]): void {
  const { status, stderr } = spawnSync(process.execPath, ["build", source, ...options], { encoding: "utf8" });
  if (status !== 0) throw new Error(`bun build failed: ${stderr}`);
}
