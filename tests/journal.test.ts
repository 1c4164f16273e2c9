/** What a journal's lines say, and the file that they are in. */
import { describe, expect, test } from "bun:test";
import { appendFileSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AnyDeployError, DeployError, type ErrorCode } from "../lib/errors.ts";
import { decideRetry, listDeploys, listNeededBackups, listUnsettled, readUnfinished } from "../lib/journal/deploys.ts";
import { describeFailure, makeEndStep } from "../lib/journal/end.ts";
import { formatLine, type JournalLine, type JournalStep, parseLines } from "../lib/journal/lines.ts";
import { openJournal, readJournal, readNeededBackups } from "../lib/journal/store.ts";
import { temporaryDirectory } from "./support/cluster.ts";
import { ERRORS } from "./support/message-samples.ts";

const START_MS = Date.parse("2026-06-15T12:00:00.000Z");
const OWNER = { systemIdentifier: "7001", database: "app" };
const HISTORY = { ...OWNER, schema: "public" };
const A = { name: "1_a", checksum: "aa" };
const B = { name: "2_b", checksum: "bb" };

/** Each step a second after the one before. */
function write(deploy: string, steps: readonly JournalStep[], owner = OWNER, fromMs = START_MS): JournalLine[] {
  return steps.map((step, index) => ({
    version: 1,
    time: new Date(fromMs + index * 1000).toISOString(),
    deploy,
    ...owner,
    ...step,
  }));
}

function makeError(code: ErrorCode): AnyDeployError {
  return new DeployError(code, ERRORS[code][0] as never) as AnyDeployError;
}

const begun = (migrations = [A, B], schema = "public"): JournalStep => ({
  step: "begun",
  program: "1",
  engine: "native",
  migrations,
  schema,
});
const backedUp = (backup: string): JournalStep => ({ step: "backed-up", backup, isReused: false });
const FAILED = makeError("MIGRATION_FAILED");
const KILLED = makeError("DEPLOY_INTERRUPTED");
const path = "/b/backup.sql";

const UNRESOLVED = makeEndStep({
  kind: "unresolved",
  failure: FAILED,
  recoveryFailures: [],
  backupPath: path,
  instructions: [],
});

/** A deploy that has failed by a script at that second. */
function fail(deploy: string, atSeconds: number, options: { migrations?: (typeof A)[]; applied?: string[] } = {}) {
  const { migrations = [A, B], applied = [] } = options;
  const end =
    applied.length > 0
      ? makeEndStep({ kind: "at-boundary", failure: FAILED, applied, notApplied: [], backupPath: path })
      : makeEndStep({ kind: "rolled-back", failure: FAILED, backupPath: path });
  return write(deploy, [begun(migrations), end], OWNER, START_MS + (atSeconds - 1) * 1000);
}

const succeed = (deploy: string) =>
  write(deploy, [begun(), makeEndStep({ kind: "deployed", applied: ["1_a", "2_b"], backupPath: path })]);

describe("the text", () => {
  const lines = write("d", [begun(), backedUp("backup_1"), { step: "migrating" }]);
  const text = lines.map(formatLine).join("");

  test("what was written is read again", () => {
    expect(parseLines(text)).toEqual(lines);
  });

  test("a last line that is torn is left out, at whatever byte", () => {
    const last = formatLine(lines[2] as JournalLine);
    for (let length = 0; length < last.length; length += 1) {
      expect(parseLines(text.slice(0, text.length - last.length + length))).toHaveLength(2);
    }
  });

  test("a torn line in the middle, a strange one and one of a later version are left out", () => {
    const strange = ['{"version":1,"ti', "[]", "null", "12", '{"version":2}', '{"version":1,"time":"x"}', ""];
    expect(parseLines(`${strange.join("\n")}\n${text}`)).toEqual(lines);
  });
});

