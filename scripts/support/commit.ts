/** Which commit a working tree is at. */
import { run } from "../../lib/system/exec.ts";

const DEADLINE_MS = 10_000;
const HASH_LENGTH = 12;

/** For example `1f2e3d4c5b6a`, with `-changed` where files differ from it. Undefined without git or its repository. */
export async function readCommit(directory: string): Promise<string | undefined> {
  const args = ["describe", "--always", "--exclude=*", `--abbrev=${HASH_LENGTH}`, "--dirty=-changed"];
  const { exitCode, stdout } = await run(
    { file: "git", args, env: { PATH: process.env.PATH ?? "" }, cwd: directory },
    { stdout: "capture", deadlineMs: DEADLINE_MS },
  );
  return exitCode === 0 ? stdout.trim() : undefined;
}
