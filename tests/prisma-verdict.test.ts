/**
 * What must hold: the rows decide what a run of the Prisma CLI did, and its sessions are claimed only where both are
 * certain.
 */
import { describe, expect, test } from "bun:test";
import type { MigrationRow } from "../lib/migrations/history.ts";
import { makeLineCleaner, readDatasource } from "../lib/migrations/prisma-output.ts";
import { isEngineAtWork } from "../lib/migrations/prisma-sessions.ts";
import {
  judgePrismaRun,
  type PrismaRun,
  type PrismaVerdict,
  prismaSessions,
} from "../lib/migrations/prisma-verdict.ts";
import { type ConnectionTarget, parseConnectionUrl } from "../lib/postgres/url.ts";

const OLD = row("old", "done");

const CASES: readonly (readonly [
  sentence: string,
  given: {
    after: readonly MigrationRow[];
    before?: readonly MigrationRow[];
    pending?: readonly string[];
    lingering?: readonly number[] | undefined;
  },
  expected: PrismaVerdict,
])[] = [
  ["all pending finished: applied", { after: [OLD, row("a", "done"), row("b", "done")] }, applied("a", "b")],
  [
    "an unfinished row is the failed one, with what was applied before it",
    { after: [OLD, row("a", "done"), row("b", "begun")] },
    failed(row("b", "begun"), ["a"], ["b"]),
  ],
  [
    "the first one failed: nothing is applied",
    { after: [OLD, row("a", "begun")] },
    failed(row("a", "begun"), [], ["a", "b"]),
  ],
  [
    "a step was counted: the script ran, only its end was not noted",
    { after: [OLD, row("a", "ran")] },
    { kind: "failed", row: row("a", "ran"), scriptFinished: true, applied: [], notApplied: ["a", "b"] },
  ],
  [
    "Prisma's order differs from ours: the failed one may come before an applied one",
    { after: [OLD, row("b", "done"), row("a", "begun")] },
    failed(row("a", "begun"), ["b"], ["a"]),
  ],
  [
    "it stopped between two",
    { after: [OLD, row("a", "done")] },
    { kind: "stopped", applied: ["a"], notApplied: ["b"] },
  ],
  ["no row was written", { after: [OLD] }, { kind: "nothing" }],
  ["no row at all, before or after", { before: [], after: [] }, { kind: "nothing" }],
  ["the first deploy of all", { before: [], after: [row("a", "done")], pending: ["a"] }, applied("a")],
  [
    "an earlier attempt that was marked rolled back is not this run's",
    { before: [row("a", "rolled-back")], after: [row("a", "rolled-back"), row("a", "done", "2")], pending: ["a"] },
    applied("a"),
  ],
  [
    "an earlier failed row is not this run's either",
    { before: [row("a", "begun")], after: [row("a", "begun")], pending: ["b"] },
    { kind: "nothing" },
  ],
  [
    "sessions of the engine are still there: what the rows say now may not last",
    { after: [OLD, row("a", "done"), row("b", "done")], lingering: [7] },
    { kind: "unknown", reason: { kind: "still-running", pids: [7] } },
  ],
  [
    "nobody could look for its sessions",
    { after: [OLD, row("a", "done"), row("b", "done")], lingering: undefined },
    { kind: "unknown", reason: { kind: "sessions-unread" } },
  ],
  [
    "a row that was there has changed",
    { after: [{ ...OLD, rolledBackAt: "2024-01-02" }, row("a", "done")] },
    { kind: "unknown", reason: { kind: "rows-changed", migrations: ["old"] } },
  ],
  ["a row that was there is gone", { after: [] }, { kind: "unknown", reason: changedOld() }],
  [
    "it applied what nobody planned",
    { after: [OLD, row("x", "done")] },
    { kind: "unknown", reason: { kind: "not-planned", migrations: ["x"] } },
  ],
  [
    "somebody has resolved a migration meanwhile",
    { after: [OLD, row("a", "rolled-back")] },
    { kind: "unknown", reason: { kind: "not-planned", migrations: ["a"] } },
  ],
  [
    "two unfinished ones can't be of one run, which stops at the first",
    { after: [OLD, row("a", "begun"), row("b", "begun")] },
    { kind: "unknown", reason: { kind: "several-unfinished", migrations: ["a", "b"] } },
  ],
];

