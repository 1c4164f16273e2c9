/**
 * What must be known about a script before it may share a transaction with others, read from its parse tree. Pure.
 */
import { enumEventsOf } from "./enum-statements.ts";
import type { EnumEvent } from "./enum-values.ts";
import type { ParsedScript, ParsedStatement, ParseError } from "./grammar.ts";
import { type OutsideCommand, outsideCommandOf } from "./outside-statements.ts";
import { codeOf, hasText, languageOf, listOf, nodeOf, type TreeNode, textOf } from "./parse-tree.ts";

/** A statement that matters, with its place in UTF-16 units. */
export interface Spot {
  /** What it is, in PostgreSQL's words, for example `CREATE INDEX CONCURRENTLY`. */
  readonly command: string;
  readonly start: number;
}

export interface OutsideStatement extends Spot, OutsideCommand {}

export interface StatementPlace {
  /** Offsets in UTF-16 units; the end lies before the semicolon. */
  readonly start: number;
  readonly end: number;
  /** It opens or closes a transaction block. */
  readonly control: "open" | "close" | undefined;
  /** It can't run inside of a transaction block. */
  readonly outside: OutsideStatement | undefined;
}

/** A transaction of the script's own. */
export interface Block {
  readonly open: StatementPlace;
  readonly close: StatementPlace;
}

export interface ScriptFacts {
  readonly parseError: ParseError | undefined;
  readonly statements: readonly StatementPlace[];
  /** The first statement that can't run inside of a transaction block. */
  readonly outside: OutsideStatement | undefined;
  /**
   * Its own transactions, where each is a plain BEGIN ... COMMIT and nothing in the script needs the COMMIT: the words
   * may be blanked. Undefined where it has none, or others.
   */
  readonly blocks: readonly Block[] | undefined;
  /** All of it is one transaction block of its own, if not a plain one. */
  readonly isOneBlock: boolean;
  /** The first transaction control that can't be blanked. */
  readonly control: Spot | undefined;
  /** A procedure or a block of code that may commit. */
  readonly mayCommit: Spot | undefined;
  /** It sets properties of its own transaction. Those of a read-only one or of a snapshot can't be shared with us. */
  readonly setsTransaction: (Spot & { readonly canBeOurs: boolean }) | undefined;
  /** It leaves something that lasts until the end of its transaction and would reach the next script. */
  readonly lastsUntilCommit: Spot | undefined;
  readonly enumEvents: readonly EnumEvent[];
}

/** Reads the facts of one script. */
export function makeScriptFacts(parsed: ParsedScript): ScriptFacts {
  const statements = "error" in parsed ? [] : parsed.statements;
  const places = statements.map(placeOf);
  const isOneBlock = isWhollyOneBlock(statements, places);
  const lastsUntilCommit = findSpot(statements, lastingCommand);
  const plainBlocks = findPlainBlocks(statements, places);
  // What ends with an inner transaction would reach the rest of the script.
  const needsCommit = plainBlocks !== undefined && (lastsUntilCommit !== undefined || statements.some(setsLocally));
  const blocks = isOneBlock || !needsCommit ? plainBlocks : undefined;
  return {
    parseError: "error" in parsed ? parsed.error : undefined,
    statements: places,
    outside: places.find((place) => place.outside !== undefined)?.outside,
    blocks,
    isOneBlock,
    control: blocks === undefined ? findSpot(statements, transactionCommand) : undefined,
    mayCommit: findSpot(statements, committingCommand),
    setsTransaction: findSetTransaction(statements),
    lastsUntilCommit,
    enumEvents: statements.flatMap(enumEventsOf),
  };
}

/** The text with the words of its own BEGIN and COMMIT blanked: every character stays at its place. */
export function makeSendText(text: string, facts: ScriptFacts): string {
  let sendText = "";
  let at = 0;
  for (const { start, end } of (facts.blocks ?? []).flatMap(({ open, close }) => [open, close])) {
    sendText += text.slice(at, start) + blank(text.slice(start, end));
    at = end;
  }
  return sendText + text.slice(at);
}

/** Statements that stand or fall together: one alone, or all from a BEGIN to its end. */
export function groupStatements(statements: readonly StatementPlace[]): StatementPlace[][] {
  const groups: StatementPlace[][] = [];
  let isInside = false;
  for (const statement of statements) {
    if (isInside) groups.at(-1)?.push(statement);
    else groups.push([statement]);
    if (statement.control !== undefined) isInside = statement.control === "open";
  }
  return groups;
}

/** One space for each character, so that positions given by the server stay right; line breaks stay. */
function blank(text: string): string {
  return text.replaceAll(/[^\r\n]/gu, " ");
}

function placeOf(statement: ParsedStatement): StatementPlace {
  const { kind, node, start, end } = statement;
  const outside = outsideCommandOf(kind, node);
  return {
    start,
    end,
    control: kind === "TransactionStmt" ? controlOf(textOf(node.kind)) : undefined,
    outside: outside === undefined ? undefined : { ...outside, start },
  };
}

function controlOf(kind: string): StatementPlace["control"] {
  if (kind === "TRANS_STMT_BEGIN" || kind === "TRANS_STMT_START") return "open";
  return /^TRANS_STMT_(COMMIT|ROLLBACK|PREPARE)$/.test(kind) ? "close" : undefined;
}

