/** The traces of a swap in comments, the names of the databases beside the live one, and properties that move. */
import { describe, expect, test } from "bun:test";
import { addTrace, readTrace, type Trace } from "../lib/postgres/swap-trace.ts";
import { makeAsideName, makeAsidePattern } from "../lib/restore/aside-name.ts";
import { moveProperty } from "../lib/restore/properties.ts";

const TRACES: readonly Trace[] = [
  { swap: "started", scratch: "a_restore_1", failed: "a_failed_1", backup: "b" },
  { swap: "restoring" },
  { swap: "ready", live: "16384", row: "770" },
  { swap: "replaced", backup: "b" },
  { swap: "replaced", backup: "b", by: "16385" },
];
const COMMENTS = [null, "one", "two\nlines", 'it\'s \\ "odd" ü\n', "\n", "[prisma-safe-deploy not ours]"];

describe("a trace", () => {
  test("is read as it was left, and leaves the comment as it was", () => {
    for (const trace of TRACES) {
      for (const comment of COMMENTS) {
        expect(readTrace(addTrace(comment, trace))).toEqual({ comment, trace });
      }
    }
  });

  test("takes the place of an earlier one", () => {
    for (const comment of COMMENTS) {
      const [first, second] = TRACES;
      if (first === undefined || second === undefined) throw new Error("no traces");
      expect(addTrace(addTrace(comment, first), second)).toBe(addTrace(comment, second));
    }
  });

  test.each([
    "[prisma-safe-deploy {}]",
    '[prisma-safe-deploy {"swap":"other"}]',
    '[prisma-safe-deploy {"swap":"started","scratch":1}]',
    '[prisma-safe-deploy {"swap":"replaced","backup":"b","by":1}]',
    "[prisma-safe-deploy {broken}]",
    '[prisma-safe-deploy {"swap":"restoring"}] and more',
    'before [prisma-safe-deploy {"swap":"restoring"}]',
  ])("what only looks like one is a comment: %s", (comment) => {
    expect(readTrace(comment)).toEqual({ comment, trace: undefined });
  });
});

describe("the name of a database beside the live one", () => {
  const stamp = "20241219_143022";

  test("keeps its end, fits, and no letter is cut in two", () => {
    expect(makeAsideName("shop", "failed", stamp)).toBe(`shop_failed_${stamp}`);
    expect(makeAsideName("ü".repeat(31), "restore", stamp)).toBe(`${"ü".repeat(17)}_restore_${stamp}`);
    expect(Buffer.byteLength(makeAsideName("가".repeat(21), "restore", `${stamp}_999`))).toBeLessThanOrEqual(63);
  });

  test("is found by its pattern, and others are not", () => {
    for (const database of ["shop", "a.b*c(d", "ü".repeat(31), "back\\slash$"]) {
      // PostgreSQL's expressions and these agree on what is used here.
      const pattern = new RegExp(makeAsidePattern(database, "failed"));
      expect(pattern.test(makeAsideName(database, "failed", stamp))).toBe(true);
      expect(pattern.test(makeAsideName(database, "failed", `${stamp}_2`))).toBe(true);
      expect(pattern.test(makeAsideName(database, "restore", stamp))).toBe(false);
      expect(pattern.test(`x${makeAsideName(database, "failed", stamp)}`)).toBe(false);
      expect(pattern.test(`${database}_failed_jobs`)).toBe(false);
    }
  });
});

describe("a property moves to another database", () => {
  test.each([
    ["ALTER DATABASE shop CONNECTION LIMIT 7", 'ALTER DATABASE "new one" CONNECTION LIMIT 7'],
    ['ALTER DATABASE "o""dd name" SET search_path TO a, b', 'ALTER DATABASE "new one" SET search_path TO a, b'],
    [
      "COMMENT ON DATABASE shop IS 'ALTER DATABASE shop x'",
      "COMMENT ON DATABASE \"new one\" IS 'ALTER DATABASE shop x'",
    ],
    ["GRANT CREATE ON DATABASE shop TO PUBLIC", 'GRANT CREATE ON DATABASE "new one" TO PUBLIC'],
    [
      "ALTER ROLE \"x IN DATABASE shop \" IN DATABASE shop SET a TO 'shop'",
      'ALTER ROLE "x IN DATABASE shop " IN DATABASE "new one" SET a TO \'shop\'',
    ],
    ["SECURITY LABEL FOR p ON DATABASE shop IS 'shop'", "SECURITY LABEL FOR p ON DATABASE \"new one\" IS 'shop'"],
  ])("%s", (statement, moved) => {
    expect(moveProperty(statement, '"new one"')).toBe(moved);
  });
});
