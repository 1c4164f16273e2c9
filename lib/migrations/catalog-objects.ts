/** What can be looked up in the catalog, and what a statement says about it. Pure. */

export type RelationKind = "table" | "view" | "materialized-view" | "index" | "sequence";

export type ObjectKind =
  | "relation"
  | "column"
  | "not-null"
  | "constraint"
  | "trigger"
  | "policy"
  | "type"
  | "enum-value"
  | "function"
  | "schema"
  | "extension";

export interface CatalogObject {
  readonly kind: ObjectKind;
  /** Undefined where the search path finds it. */
  readonly schema: string | undefined;
  /** The table or the type that it is part of. */
  readonly owner: string | undefined;
  readonly name: string;
  /** Names of a function's input types, separated by commas. Undefined for any function of that name. */
  readonly inputTypes: string | undefined;
  /** The table that an index is on, where the statement says it. It does not belong to the index's identity. */
  readonly table: string | undefined;
}

/** What a statement needs or leaves. `any`: it says nothing. */
export type ObjectState = "absent" | "present" | "any" | RelationKind;

/** What the catalog says. An index that a failed CONCURRENTLY left is there and does not count. */
export type FoundState = "absent" | "present" | "invalid-index" | RelationKind;

/** What a statement does to an object: how it must be for the statement to succeed, and how it is afterwards. */
export interface Effect {
  readonly object: CatalogObject;
  readonly before: ObjectState;
  readonly after: ObjectState;
}

/** What a statement does to objects that it does not name. */
export type Spread =
  /** Parts of a table or a type, and the indexes on a table. */
  | {
      readonly on: "parts";
      readonly schema: string | undefined;
      readonly owner: string;
      /** All kinds, where it is left out. */
      readonly kinds?: readonly ObjectKind[];
      readonly before: ObjectState;
      readonly after: ObjectState;
    }
  | { readonly on: "schema"; readonly schema: string | undefined; readonly after: ObjectState }
  /** CASCADE: whatever depends on it. */
  | { readonly on: "everything" }
  /** A block of code: whatever it names. */
  | { readonly on: "named"; readonly code: string };

export interface StatementEffects {
  readonly effects: readonly Effect[];
  readonly spreads: readonly Spread[];
  /** Indexes on tables that it does not name may go with it, so that their names are free for others. */
  readonly freesNames: boolean;
}

export function makeObject(
  kind: ObjectKind,
  name: string,
  place: Partial<Pick<CatalogObject, "schema" | "owner" | "inputTypes" | "table">> = {},
): CatalogObject {
  return { kind, name, schema: undefined, owner: undefined, inputTypes: undefined, table: undefined, ...place };
}

export function idOf({ kind, schema, owner, name, inputTypes }: CatalogObject): string {
  return JSON.stringify([kind, schema ?? null, owner ?? null, name, inputTypes ?? null]);
}

export function isAsFound(state: ObjectState, found: FoundState): boolean {
  if (state === "any") return true;
  if (found === "absent" || found === "invalid-index") return state === "absent";
  return state === "present" || state === found;
}
