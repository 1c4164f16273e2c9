/** The findings of a health check as one line for people, or as JSON in the shape of NestJS Terminus. */
import { type AnyDeployError, isDeployError } from "../errors.ts";
import type { UrlFailure } from "../health/url.ts";
import type { Finding, UnreadyMigrations } from "../health.ts";
import { formatDuration } from "../messages/format.ts";
import type { HealthMessages } from "../messages/health-messages.ts";
import type { Messages } from "../messages/messages.ts";

/** With its line break. Enough for a glance, and little enough for whoever keeps the last ones. */
export const LINE_BYTES_MAX = 200;

const JSON_NAMES_MAX = 10;
const ELLIPSIS = "…";

/** What a language needs: the words of errors are loaded where there are errors only. */
export interface HealthWords {
  readonly health: HealthMessages;
  readonly readMessages: () => Promise<Messages>;
}

/** A failure that is no finding: wrong settings, the deadline, a bug. */
export interface HealthFailure {
  readonly check: "settings" | "deadline" | "bug";
  readonly message: string;
}

/** One line without its break: what is wrong, or everything that was found. */
export async function renderHealthLine(findings: readonly Finding[], words: HealthWords): Promise<string> {
  const wrong = findings.filter(({ isHealthy }) => !isHealthy);
  const shown = await Promise.all((wrong.length > 0 ? wrong : findings).map((finding) => describe(finding, words)));
  const { healthy, unhealthy } = words.health;
  return clipLine(`${wrong.length > 0 ? unhealthy : healthy}: ${shown.join("; ")}`);
}

export function renderFailureLine(failure: HealthFailure, words: HealthWords): string {
  return clipLine(`${words.health.unhealthy}: ${failure.message}`);
}

/** One line of printable text that is short enough, whatever a server has said. */
export function clipLine(text: string): string {
  const line = text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").trim();
  const encoder = new TextEncoder();
  const bytesMax = LINE_BYTES_MAX - 1;
  if (encoder.encode(line).length <= bytesMax) return line;
  let clipped = "";
  let bytes = encoder.encode(ELLIPSIS).length;
  for (const character of line) {
    bytes += encoder.encode(character).length;
    if (bytes > bytesMax) break;
    clipped += character;
  }
  return clipped + ELLIPSIS;
}

async function describe(finding: Finding, words: HealthWords): Promise<string> {
  const { health } = words;
  if ("error" in finding) return await describeError(finding.error, finding.user, words);
  switch (finding.check) {
    case "deploy":
      return describeDeploy(finding, health);
    case "database":
      return "fence" in finding ? health.fenced : health.databaseAnswers(formatDuration(finding.durationMs));
    case "migrations":
      return finding.isHealthy ? health.applied(finding.applied) : describeMigrations(finding, health);
    case "url": {
      const answer =
        "httpStatus" in finding ? `HTTP ${finding.httpStatus}` : describeUrlFailure(finding.reason, health);
      return `${describeUrl(finding.url)} ${answer}`;
    }
  }
}

function describeDeploy(finding: Extract<Finding, { check: "deploy" }>, health: HealthMessages): string {
  if (finding.state === "none") return health.noDeploy;
  if (finding.state === "stale") return health.stale(formatDuration(finding.ageMs));
  const { step = "?", detail, stepMs = finding.ageMs } = finding;
  const word = Object.hasOwn(health.steps, step) ? health.steps[step as keyof HealthMessages["steps"]] : step;
  return health.deploying(detail === undefined ? word : `${word} ${detail}`, formatDuration(stepMs));
}

function describeMigrations(finding: UnreadyMigrations, health: HealthMessages): string {
  const { failed, running, pending, lockHeld } = finding;
  const parts = [
    ...(failed.length > 0 ? [`${health.failed(failed.length)}: ${failed.join(", ")}`] : []),
    ...(running.length > 0 ? [`${health.running(running.length)}: ${running.join(", ")}`] : []),
    ...(pending.length > 0
      ? [`${health.pending(pending.length)}${lockHeld ? ` ${health.lockHeld}` : ""}: ${pending.join(", ")}`]
      : []),
  ];
  return parts.join("; ");
}

function describeUrlFailure(failure: UrlFailure, health: HealthMessages): string {
  switch (failure.kind) {
    case "timeout":
      return health.timeout(formatDuration(failure.deadlineMs));
    case "closed":
      return health.closed;
    case "not-http":
      return health.notHttp;
    case "system":
      return failure.code;
  }
}

/** What may be shown of a URL: no credentials, and no query, where tokens are. */
function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

const INSUFFICIENT_PRIVILEGE = "42501";
const PLAIN_IDENTIFIER = /^[a-z_][a-z0-9_$]*$/;

/** The words of the catalogue, with the first of what the server or the system said. Never a password. */
async function describeError(error: AnyDeployError, user: string, words: HealthWords): Promise<string> {
  if (error.code === "HISTORY_UNREADABLE" && error.fields.server.sqlState === INSUFFICIENT_PRIVILEGE) {
    return words.health.mayNotRead(PLAIN_IDENTIFIER.test(user) ? user : JSON.stringify(user));
  }
  const messages = await words.readMessages();
  const { summary, details = [] } = messages.errors[error.code](error.fields as never);
  return [summary, ...details.slice(0, 1)].join(": ");
}

/** All that is wrong with the settings in one text. */
export async function describeSettings(error: AnyDeployError, words: HealthWords): Promise<string> {
  const messages = await words.readMessages();
  const { summary, details = [] } = messages.errors[error.code](error.fields as never);
  return `${summary}: ${details.join("; ")}`;
}

/** One line. Each check appears once, in `info` or in `error`, and again in `details`, as Terminus does. */
export async function renderHealthJson(findings: readonly Finding[], words: HealthWords): Promise<string> {
  const up: Record<string, unknown> = {};
  const down: Record<string, unknown> = {};
  for (const finding of findings) {
    const { check, isHealthy, ...rest } = finding;
    const facts = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, makeJsonValue(value)]));
    const message = clipLine(await describe(finding, words));
    (isHealthy ? up : down)[check] = { status: isHealthy ? "up" : "down", message, ...facts };
  }
  return makeTerminusJson(up, down);
}

export function renderFailureJson(failure: HealthFailure): string {
  return makeTerminusJson({}, { [failure.check]: { status: "down", message: clipLine(failure.message) } });
}

function makeTerminusJson(up: Record<string, unknown>, down: Record<string, unknown>): string {
  const status = Object.keys(down).length > 0 ? "error" : "ok";
  return JSON.stringify({ status, info: up, error: down, details: { ...up, ...down } });
}

function makeJsonValue(value: unknown): unknown {
  if (value instanceof URL) return describeUrl(value);
  if (isDeployError(value)) return value.code;
  if (typeof value === "number") return Math.round(value);
  if (!Array.isArray(value) || value.length <= JSON_NAMES_MAX) return value;
  return [...value.slice(0, JSON_NAMES_MAX), `... (+${value.length - JSON_NAMES_MAX})`];
}
