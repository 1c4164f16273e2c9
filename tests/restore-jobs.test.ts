/** How many workers restore an archive. */
import { expect, test } from "bun:test";
import { chooseRestoreJobs, type RestoreWork } from "../lib/restore/jobs.ts";

const MIB = 1024 * 1024;
const tables = [
  { schema: "public", name: "a", rows: 10 },
  { schema: "public", name: "b", rows: 0 },
];
const WORK: RestoreWork = { format: "custom", sizeBytes: 100 * MIB, tables, processors: 4, freeConnections: 90 };

const rows: [name: string, changes: Partial<RestoreWork>, jobs: number][] = [
  ["as many as there are processors", {}, 4],
  ["two on a single one, since they wait for the disk", { processors: 1 }, 2],
  ["not more than help", { processors: 64 }, 8],
  ["one for a script", { format: "plain" }, 1],
  ["one for a small archive", { sizeBytes: 15 * MIB }, 1],
  ["one where there are no rows", { tables: tables.slice(1) }, 1],
  ["what the server has room for", { freeConnections: 8 }, 3],
  ["one where it is full", { freeConnections: 2 }, 1],
];

test.each(rows)("%s", (_, changes, jobs) => {
  expect(chooseRestoreJobs({ ...WORK, ...changes })).toBe(jobs);
});
