/**
 * What the steps of .ci/run have come to: kept as lines of JSON while they run, told at the end. A test that has failed
 * counts as failed when it fails once more while nothing but its file runs.
 *
 *     results.mjs check RESULTS STEP STATUS LOG                   keeps what a command has come to
 *     results.mjs tests RESULTS STEP STATUS LOG SUITE [FILE ...]  what a run of tests has
 *     results.mjs again RESULTS STEP STATUS LOG SUITE FILE        what the file has, once more and alone
 *     results.mjs files RESULTS                                   what to run again, as lines "SUITE FILE STEP"
 *     results.mjs verdict RESULTS BEGUN                           tells it all; fails when anything has
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";

/** Of a text that is too long: what a test has printed comes first in it, what went wrong last. */
const FIRST_LINES = 15;
const LAST_LINES = 45;
const COLUMNS_MAX = 400;
/** When more files than these have failed, that is no matter of chance, and none is run again. */
const FILES_AGAIN_MAX = 12;

/** The lines that `bun test` writes itself, between what comes from the tests. The name of a test follows its error. */
const MARKS = {
  file: /^(\S+\.test\.ts):$/,
  pass: /^\(pass\) /,
  fail: /^\(fail\) (.*?)(?: \[[\d.]+ms\])?$/,
  other: /^\((?:skip|todo)\) /,
  timeout: /^ {2}\^ this test timed out/,
  crash: /^✗ (\S+) (\(.*\))$/,
  end: /^(?:\d+ tests? (?:failed|skipped|todo):| \d+ (?:pass|fail|skip|todo))$/,
};

main(process.argv.slice(2));

function main([command, path, ...rest]) {
  if (command === "files") {
    for (const line of listFiles(readLines(path).map((text) => JSON.parse(text)))) console.log(line);
  } else if (command === "verdict") {
    const { isPassed, text } = tell(
      readLines(path).map((line) => JSON.parse(line)),
      readLines(rest[0]),
    );
    console.log(`\n${text}`);
    process.exitCode = isPassed ? 0 : 1;
  } else {
    const [step, status, log, suite, file] = rest;
    const alone = command === "again" ? file : undefined;
    const read = command === "check" ? readCheck : readTests;
    const report = existsSync(`${log}.xml`) ? readFileSync(`${log}.xml`, "utf8") : "";
    const result = { step, suite, alone, ...read(readFileSync(log, "utf8"), Number(status), report) };
    appendFileSync(path, `${JSON.stringify(result)}\n`);
  }
}

/**
 * The failed tests in what `bun test` has printed. A run that was cut short, ran nothing or met errors outside of tests
 * is a failure of no file: nobody knows which tests it has cost.
 *
 * @param report by `--reporter=junit`, "" where a crash left none. An error's text is from there: in the log of several
 * workers it may stand behind later names than its own.
 */
function readTests(log, status, report) {
  const failures = [];
  const reported = readReport(report);
  let passed = 0;
  let file = null;
  let lines = [];
  for (const line of log.split("\n")) {
    const { kind, values } = readMark(line);
    if (kind === "end") break;
    if (kind === "text") lines.push(line);
    else if (kind === "timeout") failures.at(-1)?.lines.push(line);
    else {
      if (kind === "file") file = values[0];
      if (kind === "pass") passed++;
      if (kind === "crash") failures.push({ file: values[0], test: values[1], lines });
      if (kind === "fail")
        failures.push({ file, test: values[0], lines: takeText(reported, file, values[0]) ?? lines });
      lines = [];
    }
  }
  const isWhole = /^Ran \d+ tests? across/m.test(log) && !/^error: a test worker process crashed/m.test(log);
  const hasOutside = /^ \d+ errors?$/m.test(log);
  if (!isWhole || hasOutside || (failures.length === 0 && (status !== 0 || passed === 0))) {
    const test = `(exit ${status} after ${passed} passed tests, the last of ${file ?? "no file"})`;
    failures.push({ file: null, test, lines: hasOutside ? findOutside(log) : log.split("\n") });
  }
  return { passed, failures: failures.map(({ lines: all, ...failure }) => ({ ...failure, text: bound(all) })) };
}

