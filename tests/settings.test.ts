/** Every setting: where its value comes from, what it may be, and what is said when it may not. */
import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatDuration, parseDuration, rowsOf } from "../lib/cli/setting-table.ts";
import { type Environment, parseEnvironment, readRequest, SETTINGS, type Settings } from "../lib/cli/settings.ts";
import { isDeployError, type SettingExpectation, type SettingProblem } from "../lib/errors.ts";
import { en } from "../lib/messages/en.ts";
import { ko } from "../lib/messages/ko.ts";
import { temporaryDirectory } from "./support/cluster.ts";

const URL = "postgresql://app:s3cret@db.example:5433/shop?schema=sales";
const REQUIRED = { DATABASE_URL: URL };

type Row = {
  readonly environment?: string;
  readonly flag?: string;
  /** The one that the flag is for, where it is not for all. */
  readonly command?: string;
  readonly default: unknown;
  /** Texts and what they mean. */
  readonly valid: Readonly<Record<string, unknown>>;
  readonly invalid?: readonly string[];
  readonly expected?: SettingExpectation;
};

const SWITCH = {
  default: false,
  valid: { "1": true, true: true, TRUE: true, yes: true, "0": false, false: false, No: false },
  invalid: ["2", "on", "constructor", "__proto__", " true"],
  expected: { kind: "one-of", values: ["true", "false"] },
} as const;
const DURATION = {
  valid: {
    "0": 0,
    "500ms": 500,
    "3": 3000,
    "3s": 3000,
    "15m": 900_000,
    "15min": 900_000,
    "1h": 3_600_000,
    " 2s ": 2000,
  },
  invalid: ["-1", "1.5s", "3 s", "1d", "s", "soon", "1h30m", "597h", "9999999999"],
  expected: { kind: "duration" },
} as const;
const choice = (...values: string[]) => ({
  default: values[0],
  valid: Object.fromEntries(values.map((value) => [value, value])),
  invalid: ["other", values[0]?.toUpperCase() ?? "", `${values[0]} `],
  expected: { kind: "one-of", values } as const,
});
const wholeNumber = (minimum: number, defaultValue: number) => ({
  default: defaultValue,
  valid: { [minimum]: minimum, "365": 365, "007": 7 },
  invalid: ["abc", "-1", "1.5", "1e3", "0x10", "٣", " 30", "9999999999", String(minimum - 1)],
  expected: { kind: "whole-number", minimum } as const,
});

const backupDirectory = existsSync("/app") ? "/app/backups" : "./backups";

