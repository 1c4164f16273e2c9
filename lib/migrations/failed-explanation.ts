/** What of the failed migrations is in the database, for the person who has to decide about them. */
import { DeployError } from "../errors.ts";
import type { Session } from "../postgres/session.ts";
import type { ConnectionTarget } from "../postgres/url.ts";
import { readMigrationNames } from "./folder.ts";
import { DEFAULT_SCHEMA, type History } from "./history.ts";
import { diagnoseEach } from "./script-diagnosis.ts";

/** The same refusal with a diagnosis of each migration; without one where it can't be made. Never throws. */
export async function explainFailed(
  problem: DeployError<"HISTORY_FAILED">,
  history: History,
  session: Session,
  settings: { readonly target: ConnectionTarget; readonly migrationsDirectory: string },
): Promise<DeployError<"HISTORY_FAILED">> {
  const { migrations, engine } = problem.fields;
  try {
    const { migrationsDirectory, target } = settings;
    const names = readMigrationNames(migrationsDirectory);
    const subject = { migrationsDirectory, names, history, schema: target.schema ?? DEFAULT_SCHEMA };
    const failed = [...new Set(migrations.map(({ name }) => name))];
    const diagnoses = await diagnoseEach(session, failed, subject);
    const explained = migrations.map((migration) => ({
      ...migration,
      diagnosis: diagnoses.find((diagnosis) => diagnosis.migration === migration.name),
    }));
    return new DeployError("HISTORY_FAILED", { migrations: explained, engine }, { cause: problem });
  } catch {
    // The refusal stands without it.
    return problem;
  }
}
