/**
 * What the statements of a script do to the catalog, read from their parse trees. Pure.
 *
 * A statement that is not known here, or whose object can't be told, has no effects: nothing is concluded from it.
 */
import { alterEffectsOf } from "./catalog-alterations.ts";
import { type CatalogObject, type Effect, makeObject, type Spread, type StatementEffects } from "./catalog-objects.ts";
import type { ParsedStatement } from "./grammar.ts";
import { codeOf, hasText, lastName, listOf, nodeOf, type TreeNode, textOf } from "./parse-tree.ts";
import { constraintNamesOf, relationPlaceOf, routinePlaceOf, schemaOfNames } from "./tree-names.ts";

const NOTHING: StatementEffects = { effects: [], spreads: [], freesNames: false };

/**
 * The effects of each statement, in the script's order.
 *
 * @param defaultSchema where names without a schema are: a name with that schema is the same object
 */
export function makeScriptEffects(statements: readonly ParsedStatement[], defaultSchema: string): StatementEffects[] {
  // What was done before a ROLLBACK of the script's own is not there, whatever its statements say.
  if (statements.some(isRollback)) return statements.map(() => NOTHING);
  const temporary = new Set<string>();
  let isPathKnown = true;
  const isKnowable = (schema: string | undefined, names: readonly (string | undefined)[]) =>
    schema !== undefined || (isPathKnown && !names.some((name) => name !== undefined && temporary.has(name)));
  const normalise = (schema: string | undefined) => (schema === defaultSchema ? undefined : schema);
  return statements.map((statement) => {
    if (changesPath(statement)) isPathKnown = false;
    const name = temporaryTableOf(statement);
    if (name !== undefined) temporary.add(name);
    const { effects, spreads, freesNames } = effectsOf(statement);
    return {
      effects: effects
        .filter(({ object }) => hasOwnNamespace(object) || isKnowable(object.schema, namesOf(object)))
        .map((effect) => ({ ...effect, object: { ...effect.object, schema: normalise(effect.object.schema) } })),
      spreads: spreads
        .filter((spread) => spread.on !== "parts" || isKnowable(spread.schema, [spread.owner]))
        .map((spread) => ("schema" in spread ? { ...spread, schema: normalise(spread.schema) } : spread)),
      freesNames,
    };
  });
}

function isRollback({ kind, node }: ParsedStatement): boolean {
  return kind === "TransactionStmt" && /^TRANS_STMT_(ROLLBACK|PREPARE)$/.test(textOf(node.kind));
}

function changesPath({ kind, node }: ParsedStatement): boolean {
  if (kind === "VariableSetStmt") return textOf(node.name).toLowerCase() === "search_path";
  return kind === "SelectStmt" && hasText(node, "set_config") && hasText(node, "search_path");
}

/** A temporary table is gone with its session: what a script does to it is nowhere to be found. */
function temporaryTableOf({ node }: ParsedStatement): string | undefined {
  const into = nodeOf(node.into) ?? nodeOf(node.intoClause);
  const relation = nodeOf(into?.rel) ?? nodeOf(node.relation) ?? nodeOf(node.view);
  return relation?.relpersistence === "t" ? textOf(relation.relname) : undefined;
}

function hasOwnNamespace({ kind }: CatalogObject): boolean {
  return kind === "schema" || kind === "extension";
}

function namesOf({ kind, owner, name, table }: CatalogObject): (string | undefined)[] {
  return kind === "relation" ? [name, table] : [owner];
}

function effectsOf(statement: ParsedStatement): StatementEffects {
  const { kind, node } = statement;
  if (kind === "DoStmt") return { ...NOTHING, spreads: [{ on: "named", code: codeOf(node.args) }] };
  return alterEffectsOf(kind, node) ?? { ...NOTHING, ...creationOf(kind, node) };
}

