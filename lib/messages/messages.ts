/**
 * What a language has to say: words for every event, warning, error, state and setting problem.
 *
 * A language without one of them is a compile error. Values come in as data; no language sees a secret.
 */
import type { ErrorCode, ErrorFields, RestoreReason, ServerMessage, SettingProblem } from "../errors.ts";
import type { Event, Warning } from "../events.ts";
import type { HeldTables, LockWait, LongWork } from "../migrations/activity.ts";
import type { SegmentReasonKind } from "../migrations/segments.ts";
import type { DatabaseState } from "../outcome.ts";
import type { RecoveryChoices } from "../restore/choices.ts";
import type { Rung } from "../restore/plan.ts";
import type { BackupWords } from "./backups.ts";
import type { DiagnosisWords, ResolutionWords } from "./diagnosis.ts";
import { formatBytes, formatDuration } from "./format.ts";
import type { HintKind } from "./hints.ts";
import type { HistoryWords } from "./history.ts";

/** A line of the log; `detail` lines stand indented under the specification's own. */
export type Line = string | { readonly detail: string };

export interface ErrorWords {
  /** What happened, one line. */
  readonly summary: string;
  /** What the server or the tool said, where that helps. */
  readonly details?: readonly string[];
  /** What to do, one to three things, commands ready to copy. */
  readonly next: readonly string[];
}

export interface Messages {
  readonly events: { readonly [K in Event["kind"]]: (event: Extract<Event, { kind: K }>) => readonly Line[] };
  readonly warnings: {
    readonly [K in Warning["about"]]: (warning: WarningAbout<K>) => readonly string[];
  };
  readonly errors: { readonly [C in ErrorCode]: (fields: ErrorFields[C]) => ErrorWords };
  /** What is true of the database now, with whether the app was started. */
  readonly states: { readonly [S in DatabaseState]: string };
  readonly reasons: { readonly [R in RestoreReason]: string };
  readonly rungs: { readonly [R in "rollback" | Rung]: string };
  readonly segmentReasons: { readonly [K in SegmentReasonKind]: string };
  /** What to do about an error of the server, one to three lines. */
  readonly hints: { readonly [K in HintKind]: readonly string[] };
  readonly diagnosis: DiagnosisWords;
  /** How `resolve` and `baseline` ended. */
  readonly resolution: ResolutionWords;
  readonly backups: BackupWords;
  readonly history: HistoryWords;
  readonly settingProblem: (problem: SettingProblem) => string;
  readonly labels: {
    readonly stopped: (summary: string) => string;
    readonly state: string;
    readonly next: string;
    readonly code: (code: string, exitCode: number) => string;
    readonly bug: string;
    /** Asks for the name of the database that is to be restored. */
    readonly consent: string;
    readonly usage: string;
    readonly commands: string;
    readonly settings: string;
    readonly default: string;
    readonly required: string;
    readonly exitCodes: string;
  };
  /** What a person can choose after a deploy that could not be undone: commands, and what they cost. */
  readonly choices: {
    readonly restore: (choices: RecoveryChoices) => readonly string[];
    readonly goOn: (choices: RecoveryChoices) => readonly string[];
    /** Above the commands for PostgreSQL's own tools. */
    readonly byTools: (
      choices: Pick<RecoveryChoices, "againstTools" | "isForAnotherRole"> | undefined,
    ) => readonly string[];
  };
  readonly commandHelp: {
    readonly deploy: string;
    readonly status: string;
    readonly plan: string;
    readonly resolve: string;
    readonly baseline: string;
    readonly backup: string;
    readonly backups: string;
    readonly history: string;
    readonly restore: string;
    readonly verify: string;
    readonly prune: string;
    readonly healthCheck: string;
  };
  readonly status: {
    readonly database: string;
    readonly schema: string;
    readonly found: (count: number) => string;
    readonly applied: (count: number) => string;
    readonly pending: (count: number) => string;
    readonly running: (count: number) => string;
    readonly runningBy: string;
    readonly failed: (count: number) => string;
    readonly rolledBack: (count: number) => string;
    readonly missing: (count: number) => string;
    readonly edited: (count: number) => string;
    readonly late: (count: number) => string;
    readonly lastCommon: string;
    readonly noHistory: string;
    readonly fenced: string;
    readonly upToDate: string;
    readonly blocked: string;
    readonly toApply: string;
  };
}

