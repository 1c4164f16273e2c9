/** The text of what `resolve` and `baseline` have recorded. */
import { formatList } from "../messages/format.ts";
import type { Messages } from "../messages/messages.ts";

export interface ResolutionToRender {
  readonly applied: readonly string[];
  readonly rolledBack: readonly string[];
  readonly written: boolean;
}

export function renderResolution({ applied, rolledBack, written }: ResolutionToRender, messages: Messages): string {
  const words = messages.resolution;
  if (applied.length + rolledBack.length === 0) return words.nothing;
  return [
    ...(rolledBack.length === 0 ? [] : [words.rolledBack(rolledBack.length), ...formatList(rolledBack)]),
    ...(applied.length === 0 ? [] : [words.applied(applied.length), ...formatList(applied)]),
    ...(written ? [] : [words.dryRun]),
  ].join("\n");
}