/** A command that is one check: it passed when it ended with 0. */
function readCheck(log, status) {
  if (status === 0) return { passed: 1, failures: [] };
  return { passed: 0, failures: [{ file: null, test: `(exit ${status})`, text: bound(log.split("\n")) }] };
}

/** The files with failures, each once for each step. */
function listFiles(results) {
  const lines = results.flatMap(({ suite, step, failures }) =>
    failures.filter(({ file }) => file !== null).map(({ file }) => `${suite} ${file} ${step}`),
  );
  const files = [...new Set(lines)];
  return files.length > FILES_AGAIN_MAX ? [] : files;
}

/** What a reader of the end wants to know, the verdict last. Of a file that was run again, the second run counts. */
function tell(results, begun) {
  const first = results.filter(({ alone }) => alone === undefined);
  const again = results.filter(({ alone }) => alone !== undefined);
  const failed = again.flatMap(namedFailures);
  const unstable = [];
  for (const run of first) {
    for (const failure of namedFailures(run)) {
      const second = again.find(({ step, alone }) => step === run.step && alone === failure.file);
      if (second === undefined) failed.push(failure);
      else if (!second.failures.some(({ file, test }) => file === null || test === failure.test))
        unstable.push(failure);
    }
  }
  const ended = first.map(({ step }) => step);
  failed.push(
    ...begun.filter((step) => !ended.includes(step)).map((step) => ({ name: `${step} (never ended)`, text: "" })),
  );
  const passed = first.reduce((sum, run) => sum + run.passed, unstable.length);
  const told = [
    ...unstable.map(({ name, text }) => ({ title: `UNSTABLE: ${name}`, text })),
    ...failed.map(({ name, text }) => ({ title: `FAILED: ${name}`, text })),
  ];
  return {
    isPassed: failed.length === 0,
    text: [
      ...told.map(({ title, text }) => `== ${title}\n${text}\n`),
      ...told.map(({ title }) => title),
      `\n${passed} passed, ${failed.length} failed`,
    ].join("\n"),
  };
}

function readMark(line) {
  for (const [kind, pattern] of Object.entries(MARKS)) {
    const match = pattern.exec(line);
    if (match !== null) return { kind, values: match.slice(1) };
  }
  return { kind: "text", values: [] };
}

/** The failures in a JUnit report, in its order. */
function readReport(xml) {
  const cases = xml.matchAll(/<testcase name="([^"]*)"[^>]* file="([^"]*)"[^>]*>\s*<failure([^>]*)>(?:([^<]*)<)?/g);
  return [...cases].map(([, name, file, attributes, text]) => {
    const message = attributes.endsWith("/") ? /message="([^"]*)"/.exec(attributes)?.[1] : text;
    return { name: withoutEscapes(name), file: withoutEscapes(file), lines: withoutEscapes(message ?? "").split("\n") };
  });
}

/** In the report a test's name is without those of its groups. */
function takeText(reported, file, test) {
  const at = reported.findIndex((one) => one.file === file && test.endsWith(one.name));
  return at < 0 ? undefined : reported.splice(at, 1)[0].lines;
}

function withoutEscapes(text) {
  const named = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(/&(?:#(\d+)|(\w+));/g, (_, code, name) =>
    code ? String.fromCodePoint(Number(code)) : named[name],
  );
}

/** What stands between dashes below a title of its own. */
function findOutside(log) {
  const found = log.matchAll(/^# Unhandled error between tests\n-+\n[\s\S]*?\n-{20,}$/gm);
  return [...found].flatMap(([text]) => text.split("\n"));
}

function bound(lines) {
  const left = lines.length - FIRST_LINES - LAST_LINES;
  const kept =
    left <= 0 ? lines : [...lines.slice(0, FIRST_LINES), `[${left} lines are left out]`, ...lines.slice(-LAST_LINES)];
  return kept
    .map((line) => line.slice(0, COLUMNS_MAX))
    .join("\n")
    .trim();
}

function namedFailures({ step, failures }) {
  return failures.map(({ file, test, text }) => ({
    file,
    test,
    text,
    name: file === null ? `${step} ${test}` : `${file} > ${test}`,
  }));
}

function readLines(path) {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "");
}
