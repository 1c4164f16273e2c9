/** `history` on the command line. Reads the journal alone, so that it works while the database is down. */
import { listDeploys } from "../journal/deploys.ts";
import { makeHistory } from "../journal/history.ts";
import { readJournal } from "../journal/store.ts";
import type { Messages } from "../messages/messages.ts";
import { renderHistory } from "../report/history.ts";
import type { OfflineSettings } from "./settings.ts";

/** @returns what is printed */
export function runHistory({ backupDirectory, json }: OfflineSettings, messages: Messages): string {
  const list = makeHistory(listDeploys(readJournal(backupDirectory)));
  return json ? JSON.stringify(list) : renderHistory(list, backupDirectory, messages);
}
