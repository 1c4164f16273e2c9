/** What a person is told when nothing may be undone automatically: each way back, by right and by what is in the way. */
import { describe, expect, test } from "bun:test";
import { makeChoices, type PresentFacts, type RecoveryChoices } from "../lib/restore/choices.ts";
import type { RestoreFacts } from "../lib/restore/facts.ts";
import type { SwapFacts } from "../lib/restore/swap-facts.ts";
import { FACTS, SWAP } from "./support/restore-facts.ts";

const MANIFEST = { id: "backup_20241219_143022", sizeBytes: 1000, format: "plain", largeObjects: 0 } as const;
const PRESENT: PresentFacts = {
  restore: { ...FACTS, swap: SWAP },
  changes: [],
  unfinished: ["2_half", "2_half"],
  isHeld: false,
};

function choose(
  facts: Partial<RestoreFacts> = {},
  swap: Partial<SwapFacts> = {},
  manifest: { readonly largeObjects?: number; readonly durationMs?: number } = {},
): RecoveryChoices {
  const restore = { ...FACTS, ...facts, swap: { ...SWAP, ...swap } };
  return makeChoices({ database: "shop", manifest: { ...MANIFEST, ...manifest }, present: { ...PRESENT, restore } });
}

const WITHOUT_CREATEDB = { canCreateDatabase: false, hasMaintenance: false };
const GUEST = { isOwner: false, hasMaintenance: false };

describe("how the command would go back, and whether PostgreSQL's tools would", () => {
  test("who may make databases swaps, also where an earlier one was kept", () => {
    const possible = { restore: { how: "swap" }, mayRestoreInto: true, againstTools: [], isForAnotherRole: false };
    expect(choose()).toMatchObject(possible);
    expect(choose({}, { failedDatabases: ["shop_failed_1"] })).toMatchObject(possible);
  });

  test("an owner who may not make any restores in place, and the tools are for another role", () => {
    expect(choose({}, WITHOUT_CREATEDB)).toMatchObject({
      restore: { how: "in-place" },
      mayRestoreInto: false,
      againstTools: ["create-database-denied"],
      isForAnotherRole: true,
    });
  });

  test("a guest can't go back, and is told all that is in the way", () => {
    expect(choose({ foreignWritable: ["table theirs"] }, GUEST)).toMatchObject({
      restore: { how: "impossible", reasons: ["not-owner", "foreign-writable"] },
      mayRestoreInto: false,
      againstTools: ["not-owner"],
      isForAnotherRole: true,
    });
  });

  test("somebody who can't be ended holds up a swap, and nothing else", () => {
    const held = (swap: SwapFacts) =>
      makeChoices({
        database: "shop",
        manifest: MANIFEST,
        present: { ...PRESENT, restore: { ...FACTS, swap }, isHeld: true },
      });
    expect(held(SWAP)).toMatchObject({
      restore: { how: "swap" },
      isHeld: true,
      againstTools: ["sessions-not-ended"],
      isForAnotherRole: true,
    });
    expect(held({ ...SWAP, ...WITHOUT_CREATEDB })).toMatchObject({ restore: { how: "in-place" }, isHeld: false });
  });

  test("a plain dump with large objects is not restored in place", () => {
    expect(choose({}, WITHOUT_CREATEDB, { largeObjects: 1 }).restore).toEqual({
      how: "impossible",
      reasons: ["create-database-denied", "large-objects", "plain-format"],
    });
  });

  test("what belongs to the database is in the way of every role, and of no new database", () => {
    expect(choose({ replicationSlots: ["debezium"] })).toMatchObject({
      restore: { how: "impossible", reasons: ["replication-slots"] },
      mayRestoreInto: true,
      againstTools: ["replication-slots"],
      isForAnotherRole: false,
    });
    expect(choose({ subscriptions: 1 }, GUEST).isForAnotherRole).toBe(false);
  });
});

test("what can't be asked is not claimed", () => {
  const unknown = { restore: undefined, mayRestoreInto: false, againstTools: undefined, isForAnotherRole: false };
  const of = (present: PresentFacts | undefined) => makeChoices({ database: "shop", manifest: MANIFEST, present });
  expect(of(undefined)).toMatchObject({ ...unknown, changes: undefined, unfinished: undefined });
  expect(of({ ...PRESENT, restore: undefined })).toMatchObject({ ...unknown, changes: [], unfinished: ["2_half"] });
});

test("both times follow from how long the backup took", () => {
  expect(choose({}, {}, { durationMs: 5000 })).toMatchObject({ backupMs: 5000, restoreMs: 13_500 });
  expect(choose()).toMatchObject({ backupMs: undefined, restoreMs: undefined });
});
