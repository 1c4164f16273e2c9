/** A Docker engine of our own: it listens on a socket in a temporary folder, changes no network of ours, and ends with us. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../support/project.ts";

const READY_MS = 60_000;
const COMMAND_MS = 600_000;
/** The engine's own client comes first: another one that is in PATH may be unable to build. */
const CLIENT = ["/usr/bin/docker"].find(existsSync) ?? "docker";

export interface CommandResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Engine {
  /** Runs the client. @returns its standard output, trimmed. @throws with all that it printed when it failed */
  docker(...args: readonly string[]): Promise<string>;
  /** The same for a command that may fail. */
  tryDocker(...args: readonly string[]): Promise<CommandResult>;
  /** Runs another program that talks to the engine, or to what it has published, in the engine's network. */
  tryBeside(file: string, ...args: readonly string[]): Promise<CommandResult>;
  /** Makes an image of a folder. @param changes instructions such as `ENV A=b` */
  importImage(directory: string, name: string, changes: readonly string[]): Promise<void>;
  /** Ends every container and the engine, and removes all that it had. */
  remove(): Promise<void>;
}

/**
 * Runs the engine until its standard input ends, which is when we say so, or are gone ourselves however we ended. What it
 * mounts is seen by itself alone and gone with it, and what it stores lies in memory: to delete it from a disk, file by
 * file, can take minutes.
 */
const MINDER_SCRIPT = `
trap '' INT TERM HUP
directory=$1
shift
mkdir "$directory/data"
mount -t tmpfs -o size=8g tmpfs "$directory/data"
"$@" >> "$directory/log" 2>&1 < /dev/null &
cat > /dev/null
kill -TERM $!
wait $!
umount --recursive "$directory/data"
for mounted in "$directory"/exec/netns/*; do umount "$mounted"; done
rm -rf "$directory"
`;

/** Ours, of which containers take part with `--network host`. */
const SHARED_NETWORK = ["dockerd", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"];
/** One that nobody else sees and that leads nowhere, where containers have addresses, names and published ports. */
const OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec dockerd "$@"', "dockerd"];

export interface EngineOptions {
  /** Default: false. */
  readonly hasOwnNetwork?: boolean;
}

/** Needs root, and a kernel that lets us mount. @throws with the engine's log when it does not come up */
export async function startEngine({ hasOwnNetwork = false }: EngineOptions = {}): Promise<Engine> {
  const directory = mkdtempSync(join(tmpdir(), "psd-engine-"));
  const socket = `unix://${directory}/socket`;
  const command = [
    ...(hasOwnNetwork ? OWN_NETWORK : SHARED_NETWORK),
    ...["--host", socket, "--pidfile", `${directory}/pid`],
    ...["--data-root", `${directory}/data`, "--exec-root", `${directory}/exec`],
  ];
  const minder = spawn("unshare", ["--mount", "sh", "-c", MINDER_SCRIPT, "minder", directory, ...command], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  const ended = new Promise<void>((resolve) => minder.once("exit", () => resolve()).once("error", () => resolve()));
  const environment = { ...process.env, DOCKER_HOST: socket, DOCKER_BUILDKIT: "1", DOCKER_CONFIG: directory };
  const engine: Engine = {
    tryDocker: (...args) => run(CLIENT, args, environment),
    docker: async (...args) => expectDone(args, await engine.tryDocker(...args)),
    tryBeside(...beside) {
      const network = `--net=/proc/${readFileSync(join(directory, "pid"), "utf8").trim()}/ns/net`;
      return run("nsenter", [network, ...beside], environment);
    },
    async importImage(from, name, changes) {
      const script = 'from=$1 client=$2 name=$3; shift 3; tar -C "$from" -c . | "$client" import "$@" - "$name"';
      const given = changes.flatMap((change) => ["--change", change]);
      const args = ["-o", "pipefail", "-c", script, "import", from, CLIENT, name, ...given];
      expectDone(args, await run("bash", args, environment));
    },
    async remove() {
      const containers = (await engine.tryDocker("ps", "-aq")).stdout.split("\n").filter((id) => id !== "");
      if (containers.length > 0) await engine.tryDocker("rm", "-fv", ...containers);
      minder.stdin.end();
      await ended;
      if (existsSync(directory)) throw new Error(`something of the engine is left in ${directory}`);
    },
  };
  try {
    await until("the engine answers", async () => (await engine.tryDocker("version")).exitCode === 0, READY_MS);
  } catch (cause) {
    const log = readFileSync(join(directory, "log"), "utf8").slice(-2_000);
    await engine.remove();
    throw new Error(`the Docker engine did not start:\n${log}`, { cause });
  }
  return engine;
}

function expectDone(args: readonly string[], { exitCode, stdout, stderr }: CommandResult): string {
  if (exitCode !== 0) throw new Error(`docker ${args.join(" ")}: exit ${exitCode}\n${stdout}${stderr}`);
  return stdout.trim();
}

async function run(file: string, args: readonly string[], environment: NodeJS.ProcessEnv): Promise<CommandResult> {
  const child = Bun.spawn([file, ...args], {
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: COMMAND_MS,
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  return { exitCode: child.exitCode, stdout, stderr };
}
