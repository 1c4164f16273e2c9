/** What ALTER and DROP do to the catalog, read from their parse trees. Pure. */
import {
  type CatalogObject,
  type Effect,
  makeObject,
  type ObjectState,
  type RelationKind,
  type Spread,
  type StatementEffects,
} from "./catalog-objects.ts";
import { lastName, listOf, nodeOf, type TreeNode, textOf } from "./parse-tree.ts";
import {
  constraintNamesOf,
  type Place,
  partPlaceOf,
  placeOfNames,
  relationPlaceOf,
  routinePlaceOf,
} from "./tree-names.ts";

/** Undefined for a statement that neither alters nor drops. */
export function alterEffectsOf(kind: string, node: TreeNode): StatementEffects | undefined {
  switch (kind) {
    case "AlterTableStmt":
      return alterTable(node);
    case "AlterEnumStmt":
      return alterEnum(node);
    case "RenameStmt":
      return rename(node);
    case "AlterObjectSchemaStmt":
      return move(node);
    case "DropStmt":
      return drop(node);
    default:
      return undefined;
  }
}

function alterTable(node: TreeNode): StatementEffects {
  const { schema, name } = relationPlaceOf(node.relation);
  const commands = listOf(node.cmds).flatMap((item): readonly TreeNode[] => {
    const command = nodeOf(item.AlterTableCmd);
    return command === undefined ? [] : [command];
  });
  const spreads: Spread[] = [];
  if (commands.some(({ behavior }) => behavior === "DROP_CASCADE")) spreads.push({ on: "everything" });
  for (const { subtype, name: dropped } of commands) {
    // Indexes and constraints go with their column, and a constraint's index, which has its name, with the constraint.
    if (subtype === "AT_DropColumn") {
      spreads.push({
        on: "parts",
        schema,
        owner: name,
        kinds: ["constraint", "relation"],
        before: "any",
        after: "any",
      });
    }
    if (subtype === "AT_DropConstraint") spreads.push({ on: "named", code: textOf(dropped) });
  }
  const effects = commands.flatMap((command) => alterTableEffects(command, schema, name));
  const isOptional = node.missing_ok === true;
  return {
    effects: effects.map((effect) => (isOptional ? { ...effect, before: "any" } : effect)),
    spreads,
    freesNames: false,
  };
}

function alterTableEffects(command: TreeNode, schema: string | undefined, owner: string): Effect[] {
  const { subtype, missing_ok: isRepeatable } = command;
  const name = textOf(command.name);
  const part = (kind: CatalogObject["kind"], own: string) => makeObject(kind, own, { schema, owner });
  const made = (object: CatalogObject): Effect => ({
    object,
    before: isRepeatable === true ? "any" : "absent",
    after: "present",
  });
  const gone = (object: CatalogObject): Effect => ({
    object,
    before: isRepeatable === true ? "any" : "present",
    after: "absent",
  });
  const definition = nodeOf(command.def);
  switch (subtype) {
    case "AT_AddColumn": {
      const column = nodeOf(definition?.ColumnDef);
      const constraints = constraintNamesOf(listOf(column?.constraints)).map((own) => part("constraint", own));
      return [part("column", textOf(column?.colname)), ...constraints].map(made);
    }
    case "AT_DropColumn":
      return [gone(part("column", name))];
    case "AT_AddConstraint":
      return constraintNamesOf([definition ?? {}]).map((own) => made(part("constraint", own)));
    case "AT_DropConstraint":
      return [gone(part("constraint", name))];
    case "AT_SetNotNull":
      return [{ object: part("not-null", name), before: "any", after: "present" }];
    case "AT_DropNotNull":
      return [{ object: part("not-null", name), before: "any", after: "absent" }];
    default:
      return [];
  }
}

function alterEnum(node: TreeNode): StatementEffects {
  const { schema, name: owner } = placeOfNames(node.typeName);
  const value = (name: unknown) => makeObject("enum-value", textOf(name), { schema, owner });
  const before = node.skipIfNewValExists === true ? "any" : "absent";
  const effects: Effect[] = [{ object: value(node.newVal), before, after: "present" }];
  if (node.oldVal !== undefined) effects.push({ object: value(node.oldVal), before: "present", after: "absent" });
  return { effects, spreads: [], freesNames: false };
}

const RELATIONS: Readonly<Record<string, RelationKind>> = {
  OBJECT_TABLE: "table",
  OBJECT_FOREIGN_TABLE: "table",
  OBJECT_VIEW: "view",
  OBJECT_MATVIEW: "materialized-view",
  OBJECT_INDEX: "index",
  OBJECT_SEQUENCE: "sequence",
};

const PARTS: Readonly<Record<string, CatalogObject["kind"]>> = {
  OBJECT_COLUMN: "column",
  OBJECT_ATTRIBUTE: "column",
  OBJECT_TABCONSTRAINT: "constraint",
  OBJECT_TRIGGER: "trigger",
  OBJECT_POLICY: "policy",
};

const ROUTINES = ["OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_AGGREGATE"];

function rename(node: TreeNode): StatementEffects {
  const type = textOf(node.renameType);
  const from = renamedObject(node, type);
  if (from === undefined) return { effects: [], spreads: [], freesNames: false };
  const to = { ...from, name: textOf(node.newname) };
  return {
    effects: replace(from, to, node.missing_ok === true),
    spreads: [...moveParts(from, to), ...renamedIndex(node, type)],
    freesNames: false,
  };
}

