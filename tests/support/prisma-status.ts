/** What `prisma migrate status` says, and what it has to say where `deploy status --json` is right. */
import type { Status } from "../../lib/migrations/status.ts";
import type { PrismaAnswer, PrismaVersion } from "./prisma-cli.ts";

export interface PrismaStatus {
  readonly says: "up-to-date" | "pending" | "diverged" | "failed" | "unmanaged" | "error";
  readonly exitCode: number;
  readonly pending: readonly string[];
  readonly failed: readonly string[];
  /** In the database and not in the folder; only told where something is pending as well. */
  readonly missing: readonly string[];
  /** Only told where something is missing and something else is pending; `null` where the first one is pending. */
  readonly lastCommon?: string;
}

/** @see packages/migrate/src/commands/MigrateStatus.ts */
export function parsePrismaStatus({ exitCode, stdout, stderr }: PrismaAnswer): PrismaStatus {
  const text = `${stdout}\n${stderr}`;
  const named = (heading: RegExp) => namesUnder(text, heading);
  const diverged = /Your local migration history and the migrations table .* are different/.test(text);
  const heading = diverged
    ? /^The migrations? have not yet been applied:$/
    : /^Following migrations? have not yet been/;
  const pending = named(heading);
  const failed = named(/^Following migrations? have failed:$/);
  const missing = named(/^The migrations? from the database are not found locally/);
  const says = diverged
    ? "diverged"
    : pending.length > 0
      ? "pending"
      : failed.length > 0
        ? "failed"
        : /is not managed by Prisma Migrate/.test(text)
          ? "unmanaged"
          : /Database schema is up to date!/.test(text)
            ? "up-to-date"
            : "error";
  const lastCommon = /^The last common migration is: (.+)$/m.exec(text)?.[1];
  return { says, exitCode, pending, failed, missing, ...(lastCommon === undefined ? {} : { lastCommon }) };
}

/** The lines under a heading, up to an empty one or the next sentence. */
function namesUnder(text: string, heading: RegExp): string[] {
  const lines = text.split("\n").map((line) => line.trimEnd());
  const at = lines.findIndex((line) => heading.test(line));
  if (at === -1) return [];
  const rest = lines.slice(at + 1);
  const end = rest.findIndex((line) => line === "" || /^(The|During|To apply) /.test(line));
  return rest.slice(0, end === -1 ? undefined : end);
}

/** What our status tells and Prisma's does not, as its own rules have it; everything else must be the same. */
export function expectPrismaStatus(
  ours: Status,
  {
    version,
    names,
    hasTable,
  }: { readonly version: PrismaVersion; readonly names: readonly string[]; readonly hasTable: boolean },
): PrismaStatus {
  // Up to 7.8, a migration that is only rolled back is neither pending nor forgotten.
  const isIgnored = (name: string) => version === 6 && ours.rolledBack.includes(name);
  const pending = ours.pending.filter((name) => !isIgnored(name));
  const unfinished = [...ours.failed, ...ours.running];
  const withoutFolder = [...ours.missing, ...unfinished, ...ours.rolledBack.filter(isIgnored)].filter(
    (name) => !names.includes(name),
  );
  const base = { exitCode: 1, pending: [], failed: [], missing: [] };
  if (pending.length > 0 && withoutFolder.length > 0) {
    const lastCommon = String(ours.rolledBack.some(isIgnored) ? lastBefore(pending, names) : ours.lastCommon);
    return { ...base, says: "diverged", pending: pending.toSorted(), missing: withoutFolder.toSorted(), lastCommon };
  }
  // What has failed is only told where nothing is pending.
  if (pending.length > 0) return { ...base, says: "pending", pending: pending.toSorted() };
  if (!hasTable) return { ...base, says: "unmanaged" };
  if (unfinished.length > 0) return { ...base, says: "failed", failed: unfinished.toSorted() };
  return { ...base, says: "up-to-date", exitCode: 0 };
}

/** The one before the first of these, in Prisma's order. */
function lastBefore(pending: readonly string[], names: readonly string[]): string | null {
  const ordered = names.toSorted((a, b) => a.localeCompare(b, "en"));
  return ordered[ordered.findIndex((name) => pending.includes(name)) - 1] ?? null;
}

/** In the order of their names: the rows' own order is not Prisma's to tell. */
export function sortNames(status: PrismaStatus): PrismaStatus {
  const { pending, failed, missing } = status;
  return { ...status, pending: pending.toSorted(), failed: failed.toSorted(), missing: missing.toSorted() };
}
