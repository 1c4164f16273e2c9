/** The text of `history`. */
import type { PastDeploy } from "../journal/history.ts";
import { formatDuration } from "../messages/format.ts";
import type { Messages } from "../messages/messages.ts";
import { showControls } from "../system/text.ts";
import { align, formatTime } from "./table.ts";

const NONE = "-";

export function renderHistory(list: readonly PastDeploy[], directory: string, messages: Messages): string {
  const words = messages.history;
  if (list.length === 0) return words.none(directory);
  const { database, begun, duration, outcome, migrations, backup, failure } = words.headings;
  // Of one database alone its name says nothing.
  const hasDatabase = new Set(list.map((deploy) => `${deploy.systemIdentifier} ${deploy.database}`)).size > 1;
  const select = (name: string, ...rest: readonly string[]) => (hasDatabase ? [name, ...rest] : rest);
  const rows = list.map((deploy) =>
    select(
      showControls(deploy.database),
      formatTime(deploy.startedAt),
      deploy.durationMs === null ? NONE : formatDuration(deploy.durationMs),
      describeOutcome(deploy, messages),
      describeMigrations(deploy, messages),
      deploy.backup ?? NONE,
      describeFailure(deploy),
    ),
  );
  return align([select(database, begun, duration, outcome, migrations, backup, failure), ...rows]).join("\n");
}

function describeOutcome({ outcome, exitCode, wasInterrupted }: PastDeploy, { history: words }: Messages): string {
  const how = exitCode === null ? words.outcomes[outcome] : `${words.outcomes[outcome]} (${exitCode})`;
  return wasInterrupted ? `${how}, ${words.interrupted}` : how;
}

function describeMigrations({ migrations: [first, ...others] }: PastDeploy, { history: words }: Messages): string {
  return first === undefined ? NONE : words.migrations(showControls(first), others.length);
}

function describeFailure({ failure }: PastDeploy): string {
  if (failure === null) return NONE;
  return [failure.code, failure.migration, failure.sqlState]
    .filter((part) => part !== null)
    .map(showControls)
    .join(" ");
}
