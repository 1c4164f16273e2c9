/** Everything that can be refused before the database or the backup folder is touched, and what was found out by it. */
import type { BackupRoom } from "./backup/room.ts";
import { DeployError } from "./errors.ts";
import type { SegmentSummary, Warning } from "./events.ts";
import type { MigrationScript } from "./migrations/folder.ts";
import type { ServerFacts } from "./migrations/history.ts";
import type { Plan } from "./migrations/plan.ts";
import type { PrismaCli } from "./migrations/prisma-engine.ts";
import type { AnalysedScript, Segment } from "./migrations/segments.ts";
import type { OperationSettings } from "./operations.ts";
import type { Session } from "./postgres/session.ts";
import type { ClientTool } from "./postgres/tools.ts";

export interface Tools {
  readonly pgDump: ClientTool;
  readonly pgRestore: ClientTool;
  readonly psql: ClientTool;
}

/** What is about to run, and with what. */
export interface Prepared {
  readonly plan: Plan;
  readonly server: ServerFacts;
  readonly scripts: readonly MigrationScript[];
  /** Empty with Prisma's engine, which cuts by itself. */
  readonly segments: readonly Segment[];
  readonly cli: PrismaCli | undefined;
  readonly tools: Tools;
  readonly room: BackupRoom;
  readonly warnings: readonly Warning[];
}

/** The newest server whose grammar we have: what it does not parse, no server up to it does. */
const GRAMMAR_MAJOR = 18;

/** @throws the first refusal: exit codes 3, 4 and 7 */
export async function prepareDeploy(
  plan: Plan,
  server: ServerFacts,
  session: Session,
  settings: OperationSettings,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Prepared> {
  // A fence that a killed deploy has left is lifted before anything is done; it is still there in a dry run.
  if (server.readOnly && (server.inRecovery || plan.fence === undefined)) {
    throw new DeployError("DATABASE_READ_ONLY", { inRecovery: server.inRecovery });
  }
  if (settings.maintenance) await requireFenceRights(session);
  const { readScripts } = await import("./migrations/folder.ts");
  const scripts = await readScripts(settings.migrationsDirectory, plan.pending);
  const engine = await prepareEngine(scripts, server, settings, environment);
  const tools = await findTools(server.versionNumber);
  const folder = await checkBackupFolder(session, settings);
  const warnings = [...(await otherFolderWarnings(settings)), ...segmentWarnings(engine.segments), ...folder.warnings];
  return { plan, server, scripts, ...engine, tools, room: folder.room, warnings };
}

/** Prisma's CLI would run what is in another folder: ours may be one that was left behind. */
async function otherFolderWarnings({ migrationsDirectory: path }: OperationSettings): Promise<Warning[]> {
  const { findNamedDirectory } = await import("./migrations/project-hints.ts");
  const named = findNamedDirectory(".", path);
  return named === undefined ? [] : [{ about: "other-folder", path, named: named.path, namedBy: named.namedBy }];
}

async function requireFenceRights(session: Session): Promise<void> {
  const { readFenceRights } = await import("./restore/fence.ts");
  const { isAllowed, ...fields } = await readFenceRights(session);
  if (!isAllowed) throw new DeployError("FENCE_DENIED", { ...fields, isLeft: false });
}

/** What is shown of the segments: none with Prisma's engine, which commits as it likes. */
export function summarise(prepared: Prepared): SegmentSummary[] {
  return prepared.segments.map(({ scripts, mode }) => ({
    migrations: scripts.map(({ name }) => name),
    atomic: mode === "atomic",
  }));
}

async function prepareEngine(
  scripts: readonly MigrationScript[],
  server: ServerFacts,
  settings: OperationSettings,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Pick<Prepared, "segments" | "cli">> {
  if (settings.migrateEngine === "prisma") {
    const { findPrismaCli } = await import("./migrations/prisma-engine.ts");
    return { segments: [], cli: await findPrismaCli(process.cwd(), environment) };
  }
  const { analyseScripts } = await import("./migrations/analysis.ts");
  const { makeSegments } = await import("./migrations/segments.ts");
  const analysed = await analyseScripts(scripts);
  if (server.versionNumber < (GRAMMAR_MAJOR + 1) * 10_000) await refuseUnparsed(analysed);
  return { segments: makeSegments(analysed, server.versionNumber), cli: undefined };
}

/** A script that no server of this version can parse is refused while nothing has been touched. */
async function refuseUnparsed(scripts: readonly AnalysedScript[]): Promise<void> {
  // Without a position the parser has given up on something that may well be valid.
  const broken = scripts.find(({ facts }) => facts.parseError?.position !== undefined);
  if (broken?.facts.parseError?.position === undefined) return;
  const { makeScriptLocation } = await import("./migrations/script-location.ts");
  const { message, position } = broken.facts.parseError;
  const server = { sqlState: "42601", message, detail: undefined, hint: undefined, position, where: undefined };
  const location = makeScriptLocation(broken.path, broken.text, position);
  throw new DeployError("SCRIPT_INVALID", { migration: broken.name, server, location });
}

/** @throws TOOL_NOT_FOUND, TOOL_TOO_OLD */
export async function findTools(serverVersionNumber: number): Promise<Tools> {
  const { findTool } = await import("./postgres/tools.ts");
  // By itself, so that it is the one that is named where all of them are missing or too old.
  const pgDump = await findTool("pg_dump", serverVersionNumber);
  const [pgRestore, psql] = await Promise.all([
    findTool("pg_restore", serverVersionNumber),
    findTool("psql", serverVersionNumber),
  ]);
  return { pgDump, pgRestore, psql };
}

function segmentWarnings(segments: readonly Segment[]): Warning[] {
  const single = segments.filter(({ mode }) => mode !== "atomic");
  if (single.length === 0) return [];
  const migrations = single.flatMap(({ scripts }) => scripts.map(({ name }) => name));
  return [{ about: "non-atomic", migrations, reasons: single.flatMap(({ reasons }) => reasons) }];
}

async function checkBackupFolder(
  session: Session,
  settings: OperationSettings,
): Promise<{ readonly room: BackupRoom; readonly warnings: Warning[] }> {
  const { isInContainerLayer } = await import("./backup/store.ts");
  const { checkRoom } = await import("./backup/room.ts");
  const { requireDumpRights } = await import("./backup/rights.ts");
  await requireDumpRights(session);
  const path = settings.backupDirectory;
  const room = await checkRoom(session, path, settings.backupFormat === "custom" ? "custom" : "plain");
  return { room, warnings: (await isInContainerLayer(path)) ? [{ about: "backup-dir-in-container", path }] : [] };
}
