/** What .ci/run says at its end, of real runs of `bun test` over files that fail in every way. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./support/cluster.ts";

setDefaultTimeout(120_000);

/** A run that does not end by itself must not outlive its test. */
const RUN_MS = 60_000;

const SCRIPT = join(import.meta.dirname, "..", ".ci", "results.mjs");
const IMPORTS = 'import { afterAll, beforeAll, describe, expect, test } from "bun:test";\n';

/** Says more than is kept. */
const LOUD =
  'test("loud", () => { throw new Error(Array.from({ length: 99 }, (_, at) => "line " + at).join("\\n")); });';

interface Steps {
  /** Runs `bun test` over the files, which are given by their contents, and keeps what it came to. */
  tests(step: string, files: Readonly<Record<string, string>>, flags?: readonly string[]): void;
  again(step: string, file: string, content: string): void;
  check(step: string, status: number, output: string): void;
  /** What is to be run again. */
  files(): string[];
  /** The names that are told, the last line, and all of it. */
  verdict(begun: readonly string[]): { names: string[]; last: string; text: string; status: number | null };
}

test("a run in which all passes counts its tests", () => {
  const steps = makeSteps();
  steps.tests("suite", { a: 'test("one", () => {});\ntest.skip("left", () => {});', b: 'test("two", () => {});' });
  steps.check("lint", 0, "fine");
  expect(steps.files()).toEqual([]);
  expect(steps.verdict(["suite", "lint"])).toMatchObject({ names: [], last: "3 passed, 0 failed", status: 0 });
});

for (const flags of [[], ["--parallel=2", "--no-isolate"]]) {
  test(`every kind of failure is told with its file and its error: bun test ${flags.join(" ")}`, () => {
    const steps = makeSteps();
    const files = {
      asserts: `describe("group", () => { test("differs [1ms]", () => { expect({ a: 1 }).toEqual({ a: "two" }); }); });`,
      loud: LOUD,
      slow: 'test("never ends", async () => { await new Promise(() => { setTimeout(() => {}, 60_000); }); });',
      before: 'beforeAll(() => { throw new Error("not ready"); });\ntest("never run", () => {});',
      after: 'afterAll(() => { throw new Error("not tidy"); });\ntest("fine", () => {});',
      between: 'setTimeout(() => { throw new Error("too late"); }, 0);\nawait Bun.sleep(500);\ntest("fine", () => {});',
    };
    steps.tests("suite", files, ["--timeout", "1000", ...flags]);
    const { names, last, text, status } = steps.verdict(["suite"]);
    expect(names.toSorted()).toEqual([
      "FAILED: after.test.ts > (unnamed)",
      "FAILED: asserts.test.ts > group > differs [1ms]",
      "FAILED: before.test.ts > (unnamed)",
      "FAILED: loud.test.ts > loud",
      "FAILED: slow.test.ts > never ends",
      expect.stringContaining("FAILED: suite (exit 1 after 1 passed tests, the last of "),
    ]);
    expect(last).toBe("1 passed, 6 failed");
    expect(status).toBe(1);
    const texts = text.split("== ").map((part) => part.split("\n"));
    for (const [title, error] of [
      ["after.test.ts > (unnamed)", "not tidy"],
      ["group > differs [1ms]", '-   "a": "two",'],
      ["before.test.ts > (unnamed)", "not ready"],
      ["never ends", "timed out"],
      ["suite (exit 1", "too late"],
      ["loud", "line 0"],
    ] as const) {
      const found = texts.find(([first]) => first?.includes(title))?.join("\n");
      expect(found).toContain(error);
    }
    expect(text).not.toContain("line 50\n");
    expect(text).toContain("line 98\n");
  });
}

for (const [name, content, told] of [
  ["a process that ends", "process.exit(3);", "FAILED: suite (exit 3 after 1 passed tests, the last of a.test.ts)"],
  ["one that is killed", `process.kill(process.pid, "SIGKILL");`, "FAILED: suite (exit 137 after 1 passed tests,"],
] as const) {
  test(`${name} is a failure whatever a second run says: the files after it were never seen`, () => {
    const steps = makeSteps();
    const a = `test("fine", () => {});\n${failing(["wrong"])}\ntest("ends", () => { ${content} });`;
    steps.tests("suite", { a, b: 'test("fine", () => {});' });
    steps.again("suite", "a", 'test("fine", () => {});\ntest("wrong", () => {});');
    const { names, last, text } = steps.verdict(["suite"]);
    expect(names).toEqual(["UNSTABLE: a.test.ts > wrong", expect.stringContaining(told)]);
    expect(text).toContain("error: wrong was wrong");
    expect(last).toBe("2 passed, 1 failed");
  });
}

test("a worker that ends is a failure of its file", () => {
  const steps = makeSteps();
  const files = { a: 'test("ends", () => { process.exit(3); });', b: 'test("fine", () => {});' };
  steps.tests("suite", files, ["--parallel=2", "--no-isolate"]);
  expect(steps.files()).toEqual(["own_suite a.test.ts suite"]);
  const { names, last } = steps.verdict(["suite"]);
  expect(names).toEqual(["FAILED: a.test.ts > (worker crashed: exit code 3)"]);
  expect(last).toBe("1 passed, 1 failed");
});

