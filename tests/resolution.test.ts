/** What `resolve` and `baseline` write, by the rows alone: Prisma's rules, and one of our own for a baseline. */
import { describe, expect, test } from "bun:test";
import { isDeployError } from "../lib/errors.ts";
import type { MigrationRow } from "../lib/migrations/history.ts";
import { type Resolution, resolveApplied, resolveBaseline, resolveRolledBack } from "../lib/migrations/resolution.ts";

const FOLDER = ["1_a", "2_b"];
const AT = "2024-01-01T00:00:00Z";

type State = "applied" | "failed" | "rolled back" | "applied, rolled back" | "marked";

function row(name: string, state: State): MigrationRow {
  return {
    id: `${name} ${state}`,
    name,
    checksum: "",
    startedAt: AT,
    finishedAt: state.startsWith("applied") || state === "marked" ? AT : null,
    rolledBackAt: state.endsWith("rolled back") ? AT : null,
    appliedStepsCount: state.startsWith("applied") ? 1 : 0,
  };
}

type Rows = readonly (readonly [string, State])[];
type Expected = Resolution | string;

const APPLIED: readonly [string, Rows, string, Expected][] = [
  ["nothing recorded", [], "1_a", { rolledBackIds: [], applied: ["1_a"] }],
  ["failed", [["1_a", "failed"]], "1_a", { rolledBackIds: ["1_a failed"], applied: ["1_a"] }],
  ["rolled back", [["1_a", "rolled back"]], "1_a", { rolledBackIds: [], applied: ["1_a"] }],
  ["applied", [["1_a", "applied"]], "1_a", "RESOLVE_ALREADY_APPLIED"],
  ["applied and then rolled back", [["1_a", "applied, rolled back"]], "1_a", "RESOLVE_ALREADY_APPLIED"],
  ["another one failed", [["2_b", "failed"]], "1_a", { rolledBackIds: [], applied: ["1_a"] }],
  ["not in the folder", [["3_c", "failed"]], "3_c", "RESOLVE_SCRIPT_NOT_FOUND"],
  ["not in the folder, and applied", [["3_c", "applied"]], "3_c", "RESOLVE_SCRIPT_NOT_FOUND"],
];

const ROLLED_BACK: readonly [string, Rows, string, Expected][] = [
  ["nothing recorded", [], "1_a", "RESOLVE_NEVER_APPLIED"],
  ["another one failed", [["2_b", "failed"]], "1_a", "RESOLVE_NEVER_APPLIED"],
  ["failed", [["1_a", "failed"]], "1_a", { rolledBackIds: ["1_a failed"], applied: [] }],
  ["failed, and not in the folder", [["3_c", "failed"]], "3_c", { rolledBackIds: ["3_c failed"], applied: [] }],
  ["rolled back already", [["1_a", "rolled back"]], "1_a", { rolledBackIds: [], applied: [] }],
  ["applied", [["1_a", "applied"]], "1_a", "RESOLVE_NOT_FAILED"],
  ["applied and then rolled back", [["1_a", "applied, rolled back"]], "1_a", "RESOLVE_NOT_FAILED"],
  [
    "rolled back, and applied since",
    [
      ["1_a", "rolled back"],
      ["1_a", "applied"],
    ],
    "1_a",
    { rolledBackIds: [], applied: [] },
  ],
];

const BASELINE: readonly [string, Rows, Expected][] = [
  ["nothing recorded", [], { rolledBackIds: [], applied: ["1_a", "2_b"] }],
  ["the first one is marked", [["1_a", "marked"]], { rolledBackIds: [], applied: ["2_b"] }],
  ["a missing one is marked", [["0_x", "marked"]], { rolledBackIds: [], applied: ["1_a", "2_b"] }],
  ["a missing one was rolled back", [["0_x", "rolled back"]], { rolledBackIds: [], applied: ["1_a", "2_b"] }],
  [
    "all are marked",
    [
      ["1_a", "marked"],
      ["2_b", "marked"],
    ],
    { rolledBackIds: [], applied: [] },
  ],
  ["one was deployed", [["1_a", "applied"]], "BASELINE_CONTRADICTED"],
  ["a missing one was deployed", [["0_x", "applied"]], "BASELINE_CONTRADICTED"],
  ["one has failed", [["2_b", "failed"]], "BASELINE_CONTRADICTED"],
  ["a missing one has failed", [["0_x", "failed"]], "BASELINE_CONTRADICTED"],
  ["one was rolled back", [["2_b", "rolled back"]], "BASELINE_CONTRADICTED"],
];

describe("resolve --applied", () => {
  test.each([...APPLIED])("%s", (_, rows, name, expected) => {
    expect(
      outcomeOf(() =>
        resolveApplied(
          rows.map((given) => row(...given)),
          FOLDER,
          name,
        ),
      ),
    ).toEqual(expected);
  });
});

describe("resolve --rolled-back", () => {
  test.each([...ROLLED_BACK])("%s", (_, rows, name, expected) => {
    expect(
      outcomeOf(() =>
        resolveRolledBack(
          rows.map((given) => row(...given)),
          name,
        ),
      ),
    ).toEqual(expected);
  });
});

describe("baseline", () => {
  test.each([...BASELINE])("%s", (_, rows, expected) => {
    expect(
      outcomeOf(() =>
        resolveBaseline(
          rows.map((given) => row(...given)),
          FOLDER,
        ),
      ),
    ).toEqual(expected);
  });
});

function outcomeOf(resolve: () => Resolution): Expected {
  try {
    return resolve();
  } catch (error) {
    if (isDeployError(error)) return error.code;
    throw error;
  }
}
