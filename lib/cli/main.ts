/**
 * The edge of `deploy`: flags in, words and an exit code out. The only place that catches, and that knows streams.
 */
import type { Liveness } from "../app/liveness.ts";
import { deploy } from "../deploy.ts";
import { DeployError, isDeployError } from "../errors.ts";
import type { Event, Report } from "../events.ts";
import type { Messages } from "../messages/messages.ts";
import { DEFAULT_SCHEMA } from "../migrations/history.ts";
import { makeOperations } from "../operations.ts";
import { type DatabaseState, exitCodeOf, exitCodeOfError, type Outcome, stateOf, stateOfError } from "../outcome.ts";
import { renderError, renderEvent, renderInstructions, renderLive, renderStop } from "../report/human.ts";
import { renderJson } from "../report/json.ts";
import type { LiveLine } from "../report/live-line.ts";
import { isProgress, makeProgressLog } from "../report/progress-log.ts";
import { STANDARD_ERROR, STANDARD_OUTPUT, writeText } from "../system/output.ts";
import { VERSION, VERSION_LINE } from "../version.ts";
import {
  type Environment,
  type Language,
  type OfflineSettings,
  type Request,
  readRequest,
  type Settings,
} from "./settings.ts";

const EXIT_BUG = 1;
const EXIT_BLOCKED = 3;
const EXIT_AS_BEFORE = 5;
const EXIT_UNKNOWN = 6;
const EXIT_PENDING = 10;

/** What is followed by progress. */
const LONG_WORK: readonly Event["kind"][] = ["backup-started", "migration-started", "restore-started"];

