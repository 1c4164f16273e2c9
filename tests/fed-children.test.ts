/** What a child is fed by a function, on every runtime that is there. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./support/cluster.ts";
import { makeRuntimeVariants } from "./support/start-runtimes.ts";

const variants = await makeRuntimeVariants(join(import.meta.dirname, "fixtures", "fed-children.ts"));

test.each(variants.map((variant) => [variant.name, variant.command] as const))(
  "%s: it waits for the child, notices its end, and ends it where there is no more to come",
  (_, command) => {
    const scratch = temporaryDirectory();
    const { stdout, stderr } = Bun.spawnSync([...command, scratch]);
    expect([JSON.parse(stdout.toString() || "null"), stderr.toString()]).toEqual([
      {
        isWhole: true,
        isBounded: true,
        early: [3, true],
        stuck: [true, null],
        thrown: ["SIGTERM", "Error: no more"],
        startError: "ENOENT",
      },
      "",
    ]);
    // Nothing has told it that what it had got was all.
    expect(existsSync(join(scratch, "whole"))).toBe(false);
  },
  120_000,
);
