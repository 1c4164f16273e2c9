/** The commands that a deploy prints for a person, and a person who copies them. */
import { expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import type { DeployRun } from "./project.ts";

const DEADLINE_MS = 300_000;

/** Both ways on, each with what it costs; all of it is known. @param migration the one that is unfinished */
export function expectChoices({ stderr }: DeployRun, database: string, migration: string): void {
  expect(stderr).toMatch(new RegExp(`^ +deploy restore backup_\\d+_\\w+ --yes-restore ${database}$`, "m"));
  expect(stderr).toMatch(/예상 시간: 약 \S+$/m);
  expect(stderr).toMatch(/예상 시간 \(적용할 것이 있으면\): 백업 약 \S+, 그리고 마이그레이션$/m);
  expect(stderr).toContain("  백업 이후 바뀐 행 (");
  expect(stderr).toContain("지금의 데이터베이스는 다른 이름으로 남으므로 사라지는 것은 없습니다.");
  expect(stderr).toContain(`남은 것이 없으면: deploy resolve --rolled-back ${migration}`);
  expect(stderr).toContain(`모두 적용되었으면: deploy resolve --applied ${migration}`);
  for (const doubt of ["알 수 없음", "실행할 수 없습니다", "확인하지 못했습니다"]) expect(stderr).not.toContain(doubt);
}

/** Those for PostgreSQL's own tools. */
export function readCommands({ stderr }: DeployRun): readonly string[] {
  const lines = stderr.split("\n").map((line) => line.trim());
  return lines.slice(
    lines.findIndex((line) => line.startsWith("export PGHOST=")),
    lines.findIndex((line) => /^(코드|Code) /.test(line)),
  );
}

/** Runs them as they are, one after the other, and stops at the first that fails. @param typed what is asked for */
export function follow(commands: readonly string[], typed = ""): void {
  const tools = dirname(findClientTool("psql")?.path ?? "");
  execFileSync("bash", ["-euo", "pipefail", "-c", commands.join("\n")], {
    env: { PATH: `${tools}:${process.env.PATH}`, LC_ALL: "C" },
    input: typed,
    stdio: ["pipe", "ignore", "inherit"],
    timeout: DEADLINE_MS,
  });
}
