/**
 * What of a script is in the database, concluded from the catalog. Pure.
 *
 * A statement is *applied* where what it makes is found and could not be there without it, *not applied* where it is not
 * found, and otherwise *unknown*: data, for example, says nothing. The verdict goes by what would be wrong to record.
 */
import { makeScriptEffects } from "./catalog-effects.ts";
import type { CatalogObject, FoundState, StatementEffects } from "./catalog-objects.ts";
import { isPossible, makeTimelines, type Timeline } from "./catalog-timeline.ts";
import type { ParsedScript, ParsedStatement } from "./grammar.ts";
import { entriesOf, hasText, type TreeNode, textOf } from "./parse-tree.ts";
import { groupStatements, makeScriptFacts } from "./statements.ts";

export type StatementVerdict = "applied" | "not-applied" | "unknown";

export interface DiagnosedStatement {
  /** Of the file, from 1 on. */
  readonly line: number;
  /** Its beginning, on one line. */
  readonly text: string;
  readonly verdict: StatementVerdict;
}

/** What can be recorded about a migration. */
export type Choice = "applied" | "rolled-back";

export interface Diagnosis {
  readonly migration: string;
  /** Without those that change nothing, such as BEGIN. Empty where the script does not parse or is not there. */
  readonly statements: readonly DiagnosedStatement[];
  /** What the catalog contradicts. */
  readonly contradicted: readonly Choice[];
  readonly proposal: Choice | "restore";
  /** Indexes that a failed CONCURRENTLY has left: they stand in the way of the next try. */
  readonly invalidIndexes: readonly string[];
}

export interface ScriptToDiagnose {
  readonly name: string;
  readonly text: string;
  readonly parsed: ParsedScript;
  /** Its row holds an error: the statement at which it ended was refused. */
  readonly hasError: boolean;
}

export interface Examination {
  /** To be looked up, in this order. */
  readonly objects: readonly CatalogObject[];
  /** @param found the state of each object */
  judge(found: readonly FoundState[]): Diagnosis[];
}

/** @param scripts in the order in which they run: what a later one does to an object is not held against an earlier one */
export function examine(scripts: readonly ScriptToDiagnose[], defaultSchema: string): Examination {
  const placed: PlacedScript[] = [];
  const effects: StatementEffects[] = [];
  for (const script of scripts) {
    const statements = "error" in script.parsed ? [] : script.parsed.statements;
    placed.push({ ...script, statements, first: effects.length });
    effects.push(...makeScriptEffects(statements, defaultSchema));
  }
  const timelines = makeTimelines(effects);
  return {
    objects: timelines.map(({ object }) => object),
    judge(found) {
      const evidence = timelines.map((timeline, index) => ({ timeline, found: found[index] ?? "absent" }));
      return placed.map((script) => judgeScript(script, evidence, effects.length));
    },
  };
}

interface PlacedScript extends ScriptToDiagnose {
  readonly statements: readonly ParsedStatement[];
  /** The position before its first statement. */
  readonly first: number;
}

interface Evidence {
  readonly timeline: Timeline;
  readonly found: FoundState;
}

function judgeScript(script: PlacedScript, evidence: readonly Evidence[], end: number): Diagnosis {
  const { first } = script;
  const last = first + script.statements.length;
  const own = evidence.filter(({ timeline }) => timeline.changes.some((change) => isIn(change.position, first, last)));
  const verdicts = script.statements.flatMap((statement, index) =>
    isNeutral(statement) ? [] : [judgeStatement(statement, script.text, first + index + 1, own, end)],
  );
  const hasApplied = own.some(({ timeline, found }) => !isPossible(timeline, found, { first: 0, last: first }));
  const hasMissing = own.some(({ timeline, found }) => !isPossible(timeline, found, { first: last, last: end }));
  const contradicted: Choice[] = [
    ...(hasMissing ? ["applied" as const] : []),
    ...(hasApplied ? ["rolled-back" as const] : []),
  ];
  return {
    migration: script.name,
    statements: verdicts,
    contradicted,
    proposal: choose(script, verdicts, { hasApplied, hasMissing }),
    invalidIndexes: own.flatMap(({ timeline, found }) => (found === "invalid-index" ? [timeline.object.name] : [])),
  };
}

