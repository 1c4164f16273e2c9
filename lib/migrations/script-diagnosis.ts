/** Diagnoses migrations: reads their scripts, parses them, and looks up in the catalog what they make. */
import type { Session } from "../postgres/session.ts";
import { lookUp } from "./catalog-lookup.ts";
import { type Diagnosis, examine, type ScriptToDiagnose } from "./diagnosis.ts";
import { readPresentScripts } from "./folder.ts";
import { parseScript } from "./grammar.ts";
import { type History, readNamesWithError } from "./history.ts";

export interface DiagnosisSubject {
  readonly migrationsDirectory: string;
  /** The folder's migrations in byte order. */
  readonly names: readonly string[];
  readonly history: History;
  /** Where names without a schema are. */
  readonly schema: string;
}

/**
 * What of each of these scripts is in the database. One that is not in the folder, or can't be read, is left out.
 *
 * @param migrations each is looked at by itself, with the applied ones that come after it
 */
export async function diagnoseEach(
  session: Session,
  migrations: readonly string[],
  subject: DiagnosisSubject,
): Promise<Diagnosis[]> {
  const applied = new Set(
    subject.history.rows.filter((row) => row.rolledBackAt === null && row.finishedAt !== null).map(({ name }) => name),
  );
  const diagnoses: Diagnosis[] = [];
  for (const migration of migrations) {
    const at = subject.names.indexOf(migration);
    if (at === -1) continue;
    const later = subject.names.slice(at + 1).filter((name) => applied.has(name));
    const [own] = await diagnoseTogether(session, [migration, ...later], subject);
    if (own?.migration === migration) diagnoses.push(own);
  }
  return diagnoses;
}

/** What of these scripts is in the database, if they ran one after the other. */
export async function diagnoseTogether(
  session: Session,
  migrations: readonly string[],
  { migrationsDirectory, history, schema }: DiagnosisSubject,
): Promise<Diagnosis[]> {
  const scripts = await readPresentScripts(migrationsDirectory, migrations);
  const failed = history.schema === undefined ? [] : await readNamesWithError(session);
  const parsed: ScriptToDiagnose[] = [];
  for (const { name, text } of scripts) {
    parsed.push({ name, text, parsed: await parseScript(text), hasError: failed.includes(name) });
  }
  const { objects, judge } = examine(parsed, schema);
  return judge(await lookUp(session, objects));
}
