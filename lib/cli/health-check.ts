/** The edge of `health-check`: flags in, one line out, and an exit code that is 0 or 1 whatever happens. */
import { isDeployError } from "../errors.ts";
import type { Finding } from "../health.ts";
import { STANDARD_OUTPUT, writeText } from "../system/output.ts";
import { type HealthCommand, readHealthCommand } from "./health-settings.ts";
import type { HealthFailure, HealthWords } from "./health-words.ts";
import type { Environment, Language } from "./settings.ts";

const EXIT_HEALTHY = 0;
/** Never 2, which Docker reserves, and no other that Kubernetes could tell apart. */
const EXIT_UNHEALTHY = 1;

/** Runs one check to its end. @returns the exit code */
export async function healthCheck(argv: readonly string[], environment: Environment): Promise<number> {
  // What the driver throws where nobody can catch it must not make a code of its own.
  process.on("uncaughtException", () => process.exit(EXIT_UNHEALTHY));
  const command = await readHealthCommand(argv, environment);
  if (command.help) return await printHelp(command.language);
  if (command.version) return printLine((await import("../version.ts")).VERSION_LINE);
  const result = await Promise.race([check(command), failAfter(command.timeoutMs)]);
  const isHealthy = !("check" in result) && result.every((finding) => finding.isHealthy);
  if (!isHealthy || !command.quiet) printLine(await render(result, command));
  return isHealthy ? EXIT_HEALTHY : EXIT_UNHEALTHY;
}

type Result = readonly Finding[] | Failure;

/** Like HealthFailure, before it has words. */
type Failure =
  | { readonly check: "settings" | "bug"; readonly error: unknown }
  | { readonly check: "deadline"; readonly deadlineMs: number };

async function check(command: HealthCommand): Promise<Result> {
  try {
    const request = await command.readRequest();
    const { checkHealth } = await import("../health.ts");
    return await checkHealth(request, new Date());
  } catch (error) {
    return { check: isDeployError(error) ? "settings" : "bug", error };
  }
}

/** The last word: no part of a check that hangs may outlive the orchestrator's patience. */
function failAfter(deadlineMs: number): Promise<Result> {
  return new Promise((resolve) => {
    setTimeout(() => resolve({ check: "deadline", deadlineMs }), deadlineMs);
  });
}

async function render(result: Result, command: HealthCommand): Promise<string> {
  const { renderFailureJson, renderFailureLine, renderHealthJson, renderHealthLine } = await import(
    "./health-words.ts"
  );
  const words = await loadWords(command.language);
  if (!("check" in result)) {
    return command.json ? await renderHealthJson(result, words) : await renderHealthLine(result, words);
  }
  const failure: HealthFailure = { check: result.check, message: await describeFailure(result, words) };
  return command.json ? renderFailureJson(failure) : renderFailureLine(failure, words);
}

async function describeFailure(failure: Failure, words: HealthWords): Promise<string> {
  if (failure.check === "deadline") {
    const { formatDuration } = await import("../messages/format.ts");
    return words.health.timeout(formatDuration(failure.deadlineMs));
  }
  const { error } = failure;
  if (!isDeployError(error)) return `${words.health.bug}: ${error instanceof Error ? error.message : String(error)}`;
  const { describeSettings } = await import("./health-words.ts");
  return await describeSettings(error, words);
}

async function loadWords(language: Language): Promise<HealthWords> {
  if (language === "ko") {
    const { healthKo } = await import("../messages/health-ko.ts");
    return { health: healthKo, readMessages: async () => (await import("../messages/ko.ts")).ko };
  }
  const { healthEn } = await import("../messages/health-en.ts");
  return { health: healthEn, readMessages: async () => (await import("../messages/en.ts")).en };
}

async function printHelp(language: Language): Promise<number> {
  const { makeHealthHelp } = await import("./health-help.ts");
  return printLine(makeHealthHelp(language));
}

function printLine(text: string): number {
  writeText(STANDARD_OUTPUT, `${text}\n`);
  return EXIT_HEALTHY;
}
