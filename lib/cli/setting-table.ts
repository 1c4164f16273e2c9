/**
 * Settings as a table: one row each, from which the parser, `--help` and the README's table are made.
 *
 * A flag beats the environment, the environment beats the default. Every problem is collected and reported at once.
 */
import type { SettingExpectation, SettingProblem } from "../errors.ts";
import { redactUrl } from "../postgres/url.ts";
import type { Arguments, FlagSpecification } from "./arguments.ts";

/** How a value is read from text. Durations are held in milliseconds. */
export type SettingKind<T> =
  | { readonly type: "text" }
  | { readonly type: "path" }
  | { readonly type: "duration" }
  | { readonly type: "switch" }
  | { readonly type: "whole-number"; readonly minimum: number }
  | { readonly type: "choice"; readonly values: readonly (T & string)[] };

export interface SettingRow<T> {
  /** Undefined for a setting that has no environment variable. */
  readonly environment: string | undefined;
  /** Without dashes. Undefined for a secret, since argv is public. */
  readonly flag: string | undefined;
  readonly kind: SettingKind<T>;
  /** What is used when nothing is given. */
  readonly default: T;
  /** How the default is shown where it is computed or is empty. */
  readonly defaultShown?: string;
  readonly help: { readonly ko: string; readonly en: string };
}

export type SettingTable<S> = { readonly [K in keyof S]: SettingRow<S[K]> };

export interface Resolved<S> {
  readonly settings: S;
  readonly problems: readonly SettingProblem[];
}

/** The flags of a table, in its order. */
export function flagsOf<S>(table: SettingTable<S>): FlagSpecification[] {
  const flags: FlagSpecification[] = [];
  for (const [, row] of rowsOf(table)) {
    if (row.flag !== undefined) flags.push({ flag: row.flag, takesValue: row.kind.type !== "switch" });
  }
  return flags;
}

/** Reads every setting of the table. A row with a problem keeps its default; the caller must not go on then. */
export function resolveSettings<S>(
  table: SettingTable<S>,
  given: Arguments,
  environment: Readonly<Record<string, string | undefined>>,
): Resolved<S> {
  const problems: SettingProblem[] = [...given.problems];
  const settings: Record<string, unknown> = {};
  for (const [key, row] of rowsOf(table)) {
    const fromFlag = row.flag === undefined ? undefined : given.flags.get(row.flag);
    const variable = row.environment === undefined ? undefined : environment[row.environment];
    // An empty variable is what `docker run -e NAME` and compose files leave behind: not set.
    const text = fromFlag ?? (variable === "" ? undefined : variable);
    settings[key] = row.default;
    if (text === undefined) continue;
    const value = parseSetting(row.kind, text);
    if (isExpectation(value)) {
      const name = fromFlag === undefined ? (row.environment ?? "") : `--${row.flag}`;
      // A connection string that slipped into the wrong variable is still a secret.
      const shown = String(text).includes("://") ? redactUrl(String(text)) : String(text);
      problems.push({ kind: "invalid", name, value: shown, expected: value.expected });
    } else {
      settings[key] = value;
    }
  }
  return { settings: settings as S, problems };
}

export function rowsOf<S>(table: SettingTable<S>): [string, SettingRow<unknown>][] {
  return Object.entries(table) as [string, SettingRow<unknown>][];
}

interface Unexpected {
  readonly expected: SettingExpectation;
}

function isExpectation(value: unknown): value is Unexpected {
  return typeof value === "object" && value !== null && "expected" in value;
}

function parseSetting(kind: SettingKind<unknown>, text: string | true): unknown | Unexpected {
  if (kind.type === "switch") return parseSwitch(text);
  if (text === true || text === "") return { expected: { kind: "text" } };
  if (kind.type === "duration") return parseDuration(text) ?? { expected: { kind: "duration" } };
  if (kind.type === "choice") {
    return kind.values.includes(text as never) ? text : { expected: { kind: "one-of", values: kind.values } };
  }
  if (kind.type === "whole-number") {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
    return value >= kind.minimum ? value : { expected: { kind: "whole-number", minimum: kind.minimum } };
  }
  return text;
}

const SWITCH_VALUES: ReadonlyMap<string, boolean> = new Map([
  ["1", true],
  ["true", true],
  ["yes", true],
  ["0", false],
  ["false", false],
  ["no", false],
]);

function parseSwitch(text: string | true): boolean | Unexpected {
  return text === true
    ? true
    : (SWITCH_VALUES.get(text.toLowerCase()) ?? { expected: { kind: "one-of", values: ["true", "false"] } });
}

const UNIT_MS: Readonly<Record<string, number>> = { "": 1000, ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };

/** The longest that timers and PostgreSQL's timeouts can be, almost 25 days: a longer timer would fire at once. */
const DURATION_MAX_MS = 2 ** 31 - 1;

/** Milliseconds of "500ms", "3s", "15m", "1h"; a number alone is seconds. Undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})(ms|s|min|m|h)?$/.exec(text.trim());
  if (match === null) return undefined;
  const durationMs = Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? Number.NaN);
  return durationMs <= DURATION_MAX_MS ? durationMs : undefined;
}

/** The shortest text that `parseDuration` reads back. */
export function formatDuration(durationMs: number): string {
  for (const unit of ["h", "m", "s"] as const) {
    const unitMs = UNIT_MS[unit] ?? 1;
    if (durationMs >= unitMs && durationMs % unitMs === 0) return `${durationMs / unitMs}${unit}`;
  }
  return `${durationMs}ms`;
}