/** What `Settings` is made of; the sources of the connection and the flags without a setting are tested by themselves. */
const ROWS: { readonly [K in keyof typeof SETTINGS & keyof Settings]: Row } = {
  migrationsDirectory: {
    environment: "MIGRATIONS_DIR",
    flag: "migrations-dir",
    default: "prisma/migrations",
    valid: { "a b/마이그레이션": "a b/마이그레이션" },
  },
  migrateEngine: { environment: "MIGRATE_ENGINE", flag: "migrate-engine", ...choice("native", "prisma") },
  prismaSchema: {
    environment: "PRISMA_SCHEMA",
    flag: "prisma-schema",
    default: "",
    valid: { "db/schema.prisma": "db/schema.prisma" },
  },
  prismaTimeoutMs: { environment: "PRISMA_TIMEOUT", flag: "prisma-timeout", default: 0, ...DURATION },
  migrationOrder: { environment: "MIGRATION_ORDER", flag: "migration-order", ...choice("bytes", "prisma") },
  onEdited: { environment: "ON_EDITED", flag: "on-edited", ...choice("warn", "refuse") },
  onMissing: { environment: "ON_MISSING", flag: "on-missing", ...choice("warn", "refuse") },
  backupDirectory: {
    environment: "BACKUP_DIR",
    flag: "backup-dir",
    default: backupDirectory,
    valid: { "/var/backups": "/var/backups" },
  },
  backupFormat: { environment: "BACKUP_FORMAT", flag: "backup-format", ...choice("auto", "plain", "custom") },
  backupRetentionDays: { environment: "BACKUP_RETENTION_DAYS", flag: "backup-retention-days", ...wholeNumber(0, 30) },
  backupMinimumKeep: { environment: "BACKUP_MIN_KEEP", flag: "backup-min-keep", ...wholeNumber(1, 3) },
  restore: {
    environment: "RESTORE_MODE",
    flag: "restore",
    ...choice("auto", "swap", "in-place", "always", "never"),
  },
  maintenanceDatabase: {
    environment: "MAINTENANCE_DATABASE",
    flag: "maintenance-database",
    default: "",
    valid: { defaultdb: "defaultdb" },
  },
  acceptManualRestore: { environment: "ACCEPT_MANUAL_RESTORE", flag: "accept-manual-restore", ...SWITCH },
  onPartial: { environment: "ON_PARTIAL", flag: "on-partial", ...choice("stop", "restore") },
  databaseWaitMs: { environment: "DATABASE_WAIT", flag: "wait", default: 30_000, ...DURATION },
  deployLockWaitMs: { environment: "DEPLOY_LOCK_WAIT", flag: "lock-wait", default: 900_000, ...DURATION },
  lockTimeoutMs: { environment: "LOCK_TIMEOUT", flag: "lock-timeout", default: 3000, ...DURATION },
  lockRetryMs: { environment: "LOCK_RETRY", flag: "lock-retry", default: 300_000, ...DURATION },
  statementTimeoutMs: { environment: "STATEMENT_TIMEOUT", flag: "statement-timeout", default: 0, ...DURATION },
  createDatabase: { environment: "CREATE_DATABASE", flag: "create-database", ...SWITCH },
  maintenance: { environment: "MAINTENANCE", flag: "maintenance", ...SWITCH },
  stateFile: {
    environment: "STATE_FILE",
    flag: "state-file",
    default: "",
    valid: { "/run/deploy.json": "/run/deploy.json" },
  },
  probePort: {
    environment: "PROBE_PORT",
    flag: "probe-port",
    default: 0,
    valid: { "0": 0, "8080": 8080 },
    invalid: ["http", "-1"],
    expected: { kind: "whole-number", minimum: 0 },
  },
  retry: { flag: "retry", default: false, valid: {} },
  applied: { flag: "applied", command: "resolve", default: "", valid: { "20240101_한글 이름": "20240101_한글 이름" } },
  rolledBack: { flag: "rolled-back", command: "resolve", default: "", valid: { "1_a": "1_a" } },
  before: { flag: "before", default: "", valid: { "1_a": "1_a" }, command: "restore" },
  into: { flag: "into", default: "", valid: { copy: "copy" }, command: "restore" },
  yesRestore: { flag: "yes-restore", default: "", valid: { app: "app" }, command: "restore" },
  force: { flag: "force", command: "baseline", default: false, valid: {} },
  dryRun: { flag: "dry-run", default: false, valid: {} },
  language: { environment: "DEPLOY_LANG", flag: "lang", ...choice("ko", "en") },
  logFormat: { environment: "LOG_FORMAT", flag: "log-format", ...choice("human", "json") },
  json: { flag: "json", default: false, valid: {} },
  help: { flag: "help", default: false, valid: {} },
  version: { flag: "version", default: false, valid: {} },
};

describe("the table", () => {
  test("every row of it is tested here or is a source of the connection", () => {
    const sources = ["databaseUrl", "databaseUrlFile", "directUrl", "envFile"];
    expect(Object.keys(SETTINGS).toSorted()).toEqual([...Object.keys(ROWS), ...sources].toSorted());
  });

  test("a name or a flag stands once, in its spelling, with words in both languages", () => {
    const rows = rowsOf(SETTINGS).map(([, row]) => row);
    const names = rows.flatMap(({ environment }) => environment ?? []);
    const flags = rows.flatMap(({ flag }) => flag ?? []);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(flags).size).toBe(flags.length);
    for (const name of names) expect(name).toMatch(/^[A-Z]+(_[A-Z]+)*$/);
    for (const flag of flags) expect(flag).toMatch(/^[a-z]+(-[a-z]+)*$/);
    for (const { help } of rows) {
      expect(help.ko).toMatch(/[가-힣]/);
      expect(help.en).toMatch(/^[\x20-\x7e]+\.$/);
    }
  });

  test("what could hold a password has no flag", () => {
    const withoutFlag = Object.entries(SETTINGS).filter(([, row]) => row.flag === undefined);
    expect(withoutFlag.map(([key]) => key)).toEqual(["databaseUrl", "databaseUrlFile", "directUrl"]);
  });
});

