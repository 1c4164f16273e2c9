/** Names of objects as parse trees hold them: with their schema where one is written. Pure. */
import { lastName, listOf, nodeOf, type TreeNode, textOf } from "./parse-tree.ts";

export interface Place {
  readonly schema: string | undefined;
  readonly name: string;
}

/** Of a RangeVar. */
export function relationPlaceOf(value: unknown): Place {
  const node = nodeOf(value);
  return { schema: textOf(node?.schemaname) || undefined, name: textOf(node?.relname) };
}

/** Of a list of names, the last of which is the object's own. */
export function schemaOfNames(names: unknown): Pick<Place, "schema"> {
  return { schema: textOf(nodeOf(listOf(names).at(-2)?.String)?.sval) || undefined };
}

export function placeOfNames(names: unknown): Place {
  return { ...schemaOfNames(names), name: lastName(names) };
}

/** Of an object inside of a table, for example a trigger: the last name is its own, the one before the table's. */
export function partPlaceOf(names: unknown): Place & { readonly owner: string } {
  const list = listOf(names);
  return { ...placeOfNames(list.slice(0, -1)), owner: lastName(list.slice(0, -1)), name: lastName(list) };
}

/** @param parameters FunctionParameter or TypeName nodes; undefined for a routine without any */
export function routinePlaceOf(
  names: unknown,
  parameters: unknown,
): Place & { readonly inputTypes: string | undefined } {
  const types = listOf(parameters).flatMap((item) => {
    const parameter = nodeOf(item.FunctionParameter);
    if (/_(OUT|TABLE)$/.test(textOf(parameter?.mode))) return [];
    return [typeNameOf(nodeOf(parameter?.argType) ?? nodeOf(item.TypeName))];
  });
  return { ...placeOfNames(names), inputTypes: types.includes(undefined) ? undefined : types.join(",") };
}

/** As `pg_type.typname` has it. Undefined where the type is that of a column. */
function typeNameOf(node: TreeNode | undefined): string | undefined {
  if (node === undefined || node.pct_type === true) return undefined;
  const name = lastName(node.names);
  return node.arrayBounds === undefined ? name : `_${name}`;
}

/** Those that have a row of `pg_constraint` in every version of the server, under a name that is written here. */
const NAMED_CONSTRAINTS = ["CONSTR_CHECK", "CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_EXCLUSION", "CONSTR_FOREIGN"];

/** Of those that are written with one; the server names the others. */
export function constraintNamesOf(elements: readonly TreeNode[]): string[] {
  return elements.flatMap((element) => {
    const constraint = nodeOf(element.Constraint);
    const name = textOf(constraint?.conname);
    return name !== "" && NAMED_CONSTRAINTS.includes(textOf(constraint?.contype)) ? [name] : [];
  });
}