/** The script as one transaction block: opened first, committed last, neither in between. Savepoints are inside of it. */
function isWhollyOneBlock(statements: readonly ParsedStatement[], places: readonly StatementPlace[]): boolean {
  const last = statements.at(-1);
  if (places[0]?.control !== "open" || last === undefined || !isPlain(last, "TRANS_STMT_COMMIT")) return false;
  const inner = statements.slice(1, -1).filter(({ kind }) => kind === "TransactionStmt");
  return inner.every(({ node }) => SAVEPOINT_KINDS.includes(textOf(node.kind)));
}

/** Undefined where the script has no block, or control that is not a plain BEGIN ... COMMIT. */
function findPlainBlocks(
  statements: readonly ParsedStatement[],
  places: readonly StatementPlace[],
): readonly Block[] | undefined {
  const blocks: Block[] = [];
  let open: StatementPlace | undefined;
  for (const [index, statement] of statements.entries()) {
    const place = places[index];
    if (statement.kind !== "TransactionStmt" || place === undefined) continue;
    const isInside = open !== undefined;
    if (!isInside && isPlain(statement, "TRANS_STMT_BEGIN", "TRANS_STMT_START")) {
      open = place;
    } else if (open !== undefined && isPlain(statement, "TRANS_STMT_COMMIT")) {
      blocks.push({ open, close: place });
      open = undefined;
    } else if (!isInside || !SAVEPOINT_KINDS.includes(textOf(statement.node.kind))) {
      return undefined;
    }
  }
  return open === undefined && blocks.length > 0 ? blocks : undefined;
}

/** Without an isolation level or another option, and without AND CHAIN. */
function isPlain({ kind, node }: ParsedStatement, ...kinds: readonly string[]): boolean {
  if (kind !== "TransactionStmt" || node.options !== undefined || node.chain === true) return false;
  return kinds.includes(textOf(node.kind));
}

const SAVEPOINT_KINDS = ["TRANS_STMT_SAVEPOINT", "TRANS_STMT_RELEASE", "TRANS_STMT_ROLLBACK_TO"];

function findSpot(
  statements: readonly ParsedStatement[],
  commandOf: (statement: ParsedStatement) => string | undefined,
): Spot | undefined {
  for (const statement of statements) {
    const command = commandOf(statement);
    if (command !== undefined) return { command, start: statement.start };
  }
  return undefined;
}

function transactionCommand({ kind, node }: ParsedStatement): string | undefined {
  if (kind !== "TransactionStmt") return undefined;
  return textOf(node.kind)
    .replace(/^TRANS_STMT_/, "")
    .replaceAll("_", " ");
}

/** A lone CALL or DO may commit; inside of a block, or beside others, the server refuses its COMMIT (2D000). */
function committingCommand({ kind, node }: ParsedStatement): string | undefined {
  if (kind === "CallStmt") return "CALL";
  return kind === "DoStmt" && mayCommit(codeOf(node.args), languageOf(node.args)) ? "DO" : undefined;
}

/** Other languages commit by functions, for example `plpy.commit()`. A called procedure may commit as well. */
function mayCommit(code: string, language: string): boolean {
  const text = language === "plpgsql" ? code.replaceAll(/--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'/g, " ") : code;
  return /commit|rollback|\bcall\b/i.test(text.replaceAll(/\bon\s+commit\b/gi, " "));
}

/** Settings that end with their transaction. */
function setsLocally({ kind, node }: ParsedStatement): boolean {
  if (kind === "VariableSetStmt") return node.is_local === true || setTransactionNames(node).length > 0;
  if (kind === "DoStmt") return /\bset\s+local\b|\bset_config\b/i.test(codeOf(node.args));
  return hasText(node, "set_config");
}

/** Settings and temporary tables that end with a transaction, and would end later when it is shared. */
function lastingCommand({ kind, node }: ParsedStatement): string | undefined {
  if (kind === "ConstraintsSetStmt") return node.constraints === undefined ? "SET CONSTRAINTS ALL" : undefined;
  if (kind === "DoStmt") return /\bset\s+constraints\b/i.test(codeOf(node.args)) ? "DO" : undefined;
  const into = nodeOf(node.into) ?? nodeOf(node.intoClause);
  const onCommit = textOf(node.oncommit ?? into?.onCommit);
  return onCommit === "ONCOMMIT_DROP" || onCommit === "ONCOMMIT_DELETE_ROWS" ? "ON COMMIT" : undefined;
}

const TRANSACTION_SETTINGS = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

function findSetTransaction(statements: readonly ParsedStatement[]): ScriptFacts["setsTransaction"] {
  const found = statements.filter(
    ({ kind, node }) => kind === "VariableSetStmt" && setTransactionNames(node).length > 0,
  );
  const [first] = found;
  if (first === undefined) return undefined;
  const names = found.flatMap(({ node }) => setTransactionNames(node));
  const canBeOurs = !names.some((name) => name === "transaction_read_only" || name === "transaction snapshot");
  return { command: "SET TRANSACTION", start: first.start, canBeOurs };
}

/** Which properties of its transaction a SET changes. */
function setTransactionNames(node: TreeNode): readonly string[] {
  const name = textOf(node.name);
  if (name === "TRANSACTION SNAPSHOT" || TRANSACTION_SETTINGS.includes(name.toLowerCase())) return [name.toLowerCase()];
  if (name !== "TRANSACTION") return [];
  return listOf(node.args).map((argument) => textOf(nodeOf(argument.DefElem)?.defname));
}
