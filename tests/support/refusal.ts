/** What every refusal owes to its reader, and the ways in which a test takes rights or files away from a deploy. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./cluster.ts";
import type { DeployRun } from "./project.ts";

const APP_OUTPUT = "the app has started";
/** An app that shows on standard output that it was started. */
export const APP = ["--", "echo", APP_OUTPUT];

export interface ExpectedRefusal {
  readonly exitCode: number;
  readonly code: string;
  /** What must be said besides. */
  readonly shows?: readonly string[];
  /** What must not be shown. */
  readonly hides?: readonly string[];
}

/** Refused with what happened, what is true now and what to do next, in Korean; the app was not started. */
export function expectRefused(run: DeployRun, { exitCode, code, shows = [], hides = [] }: ExpectedRefusal): void {
  expect(run.exitCode, run.stderr).toBe(exitCode);
  expect(run.stdout).toBe("");
  expect(run.stderr).toMatch(/^❌ 배포 중단: \S.*$/m);
  expect(run.stderr).toMatch(/^ {3}상태 {2}데이터베이스는 변경되지 않았습니다\. 앱을 시작하지 않았습니다\.$/m);
  expect(run.stderr).toMatch(/^ {3}다음 {2}\S.*$/m);
  expect(run.stderr).toContain(`   코드  ${code} (종료 코드 ${exitCode})\n`);
  for (const text of shows) expect(run.stderr).toContain(text);
  expectNoLeak(run, hides);
}

export function expectStarted(run: DeployRun): void {
  expect(run.exitCode, run.stderr).toBe(0);
  expect(run.stdout).toBe(`${APP_OUTPUT}\n`);
}

/** No stack trace, no word of a bug, none of the secrets. */
export function expectNoLeak({ stdout, stderr }: DeployRun, secrets: readonly string[]): void {
  expect(stderr).not.toMatch(/^\s+at .*(:\d+:\d+|native)\)?$/m);
  expect(stderr).not.toContain("버그");
  for (const secret of secrets) expect(stdout + stderr).not.toContain(secret);
}

/** A test that needs something of the machine; where that is missing it is skipped under a name that says why. */
export function testWith(
  missing: string | undefined,
  name: string,
  body: () => Promise<void>,
  timeoutMs: number,
): void {
  if (missing === undefined) test(name, body, timeoutMs);
  else test.skip(`${name} (${missing})`, body);
}

/** A command that becomes another one, or why it can't here. */
export type Passage = { readonly through: readonly string[]; readonly missing: string | undefined };

/** Takes from root the right to read and write whatever it likes; everybody else does not have it. */
export function readOrdinaryRights(): Passage {
  const through =
    process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : ["/usr/bin/env"];
  const closed = join(temporaryDirectory(), "closed");
  writeFileSync(closed, "");
  chmodSync(closed, 0);
  const { status } = spawn([...through, "sh", "-c", `! cat '${closed}' 2>/dev/null`]);
  return { through, missing: status === 0 ? undefined : "setpriv can't take root's rights away here" };
}

/**
 * Runs shell commands, which may mount what they like for the deploy alone, and then the deploy.
 *
 * @param script ends by running `"$@"`, which is the deploy
 */
export function makeMountPassage(script: string): Passage {
  const own = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const enter = ["unshare", "--mount", ...own, "sh", "-ec"];
  const { status } = spawn([...enter, `mount -t tmpfs -o size=64k tmpfs "${temporaryDirectory()}"`]);
  const missing = status === 0 ? undefined : "nothing can be mounted here";
  return { through: [...enter, script, "sh"], missing };
}

function spawn([file = "", ...args]: readonly string[]): { status: number | null } {
  return spawnSync(file, args, { stdio: "ignore", timeout: 30_000 });
}
