/**
 * What the procedure tells while it works, as data. `report/human.ts` puts words to it, `report/json.ts` prints it as it is.
 */
import type { AnyDeployError, LockHolder, RestoreReason } from "./errors.ts";
import type { HeldTables, LockWait, LongWork } from "./migrations/activity.ts";
import type { Diagnosis } from "./migrations/diagnosis.ts";
import type { SegmentReason } from "./migrations/segments.ts";
import type { Rung } from "./restore/plan.ts";

export type Event =
  // The specification's lines, in its order.
  | { readonly kind: "deploy-started"; readonly version: string }
  | { readonly kind: "reading-status" }
  | { readonly kind: "up-to-date"; readonly applied: number }
  | {
      readonly kind: "pending-found";
      readonly pending: readonly string[];
      readonly segments: readonly SegmentSummary[];
    }
  /** Of a dry run: where its backup would be written, and about how large it would be. */
  | {
      readonly kind: "backup-planned";
      readonly directory: string;
      readonly format: "plain" | "custom";
      readonly sizeBytes: number;
    }
  | { readonly kind: "backup-started"; readonly format: "plain" | "custom"; readonly reasons: readonly RestoreReason[] }
  | {
      readonly kind: "backup-finished";
      readonly path: string;
      readonly sizeBytes: number;
      readonly durationMs: number;
      /** It is that of an earlier deploy, read again in full, and nothing has changed since. */
      readonly isReused?: boolean;
    }
  | { readonly kind: "migration-started"; readonly engine: "native" | "prisma" }
  | { readonly kind: "migration-finished"; readonly applied: readonly string[]; readonly durationMs: number }
  | { readonly kind: "prune-started" }
  | { readonly kind: "app-starting"; readonly command: readonly string[] }
  | { readonly kind: "migration-failed"; readonly error: AnyDeployError }
  | { readonly kind: "restore-started"; readonly backupPath: string }
  | { readonly kind: "restore-finished"; readonly durationMs: number }
  | { readonly kind: "deploy-failed" }
  // Everything else, indented between them.
  | { readonly kind: "database-waiting"; readonly reason: string; readonly waitedMs: number }
  | { readonly kind: "database-created"; readonly database: string }
  | { readonly kind: "work-found" }
  | { readonly kind: "lock-waiting"; readonly holder: LockHolder | undefined; readonly waitedMs: number }
  | { readonly kind: "deployed-by-another" }
  /** An earlier deploy was killed; what comes next says what is left of it. */
  | { readonly kind: "interrupted-found"; readonly startedAt: string; readonly migrations: readonly string[] }
  | {
      readonly kind: "interrupted-whole";
      readonly applied: readonly string[];
      readonly notApplied: readonly string[];
    }
  | { readonly kind: "interrupted-restored"; readonly backupPath: string }
  | {
      readonly kind: "restore-plan";
      readonly rungs: readonly ("rollback" | Rung)[];
      /** Why there is no other rung. */
      readonly reasons: readonly RestoreReason[];
      /** Why the database could not be swapped, where it was wanted. */
      readonly swapReasons: readonly RestoreReason[];
    }
  /** `restore`: what is about to be done; who is asked for consent reads it. */
  | {
      readonly kind: "restore-chosen";
      /** The database that is restored, or made. */
      readonly database: string;
      readonly how: Rung | "aside";
      readonly path: string;
      /** Of a dump without a manifest: when the file was last written. ISO 8601 in UTC. */
      readonly createdAt: string;
      readonly sizeBytes: number;
      /** Of the backup, where it is another one than this. */
      readonly otherDatabase: string | undefined;
      /** Migrations that were applied when it was taken, and the last of them; undefined where that is not known. */
      readonly history: { readonly applied: number; readonly last: string | null } | undefined;
    }
  /**
   * A rung has failed and left everything as it was: the next one is tried. Without a next one it was a swap whose deploy
   * was killed, which can't be gone on with and is undone.
   */
  | {
      readonly kind: "rung-failed";
      readonly rung: Rung;
      readonly error: AnyDeployError;
      readonly next: Rung | undefined;
    }
  /** What a swap has replaced, and the command that removes it. */
  | {
      readonly kind: "failed-database-kept";
      readonly database: string;
      readonly sizeBytes: number;
      readonly command: string;
    }
  /** What another process had begun. */
  | {
      readonly kind: "swap-resolved";
      readonly how: "finished" | "undone";
      readonly database: string;
      readonly failed: string | undefined;
    }
  /** Its script is sent now; again where its segment is tried again. */
  | { readonly kind: "migration-running"; readonly name: string }
  /** About once a second while one runs; a log shows few of them. */
  | {
      readonly kind: "migration-progress";
      readonly name: string;
      /** Its place among the pending ones, from 1 on. */
      readonly number: number;
      readonly total: number;
      /** Since this try of it began. */
      readonly runningMs: number;
      /** Since the first migration of the deploy began. */
      readonly elapsedMs: number;
      readonly waiting: LockWait | undefined;
      readonly work: LongWork | undefined;
      readonly held: HeldTables | undefined;
    }
  /** About once a second while data is moved, from the third second on; a log shows few of them. */
  | {
      readonly kind: "data-progress";
      readonly work: DataWork;
      readonly bytes: number;
      /** Expected in all, an estimate. Undefined where nothing is known. */
      readonly totalBytes: number | undefined;
      readonly bytesPerSecond: number;
      readonly elapsedMs: number;
    }
  | { readonly kind: "migration-applied"; readonly name: string; readonly durationMs: number }
  | { readonly kind: "notice"; readonly severity: string; readonly message: string }
  | {
      readonly kind: "segment-retrying";
      readonly attempt: number;
      readonly waitMs: number;
      readonly sqlState: string;
      readonly message: string;
    }
  | {
      readonly kind: "segment-split";
      readonly sqlState: string;
      readonly message: string;
      readonly segments: readonly SegmentSummary[];
    }
  | { readonly kind: "prisma-output"; readonly line: string }
  | { readonly kind: "invalid-index-dropped"; readonly index: string }
  /** `--maintenance`: from here on whoever connects may read and not write. */
  | {
      readonly kind: "fence-raised";
      readonly id: string;
      /** Sessions of others. */
      readonly ended: number;
      /** Sessions of others that could not be ended, and may go on writing. */
      readonly remaining: number;
      /** Roles that a setting of their own lets write all the same. */
      readonly overridingRoles: readonly string[];
    }
  /** Writers are let in again. */
  | { readonly kind: "fence-lowered"; readonly id: string; readonly ended: number; readonly wasLeft: boolean }
  | { readonly kind: "rolled-back"; readonly transactionId: string | undefined }
  | {
      readonly kind: "stopped-at-boundary";
      readonly applied: readonly string[];
      readonly notApplied: readonly string[];
    }
  | { readonly kind: "restore-not-proven"; readonly reasons: readonly RestoreReason[] }
  | { readonly kind: "pruned"; readonly paths: readonly string[]; readonly kept: number }
  /** `resolve`, `baseline`: what of the scripts is in the database. */
  | { readonly kind: "diagnosed"; readonly diagnoses: readonly Diagnosis[] }
  | { readonly kind: "warning"; readonly warning: Warning };

