/** Reading PostgreSQL's parse trees as libpg-query renders them: absent fields are zero, false or empty. Pure. */

/** A node of the parse tree: its fields under the names of PostgreSQL's C structures. */
export type TreeNode = Readonly<Record<string, unknown>>;

/** The value of an option in parentheses: its text, or true where it stands without one. */
export function optionOf(node: TreeNode, name: string): string | boolean | undefined {
  for (const item of [...listOf(node.options), ...listOf(node.params)]) {
    const element = nodeOf(item.DefElem);
    if (element === undefined || textOf(element.defname) !== name) continue;
    const argument = nodeOf(element.arg);
    if (argument === undefined) return true;
    const [type, value] = Object.entries(argument)[0] ?? [];
    if (type === "Boolean") return nodeOf(value)?.boolval === true;
    if (type === "Integer") return nodeOf(value)?.ival !== undefined;
    // A word without quotes could be a type as well, for all that the grammar knows.
    if (type === "TypeName") return lastName(nodeOf(value)?.names);
    return textOf(nodeOf(value)?.sval);
  }
  return undefined;
}

/** @see src/backend/commands/define.c, defGetBoolean */
export function isOn(value: string | boolean | undefined): boolean {
  return typeof value === "string" ? !["false", "off", "0"].includes(value.toLowerCase()) : value === true;
}

/** The name without its schema. */
export function lastName(names: unknown): string {
  return textOf(nodeOf(listOf(names).at(-1)?.String)?.sval);
}

export function codeOf(elements: unknown): string {
  const argument = argumentOf(elements, "as");
  const parts = nodeOf(argument?.List)?.items;
  return parts === undefined
    ? textOf(nodeOf(argument?.String)?.sval)
    : listOf(parts)
        .map((part) => textOf(nodeOf(part.String)?.sval))
        .join("\n");
}

export function languageOf(elements: unknown): string {
  const name = nodeOf(argumentOf(elements, "language")?.String)?.sval;
  return name === undefined ? "plpgsql" : textOf(name).toLowerCase();
}

function argumentOf(elements: unknown, name: string): TreeNode | undefined {
  for (const item of listOf(elements)) {
    const element = nodeOf(item.DefElem);
    if (element?.defname === name) return nodeOf(element.arg);
  }
  return undefined;
}

/** True where the tree holds that text. Not recursive: a tree can be deeper than the stack. */
export function hasText(root: TreeNode, text: string): boolean {
  const values: unknown[] = [root];
  for (let value = values.pop(); value !== undefined; value = values.pop()) {
    if (value === text) return true;
    for (const [, child] of entriesOf(value)) values.push(child);
  }
  return false;
}

/** The fields of a node, or the elements of a list. */
export function entriesOf(value: unknown): readonly [string, unknown][] {
  return typeof value === "object" && value !== null ? Object.entries(value) : [];
}

export function nodeOf(value: unknown): TreeNode | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as TreeNode) : undefined;
}

export function listOf(value: unknown): readonly TreeNode[] {
  return Array.isArray(value) ? (value as TreeNode[]) : [];
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