describe("the deploy that was killed", () => {
  test("is the last one of that database, when it has no end", () => {
    const lines = [...succeed("1"), ...write("2", [begun(), backedUp("backup_2"), { step: "migrating" }])];
    expect(readUnfinished(lines, HISTORY)).toMatchObject({ id: "2", backup: "backup_2", isMigrating: true });
  });

  test("of another database or another cluster is none of ours", () => {
    for (const other of [
      { ...OWNER, database: "shop" },
      { ...OWNER, systemIdentifier: "7002" },
    ]) {
      expect(readUnfinished([...succeed("1"), ...write("2", [begun()], other)], HISTORY)).toBeUndefined();
    }
  });

  test("of another history in the same database is none of ours, and does not hide ours", () => {
    const lines = [...write("1", [begun()]), ...write("2", [begun([A], "shop")])];
    expect(readUnfinished(lines, HISTORY)).toMatchObject({ id: "1" });
    expect(readUnfinished(lines, { ...HISTORY, schema: "shop" })).toMatchObject({ id: "2" });
    expect(readUnfinished(lines, { ...HISTORY, schema: "third" })).toBeUndefined();
    expect(listUnsettled(listDeploys([...lines, ...succeed("3")])).map(({ id }) => id)).toEqual(["2"]);
  });

  test("is no more when another one has come after it", () => {
    expect(readUnfinished([...write("1", [begun()]), ...succeed("2")], HISTORY)).toBeUndefined();
  });

  test("holds what its successor needs", () => {
    const concurrent = { indexes: [["1", "i", true]] as const, made: { kind: "named", name: "i" } };
    const lines = write("1", [
      begun(),
      { step: "backing-up", backup: "backup_1" },
      { step: "sessions", opened: 4, isExact: true },
      { step: "committing", transactionId: "700" },
      { step: "script", migration: "2_b", rowId: "r", concurrent },
      { step: "sessions", opened: 5, isExact: false },
      { step: "restoring", rung: "in-place" },
      { step: "restore-transaction", transaction: { id: "701", pid: 12, life: "l" } },
    ]);
    expect(readUnfinished(lines, HISTORY)).toMatchObject({
      claimedBackup: "backup_1",
      backup: undefined,
      sessions: { opened: 5, isExact: false },
      transactionIds: ["700", "701"],
      script: { migration: "2_b", rowId: "r", concurrent },
      isRestoring: true,
      restoreTransactions: [{ id: "701", pid: 12, life: "l" }],
    });
  });

  test("goes by no id of before the last proof but the one that confirms it: others may have got it since", () => {
    const restore = (id: string): JournalStep => ({
      step: "restore-transaction",
      transaction: { id, pid: 12, life: "l" },
    });
    const prove = (id: string): JournalStep => ({
      step: "proven",
      evidence: { snapshot: `${id}:${id}:`, durableTransactionId: id },
    });
    const lines = write("1", [begun(), prove("700"), restore("705"), prove("703"), restore("704")]);
    expect(readUnfinished(lines, HISTORY)?.transactionIds).toEqual(["703", "704"]);
    expect(readUnfinished(lines, HISTORY)?.restoreTransactions.map(({ id }) => id)).toEqual(["705", "704"]);
  });
});

describe("what has failed is tried again", () => {
  /** Seconds after the start. */
  const decide = (lines: JournalLine[], seconds: number, attempt = [A, B]) =>
    decideRetry(listDeploys(lines), attempt, new Date(START_MS + seconds * 1000));
  const failures = (count: number) => Array.from({ length: count }, (_, index) => fail(`${index}`, index + 1)).flat();

  test.each([
    [1, 60],
    [2, 120],
    [3, 240],
    [4, 480],
    [5, 600],
    [9, 600],
  ])("after %d failures %d seconds later, and not before", (count, seconds) => {
    const lines = failures(count);
    expect(decide(lines, count + seconds).kind).toBe("try");
    expect(decide(lines, count + seconds - 1)).toMatchObject({
      kind: "wait",
      failures: count,
      retryAt: new Date(START_MS + (count + seconds) * 1000).toISOString(),
      failure: { code: "MIGRATION_FAILED", isRepeatable: true },
    });
  });

  test.each<[string, JournalLine[], (typeof A)[]]>([
    ["nothing has failed", [], [A, B]],
    ["the last one has succeeded", [...fail("1", 1), ...succeed("2")], [A, B]],
    ["a person was called since", [...fail("1", 1), ...write("2", [begun(), UNRESOLVED])], [A, B]],
    ["a script has changed", fail("1", 1), [A, { ...B, checksum: "b2" }]],
    ["one was added", fail("1", 1), [A, B, { name: "3_c", checksum: "cc" }]],
    ["one was taken away", fail("1", 1), [A]],
    ["the order is another", fail("1", 1), [B, A]],
  ])("at once where %s", (_, lines, attempt) => {
    expect(decide(lines, 2, attempt)).toEqual({ kind: "try" });
  });

  test("at a boundary it is the rest that has failed", () => {
    const lines = fail("1", 1, { applied: ["1_a"] });
    expect(decide(lines, 2, [B]).kind).toBe("wait");
    expect(decide(lines, 2, [A, B]).kind).toBe("try");
  });

  test.each<[string, JournalLine[]]>([
    [
      "was killed",
      write("2", [
        begun(),
        makeEndStep({ kind: "restored", failure: KILLED, backupPath: path }, { failure: undefined }),
      ]),
    ],
    ["is open", write("2", [begun()])],
    ["was refused", write("2", [begun(), makeEndStep({ kind: "stopped", error: makeError("BACKUP_FAILED") })])],
  ])("one in between that %s neither counts nor forgives", (_, between) => {
    expect(decide([...fail("1", 1), ...between], 2)).toMatchObject({ kind: "wait", failures: 1 });
    expect(decide(between, 2).kind).toBe("try");
  });

  test("one that was killed after it had failed counts", () => {
    const killed = makeEndStep(
      { kind: "restored", failure: KILLED, backupPath: path },
      { failure: describeFailure(FAILED) },
    );
    expect(decide(write("1", [begun(), killed]), 2)).toMatchObject({ kind: "wait", failures: 1 });
  });

  test("at once by a clock that was put back", () => {
    expect(decide(fail("1", 1), -3600).kind).toBe("try");
  });
});

