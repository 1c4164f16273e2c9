/** A position that PostgreSQL gives is found in the file that a person opens: same line, same column, whatever its bytes. */
import { describe, expect, test } from "bun:test";
import { lineAt, makeScriptLocation } from "../lib/migrations/script-location.ts";

describe.each([
  { what: "the first character", text: "SELEC 1", position: 1, line: 1, column: 1 },
  { what: "in the middle of a line", text: "SELECT 1 FROMM t", position: 10, line: 1, column: 10 },
  { what: "the first character of a later line", text: "a\nb\nc", position: 5, line: 3, column: 1 },
  { what: "behind characters of several bytes", text: "-- é한\nSELEC 1", position: 7, line: 2, column: 1 },
  { what: "behind characters of two UTF-16 units", text: "SELECT '𝄞𝄞', x", position: 14, line: 1, column: 14 },
  { what: "on a line after such characters", text: "-- 𝄞\n  SELEC", position: 8, line: 2, column: 3 },
  { what: "with CRLF", text: "a;\r\nb;\r\nSELEC 1", position: 9, line: 3, column: 1 },
  { what: "behind a byte order mark", text: "\uFEFFSELECT 1", position: 1, line: 1, column: 1 },
  { what: "at the end of the text", text: "SELECT (1", position: 10, line: 1, column: 10 },
  { what: "at the end of a text with a last line break", text: "SELECT (1\n", position: 11, line: 2, column: 1 },
  { what: "beyond the end", text: "SELECT", position: 99, line: 1, column: 7 },
  { what: "in an empty text", text: "", position: 1, line: 1, column: 1 },
])("$what", ({ text, position, line, column }) => {
  test(`is line ${line}, column ${column}`, () => {
    const location = makeScriptLocation("m/migration.sql", text, position);
    expect({ line: location.line, column: location.column }).toEqual({ line, column });
    expect(location.path).toBe("m/migration.sql");
  });
});

describe("the excerpt", () => {
  const lines = ["one", "two", "three", "four", "five", "six", "seven"];

  test.each([
    { position: 1, expected: [1, 2, 3] },
    { position: 9, expected: [1, 2, 3, 4, 5] },
    { position: 15, expected: [2, 3, 4, 5, 6] },
    { position: 29, expected: [5, 6, 7] },
  ])("at position $position has the line and two on each side", ({ position, expected }) => {
    const { excerpt } = makeScriptLocation("m", `${lines.join("\n")}\n`, position);
    expect(excerpt.map(({ line }) => line)).toEqual([...expected]);
    expect(excerpt.every(({ line, text }) => text === lines[line - 1])).toBe(true);
  });

  test("leaves carriage returns out", () => {
    const { excerpt } = makeScriptLocation("m", "one\r\ntwo\r\n", 1);
    expect(excerpt).toEqual([
      { line: 1, text: "one" },
      { line: 2, text: "two" },
    ]);
  });

  test("shows the empty last line only where the error is there", () => {
    const at = (position: number) => makeScriptLocation("m", "a (\n", position).excerpt.map(({ line }) => line);
    expect(at(1)).toEqual([1]);
    expect(at(5)).toEqual([1, 2]);
  });
});

test("an offset's line is counted from 1", () => {
  expect([0, 1, 2, 3].map((offset) => lineAt("a\nb\n", offset))).toEqual([1, 1, 2, 2]);
});
