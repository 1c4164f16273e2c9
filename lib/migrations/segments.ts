/**
 * Cuts the pending scripts into segments: as many whole migrations as possible share ONE transaction. Pure.
 *
 * A script is merged only where that can't change what it means. What only the server can know (a partitioned table
 * behind REINDEX, a new enum value behind a default) is cut again by `splitSegment` when the server has refused it.
 */
import { type EnumState, type EnumUse, followEnums, NO_ENUM_CHANGES } from "./enum-values.ts";
import type { MigrationScript } from "./folder.ts";
import { lineAt } from "./script-location.ts";
import { makeSendText, type ScriptFacts, type Spot } from "./statements.ts";

export interface AnalysedScript extends MigrationScript {
  readonly facts: ScriptFacts;
}

export interface PlannedScript extends AnalysedScript {
  /** What the server gets: the file's text, in an atomic segment with the words of its own BEGIN and COMMIT blanked. */
  readonly sendText: string;
}

/**
 * `atomic`: all of it, its rows included, in one transaction of ours. `alone`: one script, sent whole as Prisma sends it,
 * outside of any transaction of ours. `statement-by-statement`: one script, as Prisma 7.4 and later send it.
 */
export type SegmentMode = "atomic" | "alone" | "statement-by-statement";

export type SegmentReasonKind =
  | "not-parsed"
  | "outside-transaction"
  | "transaction-control"
  | "may-commit"
  | "sets-transaction"
  | "enum-value"
  | "lasts-until-commit"
  | "refused-by-server";

/** Why a segment begins or ends where it does, or is not atomic. */
export interface SegmentReason {
  readonly kind: SegmentReasonKind;
  readonly migration: string;
  /** The statement in PostgreSQL's words, the enum value, or the SQLSTATE of the refusal. */
  readonly subject: string;
  /** 1-based line of the migration's script. Undefined where no statement is to blame. */
  readonly line: number | undefined;
}

export interface Segment {
  /** Exactly one, unless atomic. */
  readonly scripts: readonly PlannedScript[];
  readonly mode: SegmentMode;
  readonly reasons: readonly SegmentReason[];
  /** A failure, or our death, could leave a part of the migration that only a restore can undo. */
  readonly couldBeHalfApplied: boolean;
  /** Its only script sets properties of its transaction: nothing may be asked between BEGIN and the script. */
  readonly setsTransaction: boolean;
}

/** Why the server refused an atomic segment. */
export interface Refusal {
  /** Index of the script that failed. */
  readonly index: number;
  readonly sqlState: string;
  readonly message: string;
}

/** Cuts scripts, in the order in which they run. */
export function makeSegments(scripts: readonly AnalysedScript[], serverVersionNumber: number): Segment[] {
  const segments: Segment[] = [];
  let open: AnalysedScript[] = [];
  let reasons: SegmentReason[] = [];
  let enums = NO_ENUM_CHANGES;
  const close = () => {
    if (open.length > 0) segments.push(makeAtomic(open, reasons));
    open = [];
    reasons = [];
    enums = NO_ENUM_CHANGES;
  };
  for (const script of scripts) {
    const single = makeSingle(script, serverVersionNumber);
    if (single !== undefined) {
      close();
      segments.push(single);
      continue;
    }
    const use = useIn(script, enums, serverVersionNumber);
    if (use !== undefined) {
      close();
      reasons.push(makeReason("enum-value", script, use.value, use.start));
    }
    open.push(script);
    enums = followEnums(enums, script.facts.enumEvents, serverVersionNumber).state;
    if (script.facts.lastsUntilCommit !== undefined) {
      reasons.push(reasonAt("lasts-until-commit", script, script.facts.lastsUntilCommit));
      close();
    }
  }
  close();
  return segments;
}

/**
 * A smaller plan for an atomic segment that the server has refused, after it was rolled back. Undefined where the merge
 * is not to blame, so that the script would fail alone as well.
 */
export function splitSegment(segment: Segment, refusal: Refusal, serverVersionNumber: number): Segment[] | undefined {
  const { scripts } = segment;
  const { index, sqlState } = refusal;
  const failed = scripts[index];
  if (segment.mode !== "atomic" || segment.setsTransaction || failed === undefined) return undefined;
  const reason = makeReason("refused-by-server", failed, sqlState, undefined);
  const atomic = (part: readonly PlannedScript[]) => (part.length > 0 ? [makeAtomic(part, [reason])] : []);
  const halved = (at: number) => [...atomic(scripts.slice(0, at)), ...atomic(scripts.slice(at))];
  if (sqlState === OUT_OF_MEMORY) return scripts.length > 1 ? halved(Math.ceil(scripts.length / 2)) : undefined;
  const isFirst = index === 0;
  const isOwnValue = sqlState === UNSAFE_NEW_ENUM_VALUE && addsValueIn(failed, refusal.message);
  const needsCommit = sqlState === OBJECT_IN_USE || sqlState === UNSAFE_NEW_ENUM_VALUE;
  if (needsCommit && !isFirst && !isOwnValue) return halved(index);
  if (!couldWorkUnmerged(failed.facts, sqlState)) return undefined;
  // A lone statement is a REINDEX or CLUSTER of a partitioned table, or code that commits.
  const isLone = failed.facts.statements.length === 1;
  const couldBeHalfApplied = !isLone || sqlState === INVALID_TRANSACTION_TERMINATION;
  const mode = isLone ? "alone" : needsCommit ? modeWithCommits(failed.facts) : "statement-by-statement";
  return [
    ...atomic(scripts.slice(0, index)),
    makeSingleSegment(failed, mode, reason, couldBeHalfApplied),
    ...makeSegments(scripts.slice(index + 1), serverVersionNumber),
  ];
}