describe("backups that are needed", () => {
  const needed = (...lines: JournalLine[][]) => listNeededBackups(listDeploys(lines.flat()));
  const end = (kind: "rolled-back" | "restored") => makeEndStep({ kind, failure: FAILED, backupPath: path });

  test("those of unresolved and killed deploys, and of the last failure", () => {
    expect(
      needed(
        write("1", [begun(), backedUp("b1"), UNRESOLVED]),
        write("2", [begun(), backedUp("b2"), end("rolled-back")]),
        write("3", [begun(), backedUp("b3")]),
        write("4", [begun(), backedUp("b4"), end("restored")]),
      ),
    ).toEqual(["b1", "b3", "b4"]);
  });

  test("none once a deploy has succeeded", () => {
    expect(needed(write("1", [begun(), backedUp("b1"), UNRESOLVED]), succeed("2"))).toEqual([]);
  });

  test("a success of another database changes nothing", () => {
    const other = { ...OWNER, database: "shop" };
    const success = makeEndStep({ kind: "deployed", applied: [], backupPath: path });
    expect(
      needed(write("1", [begun(), backedUp("b1"), UNRESOLVED]), write("2", [begun(), backedUp("b2"), success], other)),
    ).toEqual(["b1"]);
  });
});

describe("the file", () => {
  test("is only ours to read, and keeps what others have written", () => {
    const directory = temporaryDirectory();
    const journals = ["app", "shop"].map((database, index) =>
      openJournal(directory, { ...OWNER, database }, `${index}`, () => new Date(START_MS)),
    );
    for (const journal of journals) journal.record(begun());
    for (const journal of journals) journal.record(backedUp(`b${journal.deploy}`));
    expect(statSync(join(directory, "journal.jsonl")).mode & 0o777).toBe(0o600);
    expect(readJournal(directory).map(({ deploy, database, step }) => [deploy, database, step])).toEqual([
      ["0", "app", "begun"],
      ["1", "shop", "begun"],
      ["0", "app", "backed-up"],
      ["1", "shop", "backed-up"],
    ]);
    expect(readNeededBackups(directory)).toEqual(["b0", "b1"]);
  });

  test("a line behind a torn one stands by itself", () => {
    const directory = temporaryDirectory();
    const file = join(directory, "journal.jsonl");
    writeFileSync(file, "");
    appendFileSync(file, '{"version":1,"time":"2026-06-15T12:0');
    openJournal(directory, OWNER, "1", () => new Date(START_MS)).record(begun());
    expect(readJournal(directory)).toHaveLength(1);
    expect(readFileSync(file, "utf8").endsWith("\n")).toBe(true);
  });

  test("a folder that is not there holds nothing, and what can't be written is refused or let be", () => {
    const directory = join(temporaryDirectory(), "none");
    expect(readJournal(directory)).toEqual([]);
    const journal = openJournal(directory, OWNER, "1", () => new Date(START_MS));
    expect(() => journal.record(begun())).toThrow("BACKUP_DIR_UNUSABLE");
    journal.note(begun());
  });
});
