/** What a deploy would do, for every combination of rows and folder that Prisma tells apart. */
import { describe, expect, test } from "bun:test";
import type { History, MigrationRow } from "../lib/migrations/history.ts";
import { isUpToDate, makePlan, type Plan, type PlanPolicy } from "../lib/migrations/plan.ts";

const POLICY: PlanPolicy = { migrationOrder: "bytes", onMissing: "warn", engine: "native" };
const STARTED_AT = "2024-12-19T14:30:22.123456+00:00";
const LATER = "2024-12-19T14:30:23+00:00";
const NFC = "20240101000000_\u00e9t\u00e9";
const NFD = NFC.normalize("NFD");

const applied = (name: string) => makeRow(name, { finishedAt: LATER });
const unfinished = (name: string) => makeRow(name, {});
const rolledBack = (name: string) => makeRow(name, { rolledBackAt: LATER });
const finishedAndRolledBack = (name: string) => makeRow(name, { finishedAt: LATER, rolledBackAt: LATER });

interface Case {
  readonly rows: readonly MigrationRow[];
  readonly names: readonly string[];
  readonly policy?: Partial<PlanPolicy>;
  readonly baseline?: Partial<NonNullable<History["baseline"]>>;
  /** What is not named must be empty. */
  readonly expected: Partial<Record<"pending" | "applied" | "rolledBack" | "missing" | "late", readonly string[]>>;
  readonly unfinished?: readonly string[];
  readonly problem?: string;
  readonly warnings?: readonly string[];
}