/** Whether the script, sent as Prisma sends it, gets past what the server has refused in a transaction of ours. */
function couldWorkUnmerged(facts: ScriptFacts, sqlState: string): boolean {
  if (facts.isOneBlock) return false;
  const hasInnerBlocks = facts.blocks !== undefined;
  const isLone = facts.statements.length === 1;
  switch (sqlState) {
    case ACTIVE_SQL_TRANSACTION:
    case INVALID_TRANSACTION_TERMINATION:
      return true;
    case UNSAFE_NEW_ENUM_VALUE:
      return !isLone;
    case OBJECT_IN_USE:
      return hasInnerBlocks;
    default:
      return false;
  }
}

const OUT_OF_MEMORY = "53200";
const OBJECT_IN_USE = "55006";
const UNSAFE_NEW_ENUM_VALUE = "55P04";
const ACTIVE_SQL_TRANSACTION = "25001";
const INVALID_TRANSACTION_TERMINATION = "2D000";

/** The segment of a script that can't share one; undefined for a script that may be merged. */
function makeSingle(script: AnalysedScript, serverVersionNumber: number): Segment | undefined {
  const { facts } = script;
  if (facts.parseError !== undefined) {
    const reason = makeReason("not-parsed", script, facts.parseError.message, undefined);
    return makeSingleSegment(script, "alone", reason, true);
  }
  if (facts.outside !== undefined) return makeOutside(script);
  const isLone = facts.statements.length === 1;
  if (facts.mayCommit !== undefined && isLone) {
    return makeSingleSegment(script, "alone", reasonAt("may-commit", script, facts.mayCommit), true);
  }
  if (facts.control !== undefined) {
    const reason = reasonAt("transaction-control", script, facts.control);
    return makeSingleSegment(script, "alone", reason, !facts.isOneBlock);
  }
  if (facts.setsTransaction !== undefined) {
    const reason = reasonAt("sets-transaction", script, facts.setsTransaction);
    if (!facts.setsTransaction.canBeOurs) return makeSingleSegment(script, "alone", reason, false);
    return { ...makeAtomic([script], [reason]), setsTransaction: true };
  }
  const use = facts.isOneBlock ? undefined : useIn(script, NO_ENUM_CHANGES, serverVersionNumber);
  if (use === undefined) return undefined;
  return makeSingleSegment(
    script,
    modeWithCommits(facts),
    makeReason("enum-value", script, use.value, use.start),
    true,
  );
}

/** What lets the script commit in between: its own transactions where it has some, else one for each statement. */
function modeWithCommits(facts: ScriptFacts): "alone" | "statement-by-statement" {
  return facts.blocks === undefined ? "statement-by-statement" : "alone";
}

/** Outside of any transaction when it is alone, statement by statement beside others: it can't work otherwise. */
function makeOutside(script: AnalysedScript): Segment {
  const { facts } = script;
  const { outside } = facts;
  if (outside === undefined) throw new Error("the script has no statement that must run outside of a transaction");
  const reason = reasonAt("outside-transaction", script, outside);
  if (facts.statements.length === 1) return makeSingleSegment(script, "alone", reason, outside.leaves === "changes");
  // Inside of its own block the server refuses the statement, and the block with it.
  if (facts.isOneBlock) return makeSingleSegment(script, "alone", reason, false);
  return makeSingleSegment(script, "statement-by-statement", reason, true);
}

function makeAtomic(scripts: readonly AnalysedScript[], reasons: readonly SegmentReason[]): Segment {
  return {
    scripts: scripts.map((script) => ({ ...script, sendText: makeSendText(script.text, script.facts) })),
    mode: "atomic",
    reasons,
    couldBeHalfApplied: false,
    setsTransaction: false,
  };
}

function makeSingleSegment(
  script: AnalysedScript,
  mode: "alone" | "statement-by-statement",
  reason: SegmentReason,
  couldBeHalfApplied: boolean,
): Segment {
  const scripts = [{ ...script, sendText: script.text }];
  return { scripts, mode, reasons: [reason], couldBeHalfApplied, setsTransaction: false };
}

function useIn(script: AnalysedScript, before: EnumState, serverVersionNumber: number): EnumUse | undefined {
  return followEnums(before, script.facts.enumEvents, serverVersionNumber).use;
}

/** True when the value that the server names, in whichever quotes its language has, is one that the script itself adds. */
function addsValueIn(script: AnalysedScript, message: string): boolean {
  const names = message.split(/["'«»„“”「」]/);
  return script.facts.enumEvents.some((event) => event.kind === "add" && names.includes(event.value));
}

function reasonAt(kind: SegmentReasonKind, script: AnalysedScript, spot: Spot): SegmentReason {
  return makeReason(kind, script, spot.command, spot.start);
}

function makeReason(
  kind: SegmentReasonKind,
  script: AnalysedScript,
  subject: string,
  start: number | undefined,
): SegmentReason {
  const line = start === undefined ? undefined : lineAt(script.text, start);
  return { kind, migration: script.name, subject, line };
}
