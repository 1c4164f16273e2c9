/** Where in a script the server found an error, for the excerpt that is shown. */
import type { ScriptLocation } from "../errors.ts";

const CONTEXT_LINES = 2;

/**
 * The place of a position that PostgreSQL gave for a text.
 *
 * @param position 1-based, in characters: PostgreSQL counts code points, JavaScript's strings UTF-16 units. One past the
 * end of the text is where it finds an unexpected end of input; anything beyond is shown there as well.
 */
export function makeScriptLocation(path: string, text: string, position: number): ScriptLocation {
  const offset = unitOffset(text, position - 1);
  const lines = text.split("\n");
  let index = 0;
  let lineStart = 0;
  while (index < lines.length - 1 && lineStart + (lines[index] ?? "").length < offset) {
    lineStart += (lines[index] ?? "").length + 1;
    index += 1;
  }
  const first = Math.max(0, index - CONTEXT_LINES);
  const excerpt = lines.slice(first, index + CONTEXT_LINES + 1).map((line, at) => ({
    line: first + at + 1,
    text: withoutCarriageReturn(line),
  }));
  // What follows the last line break is no line, unless the error is there.
  const last = excerpt.at(-1);
  if (last?.line === lines.length && last.text === "" && last.line !== index + 1) excerpt.pop();
  return { path, line: index + 1, column: countCharacters(text.slice(lineStart, offset)) + 1, excerpt };
}

/** How many characters (code points) a text has, as PostgreSQL counts them. */
export function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** 1-based line of an offset in UTF-16 units. */
export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

function unitOffset(text: string, characters: number): number {
  let offset = 0;
  for (let left = characters; left > 0 && offset < text.length; left -= 1) {
    offset += (text.codePointAt(offset) ?? 0) > 0xffff ? 2 : 1;
  }
  return offset;
}

function withoutCarriageReturn(line: string): string {
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}
