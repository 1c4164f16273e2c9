/** Which advice fits what the server said about a statement of a migration. Its words are in the catalogues. Pure. */
import type { ServerMessage } from "../errors.ts";

export type HintKind =
  | "not-null"
  | "duplicate-key"
  | "foreign-key"
  | "check"
  | "type-mismatch"
  | "value-not-castable"
  | "value-too-long"
  | "value-out-of-range"
  | "dependent-objects"
  | "permission"
  | "lock-timeout"
  | "deadlock"
  | "disk-full"
  | "out-of-memory"
  | "extension-unavailable"
  | "not-supported"
  | "already-exists"
  | "does-not-exist"
  | "function-missing"
  | "schema-missing"
  | "in-transaction"
  | "enum-value"
  | "cancelled"
  | "syntax"
  | "byte-order-mark";

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const KINDS: Readonly<Record<string, HintKind>> = {
  "0A000": "not-supported",
  "22001": "value-too-long",
  "22003": "value-out-of-range",
  "22007": "value-not-castable",
  "22008": "value-not-castable",
  "22P02": "value-not-castable",
  "23502": "not-null",
  "23503": "foreign-key",
  "23505": "duplicate-key",
  "23514": "check",
  "25001": "in-transaction",
  "2BP01": "dependent-objects",
  "3F000": "schema-missing",
  "40001": "deadlock",
  "40P01": "deadlock",
  "42501": "permission",
  "42601": "syntax",
  "42701": "already-exists",
  "42703": "does-not-exist",
  "42704": "does-not-exist",
  "42710": "already-exists",
  "42723": "already-exists",
  "42804": "type-mismatch",
  "42883": "function-missing",
  "42P01": "does-not-exist",
  "42P06": "already-exists",
  "42P07": "already-exists",
  "53100": "disk-full",
  "53200": "out-of-memory",
  "55P03": "lock-timeout",
  "55P04": "enum-value",
  "57014": "cancelled",
  "58P01": "extension-unavailable",
};

type Said = Pick<ServerMessage, "sqlState" | "message" | "detail" | "routine">;

/** Of server 18 and later, which no longer say which file they have looked for. */
const EXTENSION_ROUTINE = "parse_extension_control_file";

/** The words of a hint for what the server said; none where we know nothing better than the server. */
export function hintLines(server: Said, hints: { readonly [K in HintKind]: readonly string[] }): readonly string[] {
  const kind = chooseHint(server);
  return kind === undefined ? [] : hints[kind];
}

/** By the SQLSTATE, and by what is the same in every language of the server where one SQLSTATE stands for many things. */
export function chooseHint({ sqlState, message, detail = "", routine }: Said): HintKind | undefined {
  const kind = KINDS[sqlState];
  if (kind === "syntax" && message.includes("\uFEFF")) return "byte-order-mark";
  if (kind !== "not-supported") return kind;
  // A missing extension is told by the file that was looked for or who looked, a view by the name of its rule.
  if (detail.includes(".control") || routine === EXTENSION_ROUTINE) return "extension-unavailable";
  return detail.includes("_RETURN") ? "dependent-objects" : kind;
}
