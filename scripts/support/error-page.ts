/** docs/errors.md, made from the catalogues: every error with its exit code, its words, its cause and its remedy. */
import { type AnyDeployError, DeployError, type ErrorCode } from "../../lib/errors.ts";
import { en } from "../../lib/messages/en.ts";
import { ko } from "../../lib/messages/ko.ts";
import type { ErrorWords, Messages } from "../../lib/messages/messages.ts";
import { exitCodeOfError } from "../../lib/outcome.ts";
import { ERRORS, VALUE } from "../../tests/support/message-samples.ts";
import { CAUSES } from "./error-causes.ts";

const HEAD = `# Errors

Every error says what happened, what is true of the database now, and what to do next; the last line names its code and
the exit code. Made by \`bun run docs\`.

The exit code answers «which state is the database in?». Errors inside a migration end in 5, 6 or 8, by what was found in
the database afterwards.
`;

const CODES = Object.keys(CAUSES) as ErrorCode[];

/** The page, with a line break at the end. */
export function makeErrorPage(): string {
  const index = ["| code | exit code |", "| --- | --- |", ...CODES.map(makeRow)];
  return `${[HEAD, index.join("\n"), ...CODES.map(makeSection)].join("\n").trimEnd()}\n`;
}

function makeRow(code: ErrorCode): string {
  return `| [\`${code}\`](#${code.toLowerCase()}) | ${describeExit(code)} |`;
}

function makeSection(code: ErrorCode): string {
  const [english, korean] = [wordsOf(code, en), wordsOf(code, ko)];
  return [
    `\n## ${code}\n`,
    `> ${english.summary}  `,
    `> ${korean.summary}\n`,
    `${CAUSES[code]}\n`,
    `Exit code ${describeExit(code)}. What to do:\n`,
    ...new Set([...english.next, ...korean.next].map((line) => `- ${line}`)),
  ].join("\n");
}

/** Of the first sample, with dots where a value stands. */
function wordsOf(code: ErrorCode, messages: Messages): ErrorWords {
  const words = messages.errors[code](ERRORS[code][0] as never);
  const clean = (text: string) =>
    text
      .replaceAll(VALUE, "…")
      .replaceAll("4242", "…")
      .replaceAll(/…(?:, …)+/gu, "…")
      .replaceAll("<", "&lt;");
  return { summary: clean(words.summary), next: words.next.map(clean) };
}

function describeExit(code: ErrorCode): string {
  const error = new DeployError(code, ERRORS[code][0] as never) as AnyDeployError;
  if (code === "INTERRUPTED") return "130 (SIGINT), 143 (SIGTERM)";
  const exitCode = exitCodeOfError(error);
  return exitCode === 6 && /^(?:MIGRATION|PRISMA)_/u.test(code) ? "5, 6 or 8" : String(exitCode);
}
