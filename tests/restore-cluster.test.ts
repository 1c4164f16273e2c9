/** What of the other databases is compared, and that what a swap or a fence does to them is none of it. */
import { describe, expect, test } from "bun:test";
import { keptEntries } from "../lib/postgres/fence-mark.ts";
import { addTrace, type Trace } from "../lib/postgres/swap-trace.ts";
import { digestOthers, type OtherDatabase, type StoredSettings } from "../lib/restore/cluster.ts";

const STAMP = "20241219_143022";
const STARTED: Trace = { swap: "started", scratch: `b_restore_${STAMP}`, failed: `b_failed_${STAMP}`, backup: "b" };

function database(oid: string, name: string, changes: Partial<OtherDatabase> = {}): OtherDatabase {
  return { oid, name, owner: "10", isOpen: true, rights: ["=c/o", "o=C/o"], comment: null, ...changes };
}

const traced = (trace: Trace) => ({ comment: addTrace("of the shop", trace) });
const A = database("1", "a");
const B = database("2", "b", { comment: "of the shop" });
const SETTINGS: readonly StoredSettings[] = [
  { database: "0", role: "7", entries: ["work_mem=1MB"] },
  { database: "2", role: "0", entries: ["work_mem=2MB", "application_name=shop"] },
  { database: "2", role: "7", entries: ["work_mem=3MB"] },
];
const BEFORE = digestOthers([A, B], SETTINGS);

const toDatabase = (oid: string) => SETTINGS.map((row) => (row.database === "2" ? { ...row, database: oid } : row));
const SHUT = { ...B, isOpen: false, ...traced(STARTED) };
const KEPT = { ...B, name: STARTED.failed, isOpen: false, ...traced({ swap: "replaced", backup: "b", by: "3" }) };
const COPY = { ...B, oid: "3", name: STARTED.scratch };
const REPLACED = { ...B, oid: "3" };

describe("a swap of another database changes nothing", () => {
  const ofCopy = { database: "3", role: "0", entries: ["work_mem=2MB"] };
  test.each<[string, OtherDatabase[], readonly StoredSettings[]]>([
    ["begun", [A, { ...B, ...traced(STARTED) }], SETTINGS],
    ["shut", [A, SHUT], SETTINGS],
    ["the copy is made", [A, SHUT, { ...COPY, comment: null }], SETTINGS],
    ["restored", [A, SHUT, { ...COPY, comment: addTrace(null, { swap: "restoring" }) }], [...SETTINGS, ofCopy]],
    ["ready", [A, SHUT, { ...COPY, ...traced({ swap: "ready", live: "2", row: "9" }) }], [...SETTINGS, ofCopy]],
    ["done", [KEPT, REPLACED, A], [...toDatabase("3"), ...SETTINGS.slice(1)]],
    [
      "done twice",
      [A, KEPT, { ...KEPT, oid: "3", ...traced({ swap: "replaced", backup: "c", by: "4" }) }, { ...B, oid: "4" }],
      toDatabase("4"),
    ],
  ])("%s", (_, databases, settings) => {
    expect(digestOthers(databases, settings)).toEqual(BEFORE);
  });
});

describe("all else is a change", () => {
  test.each<[string, OtherDatabase[]]>([
    ["one more", [A, B, database("9", "c")]],
    ["one that has the name of a kept one", [A, B, database("9", STARTED.failed, { isOpen: false })]],
    ["one that has the name of a copy", [A, B, database("9", STARTED.scratch)]],
    ["one less", [A]],
    ["shut", [A, { ...B, isOpen: false }]],
    ["another name", [A, { ...B, name: "c" }]],
    ["another owner", [A, { ...B, owner: "11" }]],
    ["another right", [A, { ...B, rights: ["o=C/o"] }]],
    ["another one of that name", [A, { ...B, oid: "3" }]],
    ["replaced by one that is not the one of that name", [A, KEPT, { ...B, oid: "4" }]],
    ["a kept one that somebody has opened", [A, { ...KEPT, isOpen: true }, REPLACED]],
    ["replaced by one with other rights", [A, KEPT, { ...REPLACED, rights: ["o=C/o"] }]],
  ])("%s", (_, databases) => {
    expect(digestOthers(databases, SETTINGS).databases).not.toBe(BEFORE.databases);
  });

  test("a circle of traces comes to an end", () => {
    const circle = [database("1", "a", traced({ swap: "replaced", backup: "b", by: "1" })), B];
    expect(digestOthers(circle, SETTINGS)).toEqual(BEFORE);
  });

  test.each<[string, readonly StoredSettings[]]>([
    ["one more", [...SETTINGS, { database: "1", role: "0", entries: ["work_mem=1MB"] }]],
    ["one less", SETTINGS.slice(1)],
    ["of a role", [{ database: "0", role: "7", entries: ["work_mem=9MB"] }, ...SETTINGS.slice(1)]],
    ["of another database", [...SETTINGS.slice(0, 2), { database: "1", role: "7", entries: ["work_mem=3MB"] }]],
  ])("a setting: %s", (_, settings) => {
    expect(digestOthers([A, B], settings)).not.toEqual(BEFORE);
    expect(digestOthers([A, B], settings).databases).toBe(BEFORE.databases);
  });
});

describe("the fence of another database", () => {
  const hex = Buffer.from(JSON.stringify(["application_name=shop"])).toString("hex");
  const fence = ["default_transaction_read_only=on", "work_mem=2MB"];
  const withFence = (...entries: readonly string[]) =>
    digestOthers(
      [A, B],
      [
        ...SETTINGS.filter(({ database: of, role }) => of !== "2" || role !== "0"),
        { database: "2", role: "0", entries },
      ],
    );

  test("changes nothing, and hides nothing else", () => {
    expect(withFence(`application_name=prisma-safe-deploy fence x ${hex}`, ...fence)).toEqual(BEFORE);
    expect(withFence("application_name=prisma-safe-deploy fence x", ...fence)).not.toEqual(BEFORE);
    expect(withFence(`application_name=prisma-safe-deploy fence x ${hex}`, "work_mem=9MB")).not.toEqual(BEFORE);
    expect(withFence(...fence, "application_name=shop")).not.toEqual(BEFORE);
  });

  test("where there was nothing before, leaves nothing", () => {
    const alone = ["application_name=prisma-safe-deploy fence x", "default_transaction_read_only=on"];
    expect(digestOthers([A, B], [...SETTINGS, { database: "1", role: "0", entries: alone }])).toEqual(BEFORE);
    expect(digestOthers([A, B], [...SETTINGS, { database: "1", role: "7", entries: alone }])).not.toEqual(BEFORE);
  });

  test.each(["zz", "5b5d5d", Buffer.from('{"a":1}').toString("hex")])("what can't be read is no fence: %s", (kept) => {
    const entries = [`application_name=prisma-safe-deploy fence x ${kept}`, ...fence];
    expect(keptEntries(entries)).toEqual(entries);
  });
});
