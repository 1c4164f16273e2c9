/** Which restore is possible, and from which format: every fact that forbids one, alone. */
import { describe, expect, test } from "bun:test";
import type { RestoreFacts } from "../lib/restore/facts.ts";
import {
  chooseRestore,
  type InPlaceReason,
  type PlainReason,
  type RestorePolicy,
  type SwapReason,
} from "../lib/restore/plan.ts";
import type { SwapFacts } from "../lib/restore/swap-facts.ts";
import { FACTS, SWAP } from "./support/restore-facts.ts";

test("a database of one's own is restored in place from the specification's plain file", () => {
  expect(chooseRestore(FACTS, { format: "auto" })).toEqual({
    rungs: ["in-place"],
    format: "plain",
    why: [],
    reasonsNot: [],
    swapReasonsNot: [],
  });
});

describe("what a plain dump can't restore is taken in the custom format, and asking for plain leaves no restore", () => {
  const cases: readonly (readonly [Partial<RestoreFacts>, PlainReason])[] = [
    [{ largeObjects: 1 }, "large-objects"],
    [{ foreignObjects: ["extension hstore"] }, "foreign-objects"],
    [{ publicationsForAllTables: ["everything"] }, "publications-for-all-tables"],
    [{ extensionsInSchemas: ["hstore"] }, "extensions-in-schemas"],
  ];
  test.each(cases)("%j", (changes, reason) => {
    const facts = { ...FACTS, ...changes };
    expect(chooseRestore(facts, { format: "auto" })).toEqual({
      rungs: ["in-place"],
      format: "custom",
      why: [reason],
      reasonsNot: [],
      swapReasonsNot: [],
    });
    expect(chooseRestore(facts, { format: "custom" }).rungs).toEqual(["in-place"]);
    expect(chooseRestore(facts, { format: "plain" })).toEqual({
      rungs: [],
      format: "plain",
      why: [reason],
      reasonsNot: ["plain-format"],
      swapReasonsNot: [],
    });
  });
});

test("a superuser creates a publication for all tables again", () => {
  const facts = { ...FACTS, isSuperuser: true, publicationsForAllTables: ["everything"] };
  expect(chooseRestore(facts, { format: "auto" }).format).toBe("plain");
});

test("a format that was asked for is taken where it suits", () => {
  expect(chooseRestore(FACTS, { format: "custom" })).toMatchObject({ rungs: ["in-place"], format: "custom", why: [] });
  expect(chooseRestore(FACTS, { format: "plain" })).toMatchObject({ rungs: ["in-place"], format: "plain" });
});

describe("what forbids the restore in place", () => {
  const cases: readonly (readonly [Partial<RestoreFacts>, InPlaceReason])[] = [
    [{ replicationSlots: ["debezium"] }, "replication-slots"],
    [{ subscriptions: 1 }, "subscriptions"],
    [{ tables: 534 }, "too-many-objects"],
    [{ tables: 100, largeObjects: 2600 }, "too-many-objects"],
    [{ extensionsWithOwnRestore: ["timescaledb"] }, "extensions-with-own-restore"],
    [{ canCreateSchemas: false }, "create-denied"],
    [{ foreignLargeObjects: 1 }, "foreign-large-objects"],
    [{ foreignDependents: ["view report"] }, "foreign-dependents"],
    [{ foreignWritable: ["table shared"] }, "foreign-writable"],
    [{ foreignGrantors: ["app_rw"] }, "foreign-grantors"],
    [{ superuserMade: ["function f()"] }, "superuser-made"],
    [{ notGiveable: ["table t"] }, "not-giveable"],
  ];
  test.each(cases)("%j", (changes, reason) => {
    const plan = chooseRestore({ ...FACTS, ...changes }, { format: "auto" });
    expect(plan.rungs).toEqual([]);
    expect(plan.reasonsNot).toEqual([reason]);
  });

  test("all reasons are told", () => {
    const facts = { ...FACTS, replicationSlots: ["a"], subscriptions: 1, foreignGrantors: ["b"] };
    expect(chooseRestore(facts, { format: "auto" }).reasonsNot).toEqual([
      "replication-slots",
      "subscriptions",
      "foreign-grantors",
    ]);
  });
});