test("a run of no test is a failure", () => {
  const steps = makeSteps();
  steps.tests("suite", { a: 'test.skip("left", () => {});' });
  expect(steps.verdict(["suite"])).toMatchObject({ last: "0 passed, 1 failed", status: 1 });
});

test("what passes when it is run again is unstable, and what fails again has failed", () => {
  const steps = makeSteps();
  // So many that bun test names the failed ones again, below all.
  const fine = 'for (let at = 0; at < 30; at++) test("fine " + at, () => {});';
  steps.tests("suite", { a: failing(["first", "second"]), b: failing(["third"]), c: fine });
  expect(steps.files().toSorted()).toEqual(["own_suite a.test.ts suite", "own_suite b.test.ts suite"]);
  steps.again("suite", "a", `test("first", () => {});\n${failing(["second"])}`);
  steps.again("suite", "b", 'test("third", () => {});');
  const { names, last, text, status } = steps.verdict(["suite"]);
  expect(names.toSorted()).toEqual([
    "FAILED: a.test.ts > second",
    "UNSTABLE: a.test.ts > first",
    "UNSTABLE: b.test.ts > third",
  ]);
  expect(text).toContain("Error: third was wrong");
  expect(last).toBe("32 passed, 1 failed");
  expect(status).toBe(1);
});

test("unstable tests alone do not fail it", () => {
  const steps = makeSteps();
  steps.tests("suite", { a: 'test("one", () => { throw new Error("once"); });' });
  steps.again("suite", "a", 'test("one", () => {});');
  expect(steps.verdict(["suite"])).toMatchObject({ last: "1 passed, 0 failed", status: 0 });
});

test("a second run that comes to nothing forgives nothing", () => {
  const steps = makeSteps();
  steps.tests("suite", { a: 'test("one", () => { throw new Error("once"); });' });
  steps.again("suite", "a", "process.exit(0);");
  expect(steps.verdict(["suite"])).toMatchObject({ last: "0 passed, 1 failed", status: 1 });
});

test("where nearly all fails, nothing is run again", () => {
  const steps = makeSteps();
  const files = Array.from({ length: 25 }, (_, at) => [`f${at}`, 'test("one", () => { throw new Error("no"); });']);
  steps.tests("suite", Object.fromEntries(files));
  expect(steps.files()).toEqual([]);
  expect(steps.verdict(["suite"]).last).toBe("0 passed, 25 failed");
});

test("a check that fails is told with the end of what it printed, and so is a step that never came to an end", () => {
  const steps = makeSteps();
  steps.check("lint", 2, `${"much\n".repeat(99)}the last words`);
  const { names, last, text, status } = steps.verdict(["lint", "demo"]);
  expect(names).toEqual(["FAILED: lint (exit 2)", "FAILED: demo (never ended)"]);
  expect(text).toContain("the last words\n");
  expect(last).toBe("0 passed, 2 failed");
  expect(status).toBe(1);
});

function failing(names: readonly string[]): string {
  return names.map((name) => `test("${name}", () => { throw new Error("${name} was wrong"); });`).join("\n");
}

function makeSteps(): Steps {
  const directory = temporaryDirectory();
  const results = join(directory, "results");
  const log = join(directory, "log");
  writeFileSync(results, "");
  const keep = (...args: string[]) => {
    const { stderr } = spawnSync("node", [SCRIPT, ...args], { encoding: "utf8" });
    expect(stderr).toBe("");
  };
  const runTests = (files: Readonly<Record<string, string>>, flags: readonly string[]): string => {
    const tests = join(directory, "tests");
    rmSync(tests, { recursive: true, force: true });
    rmSync(`${log}.xml`, { force: true });
    mkdirSync(tests);
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(tests, `${name}.test.ts`), `${IMPORTS}${content}\n`);
    }
    const output = openSync(log, "w");
    const args = ["test", "--reporter=junit", `--reporter-outfile=${log}.xml`, ...flags];
    const run = spawnSync(process.execPath, args, {
      cwd: tests,
      env: { ...process.env, CI: "true", NO_COLOR: "1" },
      stdio: ["ignore", output, output],
      timeout: RUN_MS,
      killSignal: "SIGKILL",
    });
    closeSync(output);
    // As a shell tells of SIGKILL.
    return String(run.status ?? 137);
  };
  return {
    tests: (step, files, flags = []) => {
      const names = Object.keys(files).map((name) => `${name}.test.ts`);
      keep("tests", results, step, runTests(files, flags), log, "own_suite", ...names);
    },
    again: (step, file, content) => {
      const status = runTests({ [file]: content }, []);
      keep("again", results, step, status, log, "own_suite", `${file}.test.ts`);
    },
    check: (step, status, output) => {
      writeFileSync(log, output);
      keep("check", results, step, String(status), log);
    },
    files: () => spawnSync("node", [SCRIPT, "files", results], { encoding: "utf8" }).stdout.split("\n").filter(Boolean),
    verdict: (begun) => {
      writeFileSync(join(directory, "begun"), begun.map((step) => `${step}\n`).join(""));
      const run = spawnSync("node", [SCRIPT, "verdict", results, join(directory, "begun")], { encoding: "utf8" });
      const lines = run.stdout.trimEnd().split("\n");
      return {
        names: lines.filter((line) => /^(FAILED|UNSTABLE): /.test(line)),
        last: lines.at(-1) ?? "",
        text: run.stdout,
        status: run.status,
      };
    },
  };
}
