/** Numbers and lists as people read them. */
import { describe, expect, test } from "bun:test";
import { describeData, formatBytes, formatDuration, formatList, formatNames } from "../lib/messages/format.ts";

describe("a size", () => {
  test.each([
    [0, "0 B"],
    [1, "1 B"],
    [999, "999 B"],
    [1000, "1.0 KB"],
    [1049, "1.0 KB"],
    [12_400, "12.4 KB"],
    [999_949, "999.9 KB"],
    [999_950, "1.0 MB"],
    [12_400_000, "12.4 MB"],
    [999_999_999, "1.0 GB"],
    [5_000_000_000, "5.0 GB"],
    [2_500_000_000_000, "2.5 TB"],
    [2_500_000_000_000_000, "2500.0 TB"],
  ])("%d bytes: %s", (sizeBytes, expected) => {
    expect(formatBytes(sizeBytes)).toBe(expected);
  });
});

describe("a duration", () => {
  test.each([
    [0, "0ms"],
    [0.4, "0ms"],
    [339.6, "340ms"],
    [999, "999ms"],
    [999.6, "1.0s"],
    [1800, "1.8s"],
    [59_949, "59.9s"],
    [59_950, "1m 00s"],
    [60_000, "1m 00s"],
    [125_900, "2m 05s"],
    [125_999, "2m 06s"],
    [3_599_000, "59m 59s"],
    [3_600_000, "1h 00m"],
    [3_720_000, "1h 02m"],
    [90_000_000, "25h 00m"],
  ])("%d ms: %s", (durationMs, expected) => {
    expect(formatDuration(durationMs)).toBe(expected);
  });
});

describe("a list", () => {
  const numbered = (count: number) => Array.from({ length: count }, (_, index) => `item ${index + 1}`);

  test.each([
    ["of nothing", [], []],
    ["of one", ["a"], ["  a"]],
    ["of ten is whole", numbered(10), numbered(10).map((item) => `  ${item}`)],
  ])("%s", (_, items, expected) => {
    expect(formatList(items)).toEqual(expected);
  });

  test.each([11, 12, 1000])("of %d keeps its beginning and its end, and counts the rest", (count) => {
    const lines = formatList(numbered(count));
    expect(lines).toEqual([
      ...numbered(7).map((item) => `  ${item}`),
      `  ... (+${count - 9})`,
      `  item ${count - 1}`,
      `  item ${count}`,
    ]);
  });
});

describe("names on one line", () => {
  const numbered = (count: number) => Array.from({ length: count }, (_, index) => `n${index + 1}`);

  test("up to ten are all there", () => {
    expect(formatNames(numbered(10))).toBe(numbered(10).join(", "));
  });

  test.each([11, 1000])("of %d the ends, and the number of the others", (count) => {
    expect(formatNames(numbered(count))).toBe(`n1, n2, n3, ... (+${count - 5}), n${count - 1}, n${count}`);
  });
});

test.each([
  [500, 1000, "500 B / about 1.0 KB (50%)"],
  [999, 1000, "999 B / about 1.0 KB (99%)"],
  [1001, 1000, "1.0 KB"],
  [1001, undefined, "1.0 KB"],
] as const)("data: %d of %p", (bytes, total, text) => {
  expect(describeData(bytes, total, "about")).toBe(text);
});
