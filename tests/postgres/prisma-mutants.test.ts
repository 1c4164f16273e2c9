/**
 * What must hold: the comparison with the real Prisma CLI notices when `deploy` is broken. Copies of the program with one
 * thing changed go through the situation that is there for it, and have to fail.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { temporaryDirectory } from "../support/cluster.ts";
import { skipsPrisma } from "../support/prisma-cli.ts";
import { compareSituation } from "../support/prisma-comparison.ts";
import { ENGINES } from "../support/prisma-side.ts";
import { SITUATIONS } from "../support/prisma-situations.ts";

setDefaultTimeout(600_000);

const REPOSITORY = resolve(import.meta.dirname, "..", "..");

interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** The name of the situation that notices. */
  readonly situation: string;
}

const MUTANTS: readonly Mutant[] = [
  {
    name: "the checksum of a text with other line endings",
    file: "lib/migrations/checksum.ts",
    from: "update(script)",
    to: 'update(String(Buffer.from(script)).replaceAll("\\r\\n", "\\n"))',
    situation: "CRLF, no newline at the end, empty and comment-only scripts, names in Hangul",
  },
  {
    name: "the other order",
    file: "lib/migrations/plan.ts",
    from: 'policy.migrationOrder === "prisma" ? prismaOrdered : byteOrdered',
    to: "byteOrdered",
    situation: "names whose order differs, with MIGRATION_ORDER=prisma",
  },
  {
    name: "the order of the folder backwards",
    file: "lib/migrations/folder.ts",
    from: "Buffer.compare(Buffer.from(a), Buffer.from(b))",
    to: "Buffer.compare(Buffer.from(b), Buffer.from(a))",
    situation: "three pending, then nothing pending",
  },
  {
    name: "what is rolled back counts as applied",
    file: "lib/migrations/plan.ts",
    from: "history.rows.filter((row) => row.rolledBackAt === null)",
    to: "history.rows.filter((row) => row.rolledBackAt === null || row.finishedAt === null)",
    situation: "resolve --rolled-back after a failure of the CLI that left nothing, mended and deployed",
  },
  {
    name: "what was applied and rolled back is not applied again",
    file: "lib/migrations/plan.ts",
    from: "history.rows.filter((row) => row.rolledBackAt === null)",
    to: "history.rows.filter((row) => row.rolledBackAt === null || row.finishedAt !== null)",
    situation: "resolve --applied of one that was applied and rolled back (P3008), which is deployed again",
  },
  {
    name: "a lock of our own",
    file: "lib/postgres/deploy-lock-key.ts",
    from: "72707369;",
    to: "72707370;",
    situation: "somebody holds the lock for too long, and gives it back",
  },
];

describe.skipIf(skipsPrisma("prisma-mutants.test.ts"))("is noticed:", () => {
  const engine = ENGINES.find(({ name }) => name === "6.19");

  test.each([...MUTANTS])("$name", async ({ file, from, to, situation: name }) => {
    const situation = SITUATIONS.find((candidate) => candidate.name === name);
    if (situation === undefined || engine === undefined) throw new Error(`no such situation: ${name}`);
    const root = copyProgram();
    const text = readFileSync(join(root, file), "utf8");
    expect(text.split(from)).toHaveLength(2);
    writeFileSync(join(root, file), text.replace(from, to));
    await expect(compareSituation(situation, engine, join(root, "scripts", "deploy.ts"))).rejects.toThrow(
      /toEqual|toBe/,
    );
  });

  test("and a copy in which nothing is changed is not", async () => {
    const situation = SITUATIONS.find((candidate) => candidate.name.startsWith("three pending"));
    if (situation === undefined || engine === undefined) throw new Error("there is such a situation");
    await compareSituation(situation, engine, join(copyProgram(), "scripts", "deploy.ts"));
  });
});

/** The program alone, with the packages of the repository. */
function copyProgram(): string {
  const root = temporaryDirectory();
  for (const part of ["lib", "scripts", "package.json", "tsconfig.json"]) {
    cpSync(join(REPOSITORY, part), join(root, part), { recursive: true });
  }
  symlinkSync(join(REPOSITORY, "node_modules"), join(root, "node_modules"));
  return root;
}