describe("the rows decide", () => {
  for (const [sentence, given, expected] of CASES) {
    test(sentence, () => {
      const { before = [OLD], after, pending = ["a", "b"] } = given;
      const lingering = "lingering" in given ? given.lingering : [];
      expect(judgePrismaRun(before, after, pending, { lingering })).toEqual(expected);
    });
  }
});

const DATASOURCE = { database: "app", host: "db", port: 5432 };
const FAILED: PrismaVerdict = failed(row("a", "begun"), [], ["a"]);
const NOTHING: PrismaVerdict = { kind: "nothing" };

const SESSIONS: readonly (readonly [
  sentence: string,
  given: Partial<PrismaRun> & { verdict?: PrismaVerdict; cliVersion?: string | undefined; url?: string },
  expected: number | undefined,
])[] = [
  ["success", {}, 2],
  ["a failed migration", { exitCode: 1, verdict: FAILED }, 2],
  ["stopped between two", { exitCode: 1, verdict: { kind: "stopped", applied: ["a"], notApplied: ["b"] } }, 2],
  ["interrupted, and it ended by itself", { exitCode: 1, verdict: FAILED, interrupted: true }, 2],
  ["P3009 is said after the rows were read", { exitCode: 1, verdict: NOTHING, output: "Error: P3009\nmigrate\n" }, 2],
  ["nothing pending", { verdict: NOTHING, output: "3 migrations found\nNo pending migrations to apply.\n" }, 2],
  ["P3019 is said before it connects", { exitCode: 1, verdict: NOTHING, output: "Error: P3019\n" }, undefined],
  ["nothing written, nothing said", { exitCode: 1, verdict: NOTHING }, undefined],
  ["killed", { exitCode: undefined, signal: "SIGKILL", verdict: FAILED }, undefined],
  ["ended by a signal that it handles", { exitCode: 130, verdict: FAILED }, undefined],
  ["sessions are left", { exitCode: 1, verdict: FAILED, lingering: [7] }, undefined],
  ["sessions could not be read", { exitCode: 1, verdict: FAILED, lingering: undefined }, undefined],
  ["a version that nobody measured", { cliVersion: "8.0.0" }, undefined],
  ["no version", { cliVersion: undefined }, undefined],
  ["it did not say where it works (a driver adapter)", { datasource: undefined }, undefined],
  ["it works on another host: perhaps a pooler", { datasource: { ...DATASOURCE, host: "pooler" } }, undefined],
  ["it works on another port", { datasource: { ...DATASOURCE, port: 6432 } }, undefined],
  ["it works on another database", { datasource: { ...DATASOURCE, database: "b" } }, undefined],
  ["we know of a pooler", { url: "postgresql://u@db/app?pgbouncer=true" }, undefined],
  ["host names have no case", { datasource: { ...DATASOURCE, host: "DB" } }, 2],
  ["a socket's folder is not shown, but it wrote here", { url: "postgresql://u@localhost/app?host=/run/pg" }, 2],
  [
    "a socket's folder is not shown, and it wrote nothing here",
    { url: "postgresql://u@localhost/app?host=/run/pg", verdict: NOTHING, output: "Error: P3009\n" },
    undefined,
  ],
];

describe("sessions of one run", () => {
  for (const [sentence, given, expected] of SESSIONS) {
    test(sentence, () => {
      const { verdict = applied("a"), url = "postgresql://u@db/app", ...overrides } = given;
      const run: PrismaRun = { ...RUN, ...overrides };
      const cliVersion = "cliVersion" in given ? given.cliVersion : "6.19.3";
      expect(prismaSessions({ run, verdict, cliVersion, target: targetOf(url) })).toBe(expected);
    });
  }
});

const RUN: PrismaRun = {
  exitCode: 0,
  signal: undefined,
  startError: undefined,
  timedOut: false,
  interrupted: false,
  lingering: [],
  datasource: DATASOURCE,
  output: "",
};