for (const [key, row] of Object.entries(ROWS) as [keyof Settings, Row][]) {
  describe(key, () => {
    const command = row.command === undefined ? [] : [row.command];

    test("its default, its variable and its flag", () => {
      const { environment, flag } = SETTINGS[key as keyof typeof ROWS];
      expect({ environment, flag } as object).toEqual({ environment: row.environment, flag: row.flag });
      expect(read([], REQUIRED)[key]).toEqual(row.default as never);
    });

    for (const [text, value] of Object.entries(row.valid)) {
      test(`${JSON.stringify(text)} is understood`, () => {
        if (row.environment !== undefined) {
          expect(read([], { ...REQUIRED, [row.environment]: text })[key]).toEqual(value as never);
        }
        // A switch that is named on the command line is on, and takes no value.
        if (typeof row.default !== "boolean") {
          expect(read([...command, `--${row.flag}=${text}`], REQUIRED)[key]).toEqual(value as never);
        }
      });
    }

    for (const text of row.invalid ?? []) {
      test(`${JSON.stringify(text)} is refused`, () => {
        const { expected } = row;
        expect(problemsOf([], { ...REQUIRED, [row.environment ?? ""]: text }) as unknown).toEqual([
          { kind: "invalid", name: row.environment, value: text, expected },
        ]);
        if (typeof row.default === "boolean") return;
        expect(problemsOf([...command, `--${row.flag}=${text}`], REQUIRED) as unknown).toEqual([
          { kind: "invalid", name: `--${row.flag}`, value: text, expected },
        ]);
      });
    }

    test("an empty variable is not set, an empty flag is a problem", () => {
      if (row.environment !== undefined) {
        expect(read([], { ...REQUIRED, [row.environment]: "" })[key]).toEqual(row.default as never);
      }
      if (typeof row.default === "boolean") {
        expect(read([...command, `--${row.flag}`], REQUIRED)[key] as unknown).toBe(true);
        expect(problemsOf([...command, `--${row.flag}=true`], REQUIRED)).toEqual([
          { kind: "unexpected-value", flag: `--${row.flag}` },
        ]);
      } else
        expect(problemsOf([...command, `--${row.flag}=`], REQUIRED)).toMatchObject([{ kind: "invalid", value: "" }]);
    });
  });
}

describe("flag > environment > --env-file > default", () => {
  const file = makeFile("BACKUP_RETENTION_DAYS=1\nBACKUP_MIN_KEEP=5\n");
  const environment = { ...REQUIRED, BACKUP_RETENTION_DAYS: "2" };

  test.each([
    ["the default", [], REQUIRED, 30],
    ["the file", ["--env-file", file], REQUIRED, 1],
    ["the environment", [], environment, 2],
    ["the environment over the file", ["--env-file", file], environment, 2],
    ["the file, where the variable is empty", ["--env-file", file], { ...REQUIRED, BACKUP_RETENTION_DAYS: "" }, 1],
    ["the flag over all", ["--env-file", file, "--backup-retention-days", "3"], environment, 3],
  ] as const)("%s", (_, argv, variables, expected) => {
    expect(read(argv, variables).backupRetentionDays).toBe(expected);
  });

  test("what the file alone has is used", () => {
    expect(read(["--env-file", file], environment).backupMinimumKeep).toBe(5);
  });

  test("a wrong flag is a problem even where the variable would do", () => {
    expect(problemsOf(["--backup-retention-days", "x"], environment)).toMatchObject([
      { name: "--backup-retention-days" },
    ]);
  });

  test("an empty variable of the file is not set either", () => {
    const empty = makeFile("BACKUP_RETENTION_DAYS=\nBACKUP_MIN_KEEP=''\n");
    expect(read(["--env-file", empty], REQUIRED)).toMatchObject({ backupRetentionDays: 30, backupMinimumKeep: 3 });
  });

  test("the connection string may come from the file", () => {
    const withUrl = makeFile(`DATABASE_URL="${URL}"`);
    expect(read(["--env-file", withUrl], {}).target.host).toBe("db.example");
    expect(read(["--env-file", withUrl], { DATABASE_URL: "" }).target.host).toBe("db.example");
  });

  test("a .env file is never read by itself", () => {
    expect(problemsOf([], { PWD: temporaryDirectory() })).toEqual([{ kind: "missing", name: "DATABASE_URL" }]);
  });

  test("a file that is not there is a problem, beside the others", () => {
    const path = join(temporaryDirectory(), "missing.env");
    expect(problemsOf(["--env-file", path, "--jsn"], {})).toEqual([
      { kind: "unreadable-file", name: "--env-file", path, reason: "ENOENT" },
      { kind: "unknown-flag", flag: "--jsn", nearest: "--json" },
      { kind: "missing", name: "DATABASE_URL" },
    ]);
  });
});

