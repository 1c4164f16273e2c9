/** Which restore is possible, and from which format: every fact that forbids one, alone. */
import { describe, expect, test } from "bun:test";
import type { RestoreFacts } from "../lib/restore/facts.ts";
import { chooseRestore, type InPlaceReason, type PlainReason } from "../lib/restore/plan.ts";

const FACTS: RestoreFacts = {
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
  publicationsForAllTables: [],
  extensionsInSchemas: [],
  extensionsWithOwnRestore: [],
  replicationSlots: [],
  subscriptions: 0,
  tables: 100,
  lockCapacity: 6400,
  databaseSizeBytes: 10_000_000,
};

test("a database of one's own is restored in place from the specification's plain file", () => {
  expect(chooseRestore(FACTS, { format: "auto" })).toEqual({
    rungs: ["in-place"],
    format: "plain",
    why: [],
    reasonsNot: [],
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
    });
    expect(chooseRestore(facts, { format: "custom" }).rungs).toEqual(["in-place"]);
    expect(chooseRestore(facts, { format: "plain" })).toEqual({
      rungs: [],
      format: "plain",
      why: [reason],
      reasonsNot: ["plain-format"],
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