test("the datasource is read from the CLI's own line, in every form that it has", () => {
  const said = 'Datasource "db": PostgreSQL database "my db", ';
  const at = { database: "my db", host: "h", port: 5432 };
  expect(readDatasource(`${said}schema "public" at "h:5433"`)).toEqual({ ...at, port: 5433 });
  expect(readDatasource(`${said}schema "public" at "h"`)).toEqual(at);
  expect(readDatasource(`${said}schemas "a, b" at "[::1]:6000"`)).toEqual({ ...at, host: "::1", port: 6000 });
  expect(readDatasource(`${said}schema "public" using driver adapter "@prisma/adapter-pg"`)).toBeUndefined();
  expect(readDatasource("2 migrations found in prisma/migrations")).toBeUndefined();
});

test("no line shows a password, in whatever spelling, nor colours", () => {
  const clean = makeLineCleaner(["postgresql://u:p%40ss%2Fword@h/d?sslpassword=identity", "", "not a url"]);
  for (const secret of ["p@ss/word", "p%40ss%2Fword", "identity", "postgresql://u:p%40ss%2Fword@h/d", "not a url"]) {
    expect(clean(`before ${secret} after`)).not.toContain(secret);
    expect(clean(`before ${secret} after`)).toMatch(/^before .*\*\*\*.* after$/);
  }
  expect(clean("url mysql://root:other-secret@x:1/y is bad")).toBe("url mysql://root:***@x:1/y is bad");
  expect(clean("\u001b[1;31m Error\u001b[0m")).toBe(" Error");
  expect(makeLineCleaner(["postgresql://u:pw@h/d"])("pwd postgresql://u:pw@h/d")).toBe("pwd ***");
});

test("an engine is told from others by its statement", () => {
  const scripts = [{ text: "CREATE TABLE a (id int);\nSELECT 1;\nCOMMIT;\nSELECT pg_sleep(60);" }];
  const is = (query: string, state = "active", inStateMs = 0) => isEngineAtWork({ query, state, inStateMs }, scripts);
  expect(is(scripts[0]?.text ?? "")).toBe(true);
  expect(is("\nSELECT pg_sleep(60)")).toBe(true);
  expect(is("CREATE TABLE a (id", "idle in transaction")).toBe(true);
  expect(is('UPDATE "_prisma_migrations" SET "finished_at" = $1 WHERE "id" = $2', "idle")).toBe(true);
  expect(is('INSERT INTO "_prisma_migrations" ("id","checksum") VALUES ($1,$2)')).toBe(true);
  expect(is('UPDATE "_prisma_migrations" SET "finished_at" = $1 WHERE "id" = $2', "idle", 60_000)).toBe(false);
  expect(is('UPDATE "_prisma_migrations" SET "finished_at" = $1 WHERE "id" = $2', "active", 60_000)).toBe(true);
  expect(is("CREATE TABLE a (id int)", "idle")).toBe(false);
  for (const everybodys of ["COMMIT", "SELECT 1", "", "SELECT * FROM a", 'SELECT * FROM "_prisma_migrations"']) {
    expect(is(everybodys)).toBe(false);
  }
});

function row(name: string, state: "done" | "begun" | "ran" | "rolled-back", id = "1"): MigrationRow {
  return {
    id: `${name}-${id}`,
    name,
    checksum: "c",
    startedAt: "2024-01-01",
    finishedAt: state === "done" ? "2024-01-01" : null,
    rolledBackAt: state === "rolled-back" ? "2024-01-01" : null,
    appliedStepsCount: state === "done" || state === "ran" ? 1 : 0,
  };
}

function applied(...names: string[]): PrismaVerdict {
  return { kind: "applied", applied: names };
}

function failed(begun: MigrationRow, names: readonly string[], notApplied: readonly string[]): PrismaVerdict {
  return { kind: "failed", row: begun, scriptFinished: false, applied: names, notApplied };
}

function changedOld() {
  return { kind: "rows-changed", migrations: ["old"] } as const;
}

function targetOf(url: string): ConnectionTarget {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error("not a connection string");
  return parsed.target;
}