const CASES: Record<string, Case> = {
  "nothing in the folder, no row": { rows: [], names: [], expected: {} },
  "a folder without a row is pending": { rows: [], names: ["a", "b"], expected: { pending: ["a", "b"] } },
  "a finished row is applied": { rows: [applied("a")], names: ["a"], expected: { applied: ["a"] } },
  "applied ones are in the folder's order, whatever the rows'": {
    rows: [applied("b"), applied("a")],
    names: ["a", "b"],
    expected: { applied: ["a", "b"] },
  },
  "an unfinished row blocks, and is neither pending nor applied": {
    rows: [applied("a"), unfinished("b")],
    names: ["a", "b", "c"],
    expected: { applied: ["a"], pending: ["c"] },
    unfinished: ["b"],
    problem: "HISTORY_FAILED",
  },
  "an unfinished row without a folder blocks as well": {
    rows: [unfinished("gone")],
    names: ["a"],
    expected: { pending: ["a"] },
    unfinished: ["gone"],
    problem: "HISTORY_FAILED",
  },
  "an unfinished row blocks even where the same migration has finished too": {
    rows: [unfinished("a"), applied("a")],
    names: ["a"],
    expected: { applied: ["a"] },
    unfinished: ["a"],
    problem: "HISTORY_FAILED",
  },
  "a row that is marked rolled back makes the migration pending again": {
    rows: [rolledBack("a")],
    names: ["a"],
    expected: { pending: ["a"], rolledBack: ["a"] },
  },
  "finished and marked rolled back is rolled back": {
    rows: [finishedAndRolledBack("a")],
    names: ["a"],
    expected: { pending: ["a"], rolledBack: ["a"] },
  },
  "rolled back, then applied: applied": {
    rows: [rolledBack("a"), applied("a")],
    names: ["a"],
    expected: { applied: ["a"] },
  },
  "rolled back, then failed again: failed": {
    rows: [rolledBack("a"), unfinished("a")],
    names: ["a"],
    expected: {},
    unfinished: ["a"],
    problem: "HISTORY_FAILED",
  },
  "rolled back twice is named once": {
    rows: [rolledBack("a"), rolledBack("a")],
    names: ["a"],
    expected: { pending: ["a"], rolledBack: ["a"] },
  },
  "rolled back without a folder is nothing to do": {
    rows: [rolledBack("gone")],
    names: [],
    expected: { rolledBack: ["gone"] },
  },
  "applied without a folder is missing, which is an everyday warning": {
    rows: [applied("gone"), applied("gone"), applied("b")],
    names: ["b"],
    expected: { applied: ["b"], missing: ["gone"] },
    warnings: ["missing"],
  },
  "missing is refused where the policy says so": {
    rows: [applied("gone")],
    names: ["z"],
    policy: { onMissing: "refuse" },
    expected: { pending: ["z"], missing: ["gone"] },
    problem: "HISTORY_MISSING",
    warnings: ["missing"],
  },
  "a failed row is told before a missing one": {
    rows: [applied("gone"), unfinished("b")],
    names: ["b"],
    policy: { onMissing: "refuse" },
    expected: { missing: ["gone"] },
    unfinished: ["b"],
    problem: "HISTORY_FAILED",
    warnings: ["missing"],
  },
  "pending before an applied one is late, and applied all the same": {
    rows: [applied("a"), applied("c")],
    names: ["a", "b", "c", "d"],
    expected: { applied: ["a", "c"], pending: ["b", "d"], late: ["b"] },
    warnings: ["late"],
  },
  "rolled back before an applied one is late too": {
    rows: [rolledBack("a"), applied("b")],
    names: ["a", "b"],
    expected: { applied: ["b"], pending: ["a"], rolledBack: ["a"], late: ["a"] },
    warnings: ["late"],
  },
  "names are compared byte by byte, and a difference in normalisation alone is told": {
    rows: [applied(NFC)],
    names: [NFD],
    expected: { pending: [NFD], missing: [NFC] },
    warnings: ["missing", "normalisation"],
  },
  "nothing is told of a name that the history has exactly": {
    rows: [applied(NFC), applied(NFD)],
    names: [NFD, NFC],
    expected: { applied: [NFD, NFC] },
  },
  "no table and an empty schema: everything is pending": {
    rows: [],
    names: ["a"],
    baseline: {},
    expected: { pending: ["a"] },
  },
  "no table, but others: a baseline is needed": {
    rows: [],
    names: ["a"],
    baseline: { tables: ["users"] },
    expected: { pending: ["a"] },
    problem: "BASELINE_NEEDED",
  },
  "no table, others, and nothing to apply: nothing to refuse": {
    rows: [],
    names: [],
    baseline: { tables: ["users"] },
    expected: {},
  },
  "PostGIS' tables are no content, in any case": {
    rows: [],
    names: ["a"],
    baseline: {
      tables: ["spatial_ref_sys", "GEOMETRY_COLUMNS", "Geography_Columns", "raster_columns", "raster_overviews"],
    },
    expected: { pending: ["a"] },
  },
  "a table beside PostGIS' is content": {
    rows: [],
    names: ["a"],
    baseline: { tables: ["spatial_ref_sys", "raster_overviews_2"] },
    expected: { pending: ["a"] },
    problem: "BASELINE_NEEDED",
  },
  "the ledger of Prisma 8 alone is refused": {
    rows: [],
    names: ["a"],
    baseline: { tables: ["users"], hasContractLedger: true },
    expected: { pending: ["a"] },
    problem: "LEDGER_UNSUPPORTED",
  },
  "the ledger of Prisma 8 alone, with nothing to apply": {
    rows: [],
    names: [],
    baseline: { tables: [], hasContractLedger: true },
    expected: { pending: [] },
    problem: "LEDGER_UNSUPPORTED",
  },
};

for (const [name, row] of Object.entries(CASES)) {
  test(name, () => {
    const plan = makePlan(makeHistory(row.rows, row.baseline), row.names, "public", { ...POLICY, ...row.policy });
    const { pending, applied, rolledBack, missing, late } = plan;
    const none = { pending: [], applied: [], rolledBack: [], missing: [], late: [] };
    expect({ pending, applied, rolledBack, missing, late } as object).toEqual({ ...none, ...row.expected });
    expect(plan.unfinished.map((unfinishedRow) => unfinishedRow.name)).toEqual([...(row.unfinished ?? [])]);
    expect(plan.problem?.code as string | undefined).toBe(row.problem);
    expect(plan.warnings.map(({ about }) => about as string)).toEqual([...(row.warnings ?? [])]);
  });
}

