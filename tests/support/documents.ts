/** The documents of the repository, and the blocks of code in them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const ROOT = dirname(dirname(import.meta.dirname));

/** Every page that a user reads, from the root of the repository. */
export const DOCUMENTS: readonly string[] = [
  "README.md",
  "README.ko.md",
  ...readdirSync(join(ROOT, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
  ...readdirSync(join(ROOT, "examples"))
    .map((name) => `examples/${name}/README.md`)
    .filter((path) => existsSync(join(ROOT, path))),
];

export interface Block {
  readonly path: string;
  /** 1-based, of its first line of code. */
  readonly line: number;
  /** First word behind the fence, for example `sh`. */
  readonly language: string;
  /** The words behind it. */
  readonly notes: readonly string[];
  readonly text: string;
}

export function readDocument(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

export function readBlocks(path: string): Block[] {
  const blocks: Block[] = [];
  const lines = readDocument(path).split("\n");
  for (let index = 0; index < lines.length; index += 1) {
    const [, info] = /^```(\S.*)?$/u.exec(lines[index] ?? "") ?? [];
    if (!lines[index]?.startsWith("```")) continue;
    const end = lines.indexOf("```", index + 1);
    const [language = "", ...notes] = (info ?? "").split(" ");
    blocks.push({ path, line: index + 2, language, notes, text: lines.slice(index + 1, end).join("\n") });
    index = end;
  }
  return blocks;
}

/** The commands of a block without comments; one that goes on behind a backslash is one line. */
export function commandsOf(text: string): string[] {
  return text
    .replaceAll(/ *\\\n */gu, " ")
    .split("\n")
    .map((line) => line.replace(/ +#.*$/u, "").trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}