/** Work that takes as long as there are data. */
export type DataWork = "backup" | "verify" | "restore";

export interface SegmentSummary {
  readonly migrations: readonly string[];
  /** True when all of it, its rows included, is one transaction. */
  readonly atomic: boolean;
}

export type Warning =
  | { readonly about: "edited"; readonly migrations: readonly string[] }
  | { readonly about: "missing"; readonly migrations: readonly string[] }
  | { readonly about: "late"; readonly migrations: readonly string[] }
  | {
      readonly about: "order";
      readonly bytes: readonly string[];
      readonly prisma: readonly string[];
      readonly followed: "bytes" | "prisma";
    }
  | { readonly about: "normalisation"; readonly names: readonly string[] }
  | { readonly about: "empty-folder"; readonly path: string }
  /** A file of the project names another folder than ours. */
  | { readonly about: "other-folder"; readonly path: string; readonly named: string; readonly namedBy: string }
  | {
      readonly about: "non-atomic";
      readonly migrations: readonly string[];
      readonly reasons: readonly SegmentReason[];
    }
  /** Writers are shut out: by a deploy at work, or by one that was killed. */
  | { readonly about: "swap-unfinished" }
  | { readonly about: "fenced"; readonly id: string; readonly isHeld: boolean }
  | { readonly about: "backup-dir-in-container"; readonly path: string }
  | { readonly about: "no-tls"; readonly host: string }
  | { readonly about: "invalid-index"; readonly indexes: readonly string[] }
  | { readonly about: "schema-changed-by-others" }
  /** A restore that keeps both databases goes on all the same. */
  | { readonly about: "restore-unproven"; readonly reasons: readonly RestoreReason[] }
  /** Health checks can't see that a deploy is at work. */
  | { readonly about: "state-file"; readonly path: string; readonly reason: string }
  | { readonly about: "probe-port"; readonly port: number; readonly reason: string }
  /** A step after the last COMMIT, or a clean-up, failed: the deploy's outcome stands. */
  | { readonly about: "prune" | "unlock" | "fence" | "verify" | "cleanup" | "journal"; readonly reason: string };

/** What a deploy is at, as a health check shows it. */
export type DeployStep = "connect" | "lock" | "prepare" | "backup" | "migrate" | "restore" | "prune" | "finish";

export type Report = (event: Event) => void;

/** A closed terminal or a full log disk must never change how a deploy ends. */
export function unfailing(report: Report): Report {
  return (event) => {
    try {
      report(event);
    } catch {
      // There is nobody left to tell.
    }
  };
}

/** What is over before that needs no progress. */
const DATA_PROGRESS_AFTER_MS = 2_000;

/** Tells how far a piece of work is, whenever it is given the bytes so far. It begins now. */
export function makeDataProgress(
  tell: Report,
  work: DataWork,
  totalBytes: number | undefined,
): (bytes: number) => void {
  const startedMs = performance.now();
  return (bytes) => {
    const elapsedMs = performance.now() - startedMs;
    if (elapsedMs < DATA_PROGRESS_AFTER_MS) return;
    const bytesPerSecond = Math.round((bytes * 1000) / elapsedMs);
    tell({ kind: "data-progress", work, bytes, totalBytes, bytesPerSecond, elapsedMs });
  };
}
