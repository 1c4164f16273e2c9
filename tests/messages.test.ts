/** What the catalogues say: the lines that the specification fixes, and the rules of both languages. */
import { describe, expect, test } from "bun:test";
import { rowsOf } from "../lib/cli/setting-table.ts";
import { SETTINGS } from "../lib/cli/settings.ts";
import { DeployError } from "../lib/errors.ts";
import type { Event } from "../lib/events.ts";
import { en } from "../lib/messages/en.ts";
import { ko } from "../lib/messages/ko.ts";
import type { Line, Messages } from "../lib/messages/messages.ts";
import { CHOICES, ERRORS, EVENTS, PROBLEMS, VALUE } from "./support/message-samples.ts";

const failure = new DeployError("INTERRUPTED", { signal: "SIGTERM" });
const backupPath = "/app/backups/backup_20241219_143022.sql";

/** Byte for byte, in the order in which they are printed. */
const FIXED_LINES: readonly (readonly [Event, string])[] = [
  [{ kind: "deploy-started", version: "0.1.0" }, "🚀 고도화된 배포 프로세스 시작..."],
  [{ kind: "reading-status" }, "📊 스키마 변경사항 확인 중..."],
  [{ kind: "up-to-date", applied: 2 }, "✅ 데이터베이스 스키마가 최신 상태입니다. 마이그레이션이 필요하지 않습니다."],
  [{ kind: "pending-found", pending: ["a"], segments: [] }, "\u26A0\uFE0F  스키마 변경사항이 감지되었습니다."],
  [{ kind: "backup-started", format: "plain", reasons: [] }, "📦 데이터 백업을 시작합니다..."],
  [
    { kind: "backup-finished", path: backupPath, sizeBytes: 1, durationMs: 1 },
    "✅ PostgreSQL 백업 완료: /app/backups/backup_20241219_143022.sql",
  ],
  [{ kind: "migration-started", engine: "native" }, "🔄 마이그레이션을 시작합니다..."],
  [{ kind: "migration-finished", applied: ["a"], durationMs: 1 }, "✅ 마이그레이션이 성공적으로 완료되었습니다."],
  [{ kind: "prune-started" }, "🧹 오래된 백업 파일 정리 중..."],
  [{ kind: "app-starting", command: ["node"] }, "🚀 애플리케이션을 시작합니다..."],
  [{ kind: "migration-failed", error: failure }, "❌ 마이그레이션 실패!"],
  [{ kind: "restore-started", backupPath }, "🔄 백업에서 복원을 시도합니다..."],
  [{ kind: "restore-finished", durationMs: 1 }, "✅ 백업에서 복원 완료"],
  [{ kind: "deploy-failed" }, "❌ 배포 실패. 수동 확인이 필요합니다."],
];

describe("the lines that the specification fixes", () => {
  for (const [event, line] of FIXED_LINES) {
    test(line, () => {
      const lines = linesOf(ko, event);
      expect(Buffer.from(String(lines[0])).toString("hex")).toBe(Buffer.from(line).toString("hex"));
      // Everything else that an event says stands indented under its line.
      expect(lines.slice(1).filter((other) => typeof other === "string")).toEqual([]);
    });
  }

  test("of all other events, only two have a line of their own", () => {
    const fixed = FIXED_LINES.map(([{ kind }]) => kind);
    const others = allEvents().filter(({ kind }) => !fixed.includes(kind));
    const own = others.filter((event) => linesOf(ko, event).some((line) => typeof line === "string"));
    expect([...new Set(own.map(({ kind }) => kind))]).toEqual(["rolled-back", "stopped-at-boundary"]);
  });
});

const TEXTS = { ko: allTexts(ko), en: allTexts(en) };
const LANGUAGES = ["ko", "en"] as const;

