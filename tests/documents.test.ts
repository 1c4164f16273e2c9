/** The documents are current, say the same in both languages, and lead nowhere that does not exist. */
import { expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { commandsOf, DOCUMENTS, readBlocks, readDocument } from "./support/documents.ts";

const ROOT = dirname(import.meta.dirname);

test("what is made from code is current: `bun run docs` writes it again", () => {
  const check = Bun.spawnSync([process.execPath, "--no-env-file", "scripts/docs.ts", "--check"], { cwd: ROOT });
  expect(check.stderr.toString()).toBe("");
  expect(check.exitCode).toBe(0);
});

test("every page of docs/ is named in both READMEs", () => {
  const pages = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
  expect(pages.length).toBeGreaterThan(5);
  for (const readme of ["README.md", "README.ko.md"]) {
    const text = readDocument(readme);
    expect(pages.filter((page) => !text.includes(`docs/${page}`))).toEqual([]);
  }
});

test("links lead to files that exist", () => {
  const dead = DOCUMENTS.flatMap((path) =>
    [...readDocument(path).matchAll(/\]\((?!https?:|#)([^)#\s]+)/gu)].flatMap(([, target = ""]) =>
      existsSync(join(ROOT, dirname(path), target)) ? [] : [`${path}: ${target}`],
    ),
  );
  expect(dead).toEqual([]);
});

test("what npx and bunx are told to run is a program of our package, or Prisma's CLI", () => {
  const { bin, devDependencies } = require("../package.json");
  const known = ["prisma", ...Object.keys(bin), ...Object.keys(devDependencies)];
  const unknown = [...DOCUMENTS, ...listExamples()].flatMap((path) =>
    [...codeOf(path).matchAll(/\b(?:npx|bunx) (?:-\S+ )*([\w@][\w@/.-]*)/gu)].flatMap(([command, name = ""]) =>
      known.includes(name) ? [] : [`${path}: ${command}`],
    ),
  );
  expect(unknown).toEqual([]);
});

test("anchors lead to headings that exist", () => {
  const dead = DOCUMENTS.flatMap((path) =>
    [...readDocument(path).matchAll(/\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)/gu)].flatMap(([, file = "", anchor = ""]) =>
      anchorsOf(file === "" ? path : join(dirname(path), file)).includes(anchor) ? [] : [`${path}: ${file}#${anchor}`],
    ),
  );
  expect(dead).toEqual([]);
});

test("the READMEs have the same sections, tables and commands", () => {
  const [english, korean] = ["README.md", "README.ko.md"].map(outlineOf);
  expect(korean).toEqual(english);
});

test("each section of the READMEs names the same code, numbers and addresses", () => {
  const [english, korean] = ["README.md", "README.ko.md"].map(factsOf);
  expect(english?.length).toBeGreaterThan(10);
  expect(korean).toEqual(english ?? []);
});

test("what the documents show of an image is what an example does", () => {
  const examples = ["Dockerfile", "Dockerfile.bundle"].map((name) =>
    readDocument(`examples/docker/${name}`).split("\n"),
  );
  const blocks = DOCUMENTS.flatMap(readBlocks).filter(({ language }) => language === "dockerfile");
  expect(blocks.length).toBeGreaterThan(2);
  for (const { path, line, text } of blocks) {
    const shown = commandsOf(text);
    expect([`${path}:${line}`, examples.some((lines) => shown.every((each) => lines.includes(each)))]).toEqual([
      `${path}:${line}`,
      true,
    ]);
  }
});

test.each([
  ["README.md", "failing-migration-in-English"],
  ["README.ko.md", "failing-migration"],
])("the failure that %s shows is the one of a scenario", (path, scenario) => {
  const [shown] = readBlocks(path).filter(({ text }) => text.includes("MIGRATION_FAILED"));
  expect(readDocument(`tests/scenarios/${scenario}.txt`)).toContain(`\n${shown?.text}\n-- exit code`);
});

function listExamples(): string[] {
  const { stdout } = Bun.spawnSync(["git", "ls-files", "examples"], { cwd: ROOT });
  return stdout.toString().trimEnd().split("\n");
}

/** Of a page what it shows as code, of another file all of it. */
function codeOf(path: string): string {
  const text = readDocument(path);
  return path.endsWith(".md") ? (text.match(/```[\s\S]*?```|`[^`\n]+`/gu) ?? []).join("\n") : text;
}

/** As GitHub makes them of headings. */
function anchorsOf(path: string): string[] {
  return [...readDocument(path).matchAll(/^#+ (.+)$/gmu)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Of each section what is written the same in every language, sorted, since the order of words is another. */
function factsOf(path: string) {
  const prose = readDocument(path).replaceAll(/```[\s\S]*?```/gu, "");
  return prose.split(/^## .*$/mu).map((section) => {
    const links = section.replaceAll(/\]\(#[^)]*\)/gu, "]");
    const words = links.replaceAll(/`[^`]+`|\]\([^)]*\)/gu, "");
    return {
      code: allOf(links, /`[^`]+`/gu).map((code) => code.replaceAll(/\s+/gu, " ")),
      targets: allOf(links, /\]\([^)\s]+/gu).filter((target) => !/README|images/u.test(target)),
      numbers: allOf(words, /\d+(?:\.\d+)?/gu),
    };
  });
}

function allOf(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([found]) => found).sort();
}

function outlineOf(path: string) {
  const text = readDocument(path);
  const prose = text.replaceAll(/```[\s\S]*?```/gu, "");
  return {
    headings: [...prose.matchAll(/^#+/gmu)].map(([marks]) => marks),
    tableRows: [...prose.matchAll(/^\|/gmu)].length,
    // Comments are in the page's own language.
    blocks: readBlocks(path).map(({ language, text: code }) => ({
      language,
      code: language === "text" ? "" : code.replaceAll(/ *#.*$/gmu, "").trim(),
    })),
    links: new Set([...prose.matchAll(/\]\(((?!https?:)[^)]+)\)/gu)].map(([, target]) => target)).size,
  };
}
