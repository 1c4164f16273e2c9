/** What a database of one's own says of itself, in which every restore is possible. */
import type { RestoreFacts } from "../../lib/restore/facts.ts";
import type { SwapFacts } from "../../lib/restore/swap-facts.ts";

export const FACTS: RestoreFacts = {
  serverVersionNumber: 150018,
  serverVersion: "15.18",
  systemIdentifier: "7300000000000000001",
  isSuperuser: false,
  canCreateSchemas: true,
  largeObjects: 0,
  foreignLargeObjects: 0,
  foreignObjects: [],
  foreignDependents: [],
  foreignWritable: [],
  foreignGrantors: [],
  superuserMade: [],
  notGiveable: [],
  publicationsForAllTables: [],
  extensionsInSchemas: [],
  extensionsWithOwnRestore: [],
  replicationSlots: [],
  subscriptions: 0,
  tables: 100,
  lockCapacity: 6400,
  databaseSizeBytes: 10_000_000,
};

export const SWAP: SwapFacts = {
  isOwner: true,
  canCreateDatabase: true,
  canUseTablespace: true,
  hasMaintenance: true,
  failedDatabases: [],
  preparedTransactions: 0,
  unsettable: [],
  hasForeignGrants: false,
  extensionsToPlace: [],
  extensionsNotCreatable: [],
};
