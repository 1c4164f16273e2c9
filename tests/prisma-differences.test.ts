/**
 * docs/prisma-differences.md says what the differential tests hold true. `UPDATE=1 bun test tests/prisma-differences.test.ts`
 * writes its tables again.
 */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AnyDeployError, DeployError, type ErrorCode } from "../lib/errors.ts";
import { exitCodeOfError } from "../lib/outcome.ts";
import { SITUATIONS, STATUS_DIFFERENCES } from "./support/prisma-situations.ts";

const PAGE = join(import.meta.dirname, "..", "docs", "prisma-differences.md");

const SECTIONS: Readonly<Record<string, () => readonly string[]>> = {
  differences: () =>
    makeTable(
      ["situation", "Prisma", "`deploy`", "why"],
      SITUATIONS.flatMap(({ name, difference }) =>
        difference === undefined
          ? []
          : [[nameOf(name, difference.only), difference.prisma, difference.deploy, difference.reason]],
      ),
    ),
  status: () =>
    makeTable(
      ["situation", "Prisma", "`deploy status --json`"],
      STATUS_DIFFERENCES.map(({ name, prisma, deploy }) => [name, prisma, deploy]),
    ),
  same: () => SITUATIONS.flatMap(({ name, difference }) => (difference === undefined ? [`- ${name}`] : [])),
};

test.each(Object.keys(SECTIONS))("the part about %s is current", (section) => {
  const page = readFileSync(PAGE, "utf8");
  const pattern = new RegExp(`(<!-- ${section}: [^\\n]*-->\\n)[\\s\\S]*?(<!-- /${section} -->)`);
  expect(page).toMatch(pattern);
  const lines = SECTIONS[section]?.() ?? [];
  const wanted = page.replace(pattern, (_, begin: string, end: string) => `${begin}${lines.join("\n")}\n${end}`);
  if (process.env.UPDATE === "1") writeFileSync(PAGE, wanted);
  expect(page).toBe(wanted);
});

test("situations are named once", () => {
  const names = [...SITUATIONS, ...STATUS_DIFFERENCES.map(({ name }) => ({ name: `status: ${name}` }))].map(
    ({ name }) => name,
  );
  expect(new Set(names).size).toBe(names.length);
});

test("the table of codes tells our exit codes", () => {
  const rows = readFileSync(PAGE, "utf8").matchAll(/^\| P\d{4} \| `([A-Z_]+)`[^|]*\| ([^|]+) \|$/gm);
  const listed = [...rows].map(([, code = "", exitCodes = ""]) => ({ code, exitCodes }));
  expect(listed.length).toBeGreaterThan(10);
  for (const { code, exitCodes } of listed) {
    const error = new DeployError(code as ErrorCode, {} as never) as AnyDeployError;
    expect([code, exitCodes.split(/\D+/)]).toEqual([code, expect.arrayContaining([String(exitCodeOfError(error))])]);
  }
});

/** A difference that only one engine of Prisma shows is named with it. */
function nameOf(name: string, only: string | undefined): string {
  return only === undefined ? name : `${name} (${only})`;
}

function makeTable(heading: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(heading), line(heading.map(() => "---")), ...rows.map(line)];
}
