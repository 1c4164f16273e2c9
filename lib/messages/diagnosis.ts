/** The words for what was found of a migration in the database, and for how it is recorded. Pure. */
import type { ErrorCode, FailedMigration } from "../errors.ts";
import type { Diagnosis, StatementVerdict } from "../migrations/diagnosis.ts";
import { displayWidth, padDisplay } from "../system/text.ts";
import { formatList } from "./format.ts";
import type { Messages } from "./messages.ts";

export interface DiagnosisWords {
  readonly verdicts: { readonly [V in StatementVerdict]: string };
  readonly proposals: { readonly [P in Diagnosis["proposal"]]: string };
  readonly noStatements: string;
  readonly noScript: string;
  readonly invalidIndex: (name: string) => string;
}

export interface ResolutionWords {
  readonly applied: (count: number) => string;
  readonly rolledBack: (count: number) => string;
  readonly nothing: string;
  readonly dryRun: string;
}

/** Codes whose words are in `resolve-ko.ts` and `resolve-en.ts`. */
export type ResolveErrorCode = Extract<
  ErrorCode,
  "HISTORY_FAILED" | "BASELINE_NEEDED" | "BASELINE_CONTRADICTED" | `RESOLVE_${string}`
>;

export type ResolveErrorWords = Pick<Messages["errors"], ResolveErrorCode>;

/** A line for each statement with what is known of it, and one for the proposal. */
export function describeDiagnosis(diagnosis: Diagnosis, words: DiagnosisWords): string[] {
  const width = Math.max(...Object.values(words.verdicts).map(displayWidth));
  const statements = diagnosis.statements.map(
    ({ verdict, line, text }) => `${padDisplay(words.verdicts[verdict], width)}  ${line}: ${text}`,
  );
  return [
    ...(statements.length === 0 ? [`  ${words.noStatements}`] : formatList(statements)),
    ...diagnosis.invalidIndexes.map((name) => `  ${words.invalidIndex(name)}`),
    `  ${words.proposals[diagnosis.proposal]}`,
  ];
}

/** What is in the database of a failed migration, under its name. */
export function describeFailed({ diagnosis }: FailedMigration, words: DiagnosisWords): string[] {
  return diagnosis === undefined ? [`  ${words.noScript}`] : describeDiagnosis(diagnosis, words);
}
