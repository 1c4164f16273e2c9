/**
 * Starts the app in our own place: the same process id, the same descriptors, a signal state as after a fresh start.
 *
 * `process.execve` does it on Bun and on Node 22.15 and later. Deno and Node 20 lack it: there the app is a child.
 */
import { restoreBlocking } from "./blocking.ts";
import { type AppProgram, type Environment, makeStartError, resolveAppCommand, withoutUndefined } from "./program.ts";

/** Ignored by every JavaScript runtime, and an ignored signal stays ignored in the app, where `sh` can't undo it. */
const IGNORED_SIGNALS = ["SIGPIPE", "SIGXFSZ"] as const;

/**
 * Starts the app. Where the process can be replaced this never returns; elsewhere it is the app's exit code, 128+n when
 * signal n ended it.
 *
 * Exit handlers do not run, and whatever waits to be written is lost: output must have been written synchronously.
 *
 * @throws APP_NOT_FOUND, APP_NOT_EXECUTABLE
 */
export async function startApp(command: readonly string[], environment: Environment): Promise<number> {
  const program = resolveAppCommand(command, environment);
  await restoreBlocking();
  await deliverSignals();
  if (process.execve !== undefined) return replaceProcess(program, environment);
  const { runAsChild } = await import("./child.ts");
  return await runAsChild(program, environment);
}

/** A signal that has arrived would be lost with this program: its handlers come first. They run between two turns. */
async function deliverSignals(): Promise<void> {
  for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

function replaceProcess(program: AppProgram, environment: Environment): never {
  // A caught signal goes back to its default when a program is replaced; an ignored one does not.
  for (const signal of IGNORED_SIGNALS) process.on(signal, () => {});
  try {
    process.execve?.(program.path, program.args, withoutUndefined(environment));
  } catch (cause) {
    throw makeStartError(program, cause);
  }
  throw makeStartError(program, new Error("execve returned"));
}
