/** The table of contents of an archive, as `pg_restore --list` prints it and `--use-list` takes it. Pure. */
import type { Survivors } from "./survivors.ts";

/** `215; 1259 16400 TABLE app users app_owner`: dump id; catalog and id of the object; kind, schema, name, owner. */
const ENTRY = /^\d+; (?<object>\d+ \d+) (?<rest>.*)$/u;

/**
 * The list without the entries of what a wipe leaves in place, and of what belongs to roles that we may not act as.
 * Comments and rights have no id of their own, so they go by their owner's name, and where there is none by the comment's.
 */
export function selectEntries(
  list: string,
  survivors: Pick<Survivors, "entries" | "extensionNames" | "roles"> & Partial<Pick<Survivors, "comments">>,
): string {
  const kept = new Set(survivors.entries);
  const roles = [...survivors.roles].sort((a, b) => b.name.length - a.name.length);
  const comments = new Set([...survivors.extensionNames.flatMap(nameExtensionComments), ...(survivors.comments ?? [])]);
  const isLeftOut = (line: string) => {
    const { object, rest } = ENTRY.exec(line)?.groups ?? {};
    if (object === undefined || rest === undefined) return false;
    if (kept.has(object) || comments.has(rest.trimEnd())) return true;
    // Neither a schema nor a name ends at a blank for sure, so the longest role that fits is taken for the owner.
    return roles.find(({ name }) => rest.endsWith(` ${name}`))?.isOwn === false;
  };
  return list
    .split("\n")
    .map((line) => (isLeftOut(line) ? `;${line}` : line))
    .join("\n");
}

/** Names of objects are quoted where SQL needs it. */
function nameExtensionComments(name: string): string[] {
  return [`COMMENT - EXTENSION ${name}`, `COMMENT - EXTENSION "${name}"`];
}
