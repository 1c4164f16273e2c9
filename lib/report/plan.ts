/** What a dry run has told, in the shape of `plan --json`. Pure. */
import type { Event, SegmentSummary, Warning } from "../events.ts";

type Told<Kind extends Event["kind"]> = Omit<Extract<Event, { kind: Kind }>, "kind">;

/** The stable shape of `plan --json`. */
export interface PlanReport {
  readonly state: "up-to-date" | "pending";
  readonly engine: "native" | "prisma";
  /** In the order in which they would be applied. */
  readonly pending: readonly string[];
  /** What would run together, in order; empty with Prisma's engine, which commits as it likes. */
  readonly segments: readonly SegmentSummary[];
  /** Null where nothing is pending, as the next. */
  readonly backup: Told<"backup-planned"> | null;
  readonly restore: Told<"restore-plan"> | null;
  readonly warnings: readonly Warning[];
}

/** @param events all that a dry run has told that was not refused */
export function makePlanReport(events: readonly Event[], engine: PlanReport["engine"]): PlanReport {
  const found = told(events, "pending-found");
  return {
    state: found === null ? "up-to-date" : "pending",
    engine,
    pending: found?.pending ?? [],
    segments: found?.segments ?? [],
    backup: told(events, "backup-planned"),
    restore: told(events, "restore-plan"),
    warnings: events.flatMap((event) => (event.kind === "warning" ? [event.warning] : [])),
  };
}

function told<Kind extends Event["kind"]>(events: readonly Event[], kind: Kind): Told<Kind> | null {
  const event = events.find((other): other is Extract<Event, { kind: Kind }> => other.kind === kind);
  if (event === undefined) return null;
  const { kind: _, ...fields } = event;
  return fields;
}