function isIn(position: number, first: number, last: number): boolean {
  return position > first && position <= last;
}

function judgeStatement(
  statement: ParsedStatement,
  text: string,
  position: number,
  evidence: readonly Evidence[],
  end: number,
): DiagnosedStatement {
  const own = evidence.filter(({ timeline }) =>
    timeline.changes.some((change) => change.isDirect && change.position === position),
  );
  const isThere = own.some(({ timeline, found }) => !isPossible(timeline, found, { first: 0, last: position - 1 }));
  const isMissing = own.some(({ timeline, found }) => !isPossible(timeline, found, { first: position, last: end }));
  // Repeatable, for example IF NOT EXISTS: what it wants is there, whoever made it.
  const isMet = own.length > 0 && own.every(({ timeline }) => isRepeatableAt(timeline, position));
  const verdict =
    isThere === isMissing ? (isMet && !isMissing ? "applied" : "unknown") : isThere ? "applied" : "not-applied";
  return { ...placeOf(statement, text), verdict };
}

/** Whether nothing but this statement says how the object is, and it needs nothing to be so before it. */
function isRepeatableAt({ changes }: Timeline, position: number): boolean {
  return changes.every(({ state, isRepeatable, position: at }) => state === "any" || (isRepeatable && at === position));
}

/**
 * Statements that were committed one by one end somewhere in the script: only what is known of the first or the last one
 * tells where. Those of one transaction are all there or not at all.
 */
function choose(
  { parsed, hasError }: PlacedScript,
  statements: readonly DiagnosedStatement[],
  { hasApplied, hasMissing }: { readonly hasApplied: boolean; readonly hasMissing: boolean },
): Diagnosis["proposal"] {
  // The server parses a script before it runs any of it.
  if ("error" in parsed) return parsed.error.position === undefined ? "restore" : "rolled-back";
  const isOneGroup = groupStatements(makeScriptFacts(parsed).statements).length <= 1;
  if (hasApplied && hasMissing) return "restore";
  if (hasMissing) return isOneGroup || statements[0]?.verdict === "not-applied" ? "rolled-back" : "restore";
  if (hasApplied) return isOneGroup || statements.at(-1)?.verdict === "applied" ? "applied" : "restore";
  // Nothing that could be half, or left: it may run again.
  if (statements.length === 0) return "rolled-back";
  if (statements.every(({ verdict }) => verdict === "applied")) return "applied";
  return isOneGroup && hasError ? "rolled-back" : "restore";
}

/** It leaves nothing in the database. */
function isNeutral({ kind, node }: ParsedStatement): boolean {
  if (kind === "SelectStmt") {
    return node.intoClause === undefined && (!hasField(node, "FuncCall") || hasText(node, "set_config"));
  }
  if (kind === "TransactionStmt") return !textOf(node.kind).endsWith("_PREPARED");
  return ["VariableSetStmt", "VariableShowStmt", "ConstraintsSetStmt", "LockStmt", "DiscardStmt"].includes(kind);
}

/** True where a node of the tree has that field. Not recursive: a tree can be deeper than the stack. */
function hasField(root: TreeNode, name: string): boolean {
  const values: unknown[] = [root];
  for (let value = values.pop(); value !== undefined; value = values.pop()) {
    for (const [key, child] of entriesOf(value)) {
      if (key === name) return true;
      values.push(child);
    }
  }
  return false;
}

const SHOWN_LENGTH = 70;

function placeOf({ start, end }: ParsedStatement, text: string): Pick<DiagnosedStatement, "line" | "text"> {
  const lead = /^(?:\s+|--[^\n]*|\/\*[\s\S]*?\*\/)*/.exec(text.slice(start, end))?.[0].length ?? 0;
  const line = text.slice(0, start + lead).split("\n").length;
  // A value may be a password, or somebody's data.
  const safe = text.slice(start + lead, end).replaceAll(/'(?:[^']|'')*'|\$(\w*)\$[\s\S]*?\$\1\$/g, "'…'");
  const letters = [...safe.trim().replaceAll(/\s+/g, " ")];
  return {
    line,
    text: letters.length > SHOWN_LENGTH ? `${letters.slice(0, SHOWN_LENGTH - 1).join("")}…` : letters.join(""),
  };
}