function renamedObject(node: TreeNode, type: string): CatalogObject | undefined {
  const { schema, name } = relationPlaceOf(node.relation);
  const part = PARTS[type];
  if (part !== undefined) return makeObject(part, textOf(node.subname), { schema, owner: name });
  // ALTER TABLE renames views, indexes and sequences as well.
  if (type in RELATIONS) return makeObject("relation", name, { schema });
  if (type === "OBJECT_SCHEMA") return makeObject("schema", textOf(node.subname));
  const names = nodeOf(nodeOf(node.object)?.List)?.items;
  if (type === "OBJECT_TYPE" || type === "OBJECT_DOMAIN")
    return makeObject("type", lastName(names), placeOfNames(names));
  return ROUTINES.includes(type) ? routineOf(nodeOf(nodeOf(node.object)?.ObjectWithArgs)) : undefined;
}

/** An index and the constraint that it belongs to have the same name and are renamed together. */
function renamedIndex(node: TreeNode, type: string): Spread[] {
  const names = type === "OBJECT_INDEX" ? [relationPlaceOf(node.relation).name, textOf(node.newname)] : [];
  return type === "OBJECT_TABCONSTRAINT" || names.length > 0
    ? [{ on: "named", code: [...names, textOf(node.subname), textOf(node.newname)].join(" ") }]
    : [];
}

function replace(from: CatalogObject, to: CatalogObject, isOptional: boolean): Effect[] {
  return [
    { object: from, before: isOptional ? "any" : "present", after: "absent" },
    { object: to, before: isOptional ? "any" : "absent", after: "present" },
  ];
}

function moveParts(from: CatalogObject, to: CatalogObject): Spread[] {
  if (from.kind === "schema") {
    return [from, to].map(({ name }) => ({ on: "schema", schema: name, after: "any" }));
  }
  if (from.kind !== "relation" && from.kind !== "type") return [];
  return [from, to].map(({ schema, name }) => ({ on: "parts", schema, owner: name, before: "any", after: "any" }));
}

function move(node: TreeNode): StatementEffects {
  const { schema, name } = relationPlaceOf(node.relation);
  if (!(textOf(node.objectType) in RELATIONS)) return { effects: [], spreads: [], freesNames: false };
  const from = makeObject("relation", name, { schema });
  const to = { ...from, schema: textOf(node.newschema) };
  return { effects: replace(from, to, node.missing_ok === true), spreads: moveParts(from, to), freesNames: true };
}

function drop(node: TreeNode): StatementEffects {
  const type = textOf(node.removeType);
  const objects = listOf(node.objects).flatMap((item) => droppedObject(item, type) ?? []);
  const before = (): ObjectState => (node.missing_ok === true ? "any" : (RELATIONS[type] ?? "present"));
  const spreads = objects.flatMap(({ kind, schema, name }): Spread[] => {
    if (kind === "schema") return [{ on: "schema", schema: name, after: "absent" }];
    if (kind !== "relation" && kind !== "type") return [];
    return [{ on: "parts", schema, owner: name, before: "any", after: "absent" }];
  });
  if (node.behavior === "DROP_CASCADE") spreads.push({ on: "everything" });
  // Without its types, a function's name stands for whichever there is.
  spreads.push(...objects.filter(isAnyFunction).map(({ name }): Spread => ({ on: "named", code: name })));
  return {
    effects: objects.map((object): Effect => ({ object, before: before(), after: "absent" })),
    spreads,
    freesNames: OWNERS_OF_INDEXES.includes(type) || node.behavior === "DROP_CASCADE",
  };
}

const OWNERS_OF_INDEXES = ["OBJECT_TABLE", "OBJECT_MATVIEW", "OBJECT_SCHEMA"];

function droppedObject(item: TreeNode, type: string): CatalogObject | undefined {
  const names = nodeOf(item.List)?.items;
  const part = PARTS[type];
  if (part !== undefined) {
    const { schema, owner, name } = partPlaceOf(names);
    return makeObject(part, name, { schema, owner });
  }
  const at = (kind: CatalogObject["kind"], { schema, name }: Place) => makeObject(kind, name, { schema });
  if (type in RELATIONS) return at("relation", placeOfNames(names));
  if (type === "OBJECT_TYPE" || type === "OBJECT_DOMAIN") return at("type", placeOfNames(nodeOf(item.TypeName)?.names));
  if (type === "OBJECT_SCHEMA") return makeObject("schema", textOf(nodeOf(item.String)?.sval));
  if (type === "OBJECT_EXTENSION") return makeObject("extension", textOf(nodeOf(item.String)?.sval));
  return ROUTINES.includes(type) ? routineOf(nodeOf(item.ObjectWithArgs)) : undefined;
}

function isAnyFunction({ kind, inputTypes }: CatalogObject): boolean {
  return kind === "function" && inputTypes === undefined;
}

function routineOf(node: TreeNode | undefined): CatalogObject | undefined {
  if (node === undefined) return undefined;
  const { schema, name, inputTypes } = routinePlaceOf(node.objname, node.objfuncargs ?? node.objargs);
  return makeObject("function", name, { schema, inputTypes: node.args_unspecified === true ? undefined : inputTypes });
}
