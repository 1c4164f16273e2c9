/** The app as a child, for the runtimes that can't replace themselves (Deno, Node 20). As process 1 they reap no orphans. */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { isatty } from "node:tty";
import { type AppProgram, type Environment, makeStartError, withoutUndefined } from "./program.ts";

const PASSED_ON = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;

/** A terminal sends these to every process in the foreground, the app included: it would see them twice. */
const SENT_BY_TERMINAL: readonly string[] = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGWINCH"];

/**
 * Runs the app with our descriptors and passes signals on until it ends.
 *
 * @returns its exit code, 128+n when signal n ended it
 * @throws APP_NOT_EXECUTABLE
 */
export async function runAsChild(program: AppProgram, environment: Environment): Promise<number> {
  let child: ChildProcess | undefined;
  const hasTerminal = isatty(0);
  for (const signal of PASSED_ON) {
    // From here on a signal is the app's business: whoever listened before would end us in front of it.
    process.removeAllListeners(signal);
    process.on(signal, () => {
      if (!hasTerminal || !SENT_BY_TERMINAL.includes(signal)) passOn(signal, child);
    });
  }
  try {
    child = spawn(program.path, program.args.slice(1), {
      argv0: program.args[0],
      env: withoutUndefined(environment),
      stdio: "inherit",
    });
  } catch (cause) {
    throw makeStartError(program, cause);
  }
  return await readExitCode(child, program);
}

/** Not by `child.kill`: Deno takes a child for dead that has been sent a signal. */
function passOn(signal: NodeJS.Signals, child: ChildProcess | undefined): void {
  if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(child.pid, signal);
  } catch {
    // It has just ended: its exit code is on the way.
  }
}

function readExitCode(child: ChildProcess, program: AppProgram): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", (cause) => reject(makeStartError(program, cause)));
    child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
}
