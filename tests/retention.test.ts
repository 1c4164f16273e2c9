/** Which backups expire. Ages are in days before `now`. */
import { describe, expect, test } from "bun:test";
import { type Expiry, makeListing } from "../lib/backup/listing.ts";
import { type RetentionPolicy, selectExpired } from "../lib/backup/retention.ts";
import type { Backup } from "../lib/backup/store.ts";

const NOW = new Date("2026-06-15T12:00:00.000Z");
const DAY_MS = 86_400_000;

const POLICY: RetentionPolicy = { retentionDays: 30, keepMinimum: 3, justTaken: undefined, neededBy: [] };

function backup(ageDays: number, state: Backup["state"] = "present"): Backup {
  const id = `age ${ageDays}`;
  return {
    path: `/b/${id}.sql`,
    manifestPath: `/b/${id}.json`,
    state,
    manifest: {
      version: 1,
      id,
      createdAt: new Date(NOW.getTime() - ageDays * DAY_MS).toISOString(),
      format: "plain",
      file: `${id}.sql`,
      sizeBytes: 1,
      sha256: "",
      database: "app",
      systemIdentifier: "1",
      serverVersion: "15.18",
      toolVersion: "15.18",
      tables: [],
      history: { applied: 0, last: null },
      precedes: [],
      largeObjects: 0,
      verifiedAt: NOW.toISOString(),
    },
  };
}

const ages = (...days: number[]) => days.map((day) => backup(day));

const rows: [name: string, backups: Backup[], policy: Partial<RetentionPolicy>, expired: number[]][] = [
  ["nothing expires where there is nothing", [], {}, []],
  ["what is older than the policy expires, oldest first", ages(1, 40, 2, 31, 3), {}, [40, 31]],
  ["the newest three stay however old they are", ages(100, 90, 80, 70, 60), {}, [100, 90]],
  ["with fewer than the minimum nothing expires", ages(100, 90), {}, []],
  ["exactly as old as the policy is not older", ages(1, 2, 3, 30), {}, []],
  ["a little older is", ages(1, 2, 3, 30.001), {}, [30.001]],
  ["the one just taken stays, also from a clock that ran back", ages(1, 2, 3, 50), { justTaken: "age 50" }, []],
  ["one that a failure needs stays", ages(1, 2, 3, 50, 60), { neededBy: ["age 60"] }, [50]],
  ["one that is needed does not use up the minimum", ages(40, 50, 60, 70), { neededBy: ["age 70"] }, []],
  ["a backup from the future does not expire", ages(-10, 1, 2, 40), {}, [40]],
  ["zero days expire all but the minimum", ages(0, 1, 2, 3), { retentionDays: 0 }, [3]],
  ["a minimum of none keeps none but the one just taken", ages(40, 50), { keepMinimum: 0, justTaken: "age 40" }, [50]],
  ["a manifest without a dump goes, whatever its age", [...ages(1, 2), backup(3, "dump-missing")], {}, [3]],
  ["and does not count", [...ages(40, 50), backup(1, "dump-missing"), backup(60)], {}, [1]],
  ["one of the wrong size does not count either", [...ages(40, 50, 60), backup(35, "size-differs")], {}, [35]],
  ["and stays while it is young", [...ages(40, 50, 60), backup(5, "size-differs")], {}, []],
  ["nor does one that was found damaged", [...ages(40, 50, 60), backup(1, "damaged")], {}, []],
  ["which goes by its age", [...ages(40, 50, 60), backup(45, "damaged")], {}, [45]],
  [
    "a needed one stays though it was found damaged",
    [...ages(1, 2, 3), backup(45, "damaged")],
    { neededBy: ["age 45"] },
    [],
  ],
];

test.each(rows)("%s", (_, backups, policy, expired) => {
  const selected = selectExpired(backups, { ...POLICY, ...policy }, NOW);
  expect(selected.map(({ manifest }) => manifest.id)).toEqual(expired.map((age) => `age ${age}`));
});

test("of two from the same moment the later id is the newer", () => {
  const twins = ["backup_20260101_000000", "backup_20260101_000000_2"].map((id) => {
    const one = backup(100);
    return { ...one, manifest: { ...one.manifest, id } };
  });
  for (const order of [twins, [...twins].reverse()]) {
    const selected = selectExpired(order, { ...POLICY, keepMinimum: 1 }, NOW);
    expect(selected.map(({ manifest }) => manifest.id)).toEqual(["backup_20260101_000000"]);
  }
});

describe("the list says when each is pruned", () => {
  const listed: [name: string, backups: Backup[], policy: Partial<RetentionPolicy>, expiries: Expiry[]][] = [
    ["of three the minimum stays", ages(1, 2, 300), {}, [{ kind: "kept" }, { kind: "kept" }, { kind: "kept" }]],
    [
      "of four the oldest has a time",
      ages(1, 2, 3, 10),
      {},
      [{ kind: "kept" }, { kind: "kept" }, { kind: "kept" }, { kind: "after", durationMs: 20 * DAY_MS }],
    ],
    ["the next pruning takes it", ages(40, 50), { keepMinimum: 1 }, [{ kind: "kept" }, { kind: "due" }]],
    [
      "a failure needs it",
      ages(40, 50),
      { keepMinimum: 1, neededBy: ["age 50"] },
      [{ kind: "kept" }, { kind: "needed" }],
    ],
    ["without its dump it goes at once", [backup(1, "dump-missing")], {}, [{ kind: "due" }]],
    ["damaged it goes by its age", [backup(10, "damaged")], {}, [{ kind: "after", durationMs: 20 * DAY_MS }]],
  ];

  test.each(listed)("%s", (_, backups, policy, expiries) => {
    expect(makeListing(backups, { ...POLICY, ...policy }, NOW).map(({ expiry }) => expiry)).toEqual(expiries);
  });

  test("each database of each cluster by itself", () => {
    const owned = (changes: { database?: string; systemIdentifier?: string }) => {
      const one = backup(100);
      return { ...one, manifest: { ...one.manifest, ...changes } };
    };
    const backups = [owned({}), owned({ database: "other" }), owned({ systemIdentifier: "2" })];
    const list = makeListing(backups, { ...POLICY, keepMinimum: 1 }, NOW);
    expect(list.map(({ expiry }) => expiry.kind)).toEqual(["kept", "kept", "kept"]);
  });
});
