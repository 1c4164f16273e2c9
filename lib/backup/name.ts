/** The names of a backup's files. Pure. */

export type BackupFormat = "plain" | "custom";

/** `plain` is what the specification names. */
const SUFFIXES: Readonly<Record<BackupFormat, string>> = { plain: ".sql", custom: ".dump" };

const ID = /^backup_\d{8}_\d{6}(?:_\d+)?$/u;
const PARTIAL = /^backup_\d{8}_\d{6}(?:_\d+)?(?:(?:\.mark)?\.json)?\.partial$/u;

/**
 * `backup_20241219_143022` in UTC. A second one in the same second is attempt 2 and gets a suffix: `..._2`.
 */
export function makeBackupId(at: Date, attempt: number): string {
  const [date = "", time = ""] = at.toISOString().split("T");
  const id = `backup_${date.replaceAll("-", "")}_${time.slice(0, 8).replaceAll(":", "")}`;
  return attempt === 1 ? id : `${id}_${attempt}`;
}

export function makeDumpName(id: string, format: BackupFormat): string {
  return `${id}${SUFFIXES[format]}`;
}

export function makeManifestName(id: string): string {
  return `${id}.json`;
}

/** What the database was like when the backup was taken, for the run that has to come back to it. */
export function makeMarkName(id: string): string {
  return `${id}.mark.json`;
}

/** The same for both formats: who creates it alone owns the id and all of its names. */
export function makePartialName(id: string): string {
  return `${id}.partial`;
}

/** Every final name that an id can have. */
export function makeFinalNames(id: string): readonly string[] {
  return [makeDumpName(id, "plain"), makeDumpName(id, "custom"), makeManifestName(id)];
}

/** The id, when a file's name is that of a manifest of ours. */
export function parseManifestName(name: string): string | undefined {
  if (!name.endsWith(".json")) return undefined;
  const id = name.slice(0, -".json".length);
  return isBackupId(id) ? id : undefined;
}

/** The id, when a file's name is that of a dump of ours. */
export function parseDumpName(name: string): string | undefined {
  const suffix = Object.values(SUFFIXES).find((candidate) => name.endsWith(candidate));
  const id = suffix === undefined ? "" : name.slice(0, -suffix.length);
  return isBackupId(id) ? id : undefined;
}

export function isBackupId(text: string): boolean {
  return ID.test(text);
}

/** True for what a killed backup leaves behind. */
export function isPartialName(name: string): boolean {
  return PARTIAL.test(name);
}
