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
  /**
   * What a failure of this statement, alone, can leave: an invalid index of its own, which can be dropped; nothing that
   * changes a result; or changes that nothing here can undo.
   */
  readonly leaves: "invalid-index" | "nothing" | "changes";
}

/** The statement's name and what its failure leaves, where it can't run inside of a transaction block. */
export function outsideCommandOf(kind: string, node: TreeNode): OutsideCommand | undefined {
  const leavesNothing = (command: string): OutsideCommand => ({ command, leaves: "nothing" });
  const leavesChanges = (command: string): OutsideCommand => ({ command, leaves: "changes" });
  switch (kind) {
    case "IndexStmt":
      return node.concurrent === true ? concurrently(`CREATE ${node.unique ? "UNIQUE " : ""}INDEX`) : undefined;
    case "DropStmt":
      return node.concurrent === true ? concurrently("DROP INDEX") : undefined;
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
      return detachesConcurrently(node) ? leavesChanges("ALTER TABLE ... DETACH PARTITION CONCURRENTLY") : undefined;
    case "TransactionStmt":
      return /_PREPARED$/.test(textOf(node.kind)) ? leavesChanges("COMMIT PREPARED") : undefined;
    default:
      return outsideSubscription(kind, node);
  }
}

function concurrently(command: string): OutsideCommand {
  return { command: `${command} CONCURRENTLY`, leaves: "invalid-index" };
}

function outsideReindex(node: TreeNode): OutsideCommand | undefined {
  if (isOn(optionOf(node, "concurrently"))) return concurrently("REINDEX");
  const kind = textOf(node.kind).replace("REINDEX_OBJECT_", "");
  return ["SCHEMA", "DATABASE", "SYSTEM"].includes(kind)
    ? { command: `REINDEX ${kind}`, leaves: "nothing" }
    : undefined;
}

function detachesConcurrently(node: TreeNode): boolean {
  return listOf(node.cmds).some((item) => {
    const command = nodeOf(item.AlterTableCmd);
    return nodeOf(nodeOf(command?.def)?.PartitionCmd)?.concurrent === true;
  });
}

/** A slot on another server can't be rolled back. Whether a subscription has one is in the catalog only. */
function outsideSubscription(kind: string, node: TreeNode): OutsideCommand | undefined {
  const leaves = "changes";
  if (kind === "DropSubscriptionStmt") return { command: "DROP SUBSCRIPTION", leaves };
  if (kind === "CreateSubscriptionStmt") {
    const makesSlot = isOn(optionOf(node, "connect") ?? true) && isOn(optionOf(node, "create_slot") ?? true);
    return makesSlot ? { command: "CREATE SUBSCRIPTION", leaves } : undefined;
  }
  if (kind !== "AlterSubscriptionStmt") return undefined;
  const action = textOf(node.kind);
  const refreshes =
    /_REFRESH/.test(action) || (/_PUBLICATION$/.test(action) && isOn(optionOf(node, "refresh") ?? true));
  const altersSlot = ["failover", "two_phase"].some((option) => optionOf(node, option) !== undefined);
  return refreshes || altersSlot ? { command: "ALTER SUBSCRIPTION", leaves } : undefined;
}