/** Runs one command line to its end. @returns the exit code; never returns where the app took our place */
export async function main(argv: readonly string[], environment: Environment): Promise<number> {
  const request = readRequest(argv, environment);
  const messages = await loadMessages(request.language);
  const console = makeConsole(request, messages);
  try {
    if (request.help) return await printHelp(request.language);
    if (request.version) return printLine(VERSION_LINE);
    if (request.command === "history") {
      const { runHistory } = await import("./history.ts");
      return printLine(runHistory(request.offlineSettings(), messages));
    }
    if (request.command === "backups" || request.command === "verify") {
      return await runOffline(request.offlineSettings(), console, messages);
    }
    const settings = request.settings();
    if (settings.command === "status") return await runStatus(settings, console);
    if (settings.command === "plan") return await runPlan(settings, console);
    if (settings.command === "resolve" || settings.command === "baseline") {
      return await runResolution(settings, console, messages);
    }
    if (settings.command === "backup" || settings.command === "prune") {
      return await runOnBackups(settings, console, messages);
    }
    if (settings.command === "restore") return await runRestoreByHand(settings, console, messages);
    return await runDeploy(settings, environment, console);
  } catch (error) {
    const { addHints } = await import("../migrations/project-hints.ts");
    return console.stop(addHints(error, process.cwd()));
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
  readonly stop: (error: unknown, state?: DatabaseState, exitCode?: number) => number;
}

function makeConsole(request: Request, messages: Messages): Console {
  const isJson = request.logFormat === "json";
  const isLogged = makeProgressLog();
  let live: LiveLine | undefined;
  let hasLoadedLive = false;
  let hasStarted = false;
  let hasWarnedOfClear = false;
  const print = (lines: readonly string[]) => {
    if (lines.length === 0) return;
    live?.erase();
    writeText(STANDARD_ERROR, `${lines.join("\n")}\n`);
  };
  const tell = (event: Event) => {
    if (event.kind === "deploy-started") hasStarted = true;
    // Each session says so, and once is enough.
    if (event.kind === "warning" && event.warning.about === "no-tls") {
      if (hasWarnedOfClear) return;
      hasWarnedOfClear = true;
    }
    if (LONG_WORK.includes(event.kind) && !isJson && !hasLoadedLive) {
      hasLoadedLive = true;
      void loadLiveLine().then((line) => {
        live = line;
      });
    }
    if (!isProgress(event) || isLogged(event, live !== undefined)) {
      print(isJson ? [renderJson(event.kind, event, new Date())] : renderEvent(event, messages));
    }
    if (isProgress(event)) live?.show(renderLive(event, messages));
  };
  const stop = (error: unknown, knownState?: DatabaseState, knownCode?: number): number => {
    if (!isDeployError(error)) {
      print([messages.labels.bug, error instanceof Error ? (error.stack ?? error.message) : String(error)]);
      return EXIT_BUG;
    }
    const exitCode = knownCode ?? exitCodeOfError(error);
    const state: DatabaseState = knownState ?? stateOfError(error);
    if (isJson) print([renderJson("stopped", { error, state, exitCode }, new Date())]);
    else print([...renderStop(error, messages), ...renderError(error, state, exitCode, messages)]);
    if (hasStarted) tell({ kind: "deploy-failed" });
    return exitCode;
  };
  const finish = (outcome: Outcome) => {
    if (!("failure" in outcome)) return;
    const exitCode = exitCodeOf(outcome);
    const instructions = outcome.kind === "unresolved" ? renderInstructions(outcome, messages) : [];
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

/** Without one nothing is lost. */
async function loadLiveLine(): Promise<LiveLine | undefined> {
  try {
    const { openLiveLine } = await import("../report/live-line.ts");
    return openLiveLine(STANDARD_ERROR, process.env.TERM);
  } catch {
    return undefined;
  }
}

async function runDeploy(settings: Settings, environment: Environment, console: Console): Promise<number> {
  const interruption = listenForSignals();
  const watched = watchDeploy(settings, console.tell);
  const operations = makeOperations({
    settings,
    environment: settings.childEnvironment,
    resolvesSwaps: true,
    tell: watched.tell,
    signal: interruption.signal,
  });
  let outcome: Outcome;
  try {
    const { migrateEngine: engine, onPartial, maintenance } = settings;
    const options = { version: VERSION, engine, dryRun: false, onPartial, maintenance };
    outcome = await deploy(options, operations, watched.tell);
  } finally {
    await operations.close();
    await watched.stop();
    interruption.stop();
  }
  console.finish(outcome);
  const exitCode = exitCodeOf(outcome);
  if (exitCode !== 0) return exitCode;
  if (interruption.signal.aborted) return console.stop(interruption.signal.reason, stateOf(outcome));
  if (settings.appCommand.length === 0) return exitCode;
  console.tell({ kind: "app-starting", command: settings.appCommand });
  const { startApp } = await import("../app/start.ts");
  return await startApp(settings.appCommand, environment);
}

/** Shows a deploy to those who watch the container, from the moment on when it is clear that it takes longer. */
function watchDeploy(settings: Settings, tell: Report): { readonly tell: Report; readonly stop: () => Promise<void> } {
  let liveness: Promise<Liveness> | undefined;
  return {
    tell: (event) => {
      tell(event);
      const takesLonger = event.kind === "work-found" || event.kind === "database-waiting";
      if (takesLonger)
        liveness ??= import("../app/liveness.ts").then((app) =>
          app.startLiveness({ ...settings, tell, now: () => new Date() }),
        );
      void liveness?.then((started) => started.observe(event));
    },
    stop: async () => await (await liveness)?.stop(),
  };
}

async function runStatus(settings: Settings, console: Console): Promise<number> {
  const { readStatus } = await import("./status.ts");
  const interruption = listenForSignals();
  const operations = makeOperations({
    settings,
    environment: settings.childEnvironment,
    tell: console.tell,
    signal: interruption.signal,
  });
  const { renderStatus } = await import("../report/status.ts");
  const report = await readStatus(operations, console.tell).finally(() => operations.close());
  const { status } = report;
  const { target, migrationsDirectory } = settings;
  const place = { target: { ...target, schema: target.schema ?? DEFAULT_SCHEMA }, migrationsDirectory };
  const text = settings.json
    ? JSON.stringify(status)
    : renderStatus({ ...report, ...place }, await loadMessages(settings.language));
  printLine(text);
  if (status.state === "blocked") return EXIT_BLOCKED;
  return status.state === "up-to-date" ? 0 : EXIT_PENDING;
}

/** What is refused is told as of a deploy, and leaves no plan to print. */
async function runPlan(settings: Settings, console: Console): Promise<number> {
  const events: Event[] = [];
  const tell = (event: Event) => {
    events.push(event);
    console.tell(event);
  };
  const { signal } = listenForSignals();
  const operations = makeOperations({ settings, environment: settings.childEnvironment, tell, signal });
  const { migrateEngine: engine, onPartial, maintenance } = settings;
  const options = { version: VERSION, engine, dryRun: true, onPartial, maintenance };
  await deploy(options, operations, tell).finally(() => operations.close());
  if (!settings.json) return 0;
  const { makePlanReport } = await import("../report/plan.ts");
  return printLine(JSON.stringify(makePlanReport(events, engine)));
}

async function runResolution(settings: Settings, console: Console, messages: Messages): Promise<number> {
  const { runResolve } = await import("./resolve.ts");
  const { signal } = listenForSignals();
  const context = { settings, environment: settings.childEnvironment, tell: console.tell, signal };
  return printLine(await runResolve(settings, context, messages));
}

async function runOnBackups(settings: Settings, console: Console, messages: Messages): Promise<number> {
  const { runBackup, runPrune } = await import("./backups.ts");
  const { signal } = listenForSignals();
  const context = { settings, environment: settings.childEnvironment, tell: console.tell, signal };
  const isBackup = settings.command === "backup";
  return printResult(await (isBackup ? runBackup(settings, context) : runPrune(settings, context, messages)));
}

async function runRestoreByHand(settings: Settings, console: Console, messages: Messages): Promise<number> {
  const { hasChangedNothing, runRestore } = await import("./restore.ts");
  const { askLine, hasTerminal } = await import("../system/terminal.ts");
  const { signal } = listenForSignals();
  const context = { settings, environment: settings.childEnvironment, tell: console.tell, signal };
  const ask = () => askLine(`   ${messages.labels.consent}: `, signal);
  try {
    return printResult(await runRestore(settings, context, hasTerminal() ? ask : undefined));
  } catch (error) {
    if (!hasChangedNothing(error)) throw error;
    // What it was told to stop by is the reason, and not how its tools have ended.
    if (signal.aborted) throw signal.reason;
    return console.stop(error, "untouched", EXIT_AS_BEFORE);
  }
}

async function runOffline(settings: OfflineSettings, console: Console, messages: Messages): Promise<number> {
  const { runBackups, runVerify } = await import("./backups.ts");
  if (settings.command === "backups") return printResult(await runBackups(settings, messages, new Date()));
  const { signal } = listenForSignals();
  return printResult(await runVerify(settings, messages, { now: () => new Date(), signal, tell: console.tell }));
}

function printResult({ text, exitCode }: { readonly text: string; readonly exitCode: number }): number {
  printLine(text);
  return exitCode;
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
