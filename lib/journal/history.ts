/** Past deploys in the shape of `history --json`. Pure. */
import type { JournaledDeploy } from "./deploys.ts";
import type { JournalOutcome } from "./lines.ts";

/** The stable shape of `history --json`: a list of these, the oldest first. */
export interface PastDeploy {
  readonly id: string;
  readonly database: string;
  readonly systemIdentifier: string;
  /** ISO 8601 in UTC, as all times here. */
  readonly startedAt: string;
  /** Null for one that is at work, or was killed and not found yet. */
  readonly endedAt: string | null;
  readonly durationMs: number | null;
  /** `open`: see `endedAt`. `stopped`: it had not begun to migrate. */
  readonly outcome: JournalOutcome | "open";
  readonly exitCode: number | null;
  /** It was killed, and the deploy after it has found out or brought about the outcome. */
  readonly wasInterrupted: boolean;
  readonly failure: {
    readonly code: string;
    readonly migration: string | null;
    readonly sqlState: string | null;
  } | null;
  /** Names that it was about to apply, in order. */
  readonly migrations: readonly string[];
  /** Those of them that are applied whole. */
  readonly applied: readonly string[];
  /** Id of its backup. */
  readonly backup: string | null;
  /** That backup was taken by an earlier deploy, and the database had not changed since. */
  readonly isBackupReused: boolean;
  readonly engine: "native" | "prisma";
  readonly program: string;
}

export function makeHistory(deploys: readonly JournaledDeploy[]): PastDeploy[] {
  return deploys.map((deploy) => {
    const { end, backup, isBackupReused, engine, program } = deploy;
    const failure = end?.failure ?? deploy.failure;
    return {
      id: deploy.id,
      database: deploy.database,
      systemIdentifier: deploy.systemIdentifier,
      startedAt: deploy.startedAt,
      endedAt: end?.at ?? null,
      durationMs: end === undefined ? null : Math.max(0, Date.parse(end.at) - Date.parse(deploy.startedAt)),
      outcome: end?.outcome ?? "open",
      exitCode: end?.exitCode ?? null,
      wasInterrupted: end?.isFoundLater ?? false,
      failure: failure == null ? null : describe(failure),
      migrations: deploy.migrations.map(({ name }) => name),
      applied: end?.applied ?? [],
      backup: backup ?? null,
      isBackupReused,
      engine,
      program,
    };
  });
}

function describe({ code, migration, sqlState }: NonNullable<JournaledDeploy["failure"]>): PastDeploy["failure"] {
  return { code, migration: migration ?? null, sqlState: sqlState ?? null };
}