describe("what a refusal says", () => {
  test("a failed row is named with its start and the engine that would run", () => {
    const plan = makePlan(makeHistory([unfinished("b")]), ["b"], "public", { ...POLICY, engine: "prisma" });
    expect(plan.problem?.fields).toEqual({ migrations: [{ name: "b", startedAt: STARTED_AT }], engine: "prisma" });
  });

  test("a baseline names the schema, the tables without PostGIS', and what would be marked", () => {
    const history = makeHistory([], { tables: ["Spatial_Ref_Sys", "posts", "users"] });
    const plan = makePlan(history, ["a", "b"], "app", POLICY);
    expect(plan.problem?.fields).toEqual({ schema: "app", tables: ["posts", "users"], migrations: ["a", "b"] });
  });
});

describe("the app may start at once", () => {
  const planOf = (rows: readonly MigrationRow[], names: readonly string[], policy?: Partial<PlanPolicy>): Plan =>
    makePlan(makeHistory(rows), names, "public", { ...POLICY, ...policy });

  test.each([
    ["everything applied", planOf([applied("a")], ["a"]), true],
    ["something missing, which is only a warning", planOf([applied("gone")], []), true],
    ["something pending", planOf([applied("a")], ["a", "b"]), false],
    ["something failed", planOf([unfinished("a")], ["a"]), false],
    ["something missing, which is refused", planOf([applied("gone")], [], { onMissing: "refuse" }), false],
  ])("%s", (_, plan, expected) => {
    expect(isUpToDate(plan)).toBe(expected);
  });
});

describe("the order of bytes and that of Prisma 6.6 and later", () => {
  const ORDERS: [string, string[], string[]][] = [
    ["a number of one digit", ["10_bar", "1_foo"], ["1_foo", "10_bar"]],
    ["a date before a time", ["20200101000000_x", "20200101_x"], ["20200101_x", "20200101000000_x"]],
    ["an underscore before a digit", ["a1", "a_1"], ["a_1", "a1"]],
    ["capitals among small letters", ["B", "a"], ["a", "B"]],
    ["small before capital", ["A", "a"], ["a", "A"]],
  ];

  for (const [name, bytes, prisma] of ORDERS) {
    test(`${name}: they differ, one is followed, both are told`, () => {
      for (const migrationOrder of ["bytes", "prisma"] as const) {
        const plan = makePlan(makeHistory([]), bytes, "public", { ...POLICY, migrationOrder });
        expect(plan.pending).toEqual(migrationOrder === "bytes" ? bytes : prisma);
        expect(plan.warnings).toEqual([{ about: "order", bytes, prisma, followed: migrationOrder }]);
      }
    });
  }

  test("names as Prisma makes them are in the same order in both", () => {
    const names = ["0_init", "20200101000000_a", "20200101000000_add_b", "20200102000000_a2", "20210101000000_z"];
    const plan = makePlan(makeHistory([]), names, "public", { ...POLICY, migrationOrder: "prisma" });
    expect(plan.pending).toEqual(names);
    expect(plan.warnings).toEqual([]);
  });

  test("the order of those that are applied is no matter any more", () => {
    const plan = makePlan(makeHistory([applied("10_bar")]), ["10_bar", "1_foo"], "public", POLICY);
    expect(plan.warnings).toEqual([]);
  });
});

function makeRow(name: string, fields: Partial<MigrationRow>): MigrationRow {
  return {
    id: crypto.randomUUID(),
    name,
    checksum: "0".repeat(64),
    startedAt: STARTED_AT,
    finishedAt: null,
    rolledBackAt: null,
    appliedStepsCount: 0,
    ...fields,
  };
}

function makeHistory(rows: readonly MigrationRow[], baseline?: Partial<NonNullable<History["baseline"]>>): History {
  return {
    server: {
      versionNumber: 150_018,
      version: "15.18",
      database: "app",
      user: "app",
      inRecovery: false,
      readOnly: false,
    },
    schema: baseline === undefined ? "public" : undefined,
    rows,
    lockHeld: false,
    fence: undefined,
    hasSwap: false,
    baseline:
      baseline === undefined
        ? undefined
        : { tables: [], currentSchema: "public", hasContractLedger: false, ...baseline },
  };
}
