/** The log for people: the specification's lines as they are, everything else indented under them. */
import type { AnyDeployError, ScriptLocation } from "../errors.ts";
import type { Event } from "../events.ts";
import type { Line, Messages } from "../messages/messages.ts";
import type { DatabaseState } from "../outcome.ts";
import { displayWidth } from "../system/text.ts";

const INDENT = "   ";

export function renderEvent(event: Event, messages: Messages): string[] {
  // The union is matched by its own key, which the compiler can't see through.
  const lines = messages.events[event.kind](event as never).map(renderLine);
  return event.kind === "migration-failed" ? [...lines, ...renderFailure(event.error, messages)] : lines;
}

/** What failed inside a migration: the server's words and the place in the script. */
function renderFailure(error: AnyDeployError, messages: Messages): string[] {
  const words = messages.errors[error.code](error.fields as never);
  const location = "location" in error.fields ? error.fields.location : undefined;
  return [words.summary, ...(words.details ?? []), ...(location === undefined ? [] : renderLocation(location))].map(
    (text) => `${INDENT}${text}`,
  );
}

function renderLocation(location: ScriptLocation): string[] {
  const width = String(location.excerpt.at(-1)?.line ?? location.line).length;
  const lines = location.excerpt.flatMap(({ line, text }) => {
    const shown = `${String(line).padStart(width)} | ${text}`;
    if (line !== location.line) return [shown];
    // Tabs stay tabs, so that the caret stands under its column whatever their width.
    const before = [...text].slice(0, location.column - 1).map((letter) => (letter === "\t" ? "\t" : " "));
    return [shown, `${" ".repeat(width)} | ${before.join("")}^`];
  });
  return [`${location.path}:${location.line}:${location.column}`, ...lines.map((line) => `  ${line}`)];
}

/** The block at the end: state, next steps, code. `instructions` are commands for the person who takes over. */
export function renderError(
  error: AnyDeployError,
  state: DatabaseState,
  exitCode: number,
  messages: Messages,
  instructions: readonly string[] = [],
): string[] {
  const { labels } = messages;
  const words = messages.errors[error.code](error.fields as never);
  const next = [...words.next, ...instructions];
  const continuation = " ".repeat(displayWidth(labels.next) + 2);
  return [
    `${labels.state}  ${messages.states[state]}`,
    ...next.map((line, index) => (index === 0 ? `${labels.next}  ${line}` : `${continuation}${line}`)),
    labels.code(error.code, exitCode),
  ].map((text) => `${INDENT}${text}`);
}

/** Summary and details of an error that stopped the deploy before it migrated. */
export function renderStop(error: AnyDeployError, messages: Messages): string[] {
  const words = messages.errors[error.code](error.fields as never);
  const location = "location" in error.fields && error.fields.location ? renderLocation(error.fields.location) : [];
  return [
    messages.labels.stopped(words.summary),
    ...[...(words.details ?? []), ...location].map((text) => `${INDENT}${text}`),
  ];
}

function renderLine(line: Line): string {
  return typeof line === "string" ? line : `${INDENT}${line.detail}`;
}
