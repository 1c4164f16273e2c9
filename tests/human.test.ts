/** The log for people keeps its shape, whatever a server, a script or a folder puts into it. */
import { expect, test } from "bun:test";
import { DeployError, type ScriptLocation, type ServerMessage } from "../lib/errors.ts";
import type { Event } from "../lib/events.ts";
import { en } from "../lib/messages/en.ts";
import { ko } from "../lib/messages/ko.ts";
import { renderError, renderEvent, renderLive, renderStop } from "../lib/report/human.ts";

const server: ServerMessage = {
  sqlState: "23505",
  message: "could not create unique index",
  detail: undefined,
  hint: undefined,
  position: undefined,
  where: undefined,
};

function failure(location: ScriptLocation | undefined, changes: Partial<ServerMessage> = {}) {
  const fields = { migration: "m", path: "prisma/migrations/m/migration.sql", server: { ...server, ...changes } };
  return new DeployError("MIGRATION_FAILED", { ...fields, location });
}

function linesOf(event: Event): string[] {
  return renderEvent(event, en);
}

test.each([
  ["a line break", "one\ntwo", ["   NOTICE: one", "     two"]],
  ["a line break of Windows", "one\r\ntwo\r\n", ["   NOTICE: one", "     two"]],
  ["a carriage return alone", "one\rtwo", ["   NOTICE: one", "     two"]],
  ["an empty line", "one\n\ntwo", ["   NOTICE: one", "", "     two"]],
  ["an indentation of its own", "one\n  two", ["   NOTICE: one", "       two"]],
  ["what would clear the screen", "one\u001B[2Jtwo", ["   NOTICE: one<U+001B>[2Jtwo"]],
  ["what would turn the text around", "one\u202Etwo", ["   NOTICE: one<U+202E>two"]],
  ["a byte order mark", "one\uFEFFtwo", ["   NOTICE: one<U+FEFF>two"]],
  ["a tab", "one\ttwo", ["   NOTICE: one\ttwo"]],
])("a notice with %s stays under its line", (_, message, lines) => {
  expect(linesOf({ kind: "notice", severity: "NOTICE", message })).toEqual(lines);
});

test("a line of the specification keeps to one line", () => {
  const lines = linesOf({ kind: "backup-finished", path: "/a\nb", sizeBytes: 1, durationMs: 1 });
  expect(lines.slice(0, 2)).toEqual(["✅ PostgreSQL backup finished: /a", "     b"]);
});

test("what the server says in several lines stays under the failure", () => {
  const error = failure(undefined, { detail: "view a depends on it\nview b depends on it" });
  const lines = linesOf({ kind: "migration-failed", error });
  expect(lines).toEqual([
    "❌ Migration failed!",
    "   Failed migration: m",
    "   could not create unique index (23505)",
    "   DETAIL: view a depends on it",
    "     view b depends on it",
  ]);
  expect(renderStop(error, en).at(-1)).toBe("     view b depends on it");
});

test("the script is named also where no statement is to blame", () => {
  const lines = renderError(failure(undefined), "as-before", 5, en);
  expect(lines[1]).toBe("   Next   Fix: prisma/migrations/m/migration.sql");
});

test("the block at the end names the line, and what to do", () => {
  const location = { path: "p", line: 7, column: 1, excerpt: [] };
  const lines = renderError(failure(location), "as-before", 5, ko);
  expect(lines.slice(1, 3)).toEqual([
    "   다음  고칠 곳: prisma/migrations/m/migration.sql:7",
    `         ${ko.hints["duplicate-key"][0]}`,
  ]);
});

function excerptOf(text: string, column: number): string[] {
  const location = { path: "p", line: 1, column, excerpt: [{ line: 1, text }] };
  return linesOf({ kind: "migration-failed", error: failure(location) }).slice(-2);
}

test.each([
  ["plain", "SELECT x", 8, ["     1 | SELECT x", "       |        ^"]],
  ["behind letters of two columns", "SELECT '한글', x", 14, ["     1 | SELECT '한글', x", "       |                ^"]],
  ["behind a tab", "\tx", 2, ["     1 | \tx", "       | \t^"]],
  ["behind a control", "\u001Bx", 2, ["     1 | <U+001B>x", "       |         ^"]],
])("the caret stands under its column: %s", (_, text, column, lines) => {
  expect(excerptOf(text, column)).toEqual(lines);
});

test("a line that is too long is cut around the column", () => {
  const [shown = "", caret = ""] = excerptOf(`${"a".repeat(5_000_000)}X${"b".repeat(5_000_000)}`, 5_000_001);
  expect(shown).toMatch(/^ {5}1 \| …a{80}Xb{79}…$/);
  expect(caret.length - 1).toBe(shown.indexOf("X"));
});

test("on a terminal, all of an event is one line", () => {
  const blocker = { pid: 42, applicationName: "psql", state: "active", statement: "SELECT 1", sinceMs: 2_000 };
  const event: Event = {
    kind: "migration-progress",
    name: "m",
    number: 1,
    total: 2,
    runningMs: 41_000,
    elapsedMs: 41_000,
    waiting: { waitedMs: 3_200, blockers: [blocker] },
    work: undefined,
    held: undefined,
  };
  expect(renderLive(event, en)).toBe(
    "   Running: m (1/2), 41.0s · Waiting for a lock, 3.2s, held by: · pid 42, psql, active, 2.0s · SELECT 1",
  );
});
