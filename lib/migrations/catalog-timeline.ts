/**
 * How the objects that scripts name look in the catalog after each of their statements, and what that says of the
 * moment at which the catalog was read. Pure.
 *
 * Position 0 is before the first statement, position k behind the k-th one. An object that is found in a state which it
 * has at some positions only rules the others out.
 */
import {
  type CatalogObject,
  type Effect,
  type FoundState,
  idOf,
  isAsFound,
  type ObjectState,
  type Spread,
  type StatementEffects,
} from "./catalog-objects.ts";

export interface Timeline {
  readonly object: CatalogObject;
  /** Before its first change. */
  initial: ObjectState;
  readonly changes: Change[];
}

export interface Change {
  /** The statement that makes it, from 1 on. */
  readonly position: number;
  state: ObjectState;
  /** The statement names the object. */
  readonly isDirect: boolean;
  /** It makes it so whatever it was before, for example by IF NOT EXISTS. */
  readonly isRepeatable: boolean;
}

/** One for each object that a statement names. */
export function makeTimelines(statements: readonly StatementEffects[]): Timeline[] {
  const timelines = new Map<string, Timeline>();
  for (const { object } of statements.flatMap(({ effects }) => effects)) {
    const id = idOf(object);
    const known = timelines.get(id);
    if (known === undefined) timelines.set(id, { object, initial: "any", changes: [] });
    // Only the statement that creates an index says which table it is on.
    else if (object.table !== undefined) timelines.set(id, { ...known, object });
  }
  const all = [...timelines.values()];
  let hasFreedNames = false;
  for (const [index, { effects, spreads, freesNames }] of statements.entries()) {
    const position = index + 1;
    for (const effect of effects) {
      const timeline = timelines.get(idOf(effect.object));
      if (timeline !== undefined) apply(timeline, position, effect, hasFreedNames);
    }
    for (const spread of spreads) {
      for (const timeline of all) if (reaches(spread, timeline.object)) spreadTo(timeline, position, spread);
    }
    hasFreedNames ||= freesNames;
  }
  return all;
}

/** The name of an index may have been that of one that went with another table. */
function apply(timeline: Timeline, position: number, { before, after }: Effect, hasFreedNames: boolean): void {
  const mayHaveBeen = hasFreedNames && before === "absent" && after === "index";
  const change = { position, state: after, isDirect: true, isRepeatable: before === "any" };
  add(timeline, change, mayHaveBeen ? "any" : before);
}

function spreadTo(timeline: Timeline, position: number, spread: Spread): void {
  // What the statement itself says of an object goes before.
  const last = timeline.changes.at(-1);
  if (last?.position === position) return;
  // There is no index yet on a table that is made: of its name, nothing is known.
  if (last === undefined && timeline.object.kind === "relation" && spread.on === "parts") return;
  const after = spread.on === "parts" || spread.on === "schema" ? spread.after : "any";
  add(
    timeline,
    { position, state: after, isDirect: false, isRepeatable: false },
    spread.on === "parts" ? spread.before : "any",
  );
}

/** Where nothing was known of the object until now, this statement says how it has to be before. */
function add(timeline: Timeline, change: Change, before: ObjectState): void {
  const last = timeline.changes.at(-1);
  if (last === undefined) timeline.initial = before;
  else if (last.state === "any" && last.position < change.position) last.state = before;
  timeline.changes.push(change);
}

function reaches(spread: Spread, { kind, schema, owner, name, table }: CatalogObject): boolean {
  switch (spread.on) {
    case "parts":
      return schema === spread.schema && (owner ?? table) === spread.owner && (spread.kinds?.includes(kind) ?? true);
    case "schema":
      return kind !== "schema" && kind !== "extension" && schema === spread.schema;
    case "everything":
      return true;
    case "named":
      return [name, owner, table].some((word) => word !== undefined && holdsWord(spread.code, word));
  }
}

function holdsWord(text: string, word: string): boolean {
  return new RegExp(`(^|[^\\p{L}\\p{N}_])${escapePattern(word)}($|[^\\p{L}\\p{N}_])`, "u").test(text);
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}

/** Whether the object could be found like this at one of the positions from `first` to `last`. */
export function isPossible(
  { initial, changes }: Timeline,
  found: FoundState,
  { first, last }: { readonly first: number; readonly last: number },
): boolean {
  let begin = 0;
  let state = initial;
  for (const change of [...changes, { position: Number.POSITIVE_INFINITY, state: "any" as const }]) {
    const overlaps = begin <= last && change.position - 1 >= first;
    if (overlaps && isAsFound(state, found)) return true;
    begin = change.position;
    state = change.state;
  }
  return false;
}
