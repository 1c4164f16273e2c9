/**
 * The statements that can't run inside of a transaction block, as measured on PostgreSQL 13 to 18. Pure.
 *
 * REINDEX and CLUSTER of a partitioned relation belong here as well, but only the catalog knows which is one: the server
 * refuses them then, and the segment is cut again.
 * @see src/backend/access/transam/xact.c, PreventInTransactionBlock and its callers
 */
import { isOn, listOf, nodeOf, optionOf, type TreeNode, textOf } from "./parse-tree.ts";

export interface OutsideCommand {
  /** In PostgreSQL's words, for example `CREATE INDEX CONCURRENTLY`. */
  readonly command: string;
  /** CONCURRENTLY: it waits for transactions of others without standing in their way. */
  readonly isConcurrent: boolean;
  /**
   * What a failure of this statement, alone, can leave: an invalid index of its own, which can be dropped; nothing that
   * changes a result; or changes that nothing here can undo.
   */
  readonly leaves: "invalid-index" | "nothing" | "changes";
  /** Where it leaves an invalid index: which one that would be. */
  readonly index?: MadeIndex;
}

/** An index that a statement makes: by its name, or by its table where the server chooses the name. */
export type MadeIndex =
  | { readonly kind: "named"; readonly name: string }
  | { readonly kind: "on-table"; readonly table: string }
  /** The twin that REINDEX CONCURRENTLY builds, or the old one under its second name. */
  | { readonly kind: "rebuilt" }
  | { readonly kind: "none" };

/** The statement's name and what its failure leaves, where it can't run inside of a transaction block. */
export function outsideCommandOf(kind: string, node: TreeNode): OutsideCommand | undefined {
  const leavesNothing = (command: string): OutsideCommand => ({ command, isConcurrent: false, leaves: "nothing" });
  const leavesChanges = (command: string): OutsideCommand => ({ command, isConcurrent: false, leaves: "changes" });
  switch (kind) {
    case "IndexStmt":
      return node.concurrent === true ? outsideCreateIndex(node) : undefined;
    case "DropStmt":
      return node.concurrent === true ? concurrently("DROP INDEX", { kind: "none" }) : undefined;
    case "ReindexStmt":
      return outsideReindex(node);
    case "VacuumStmt":
      return node.is_vacuumcmd === true ? leavesNothing("VACUUM") : undefined;
    case "ClusterStmt":
      return node.relation === undefined ? leavesNothing("CLUSTER") : undefined;
    case "DiscardStmt":
      return node.target === "DISCARD_ALL" ? leavesNothing("DISCARD ALL") : undefined;
    case "AlterSystemStmt":
      return leavesNothing("ALTER SYSTEM");
    case "CreatedbStmt":
      return leavesNothing("CREATE DATABASE");
    case "DropdbStmt":
      return leavesChanges("DROP DATABASE");
    case "AlterDatabaseStmt":
      return optionOf(node, "tablespace") === undefined
        ? undefined
        : leavesChanges("ALTER DATABASE ... SET TABLESPACE");
    case "CreateTableSpaceStmt":
      return leavesChanges("CREATE TABLESPACE");
    case "DropTableSpaceStmt":
      return leavesChanges("DROP TABLESPACE");
    case "AlterTableStmt":
      return outsideDetach(node);
    case "TransactionStmt":
      return /_PREPARED$/.test(textOf(node.kind)) ? leavesChanges("COMMIT PREPARED") : undefined;
    default:
      return outsideSubscription(kind, node);
  }
}

function outsideCreateIndex(node: TreeNode): OutsideCommand {
  const name = textOf(node.idxname);
  const table = textOf(nodeOf(node.relation)?.relname);
  const command = node.unique === true ? "CREATE UNIQUE INDEX" : "CREATE INDEX";
  return concurrently(command, name === "" ? { kind: "on-table", table } : { kind: "named", name });
}

function concurrently(command: string, index: MadeIndex): OutsideCommand {
  return { command: `${command} CONCURRENTLY`, isConcurrent: true, leaves: "invalid-index", index };
}

function outsideReindex(node: TreeNode): OutsideCommand | undefined {
  if (isOn(optionOf(node, "concurrently"))) return concurrently("REINDEX", { kind: "rebuilt" });
  const kind = textOf(node.kind).replace("REINDEX_OBJECT_", "");
  return ["SCHEMA", "DATABASE", "SYSTEM"].includes(kind)
    ? { command: `REINDEX ${kind}`, isConcurrent: false, leaves: "nothing" }
    : undefined;
}

function outsideDetach(node: TreeNode): OutsideCommand | undefined {
  const isConcurrent = listOf(node.cmds).some((item) => {
    const command = nodeOf(item.AlterTableCmd);
    return nodeOf(nodeOf(command?.def)?.PartitionCmd)?.concurrent === true;
  });
  if (!isConcurrent) return undefined;
  return { command: "ALTER TABLE ... DETACH PARTITION CONCURRENTLY", isConcurrent, leaves: "changes" };
}

/** A slot on another server can't be rolled back. Whether a subscription has one is in the catalog only. */
function outsideSubscription(kind: string, node: TreeNode): OutsideCommand | undefined {
  const slot = { isConcurrent: false, leaves: "changes" } as const;
  if (kind === "DropSubscriptionStmt") return { command: "DROP SUBSCRIPTION", ...slot };
  if (kind === "CreateSubscriptionStmt") {
    const makesSlot = isOn(optionOf(node, "connect") ?? true) && isOn(optionOf(node, "create_slot") ?? true);
    return makesSlot ? { command: "CREATE SUBSCRIPTION", ...slot } : undefined;
  }
  if (kind !== "AlterSubscriptionStmt") return undefined;
  const action = textOf(node.kind);
  const refreshes =
    /_REFRESH/.test(action) || (/_PUBLICATION$/.test(action) && isOn(optionOf(node, "refresh") ?? true));
  const altersSlot = ["failover", "two_phase"].some((option) => optionOf(node, option) !== undefined);
  return refreshes || altersSlot ? { command: "ALTER SUBSCRIPTION", ...slot } : undefined;
}