describe.each([...LANGUAGES])("everything in %s", (language) => {
  test.each([
    ["no value is missing or shown as JavaScript shows it", /undefined|\[object|NaN|null|=>/],
    ["a line is one line", /\n/],
    ["no line is empty", /^\s*$/],
    ["no line ends in a blank", /\s$/],
  ])("%s", (_, forbidden) => {
    expect(offenders(language, forbidden)).toEqual([]);
  });

  test("an error has a summary without a full stop, and something to do", () => {
    const messages = { ko, en }[language];
    const all = allErrors().map(([code, fields, name]) => ({ name, ...wordsOf(messages, code, fields) }));
    expect(all.filter(({ summary }) => /[.!]$/.test(summary))).toEqual([]);
    // One to three things, and a heading over the commands.
    expect(all.filter(({ next }) => next.length === 0 || next.length > 4)).toEqual([]);
  });
});

describe("both languages say the same", () => {
  const pairs = [...TEXTS.ko].map(([name, lines]) => ({ name, lines, twin: TEXTS.en.get(name) ?? [] }));

  test("with the same emoji", () => {
    for (const { name, lines, twin } of pairs)
      expect([name, ...twin.map(emojiOf)]).toEqual([name, ...lines.map(emojiOf)]);
  });

  test("with the same values", () => {
    for (const { name, lines, twin } of pairs) expect([name, valuesOf(twin)]).toEqual([name, valuesOf(lines)]);
  });

  test("at the same depth", () => {
    for (const event of allEvents()) {
      const [depths, twin] = [ko, en].map((messages) => linesOf(messages, event).map((line) => typeof line));
      expect([event.kind, ...(twin ?? [])]).toEqual([event.kind, ...(depths ?? [])]);
    }
  });

  test("with the same exit codes in the help", () => {
    for (const { labels } of [ko, en]) {
      expect(labels.exitCodes.match(/\d+/g)?.map(Number)).toEqual([0, 2, 3, 4, 5, 6, 7, 8, 75]);
    }
  });
});

describe("what is named exists", () => {
  const rows = rowsOf(SETTINGS).map(([, row]) => row);
  const flags = new Set(rows.map(({ flag }) => `--${flag}`));
  const variables = new Set(rows.map(({ environment }) => environment));
  /** Of Prisma's CLI, of pg_dump, of the package managers, and of PostgreSQL. */
  const othersFlags = ["--applied", "--rolled-back", "--no-cache", "--version", "--format"];

  test.each([...LANGUAGES])("flags and variables in %s", (language) => {
    const text = [...TEXTS[language].values()].flat().join("\n");
    const named = new Set(text.match(/--[a-z][a-z-]+/g));
    expect([...named].filter((flag) => !flags.has(flag) && !othersFlags.includes(flag))).toEqual([]);
    expect(named).toContain("--accept-manual-restore");
    const namedVariables = new Set(text.match(/\b[A-Z]+(?:_[A-Z]+)+\b/g));
    expect([...namedVariables].filter((name) => !variables.has(name) && !(name in ERRORS))).toEqual([]);
    expect(namedVariables).toContain("BACKUP_DIR");
  });
});

describe("the rules of Korean", () => {
  test("no particle stands behind a value", () => {
    const guessed = [...TEXTS.ko].flatMap(([name, lines]) =>
      lines.filter((line) => particleAfterValue(line) !== undefined).map((line) => `${name}: ${line}`),
    );
    expect(guessed).toEqual([]);
  });

  test("no apology, and no exclamation but the specification's", () => {
    expect(offenders("ko", /죄송|!/)).toEqual(["event migration-failed 1: ❌ 마이그레이션 실패!"]);
  });

  test.each([
    [`${VALUE}을 찾을 수 없음`, "을"],
    [`'${VALUE}'가 없음`, "가"],
    [`${VALUE} 와 다름`, "와"],
    [`(${VALUE})로 시작`, "로"],
    ["12.3 MB를 씁니다", "를"],
    ["2m 05s는 깁니다", "는"],
    [`${VALUE}으로는 불가능`, "으로는"],
    [`${VALUE} 이상의 정수`, undefined],
    [`${VALUE} 마이그레이션이 실패`, undefined],
    ["2건을 적용", undefined],
    [`${VALUE} 가능`, undefined],
  ])("the check itself: %s", (line, particle) => {
    expect(particleAfterValue(line) as string | undefined).toBe(particle);
  });
});

describe("the rules of English", () => {
  test("no Korean and no contraction", () => {
    expect(offenders("en", /\p{Script=Hangul}/u)).toEqual([]);
    expect(offenders("en", /n't\b|'(re|ve|ll|m|d)\b|\b(it|that|there|here|what|who|let)'s\b/i)).toEqual([]);
  });

  test("a summary begins like a sentence", () => {
    const summaries = allErrors().map(([code, fields]) => wordsOf(en, code, fields).summary);
    expect(summaries.filter((summary) => !/^([A-Z0-9\u27E6]|prisma )/.test(summary))).toEqual([]);
  });

  test("one and more of a thing are counted right", () => {
    const summaryOf = (count: number) =>
      en.errors.SCRIPT_MISSING({ migrations: Array.from({ length: count }, () => VALUE) }).summary;
    expect(summaryOf(1)).toBe("1 migration without a migration.sql file");
    expect(summaryOf(2)).toBe("2 migrations without a migration.sql file");
  });
});

/** Every line of a language that has what it must not have, with where it stands. */
function offenders(language: (typeof LANGUAGES)[number], forbidden: RegExp): string[] {
  return [...TEXTS[language]].flatMap(([name, lines]) =>
    lines.filter((line) => forbidden.test(line)).map((line) => `${name}: ${line}`),
  );
}

function linesOf(messages: Messages, event: Event): readonly Line[] {
  return messages.events[event.kind](event as never);
}

function allEvents(): Event[] {
  return [...Object.values(EVENTS).flat(), { kind: "migration-failed", error: failure }];
}

type AnyErrorCode = keyof typeof ERRORS;

function allErrors(): [AnyErrorCode, object, string][] {
  return Object.entries(ERRORS).flatMap(([code, samples]) =>
    samples.map((fields, index): [AnyErrorCode, object, string] => [
      code as AnyErrorCode,
      fields,
      `${code} ${index + 1}`,
    ]),
  );
}

function wordsOf(messages: Messages, code: AnyErrorCode, fields: object) {
  return messages.errors[code](fields as never);
}

/** Everything that a language can say, by what it says it about. */
function allTexts(messages: Messages): Map<string, readonly string[]> {
  const texts = new Map<string, readonly string[]>();
  const add = (name: string, lines: readonly string[]) => {
    let number = 1;
    while (texts.has(`${name} ${number}`)) number += 1;
    texts.set(`${name} ${number}`, lines);
  };
  for (const event of allEvents()) {
    const about = event.kind === "warning" ? `warning ${event.warning.about}` : `event ${event.kind}`;
    const lines = linesOf(messages, event);
    add(
      about,
      lines.map((line) => (typeof line === "string" ? line : line.detail)),
    );
  }
  for (const [code, fields] of allErrors()) {
    const { summary, details = [], next } = wordsOf(messages, code, fields);
    // Output of a child that said nothing is one empty line.
    add(`error ${code}`, [summary, ...details.filter((line) => line !== ""), ...next]);
  }
  for (const [kind, lines] of Object.entries(messages.hints)) add(`hint ${kind}`, lines);
  for (const problem of Object.values(PROBLEMS).flat())
    add(`problem ${problem.kind}`, [messages.settingProblem(problem)]);
  for (const [state, words] of Object.entries(messages.states)) add(`state ${state}`, [words]);
  for (const [key, words] of Object.entries(messages.status)) {
    add(`status ${key}`, [typeof words === "string" ? words : words(4242)]);
  }
  for (const [command, words] of Object.entries(messages.commandHelp)) add(`help ${command}`, [words]);
  for (const [key, words] of Object.entries({ ...messages.diagnosis.verdicts, ...messages.diagnosis.proposals })) {
    add(`diagnosis ${key}`, [words]);
  }
  for (const [key, words] of Object.entries(messages.resolution)) {
    add(`resolution ${key}`, [typeof words === "string" ? words : words(4242)]);
  }
  const { stopped, code, ...labels } = messages.labels;
  add("label stopped", [stopped(VALUE)]);
  add("label code", [code(VALUE, 5)]);
  for (const [index, choices] of CHOICES.entries()) {
    add(`choices ${index}`, [...messages.choices.restore(choices), ...messages.choices.goOn(choices)]);
  }
  for (const [index, choices] of [undefined, ...CHOICES].entries()) {
    add(`choices by tools ${index}`, messages.choices.byTools(choices));
  }
  for (const [key, words] of Object.entries(labels)) add(`label ${key}`, [words.trimEnd()]);
  return texts;
}

function emojiOf(line: string): string[] {
  return line.match(/\p{Extended_Pictographic}\uFE0F?/gu) ?? [];
}

/** The values that were filled in, numbers included, whatever their order. */
function valuesOf(lines: readonly string[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const value of lines.join("\n").match(new RegExp(`${VALUE}|\\d+(?:\\.\\d+)*`, "g")) ?? []) {
    found[value] = (found[value] ?? 0) + 1;
  }
  return found;
}

/** The particle that stands directly, or behind a blank, after a value: it would have to be guessed. */
function particleAfterValue(line: string): string | undefined {
  // "UTF-8" is a word, not a value.
  const value = `(?:${VALUE}|(?<!-)\\d(?:ms|s|m|h| [KMGT]?B)?)`;
  const particle = "(?:은|는|이|가|을|를|와|과|으로|로)(?:는|도|만|서|써|의)?";
  return new RegExp(`${value}[)'"\`\\]]*\\s?(${particle})(?!\\p{Script=Hangul})`, "u").exec(line)?.[1];
}
