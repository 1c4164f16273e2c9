/** Whether two marks are of the same state. Pure. */
import type { Mark } from "./mark.ts";
import { isSamePlace, type MarkedEvidence } from "./proof.ts";

export type MarkedState = MarkedEvidence & Pick<Mark, "fingerprint" | "content">;

/**
 * All that is left to be proven is that no transaction has committed in between. A number that was taken from a sequence
 * by a transaction that was rolled back is in no row; where sequences must stand as they stood, it counts all the same.
 */
export function isUnchanged(
  earlier: MarkedState,
  now: MarkedState,
  { mayBeRestored }: { readonly mayBeRestored: boolean },
): boolean {
  const isSameLife =
    isSamePlace(earlier.place, now.place) &&
    earlier.counters.serverStarted === now.counters.serverStarted &&
    earlier.counters.serverReset === now.counters.serverReset;
  if (!isSameLife || earlier.fingerprint !== now.fingerprint) return false;
  const { content: before, ...restBefore } = earlier.content;
  const { content: after, ...restAfter } = now.content;
  if (JSON.stringify(restBefore) !== JSON.stringify(restAfter)) return false;
  return before === after || (!mayBeRestored && listDifferences(before, after).every(isSequence));
}

/** Names of the objects whose digests differ. @param before as the mark has it, JSON */
function listDifferences(before: string, after: string): string[] {
  const [one, other] = [before, after].map((text) => JSON.parse(text) as Readonly<Record<string, string>>);
  const names = new Set([...Object.keys(one ?? {}), ...Object.keys(other ?? {})]);
  return [...names].filter((name) => one?.[name] !== other?.[name]);
}

function isSequence(object: string): boolean {
  return object.startsWith("sequence ");
}
