/** The command line's grammar. */
import { describe, expect, test } from "bun:test";
import { type Arguments, type FlagSpecification, findNearest, parseArguments } from "../lib/cli/arguments.ts";

const FLAGS: readonly FlagSpecification[] = [
  { flag: "backup-dir", takesValue: true },
  { flag: "wait", takesValue: true },
  { flag: "dry-run", takesValue: false },
  { flag: "json", takesValue: false },
  { flag: "help", takesValue: false },
];
const COMMANDS = ["status", "plan"];

interface Expected {
  readonly command?: string;
  readonly flags?: Record<string, string | true>;
  readonly rest?: readonly string[];
  readonly problems?: Arguments["problems"];
}

const CASES: [string, string[], Expected][] = [
  ["nothing", [], {}],
  ["a command", ["status"], { command: "status" }],
  ["a flag with its value behind it", ["--wait", "5s"], { flags: { wait: "5s" } }],
  ["a flag with its value in it", ["--wait=5s"], { flags: { wait: "5s" } }],
  ["a value with an equals sign", ["--backup-dir=/a=b"], { flags: { "backup-dir": "/a=b" } }],
  ["a value that begins with a dash, in the flag", ["--backup-dir=--odd"], { flags: { "backup-dir": "--odd" } }],
  ["an empty value", ["--wait="], { flags: { wait: "" } }],
  ["an empty value behind it", ["--wait", ""], { flags: { wait: "" } }],
  ["a negative number is a value", ["--wait", "-1"], { flags: { wait: "-1" } }],
  ["a lone dash is a value", ["--wait", "-"], { flags: { wait: "-" } }],
  ["a switch", ["--json"], { flags: { json: true } }],
  ["the short form of help", ["-h"], { flags: { help: true } }],
  [
    "flags before and behind the command",
    ["--json", "plan", "--wait", "1"],
    {
      command: "plan",
      flags: { json: true, wait: "1" },
    },
  ],
  ["the last of several counts", ["--wait=1", "--wait", "2"], { flags: { wait: "2" } }],
  [
    "what stands behind -- is the app's, untouched",
    ["--json", "--", "node", "server.js", "--wait", "--", "-x"],
    {
      flags: { json: true },
      rest: ["node", "server.js", "--wait", "--", "-x"],
    },
  ],
  ["nothing behind --", ["plan", "--"], { command: "plan" }],
  ["an unknown flag", ["--colour"], { problems: [{ kind: "unknown-flag", flag: "--colour", nearest: undefined }] }],
  [
    "an unknown flag that is near one",
    ["--dryrun"],
    {
      problems: [{ kind: "unknown-flag", flag: "--dryrun", nearest: "--dry-run" }],
    },
  ],
  ["an unknown short flag", ["-x"], { problems: [{ kind: "unknown-flag", flag: "-x", nearest: undefined }] }],
  [
    "capitals are another flag",
    ["--JSON"],
    {
      problems: [{ kind: "unknown-flag", flag: "--JSON", nearest: undefined }],
    },
  ],
  [
    "a name of JavaScript's own",
    ["--constructor", "--__proto__=x"],
    {
      problems: [
        { kind: "unknown-flag", flag: "--constructor", nearest: undefined },
        { kind: "unknown-flag", flag: "--__proto__", nearest: undefined },
      ],
    },
  ],
  [
    "the value of an unknown flag is not a command",
    ["--wiat", "5s", "status"],
    {
      command: "status",
      problems: [{ kind: "unknown-flag", flag: "--wiat", nearest: "--wait" }],
    },
  ],
  [
    "an unknown flag with its value in it takes nothing else",
    ["--wiat=5s", "status"],
    {
      command: "status",
      problems: [{ kind: "unknown-flag", flag: "--wiat", nearest: "--wait" }],
    },
  ],
  ["a value that is not there", ["--wait"], { problems: [{ kind: "missing-value", flag: "--wait" }] }],
  [
    "a value that is not there before --",
    ["--wait", "--", "node"],
    {
      rest: ["node"],
      problems: [{ kind: "missing-value", flag: "--wait" }],
    },
  ],
  [
    "a flag in the place of a value: no folder of that name, and no deploy",
    ["--backup-dir", "--dry-run"],
    {
      problems: [{ kind: "missing-value", flag: "--backup-dir" }],
    },
  ],
  [
    "a short flag in the place of a value",
    ["--backup-dir", "-h"],
    {
      problems: [{ kind: "missing-value", flag: "--backup-dir" }],
    },
  ],
  ["a value for a switch", ["--json=false"], { problems: [{ kind: "unexpected-value", flag: "--json" }] }],
  [
    "an unknown command that is near one",
    ["statsu"],
    {
      command: "statsu",
      problems: [{ kind: "unknown-command", command: "statsu", nearest: "status" }],
    },
  ],
  [
    "an app command without --",
    ["node", "server.js"],
    {
      command: "node",
      problems: [
        { kind: "unknown-command", command: "node", nearest: undefined },
        { kind: "surplus", argument: "server.js" },
      ],
    },
  ],
  ["two commands", ["status", "plan"], { command: "status", problems: [{ kind: "surplus", argument: "plan" }] }],
  ["an empty word", [""], { command: "", problems: [{ kind: "unknown-command", command: "", nearest: undefined }] }],
  [
    "everything that is wrong is collected",
    ["statsu", "--jsn", "--json=1", "plan", "--wait"],
    {
      command: "statsu",
      problems: [
        { kind: "unknown-flag", flag: "--jsn", nearest: "--json" },
        { kind: "unexpected-value", flag: "--json" },
        { kind: "missing-value", flag: "--wait" },
        { kind: "unknown-command", command: "statsu", nearest: "status" },
        { kind: "surplus", argument: "plan" },
      ],
    },
  ],
];

