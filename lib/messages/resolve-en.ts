/** English for `resolve`, `baseline` and what sends people there. Pure. */
import type { FailedMigration } from "../errors.ts";
import {
  type DiagnosisWords,
  describeDiagnosis,
  describeFailed,
  type ResolutionWords,
  type ResolveErrorWords,
} from "./diagnosis.ts";
import { formatList } from "./format.ts";

const count = (number: number, one: string, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export const enDiagnosis: DiagnosisWords = {
  verdicts: { applied: "applied", "not-applied": "not applied", unknown: "unknown" },
  proposals: {
    applied: "Proposal: mark it applied. What it makes is in the database.",
    "rolled-back": "Proposal: mark it rolled back. What it makes is not in the database, and it can run again.",
    restore: "Proposal: restore the backup from before it, or undo or complete it by hand. Part of it may be there.",
  },
  noStatements: "It has no statement that could be looked at.",
  noScript: "Its script is not in the folder, so what is in the database of it is not known.",
  invalidIndex: (name) => `INVALID index, to be dropped before it runs again: ${name}`,
};

export const enResolution: ResolutionWords = {
  applied: (number) => `Marked as applied: ${number}`,
  rolledBack: (number) => `Marked as rolled back: ${number}`,
  nothing: "Nothing had to be marked.",
  dryRun: "Nothing was written (--dry-run).",
};

/** What can be copied where it is the only one. */
function nameOf(migrations: readonly FailedMigration[]): string {
  const [only, ...others] = migrations;
  return only === undefined || others.length > 0 ? "<name>" : only.name;
}

export const enResolveErrors: ResolveErrorWords = {
  HISTORY_FAILED: ({ migrations }) => ({
    summary: `${count(migrations.length, "failed migration")} in the history`,
    details: migrations.flatMap((migration) => [
      `${migration.name} (started: ${migration.startedAt})`,
      ...describeFailed(migration, enDiagnosis),
    ]),
    next: [
      `If nothing of it is left in the database: deploy resolve --rolled-back ${nameOf(migrations)}`,
      `If all of it is in the database: deploy resolve --applied ${nameOf(migrations)}`,
      `The CLI of Prisma marks the same: npx prisma migrate resolve --rolled-back|--applied ${nameOf(migrations)}`,
    ],
  }),
  BASELINE_NEEDED: ({ schema, tables, migrations }) => ({
    summary: `The database has tables but no history (schema ${schema}, ${count(tables.length, "table")})`,
    details: formatList(tables),
    next: [
      "If the migrations of the folder are in the database already: deploy baseline",
      ...(migrations.length > 1 ? ["If only some of them are:"] : []),
      ...(migrations.length > 1 ? migrations.slice(0, 2).map((name) => `deploy resolve --applied ${name}`) : []),
    ],
  }),
  BASELINE_CONTRADICTED: ({ failed, rolledBack, deployed }) => ({
    summary: "The history does not allow a baseline",
    details: [
      ...(failed.length > 0 ? [`Failed: ${count(failed.length, "migration")}`, ...formatList(failed)] : []),
      ...(rolledBack.length > 0
        ? [`Marked rolled back: ${count(rolledBack.length, "migration")}`, ...formatList(rolledBack)]
        : []),
      ...(deployed.length > 0
        ? [`Applied by a deploy: ${count(deployed.length, "migration")}`, ...formatList(deployed)]
        : []),
    ],
    next: ["deploy status", "For a single migration: deploy resolve --applied <name>"],
  }),
  RESOLVE_SCRIPT_NOT_FOUND: ({ migration }) => ({
    summary: `No such migration in the folder, or no migration.sql in it: ${migration}`,
    next: ["Check the whole name of the folder, for example 20240102030405_init."],
  }),
  RESOLVE_ALREADY_APPLIED: ({ migration }) => ({
    summary: `The migration is recorded as applied already: ${migration}`,
    next: ["deploy status"],
  }),
  RESOLVE_NEVER_APPLIED: ({ migration }) => ({
    summary: `The history has no such migration: ${migration}`,
    next: ["Check the whole name of the folder, for example 20240102030405_init.", "deploy status"],
  }),
  RESOLVE_NOT_FAILED: ({ migration }) => ({
    summary: `The migration has not failed: ${migration}`,
    next: ["deploy status"],
  }),
  RESOLVE_CONTRADICTED: ({ choice, command, diagnoses }) => ({
    summary: `The database contradicts that choice: ${choice}, ${count(diagnoses.length, "migration")}`,
    details: diagnoses.flatMap((diagnosis) => [diagnosis.migration, ...describeDiagnosis(diagnosis, enDiagnosis)]),
    next: [
      ...diagnoses.slice(0, 1).map(({ migration, proposal }) => {
        if (command === "baseline") return "For a single migration: deploy resolve --applied|--rolled-back <name>";
        return proposal === "restore"
          ? "After undoing or completing it by hand, run the same command again."
          : `deploy resolve --${proposal} ${migration}`;
      }),
      "To mark it all the same: --force",
    ],
  }),
};
