/** The text of `status`: a line per kind of finding with its names under it. */
import { formatList } from "../messages/format.ts";
import type { Messages } from "../messages/messages.ts";
import type { Status } from "../migrations/status.ts";

export function renderStatus(status: Status, messages: Messages): string {
  const words = messages.status;
  const findings = [
    [words.pending, status.pending],
    [words.running, status.running],
    [words.failed, status.failed],
    [words.rolledBack, status.rolledBack],
    [words.missing, status.missing],
    [words.edited, status.edited],
    [words.late, status.late],
  ] as const;
  return [
    words.applied(status.applied.length),
    ...findings.flatMap(([say, names]) => (names.length === 0 ? [] : [say(names.length), ...formatList(names)])),
    ...(status.state === "up-to-date" ? [words.upToDate] : []),
  ].join("\n");
}