describe("a command line", () => {
  for (const [name, argv, { command, flags = {}, rest = [], problems = [] }] of CASES) {
    test(name, () => {
      const given = parseArguments(argv, FLAGS, COMMANDS);
      expect(given.command as string | undefined).toBe(command);
      expect(Object.fromEntries(given.flags)).toEqual(flags);
      expect(given.rest).toEqual([...rest]);
      expect(given.problems).toEqual([...problems]);
    });
  }
});

describe("a command that takes a word of its own", () => {
  test.each([
    ["without it", ["verify"], undefined, []],
    ["with it", ["verify", "backup.sql"], "backup.sql", []],
    ["between flags", ["--json", "verify", "--wait", "1", "all"], "all", []],
    ["with one too many", ["verify", "a.sql", "b.sql"], "a.sql", [{ kind: "surplus", argument: "b.sql" }]],
    ["and one that takes none", ["status", "a.sql"], undefined, [{ kind: "surplus", argument: "a.sql" }]],
  ] as const)("%s", (_, argv, operand, problems) => {
    const given = parseArguments(argv, FLAGS, ["status", "verify"], ["verify"]);
    expect(given.operand as string | undefined).toBe(operand);
    expect(given.problems).toEqual([...problems]);
  });
});

describe("a connection string that was given as an argument is not shown with its password", () => {
  test.each([
    [["postgresql://app:s3cret@db/app"]],
    [["status", "postgresql://app:s3cret@db/app"]],
    [["--database-url", "postgresql://app:s3cret@db/app"]],
    [["--database-url=postgresql://app:s3cret@db/app"]],
    [["postgresql://app:s3c/ret@db:x/app"]],
    [["mysql://app:s3cret@db/app"]],
  ])("%j", (argv) => {
    const { problems } = parseArguments(argv, FLAGS, COMMANDS);
    expect(problems.length).toBeGreaterThan(0);
    expect(JSON.stringify(problems)).not.toMatch(/s3c|ret@/);
  });
});

describe("the nearest word", () => {
  test.each([
    ["one letter less", "statu", "status"],
    ["one letter more", "statuss", "status"],
    ["two letters changed places", "paln", "plan"],
    ["a third of a longer word", "backup-direct", "backup-dir"],
    ["too far", "deploy", undefined],
    ["nothing", "", undefined],
    ["letters beyond ASCII", "\u{1F600}", undefined],
  ])("%s: %s", (_, word, nearest) => {
    expect(findNearest(word, ["status", "plan", "backup-dir"]) as string | undefined).toBe(nearest);
  });

  test("the first of those that are as near", () => {
    expect(findNearest("wain", ["wait", "main"])).toBe("wait");
  });
});