describe("the connection", () => {
  const other = "postgresql://direct.example/other";
  const urlFile = makeFile(`${URL}\n`);

  const SOURCES: [string, Environment, string, Settings["targetName"]][] = [
    ["DATABASE_URL", REQUIRED, "db.example", "DATABASE_URL"],
    ["DIRECT_URL before DATABASE_URL", { ...REQUIRED, DIRECT_URL: other }, "direct.example", "DIRECT_URL"],
    ["DIRECT_URL alone", { DIRECT_URL: other }, "direct.example", "DIRECT_URL"],
    ["an empty DIRECT_URL is not set", { ...REQUIRED, DIRECT_URL: "" }, "db.example", "DATABASE_URL"],
    ["DATABASE_URL_FILE", { DATABASE_URL_FILE: urlFile }, "db.example", "DATABASE_URL_FILE"],
    [
      "DATABASE_URL before its file",
      { DATABASE_URL: other, DATABASE_URL_FILE: urlFile },
      "direct.example",
      "DATABASE_URL",
    ],
    [
      "DATABASE_URL, whose file is not even read then",
      { ...REQUIRED, DATABASE_URL_FILE: "/no/such/file" },
      "db.example",
      "DATABASE_URL",
    ],
    ["DIRECT_URL before the file", { DIRECT_URL: other, DATABASE_URL_FILE: urlFile }, "direct.example", "DIRECT_URL"],
  ];

  test.each(SOURCES)("%s", (_, environment, host, targetName) => {
    const settings = read([], environment);
    expect(settings.target.host).toBe(host);
    expect(settings.targetName).toBe(targetName);
  });

  test("is understood by Prisma's rules", () => {
    expect(read([], REQUIRED).target).toMatchObject({
      user: "app",
      password: "s3cret",
      host: "db.example",
      port: 5433,
      database: "shop",
      schema: "sales",
    });
  });

  const missing = join(temporaryDirectory(), "missing");
  const WRONG: [string, Environment, SettingProblem[]][] = [
    ["missing", {}, [{ kind: "missing", name: "DATABASE_URL" }]],
    ["empty", { DATABASE_URL: "" }, [{ kind: "missing", name: "DATABASE_URL" }]],
    ["blank", { DATABASE_URL: "  " }, [{ kind: "invalid-url", name: "DATABASE_URL", reason: { kind: "empty" } }]],
    [
      "garbage",
      { DATABASE_URL: "s3cret garbage" },
      [{ kind: "invalid-url", name: "DATABASE_URL", reason: { kind: "not-a-url" } }],
    ],
    [
      "of another database",
      { DATABASE_URL: "mysql://app:s3cret@db/shop" },
      [{ kind: "invalid-url", name: "DATABASE_URL", reason: { kind: "scheme", scheme: "mysql" } }],
    ],
    [
      "garbage in DIRECT_URL",
      { ...REQUIRED, DIRECT_URL: "x" },
      [{ kind: "invalid-url", name: "DIRECT_URL", reason: { kind: "not-a-url" } }],
    ],
    [
      "a file that is not there",
      { DATABASE_URL_FILE: missing },
      [{ kind: "unreadable-file", name: "DATABASE_URL_FILE", path: missing, reason: "ENOENT" }],
    ],
    [
      "garbage in the file",
      { DATABASE_URL_FILE: makeFile("s3cret garbage") },
      [{ kind: "invalid-url", name: "DATABASE_URL_FILE", reason: { kind: "not-a-url" } }],
    ],
    [
      "an empty file",
      { DATABASE_URL_FILE: makeFile("\n") },
      [{ kind: "invalid-url", name: "DATABASE_URL_FILE", reason: { kind: "empty" } }],
    ],
  ];

  test.each(WRONG)("%s", (_, environment, problems) => {
    expect(problemsOf([], environment)).toEqual(problems);
  });
});