function creationOf(kind: string, node: TreeNode): { effects: Effect[]; spreads?: Spread[] } {
  const isRepeatable = node.if_not_exists === true || node.replace === true;
  const before = isRepeatable ? "any" : "absent";
  const made = (object: CatalogObject): Effect => ({ object, before, after: "present" });
  switch (kind) {
    case "CreateStmt":
      return makeTable(node, before);
    case "CreateForeignTableStmt":
      return makeTable(nodeOf(node.base) ?? {}, nodeOf(node.base)?.if_not_exists === true ? "any" : "absent");
    case "SelectStmt":
    case "CreateTableAsStmt":
      return makeFilledTable(node, before);
    case "IndexStmt":
      return makeIndex(node, before);
    case "ViewStmt": {
      const { schema, name } = relationPlaceOf(node.view);
      return { effects: [{ object: makeObject("relation", name, { schema }), before, after: "view" }] };
    }
    case "CreateSeqStmt": {
      const { schema, name } = relationPlaceOf(node.sequence);
      return { effects: [{ object: makeObject("relation", name, { schema }), before, after: "sequence" }] };
    }
    case "CreateEnumStmt":
      return makeEnum(node);
    case "CompositeTypeStmt": {
      const { schema, name } = relationPlaceOf(node.typevar);
      return { effects: [made(makeObject("type", name, { schema }))] };
    }
    case "CreateDomainStmt":
      return { effects: [made(makeObject("type", lastName(node.domainname), schemaOfNames(node.domainname)))] };
    case "CreateRangeStmt":
      return { effects: [made(makeObject("type", lastName(node.typeName), schemaOfNames(node.typeName)))] };
    case "CreateSchemaStmt":
      return { effects: textOf(node.schemaname) ? [made(makeObject("schema", textOf(node.schemaname)))] : [] };
    case "CreateExtensionStmt":
      return { effects: [made(makeObject("extension", textOf(node.extname)))] };
    case "CreateFunctionStmt":
      return { effects: [made(makeFunction(node))] };
    case "CreateTrigStmt": {
      const { schema, name } = relationPlaceOf(node.relation);
      return { effects: [made(makeObject("trigger", textOf(node.trigname), { schema, owner: name }))] };
    }
    case "CreatePolicyStmt": {
      const { schema, name } = relationPlaceOf(node.table);
      return { effects: [made(makeObject("policy", textOf(node.policy_name), { schema, owner: name }))] };
    }
    default:
      return { effects: [] };
  }
}

function makeTable(node: TreeNode, before: "any" | "absent"): { effects: Effect[]; spreads: Spread[] } {
  const { schema, name } = relationPlaceOf(node.relation);
  const parts = listOf(node.tableElts).flatMap((element) => {
    const column = nodeOf(element.ColumnDef);
    if (column === undefined) return makeConstraints([element], schema, name);
    const own = makeObject("column", textOf(column.colname), { schema, owner: name });
    return [own, ...makeConstraints(listOf(column.constraints), schema, name)];
  });
  return {
    effects: [
      { object: makeObject("relation", name, { schema }), before, after: "table" },
      ...parts.map((object): Effect => ({ object, before, after: "present" })),
    ],
    spreads: [{ on: "parts", schema, owner: name, before, after: "any" }],
  };
}

function makeConstraints(elements: readonly TreeNode[], schema: string | undefined, owner: string): CatalogObject[] {
  return constraintNamesOf(elements).map((name) => makeObject("constraint", name, { schema, owner }));
}

function makeFilledTable(node: TreeNode, before: "any" | "absent"): { effects: Effect[]; spreads?: Spread[] } {
  const into = nodeOf(node.into) ?? nodeOf(node.intoClause);
  if (into === undefined) return { effects: [] };
  const { schema, name } = relationPlaceOf(into.rel);
  const after = node.objtype === "OBJECT_MATVIEW" ? "materialized-view" : "table";
  return {
    effects: [{ object: makeObject("relation", name, { schema }), before, after }],
    spreads: [{ on: "parts", schema, owner: name, before, after: "any" }],
  };
}

/** The server names an index that has no name, so it can't be looked for. */
function makeIndex(node: TreeNode, before: "any" | "absent"): { effects: Effect[] } {
  const { schema, name: table } = relationPlaceOf(node.relation);
  const name = textOf(node.idxname);
  if (name === "") return { effects: [] };
  return { effects: [{ object: makeObject("relation", name, { schema, table }), before, after: "index" }] };
}

function makeEnum(node: TreeNode): { effects: Effect[]; spreads: Spread[] } {
  const owner = lastName(node.typeName);
  const { schema } = schemaOfNames(node.typeName);
  const values = listOf(node.vals).map((item) => textOf(nodeOf(item.String)?.sval));
  const objects = [
    makeObject("type", owner, { schema }),
    ...values.map((value) => makeObject("enum-value", value, { schema, owner })),
  ];
  return {
    effects: objects.map((object): Effect => ({ object, before: "absent", after: "present" })),
    spreads: [{ on: "parts", schema, owner, before: "absent", after: "any" }],
  };
}

function makeFunction(node: TreeNode): CatalogObject {
  const { schema, name, inputTypes } = routinePlaceOf(node.funcname, node.parameters);
  return makeObject("function", name, { schema, inputTypes });
}