test("one table less than the lock table has room for is possible", () => {
  expect(chooseRestore({ ...FACTS, tables: 533 }, { format: "auto" }).rungs).toEqual(["in-place"]);
});

describe("a swap comes first where it is possible", () => {
  const facts = { ...FACTS, swap: SWAP };

  test("both rungs, in their order, as the policy wants them", () => {
    const rungs = (restore: RestorePolicy) => chooseRestore(facts, { format: "auto", restore }).rungs;
    expect(rungs("auto")).toEqual(["swap", "in-place"]);
    expect(rungs("always")).toEqual(["swap", "in-place"]);
    expect(rungs("swap")).toEqual(["swap"]);
    expect(rungs("in-place")).toEqual(["in-place"]);
    expect(rungs("never")).toEqual([]);
    expect(chooseRestore(facts, { format: "auto", restore: "never" }).reasonsNot).toEqual(["not-wanted"]);
  });

  test("psql may commit in the middle there: a plain backup of large objects, and in place is not possible from it", () => {
    expect(chooseRestore({ ...facts, largeObjects: 1 }, { format: "auto" })).toEqual({
      rungs: ["swap"],
      format: "plain",
      why: [],
      reasonsNot: ["plain-format"],
      swapReasonsNot: [],
    });
    expect(chooseRestore({ ...facts, largeObjects: 1 }, { format: "custom" }).rungs).toEqual(["swap", "in-place"]);
    const placed = { ...facts, swap: { ...SWAP, extensionsToPlace: ["hstore"] } };
    expect(chooseRestore(placed, { format: "auto" })).toMatchObject({
      format: "custom",
      why: ["extensions-in-schemas"],
    });
    expect(chooseRestore(placed, { format: "plain" })).toMatchObject({
      rungs: ["in-place"],
      swapReasonsNot: ["plain-format"],
    });
  });

  const obstacles: readonly (readonly [Partial<RestoreFacts>, Partial<SwapFacts>, SwapReason])[] = [
    [{ replicationSlots: ["debezium"] }, {}, "replication-slots"],
    [{ subscriptions: 1 }, {}, "subscriptions"],
    [{ extensionsWithOwnRestore: ["citus"] }, {}, "extensions-with-own-restore"],
    [{ foreignObjects: ["view report"] }, {}, "foreign-objects"],
    [{ foreignLargeObjects: 1, largeObjects: 1 }, {}, "foreign-large-objects"],
    [{ foreignGrantors: ["app_rw"] }, {}, "foreign-grantors"],
    [{ superuserMade: ["function f()"] }, {}, "superuser-made"],
    [{ notGiveable: ["table t"] }, {}, "not-giveable"],
    [{ publicationsForAllTables: ["everything"] }, {}, "publications-for-all-tables"],
    [{}, { preparedTransactions: 1 }, "prepared-transactions"],
    [{}, { isOwner: false, hasMaintenance: false }, "not-owner"],
    [{}, { canCreateDatabase: false, hasMaintenance: false }, "create-database-denied"],
    [{}, { canUseTablespace: false }, "tablespace-denied"],
    [{}, { hasMaintenance: false }, "no-maintenance-database"],
    [{}, { failedDatabases: ["shop_failed_1"] }, "failed-database-kept"],
    [{}, { unsettable: ["ALTER DATABASE shop SET log_statement TO 'all'"] }, "properties-not-settable"],
    [{}, { hasForeignGrants: true }, "database-grantors"],
    [{}, { extensionsNotCreatable: ["old"] }, "extensions-not-creatable"],
  ];
  test.each(obstacles)("%j %j", (changes, swapChanges, reason) => {
    const plan = chooseRestore({ ...FACTS, ...changes, swap: { ...SWAP, ...swapChanges } }, { format: "auto" });
    expect(plan.swapReasonsNot).toEqual([reason]);
    expect(plan.rungs).not.toContain("swap");
  });
});