describe("what is wrong", () => {
  test("is told all at once", () => {
    const problems = problemsOf(["statsu", "--dryrun", "--wait", "soon", "--json=1"], {
      DATABASE_URL: "mysql://app:s3cret@db/shop",
      BACKUP_RETENTION_DAYS: "abc",
      DEPLOY_LANG: "fr",
    });
    expect(problems.map((problem) => ({ ...problem, expected: undefined }) as object)).toEqual([
      { kind: "unknown-flag", flag: "--dryrun", nearest: "--dry-run" },
      { kind: "unexpected-value", flag: "--json" },
      { kind: "unknown-command", command: "statsu", nearest: "status" },
      { kind: "invalid", name: "BACKUP_RETENTION_DAYS", value: "abc" },
      { kind: "invalid", name: "--wait", value: "soon" },
      { kind: "invalid", name: "DEPLOY_LANG", value: "fr" },
      { kind: "invalid-url", name: "DATABASE_URL", reason: { kind: "scheme", scheme: "mysql" } },
    ]);
  });

  const LEAKS: [string, readonly string[], Environment][] = [
    ["in the wrong variable", [], { BACKUP_RETENTION_DAYS: URL }],
    ["in the wrong flag", ["--lang", URL], REQUIRED],
    ["as a command", [URL], REQUIRED],
    ["behind a flag that there is not", ["--database-url", URL], REQUIRED],
    ["in a flag that there is not", [`--database-url=${URL}`], REQUIRED],
    ["of another scheme", [], { DATABASE_URL: "mysql://app:s3cret@db/shop" }],
    ["with two hosts", [], { DATABASE_URL: "postgresql://app:s3cret@a,b/shop" }],
    ["with a wrong port", [], { DATABASE_URL: "postgresql://app:s3cret@db:99999/shop" }],
    ["with a raw slash in the password", [], { DATABASE_URL: "postgresql://app:12/s3cret@db/shop" }],
    ["with a raw hash in the password", [], { DATABASE_URL: "postgresql://app:x#s3cret@db/shop" }],
    ["with a wrong parameter", [], { DATABASE_URL: `${URL}&connect_timeout=x` }],
    ["in a file", [], { DATABASE_URL_FILE: makeFile("mysql://app:s3cret@db/shop") }],
  ];

  test.each(LEAKS)("never shows the password of a connection string %s", (_, argv, environment) => {
    const problems = problemsOf(argv, environment);
    expect(problems.length).toBeGreaterThan(0);
    for (const { settingProblem } of [ko, en]) {
      expect(JSON.stringify(problems) + problems.map(settingProblem).join("\n")).not.toContain("s3cret");
    }
  });
});

describe("the request, before anything is checked", () => {
  test.each([
    ["the language of the errors", ["--lang", "en", "--nonsense"], { language: "en" }],
    ["a language that there is not", ["--lang", "fr"], { language: "ko" }],
    ["the format of the log", ["--log-format=json", "--nonsense"], { logFormat: "json" }],
    ["help without a connection", ["--help"], { help: true, version: false }],
    ["help in short", ["-h"], { help: true }],
    ["the version", ["--version"], { version: true, help: false }],
  ] as const)("%s", (_, argv, expected) => {
    expect(readRequest(argv, {})).toMatchObject(expected);
  });
});

