/** The log for people: the specification's lines as they are, everything else indented under them. */
import type { AnyDeployError, ScriptLocation } from "../errors.ts";
import type { Event } from "../events.ts";
import type { Line, Messages } from "../messages/messages.ts";
import type { DatabaseState, Outcome } from "../outcome.ts";
import { displayWidth, mayHaveControls, showControls } from "../system/text.ts";

const INDENT = "   ";
/** Of a script's line: a dump in one line would bury everything else. */
const EXCERPT_LENGTH_MAX = 160;

export function renderEvent(event: Event, messages: Messages): string[] {
  // The union is matched by its own key, which the compiler can't see through.
  const lines = messages.events[event.kind](event as never).flatMap(renderLine);
  return event.kind === "migration-failed" ? [...lines, ...renderFailure(event.error, messages)] : lines;
}

/** The same in one line, for a terminal that rewrites it. */
export function renderLive(event: Event, messages: Messages): string {
  return `${INDENT}${renderEvent(event, messages)
    .map((line) => line.trim())
    .join(" · ")}`;
}

/** What failed inside a migration: the server's words and the place in the script. */
function renderFailure(error: AnyDeployError, messages: Messages): string[] {
  const words = messages.errors[error.code](error.fields as never);
  return [words.summary, ...(words.details ?? []), ...renderPlace(error)].flatMap(indent);
}

function renderPlace(error: AnyDeployError): string[] {
  const location = "location" in error.fields ? error.fields.location : undefined;
  return location === undefined ? [] : renderLocation(location);
}

function renderLocation(location: ScriptLocation): string[] {
  const width = String(location.excerpt.at(-1)?.line ?? location.line).length;
  const lines = location.excerpt.flatMap(({ line, text }) => {
    const isFailed = line === location.line;
    const { shown, before } = cutLine(text, isFailed ? location.column : 1);
    const numbered = `${String(line).padStart(width)} | ${shown}`;
    if (!isFailed) return [numbered];
    // Tabs stay tabs, so that the caret stands under its column whatever their width.
    const blanks = before.split("\t").map((part) => " ".repeat(displayWidth(part)));
    return [numbered, `${" ".repeat(width)} | ${blanks.join("\t")}^`];
  });
  return [`${location.path}:${location.line}:${location.column}`, ...lines.map((line) => `  ${line}`)];
}

/** What is shown of a line of a script, and what of that stands before the column. */
function cutLine(text: string, column: number): { readonly shown: string; readonly before: string } {
  const letters = [...text];
  const isLong = letters.length > EXCERPT_LENGTH_MAX;
  const first = isLong ? Math.max(0, column - 1 - EXCERPT_LENGTH_MAX / 2) : 0;
  const end = first + EXCERPT_LENGTH_MAX;
  const head = first > 0 ? "…" : "";
  const show = (from: number, to: number) => showControls(letters.slice(from, to).join(""));
  return {
    shown: `${head}${show(first, end)}${end < letters.length ? "…" : ""}`,
    before: `${head}${show(first, column - 1)}`,
  };
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
  ].flatMap(indent);
}

/** What a person can do where nothing more may be done automatically, as lines for `renderError`. */
export function renderInstructions(
  { choices, instructions }: Pick<Extract<Outcome, { kind: "unresolved" }>, "choices" | "instructions">,
  messages: Messages,
): readonly string[] {
  const words = messages.choices;
  return [
    ...(choices === undefined ? [] : [...words.restore(choices), ...words.goOn(choices)]),
    ...(instructions.length === 0 ? [] : words.byTools(choices)),
    ...instructions,
  ];
}

/** Summary and details of an error that stopped the deploy before it migrated. */
export function renderStop(error: AnyDeployError, messages: Messages): string[] {
  const words = messages.errors[error.code](error.fields as never);
  return [
    ...renderLine(messages.labels.stopped(words.summary)),
    ...[...(words.details ?? []), ...renderPlace(error)].flatMap(indent),
  ];
}

function renderLine(line: Line): string[] {
  if (typeof line !== "string") return indent(line.detail);
  const [first = "", ...rest] = splitLines(line);
  return [first, ...rest.flatMap((text) => indent(`  ${text}`))];
}

/** What others say may be of several lines, each of which belongs under the first. */
function indent(text: string): string[] {
  const [first = "", ...rest] = splitLines(text);
  const depth = " ".repeat(first.length - first.trimStart().length);
  return [`${INDENT}${first}`, ...rest.map((line) => `${INDENT}${depth}  ${line}`)].map((line) => line.trimEnd());
}

function splitLines(text: string): string[] {
  const trimmed = text.trimEnd();
  if (!mayHaveControls(trimmed)) return [trimmed];
  return trimmed.split(/\r\n|[\r\n\u2028\u2029]/).map(showControls);
}
