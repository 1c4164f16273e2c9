/**
 * Enum values that a transaction has added, and the literals that may be one of them.
 *
 * PostgreSQL refuses a value that ALTER TYPE ... ADD VALUE has added until that transaction is committed (55P04). Values
 * that came with CREATE TYPE may be used at once; from 17 on, so may values added to a type of the same transaction.
 * @see src/backend/utils/adt/enum.c, check_safe_enum_use
 */

/** What a statement does to enum types, in the order of the script. Types go by their name without schema. */
export type EnumEvent =
  | { readonly kind: "create"; readonly type: string }
  | { readonly kind: "add"; readonly type: string; readonly value: string }
  | { readonly kind: "rename"; readonly from: string; readonly to: string }
  | { readonly kind: "drop"; readonly types: readonly string[] }
  | { readonly kind: "use"; readonly literals: readonly Literal[]; readonly start: number };

export interface Literal {
  readonly text: string;
  /** Names of the types that it is cast to, or of its column; empty where only the catalog could tell. */
  readonly types: readonly string[];
  /** A body of code, in which the value would stand in quotes; an argument of a function; or any other place. */
  readonly place: "code" | "argument" | "value";
}

/** A value that can't be used before the transaction is committed. */
export interface AddedValue {
  readonly type: string;
  readonly value: string;
}

/** What one transaction has done to enum types so far. */
export interface EnumState {
  readonly added: readonly AddedValue[];
  readonly created: readonly string[];
}

export interface EnumUse extends AddedValue {
  /** Offset of the statement that uses it. */
  readonly start: number;
}

export const NO_ENUM_CHANGES: EnumState = { added: [], created: [] };

/** From 17 on a type's owner transaction may use what it adds. */
const CREATED_TYPES_ARE_FREE_SINCE = 170_000;

/**
 * The state after a script, and the first use of a value that is not committed by then.
 *
 * A literal counts as a use where it equals the value and nothing in the script shows that it is of another type. A use
 * that stays unseen (a default, a function that is called) is refused by the server, and the segment is split then.
 */
export function followEnums(
  before: EnumState,
  events: readonly EnumEvent[],
  serverVersionNumber: number,
): { readonly state: EnumState; readonly use: EnumUse | undefined } {
  let state = before;
  let use: EnumUse | undefined;
  for (const event of events) {
    if (event.kind === "use") use ??= findUse(state.added, event.literals, event.start);
    else state = changeState(state, event, serverVersionNumber);
  }
  return { state, use };
}

function changeState(state: EnumState, event: Exclude<EnumEvent, { kind: "use" }>, version: number): EnumState {
  switch (event.kind) {
    case "create":
      return { ...state, created: [...state.created, event.type] };
    case "add": {
      if (version >= CREATED_TYPES_ARE_FREE_SINCE && state.created.includes(event.type)) return state;
      return { ...state, added: [...state.added, { type: event.type, value: event.value }] };
    }
    case "rename": {
      const renamed = (type: string) => (type === event.from ? event.to : type);
      return {
        added: state.added.map(({ type, value }) => ({ type: renamed(type), value })),
        created: state.created.map(renamed),
      };
    }
    case "drop":
      return {
        added: state.added.filter(({ type }) => !event.types.includes(type)),
        created: state.created.filter((type) => !event.types.includes(type)),
      };
  }
}

function findUse(added: readonly AddedValue[], literals: readonly Literal[], start: number): EnumUse | undefined {
  if (added.length === 0) return undefined;
  for (const entry of added) {
    if (literals.some((literal) => couldBe(literal, entry))) return { ...entry, start };
  }
  return undefined;
}

function couldBe(literal: Literal, { type, value }: AddedValue): boolean {
  if (literal.place === "code") return literal.text.includes(`'${value.replaceAll("'", "''")}'`);
  if (literal.types.length > 0 && !literal.types.includes(type)) return false;
  if (literal.text === value) return true;
  // Paths into JSON are written like arrays; they stand as arguments.
  return (literal.place !== "argument" || literal.types.length > 0) && isElementOf(literal.text, value);
}

/** An array as text, for example `{ADMIN,USER}`; JSON has colons or further braces. */
function isElementOf(text: string, value: string): boolean {
  return /^\{[^{}:]*\}$/.test(text) && text.split(/[{},"]+/).some((element) => element.trim() === value);
}
