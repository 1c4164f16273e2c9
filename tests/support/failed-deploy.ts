/** A deploy that has failed with its damage committed, and whether the database is as before it, or as it has left it. */
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Cluster } from "./cluster.ts";
import { beginDeploy, type Deploy, type DeployOptions, readState } from "./restore.ts";

export interface FailedDeploy extends Deploy {
  readonly before: string;
  /** Empty where nobody has looked, see `isRecorded`. */
  readonly failed: string;
}

export interface FailOptions extends DeployOptions {
  readonly damage?: readonly string[];
}

/** A small database of the owner's, for what does not depend on its content. */
export async function createSmall(cluster: Cluster): Promise<string> {
  const name = await cluster.createDatabase({ owner: "app_owner" });
  await cluster.psql(
    name,
    `SET ROLE app_owner; CREATE SCHEMA app; CREATE SEQUENCE app.counter;
     CREATE TABLE app.items(id int PRIMARY KEY, note text); INSERT INTO app.items SELECT g, 'n' || g FROM generate_series(1, 200) g;
     CREATE TABLE app.parts(id serial PRIMARY KEY, item int REFERENCES app.items);
     INSERT INTO app.parts(item) SELECT g FROM generate_series(1, 100) g; CREATE TABLE public.last(a int)`,
  );
  return name;
}

export const SMALL_DAMAGE =
  "ALTER TABLE app.items DROP COLUMN note; DELETE FROM app.parts; CREATE TABLE app.added(a int); DROP TABLE public.last";

export async function failDeploy(cluster: Cluster, name: string, options: FailOptions = {}): Promise<FailedDeploy> {
  const { damage = [SMALL_DAMAGE], ...rest } = options;
  const before = await readState(cluster, name);
  const deploy = await beginDeploy(cluster, name, { user: "app_owner", ...rest });
  for (const sql of damage) await deploy.migrate(sql);
  // The oracle's own sessions are strangers: where only B can hold, it must not look in between.
  const failed = options.isRecorded === false ? "" : await readState(cluster, name);
  expect(failed).not.toBe(before);
  return { ...deploy, before, failed };
}

export async function expectRestored({ cluster, name, before }: FailedDeploy): Promise<void> {
  const now = await readState(cluster, name);
  // By lines: a whole state would fill the screen.
  expect(differenceOf(now, before)).toEqual([]);
  expect(now).toBe(before);
}

export async function expectUntouched(deploy: FailedDeploy): Promise<void> {
  expect(differenceOf(await readState(deploy.cluster, deploy.name), deploy.failed)).toEqual([]);
  expect(listLeftovers(deploy)).toEqual([]);
}

/** Lines that only one of two states has. */
export function differenceOf(one: string, other: string): string[] {
  const [lines, others] = [new Set(one.split("\n")), new Set(other.split("\n"))];
  const only = (mine: Set<string>, theirs: Set<string>, mark: string) =>
    [...mine].filter((line) => !theirs.has(line)).map((line) => `${mark} ${line}`);
  return [...only(lines, others, "+"), ...only(others, lines, "-")];
}

/** Temporary files that a restore has not cleaned up. */
export function listLeftovers({ backup }: Deploy): string[] {
  return readdirSync(dirname(backup.path)).filter((name) => name.startsWith(".restore"));
}

/** The psql that restores in place, among all processes. */
export function findPsql({ backup }: Deploy): number {
  return findProcess((command) => command.includes(dirname(backup.path)) && command.includes("begin.sql"));
}

/** @throws where there is none */
export function findProcess(isWanted: (command: string) => boolean): number {
  for (const pid of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (isWanted(readFileSync(`/proc/${pid}/cmdline`, "utf8"))) return Number(pid);
    } catch {
      // It has ended meanwhile.
    }
  }
  throw new Error("no such process was found");
}
