/**
 * The edge of `deploy`: flags in, words and an exit code out. The only place that catches, and that knows streams.
 */
import { DeployError, isDeployError } from "../errors.ts";
import type { Event, Report } from "../events.ts";
import type { Messages } from "../messages/messages.ts";
import { type DatabaseState, exitCodeOf, exitCodeOfError, type Outcome, stateOf, stateOfError } from "../outcome.ts";
import { renderError, renderEvent, renderStop } from "../report/human.ts";
import { renderJson } from "../report/json.ts";
import { renderStatus } from "../report/status.ts";
import { STANDARD_ERROR, STANDARD_OUTPUT, writeText } from "../system/output.ts";
import { VERSION } from "../version.ts";
import { type Environment, type Language, type Request, readRequest, type Settings } from "./settings.ts";

const EXIT_BUG = 1;
const EXIT_BLOCKED = 3;
const EXIT_UNKNOWN = 6;
const EXIT_PENDING = 10;

/** Runs one command line to its end. @returns the exit code; never returns where the app took our place */
export async function main(argv: readonly string[], environment: Environment): Promise<number> {
  const request = readRequest(argv, environment);
  const messages = await loadMessages(request.language);
  const console = makeConsole(request, messages);
  try {
    if (request.help) return await printHelp(request.language);
    if (request.version) return printLine(VERSION);
    const settings = request.settings();
    if (settings.command === "status") return await runStatus(settings, environment, console);
    return await runDeploy(settings, environment, console);
  } catch (error) {
    return console.stop(error);
  }
}

async function loadMessages(language: Language): Promise<Messages> {
  return language === "ko" ? (await import("../messages/ko.ts")).ko : (await import("../messages/en.ts")).en;
}

async function printHelp(language: Language): Promise<number> {
  const { makeHelp } = await import("./help.ts");
  return printLine(makeHelp(language).trimEnd());
}

function printLine(text: string): number {
  writeText(STANDARD_OUTPUT, `${text}\n`);
  return 0;
}

/** Where words go: the log on standard error, so that the app's standard output stays its own. */
interface Console {
  readonly tell: Report;
  /** Tells how a deploy ended that did not end well. */
  readonly finish: (outcome: Outcome) => void;
  /** Tells an error that stopped us. @returns its exit code */
  readonly stop: (error: unknown) => number;
}

function makeConsole(request: Request, messages: Messages): Console {
  const isJson = request.logFormat === "json";
  let hasStarted = false;
  const print = (lines: readonly string[]) => {
    if (lines.length > 0) writeText(STANDARD_ERROR, `${lines.join("\n")}\n`);
  };
  const tell = (event: Event) => {
    if (event.kind === "deploy-started") hasStarted = true;
    print(isJson ? [renderJson(event.kind, event, new Date())] : renderEvent(event, messages));
  };
  const stop = (error: unknown): number => {
    if (!isDeployError(error)) {
      print([messages.labels.bug, error instanceof Error ? (error.stack ?? error.message) : String(error)]);
      return EXIT_BUG;
    }
    const exitCode = exitCodeOfError(error);
    const state: DatabaseState = stateOfError(error);
    if (isJson) print([renderJson("stopped", { error, state, exitCode }, new Date())]);
    else print([...renderStop(error, messages), ...renderError(error, state, exitCode, messages)]);
    if (hasStarted) tell({ kind: "deploy-failed" });
    return exitCode;
  };
  const finish = (outcome: Outcome) => {
    if (!("failure" in outcome)) return;
    const exitCode = exitCodeOf(outcome);
    const instructions = outcome.kind === "unresolved" ? outcome.instructions : [];
    if (isJson) print([renderJson("ended", { outcome, exitCode }, new Date())]);
    else {
      const recoveryFailures = outcome.kind === "unresolved" ? outcome.recoveryFailures : [];
      for (const failure of recoveryFailures.filter(({ code }) => code !== "RESTORE_NOT_PROVEN")) {
        print(renderStop(failure, messages));
      }
      print(renderError(outcome.failure, stateOf(outcome), exitCode, messages, instructions));
    }
    tell({ kind: "deploy-failed" });
  };
  return { tell, finish, stop };
}

async function runDeploy(settings: Settings, environment: Environment, console: Console): Promise<number> {
  const interruption = listenForSignals();
  const { deploy } = await import("../deploy.ts");
  const { makeOperations } = await import("../operations.ts");
  const operations = makeOperations({ settings, environment, tell: console.tell, signal: interruption.signal });
  let outcome: Outcome;
  try {
    outcome = await deploy(
      { version: VERSION, engine: settings.migrateEngine, dryRun: settings.command === "plan" },
      operations,
      console.tell,
    );
  } finally {
    await operations.close();
    interruption.stop();
  }
  console.finish(outcome);
  const exitCode = exitCodeOf(outcome);
  if (exitCode !== 0 || settings.command === "plan") return exitCode;
  if (interruption.signal.aborted) throw interruption.signal.reason;
  if (settings.appCommand.length === 0) return exitCode;
  console.tell({ kind: "app-starting", command: settings.appCommand });
  const { startApp } = await import("../app/start.ts");
  return await startApp(settings.appCommand, environment);
}

async function runStatus(settings: Settings, environment: Environment, console: Console): Promise<number> {
  const { readStatus } = await import("./status.ts");
  const { makeOperations } = await import("../operations.ts");
  const interruption = listenForSignals();
  const operations = makeOperations({ settings, environment, tell: console.tell, signal: interruption.signal });
  const status = await readStatus(operations, console.tell).finally(() => operations.close());
  printLine(settings.json ? JSON.stringify(status) : renderStatus(status, await loadMessages(settings.language)));
  if (status.state === "blocked") return EXIT_BLOCKED;
  return status.state === "up-to-date" ? 0 : EXIT_PENDING;
}

interface Interruption {
  readonly signal: AbortSignal;
  /** Gives the signals back, so that the app finds them as they were. */
  stop(): void;
}

/** The first SIGTERM or SIGINT asks for a clean end; the second one insists, and then nothing is known. */
function listenForSignals(): Interruption {
  const controller = new AbortController();
  const listeners = (["SIGTERM", "SIGINT"] as const).map((signal) => {
    const listener = () => {
      if (controller.signal.aborted) process.exit(EXIT_UNKNOWN);
      controller.abort(new DeployError("INTERRUPTED", { signal }));
    };
    process.on(signal, listener);
    return { signal, listener };
  });
  return {
    signal: controller.signal,
    stop: () => {
      for (const { signal, listener } of listeners) process.removeListener(signal, listener);
    },
  };
}