/** The warning of that kind. `Extract` would find none where one member of the union stands for several kinds. */
export type WarningAbout<K, W = Warning> = W extends { readonly about: infer A } ? (K extends A ? W : never) : never;

/** The server's words on one line each, as psql shows them. They are never translated. */
export function describeServer(server: ServerMessage): string[] {
  const lines = [`${server.message} (${server.sqlState})`];
  if (server.detail !== undefined) lines.push(`DETAIL: ${server.detail}`);
  if (server.hint !== undefined) lines.push(`HINT: ${server.hint}`);
  if (server.where !== undefined) lines.push(`CONTEXT: ${server.where}`);
  return lines;
}

const TABLES_SHOWN_MAX = 3;

/** The tables with the most rows written, and undefined where there are none. */
export function describeChanges(
  { changes = [] }: RecoveryChoices,
  words: { readonly rows: (count: number) => string },
): string | undefined {
  if (changes.length === 0) return undefined;
  const shown = changes.slice(0, TABLES_SHOWN_MAX).map(({ table, rows }) => `${table} ${words.rows(rows)}`);
  return [...shown, ...(changes.length > TABLES_SHOWN_MAX ? ["..."] : [])].join(", ");
}

const BLOCKERS_SHOWN_MAX = 3;

/** A line for each session that is in the way, and one for what it runs. */
export function describeBlockers(
  { blockers }: LockWait,
  words: { readonly unnamed: string; readonly prepared: string; readonly others: string },
): string[] {
  const hiddenCount = Math.max(0, blockers.length - BLOCKERS_SHOWN_MAX);
  return [
    ...blockers.slice(0, BLOCKERS_SHOWN_MAX).flatMap(({ pid, applicationName, state, statement, sinceMs }) => {
      const who = pid === 0 ? [words.prepared] : [`pid ${pid}`, applicationName || words.unnamed];
      const facts = [...who, ...(state === undefined ? [] : [state])];
      const since = sinceMs === undefined ? [] : [formatDuration(sinceMs)];
      return [`    ${[...facts, ...since].join(", ")}`, ...(statement ? [`      ${statement}`] : [])];
    }),
    ...(hiddenCount > 0 ? [`    ${words.others}: ${hiddenCount}`] : []),
  ];
}

/** What PostgreSQL calls it, and how far it is. */
export function describeWork({ command, table, phase, percent }: LongWork): string {
  const what = table === undefined ? command : `${command} ${table}`;
  return `${what}: ${phase}${percent === undefined ? "" : `, ${percent}%`}`;
}

/** Which tables nobody else can use, and what has been written meanwhile. Sizes and percentage are estimates. */
export function describeHeld(
  { tables, grownBytes, percent }: HeldTables,
  words: { readonly held: string; readonly others: string; readonly grown: string; readonly about: string },
): string[] {
  const names = tables.slice(0, TABLES_SHOWN_MAX).map(({ name, sizeBytes }) => {
    return sizeBytes === undefined ? name : `${name} (${words.about} ${formatBytes(sizeBytes)})`;
  });
  const hiddenCount = Math.max(0, tables.length - TABLES_SHOWN_MAX);
  const hidden = hiddenCount === 0 ? [] : [`${words.others}: ${hiddenCount}`];
  const estimate = percent === undefined ? "" : ` (${words.about} ${percent}%)`;
  return [
    ...(names.length === 0 ? [] : [`  ${words.held}: ${[...names, ...hidden].join(", ")}`]),
    ...(grownBytes ? [`  ${words.grown}: ${formatBytes(grownBytes)}${estimate}`] : []),
  ];
}