describe("the command", () => {
  test.each([
    ["deploy without one", [], "deploy", []],
    ["status", ["status"], "status", []],
    ["plan", ["plan"], "plan", []],
    ["a dry run is plan", ["--dry-run", "--", "node"], "plan", ["node"]],
    ["an app behind --", ["--", "node", "server.js", "--wait", "x"], "deploy", ["node", "server.js", "--wait", "x"]],
  ] as const)("%s", (_, argv, command, appCommand) => {
    const settings = read(argv, REQUIRED);
    expect(settings.command).toBe(command);
    expect(settings.appCommand).toEqual([...appCommand]);
  });

  test("the settings hold no connection string beside the target", () => {
    expect(Object.keys(read([], REQUIRED)).filter((key) => /url|envFile/i.test(key))).toEqual([]);
  });
});

describe("durations", () => {
  test.each([0, 1, 500, 1000, 1500, 60_000, 90_000, 900_000, 3_600_000, 5_400_000, 999_999_999])(
    "%d ms are read back as they are written",
    (durationMs) => {
      expect(parseDuration(formatDuration(durationMs))).toBe(durationMs);
    },
  );

  test.each([
    [3000, "3s"],
    [90_000, "90s"],
    [900_000, "15m"],
    [3_600_000, "1h"],
    [1500, "1500ms"],
  ])("%d ms are %s", (durationMs, text) => {
    expect(formatDuration(durationMs)).toBe(text);
  });

  test("none is longer than a timer can be, which would end it at once", () => {
    expect(parseDuration("596h")).toBe(596 * 3_600_000);
    expect(parseDuration("597h")).toBeUndefined();
  });
});

describe("an environment file", () => {
  const FILES: [string, string, Record<string, string>][] = [
    ["lines", "A=1\nB=two words\n", { A: "1", B: "two words" }],
    ["the line ends of Windows", "A=1\r\nB=2\r\n", { A: "1", B: "2" }],
    ["a byte order mark", "\uFEFFA=1", { A: "1" }],
    ["blanks around", "  A =  1  \n\tB=2", { A: "1", B: "2" }],
    ["export", "export A=1\nexport  B=2", { A: "1", B: "2" }],
    ["comments", "# A=0\n  #B=0\nA=1 # one\nB=x#y\nC= # nothing", { A: "1", B: "x#y", C: "" }],
    ["a hash in quotes", "A=\"x # y\" # one\nB='x # y'", { A: "x # y", B: "x # y" }],
    ["nothing", "A=\nB=''\nC=\"\"", { A: "", B: "", C: "" }],
    [
      "equals signs",
      "A=postgresql://u:p@h/d?schema=x&sslmode=require",
      {
        A: "postgresql://u:p@h/d?schema=x&sslmode=require",
      },
    ],
    ["escapes in double quotes", 'A="a\\nb\\t\\"c\\" \\\\ \\$D"', { A: 'a\nb\t"c" \\ $D' }],
    ["no escapes in single quotes", "A='a\\nb $D'", { A: "a\\nb $D" }],
    ["several lines in quotes", "A=\"1\n2\"\nB='3\n4'\n", { A: "1\n2", B: "3\n4" }],
    ["nothing is expanded", "A=1\nB=$A \\$A", { A: "1", B: "$A \\$A" }],
    ["the last of several counts", "A=1\nA=2", { A: "2" }],
    ["what is no assignment", "A\n=1\n1A=2\nA B=3\nC=4", { C: "4" }],
    ["an unclosed quote", 'A="x\nB=1', { A: '"x', B: "1" }],
  ];

  test.each(FILES)("%s", (_, text, expected) => {
    expect(parseEnvironment(text)).toEqual(expected);
  });
});

function read(argv: readonly string[], environment: Environment): Settings {
  return readRequest(argv, environment).settings();
}

function problemsOf(argv: readonly string[], environment: Environment): readonly SettingProblem[] {
  try {
    read(argv, environment);
    return [];
  } catch (error) {
    if (!isDeployError(error) || error.code !== "SETTINGS_INVALID") throw error;
    return error.fields.problems;
  }
}

function makeFile(content: string): string {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, content);
  return path;
}
