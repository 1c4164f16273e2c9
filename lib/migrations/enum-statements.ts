/** What the statements of a script do with enum types, read from the parse tree. Pure. */
import type { EnumEvent, Literal } from "./enum-values.ts";
import type { ParsedStatement } from "./grammar.ts";
import { codeOf, entriesOf, languageOf, lastName, listOf, nodeOf, type TreeNode, textOf } from "./parse-tree.ts";

/** At most one event for a statement; none where it neither changes an enum type nor holds a string. */
export function enumEventsOf({ kind, node, start }: ParsedStatement): EnumEvent[] {
  switch (kind) {
    case "CreateEnumStmt":
      return [{ kind: "create", type: lastName(node.typeName) }];
    case "AlterEnumStmt":
      if (node.oldVal !== undefined) return [];
      return [{ kind: "add", type: lastName(node.typeName), value: textOf(node.newVal) }];
    case "RenameStmt": {
      if (node.renameType !== "OBJECT_TYPE") return [];
      const names = nodeOf(nodeOf(node.object)?.List)?.items;
      return [{ kind: "rename", from: lastName(names), to: textOf(node.newname) }];
    }
    case "DropStmt": {
      if (node.removeType !== "OBJECT_TYPE") return [];
      const types = listOf(node.objects).map((item) => lastName(nodeOf(item.TypeName)?.names));
      return [{ kind: "drop", types }];
    }
    // The value of a setting is never an enum's.
    case "VariableSetStmt":
      return [];
    default: {
      const literals = literalsOf(kind, node);
      return literals.length === 0 ? [] : [{ kind: "use", literals, start }];
    }
  }
}

/** Every string constant of a statement that the server may read as a value of an enum type. */
function literalsOf(kind: string, node: TreeNode): Literal[] {
  const literals = collectLiterals(node);
  if (kind === "DoStmt") literals.push({ text: codeOf(node.args), types: [], place: "code" });
  // A body in SQL is analysed when it is created, one in another language when it is called.
  if (kind === "CreateFunctionStmt" && languageOf(node.options) === "sql") {
    literals.push({ text: codeOf(node.options), types: [], place: "code" });
  }
  return literals;
}

/** A part of the tree with what encloses it: the types that it is cast to, or the type of its column. */
interface Part {
  readonly value: unknown;
  readonly types: readonly string[];
  readonly place: "argument" | "value";
}

/** Not recursive: an expression of a generated script can be nested deeper than the stack. */
function collectLiterals(root: TreeNode): Literal[] {
  const found: Literal[] = [];
  const parts: Part[] = [{ value: root, types: [], place: "value" }];
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    const { types, place } = part;
    for (const [key, value] of entriesOf(part.value)) {
      const node = nodeOf(value);
      if (key === "A_Const") {
        const text = nodeOf(node?.sval)?.sval;
        if (typeof text === "string") found.push({ text, types, place });
      } else if (key === "TypeCast") {
        parts.push({ value: node?.arg, types: [...types, typeNameOf(node)], place });
      } else if (key === "ColumnDef") {
        parts.push({ value: node?.raw_default, types: [], place: "value" }, ...constraintParts(node));
      } else if (key === "FuncCall") {
        parts.push({ value, types: [], place: "argument" });
      } else {
        const keepsTypes = Array.isArray(part.value) || key === "A_ArrayExpr" || key === "elements";
        parts.push({ value, types: keepsTypes ? types : [], place });
      }
    }
  }
  return found;
}

/** A column's default is of the column's type, its other constraints are not. */
function constraintParts(column: TreeNode | undefined): Part[] {
  return listOf(column?.constraints).map((item) => {
    const constraint = nodeOf(item.Constraint);
    const types = constraint?.contype === "CONSTR_DEFAULT" ? [typeNameOf(column)] : [];
    return { value: constraint?.raw_expr, types, place: "value" };
  });
}

function typeNameOf(node: TreeNode | undefined): string {
  return lastName(nodeOf(node?.typeName)?.names);
}
