/**
 * Puts the marked state back in the live database: everything that is ours is dropped and restored from the backup in ONE
 * transaction of ONE psql session, which commits only when nobody else has written, and when what is there then is what
 * was there at the mark.
 *
 * No write of anybody else is lost: all tables are locked before the first proof, so nobody is writing to what will be
 * dropped; the proof is repeated when everything is dropped, and once more before the COMMIT. Who commits in between has
 * either touched something that is not ours to drop, which stays, or is found by one of the proofs.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Manifest } from "../backup/manifest.ts";
import { copyWithoutUnknownSetting, holdsUnknownSetting } from "../backup/readable-text.ts";
import { rereadBackup } from "../backup/reread.ts";
import { writesUnknownSetting } from "../backup/unknown-setting.ts";
import { DeployError, type RestoreReason } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import type { Session } from "../postgres/session.ts";
import type { ClientTool } from "../postgres/tools.ts";
import type { RunResult, Write } from "../system/exec.ts";
import { writeContentsList } from "./archive-tool.ts";
import { listClusterChanges, readClusterDigests } from "./cluster.ts";
import { selectEntries } from "./contents-list.ts";
import { flushOwnSessions, prepareSession } from "./evidence.ts";
import { readRestoreFacts } from "./facts.ts";
import { watchGrowth } from "./growth.ts";
import { WORK_PREFIX } from "./leftovers.ts";
import { watchLocks } from "./lock-watch.ts";
import type { Mark } from "./mark.ts";
import { chooseRestore } from "./plan.ts";
import { pourArchive } from "./pour.ts";
import type { RestoreProgress } from "./progress.ts";
import type { MarkedEvidence } from "./proof.ts";
import { NOT_PROVEN_STATE } from "./proof-script.ts";
import {
  COMMITTED_WORD,
  DIFFERS_STATE,
  type ExpectedContent,
  makeBeginScript,
  makeEndScript,
  type RestoreScriptOptions,
  TRANSACTION_WORD,
} from "./script.ts";
import { type RecordedTransaction, settleTransaction } from "./settle.ts";
import { readSurvivors, type Survivors } from "./survivors.ts";

export interface InPlaceOptions {
  readonly database: Database;
  readonly tools: { readonly psql: ClientTool; readonly pgRestore: ClientTool | undefined };
  readonly backup: { readonly path: string; readonly manifest: Manifest };
  readonly mark: Mark;
  /** Where the mark is not what the backup holds, since a person restores one of another time. */
  readonly expected?: Pick<ExpectedContent, "content" | "history">;
  /**
   * What we did since the mark; sessions that are open must be outside of any transaction. Undefined where a person has
   * consented to lose what others write: then nothing has to be proven.
   */
  readonly own:
    | {
        readonly transactionIds: readonly string[];
        readonly sessions: readonly Session[];
        /** False when something, such as a killed Prisma CLI, opened an unknown number of sessions for us. */
        readonly areSessionsCounted: boolean;
        /** What the proof begins from, where it is not the mark. */
        readonly base?: MarkedEvidence | undefined;
      }
    | undefined;
  /** Told what restores as soon as it has begun, before it changes anything. Must not throw. */
  readonly onTransaction?: ((transaction: RecordedTransaction) => void) | undefined;
  readonly lockTimeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** Called about once a second. */
  readonly progress?: RestoreProgress | undefined;
}

export interface RestoredInPlace {
  readonly transactionId: string;
}

const LOCK_TIMEOUT_MS = 5_000;
const ANALYZE_DEADLINE_MS = 600_000;
/** The longest that a timer can wait. */
const NO_DEADLINE_MS = 2 ** 31 - 1;
const FILE_MODE = 0o600;
const OUTPUT_LINES_MAX = 20;

/**
 * @throws RESTORE_NOT_PROVEN, RESTORE_DIFFERS, RESTORE_FAILED, BACKUP_NOT_VERIFIED, or what connecting meets: nothing was
 * changed. COMMIT_UNKNOWN: it can't be told.
 */
export async function restoreInPlace(options: InPlaceOptions): Promise<RestoredInPlace> {
  const { database, backup, signal, progress } = options;
  const { pgRestore } = options.tools;
  await rereadBackup(backup, { pgRestore, signal, progress: (bytes) => progress?.("verify", bytes) });
  const session = await database.open("restore");
  const directory = await mkdtemp(join(dirname(backup.path), WORK_PREFIX));
  try {
    await prepareSession(session);
    await requirePossible(session, options);
    const survivors = await readSurvivors(session, options.mark.content);
    const text = await prepareText(directory, survivors, options);
    const script = await makeScript(session, survivors, options);
    const transactionId = await runRestore(session, directory, text, script, options);
    // The planner knows nothing of new tables. Without it all is as before, only slower for a while.
    await session
      .script("RESET search_path; ANALYZE", { during: "analyze", deadlineMs: ANALYZE_DEADLINE_MS })
      .catch(() => {});
    return { transactionId };
  } finally {
    await session.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** The failed deploy may have made what was possible impossible. */
async function requirePossible(session: Session, { mark, backup, own }: InPlaceOptions): Promise<void> {
  const changes = own === undefined ? [] : listClusterChanges(mark.cluster, await readClusterDigests(session));
  const plan = chooseRestore(await readRestoreFacts(session), { format: "custom" });
  // A person's backup is of a time of its own: what it holds is found out by restoring it.
  const marked = chooseRestore(mark.facts, { format: own === undefined ? "custom" : backup.manifest.format });
  const reasons: RestoreReason[] = [
    ...changes.map((kind) => `cluster-${kind}` as const),
    ...new Set([...plan.reasonsNot, ...marked.reasonsNot]),
  ];
  if (reasons.length > 0) throw new DeployError("RESTORE_NOT_PROVEN", { reasons });
}

async function makeScript(
  session: Session,
  survivors: Survivors,
  options: InPlaceOptions,
): Promise<RestoreScriptOptions> {
  const { mark, backup, lockTimeoutMs = LOCK_TIMEOUT_MS } = options;
  const { schemas, properties, extensions, ...marked } = mark.content;
  const { content, history } = options.expected ?? marked;
  const { tables, largeObjects } = backup.manifest;
  return {
    serverMajor: mark.serverMajor,
    proof: await makeProof(session, options),
    wipe: { survivors, schemas, properties, extensions },
    expected: { content, tables, largeObjects, history },
    lockTimeoutMs,
  };
}

async function makeProof(
  session: Session,
  { database, mark, own }: InPlaceOptions,
): Promise<RestoreScriptOptions["proof"]> {
  if (own === undefined) return undefined;
  return {
    mark: own.base ?? mark,
    transactionIds: own.transactionIds,
    ownPids: await flushOwnSessions([session, ...own.sessions], mark.serverMajor),
    // The session of psql itself, which is sure to be there when the proof is made in it.
    sessionsOpened: own.areSessionsCounted ? database.sessionsOpened + 1 : undefined,
  };
}

/** What psql reads between the two scripts: a file, or what is written to it. */
type DumpText = { readonly path: string } | { readonly pour: (write: Write) => Promise<boolean> };

/** The backup as SQL that this server knows, and without what stays where only an archive can leave it out. */
async function prepareText(directory: string, survivors: Survivors, options: InPlaceOptions): Promise<DumpText> {
  const { tools, mark, signal } = options;
  const { path, manifest } = options.backup;
  if (manifest.format === "custom") {
    const hasUnknownSetting = writesUnknownSetting(tools.pgRestore?.major ?? 0, mark.serverMajor);
    const archive = { path, pgRestore: tools.pgRestore, hasUnknownSetting, signal };
    const listPath = await writeContentsList(directory, (list) => selectEntries(list, survivors), archive);
    return { pour: async (write) => await pourArchive(write, listPath, archive) };
  }
  if (!(await holdsUnknownSetting(path, mark.serverMajor))) return { path };
  return { path: await copyWithoutUnknownSetting(path, directory) };
}

/** What psql said, as far as it matters. Rows of tables, which errors quote in their details, are left out. */
interface Heard {
  transaction: RecordedTransaction | undefined;
  isCommitted: boolean;
  readonly complaints: string[];
}

async function runRestore(
  session: Session,
  directory: string,
  text: DumpText,
  script: RestoreScriptOptions,
  { database, tools, signal, onTransaction, progress }: InPlaceOptions,
): Promise<string> {
  const begin = join(directory, "begin.sql");
  const end = join(directory, "end.sql");
  await writeFile(begin, makeBeginScript(script), { mode: FILE_MODE });
  if ("path" in text) await writeFile(end, makeEndScript(script), { mode: FILE_MODE });
  signal?.throwIfAborted();
  const heard: Heard = { transaction: undefined, isCommitted: false, complaints: [] };
  const flags = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"];
  const watches = [
    watchLocks(session, () => heard.transaction?.pid, script.lockTimeoutMs),
    ...(progress === undefined
      ? []
      : [watchGrowth(session, "current_database()", (bytes) => progress("restore", bytes))]),
  ];
  const sources = "path" in text ? ["-f", begin, "-f", text.path, "-f", end] : ["-f", begin, "-f", "-"];
  // Who ends the text ends the transaction: what has the COMMIT in it comes once all else is written, and not before.
  const feed = async (write: Write) => {
    if ("pour" in text && (await text.pour(write))) await write(Buffer.from(makeEndScript(script)));
  };
  const running = database.runTool(tools.psql, [...flags, ...sources], {
    sessions: 1,
    ...("pour" in text ? { stdin: { feed } } : {}),
    stdout: {
      line: (line) => {
        const isKnown = heard.transaction !== undefined;
        hearAnswer(line, heard);
        if (!isKnown && heard.transaction !== undefined) onTransaction?.(heard.transaction);
      },
    },
    stderr: { line: (line) => hearComplaint(line, heard) },
    deadlineMs: NO_DEADLINE_MS,
    isShielded: true,
    ...(signal === undefined ? {} : { signal }),
  });
  const result = await running.finally(() => Promise.all(watches.map((watch) => watch.stop())));
  return await judgeRun(result, heard, database);
}

function hearAnswer(line: string, heard: Heard): void {
  const [word, pid, id, life] = line.split(" ");
  if (word === TRANSACTION_WORD && id !== undefined && life !== undefined) {
    heard.transaction ??= { id, pid: Number(pid), life };
  }
  if (line === COMMITTED_WORD) heard.isCommitted = true;
}

function hearComplaint(line: string, heard: Heard): void {
  if (!line.startsWith("psql:") || line.includes("WARNING:")) return;
  heard.complaints.push(line);
  if (heard.complaints.length > OUTPUT_LINES_MAX) heard.complaints.shift();
}

/** Its exit code may be lost with it, and so may the answer to the COMMIT: then the server is asked. */
async function judgeRun(result: RunResult, heard: Heard, database: Database): Promise<string> {
  const { transaction } = heard;
  const failure = result.inputError ?? makeFailure("psql", result, heard.complaints);
  if (transaction === undefined) throw failure;
  if (heard.isCommitted) return transaction.id;
  const end = await settleTransaction(database, transaction);
  if (end.kind === "committed") return transaction.id;
  if (end.kind === "aborted") throw failure;
  throw new DeployError("COMMIT_UNKNOWN", { transactionId: transaction.id, reason: end.reason }, { cause: failure });
}

function makeFailure(tool: string, result: RunResult, complaints: readonly string[]): DeployError {
  const reasons = readList(complaints, NOT_PROVEN_STATE);
  // Its own block names nothing else.
  if (reasons !== undefined) return new DeployError("RESTORE_NOT_PROVEN", { reasons: reasons as RestoreReason[] });
  const differences = readList(complaints, DIFFERS_STATE);
  if (differences !== undefined) return new DeployError("RESTORE_DIFFERS", { differences });
  const ended = result.startError ?? (result.timedOut ? "deadline exceeded" : (result.signal ?? ""));
  const output = [...complaints, ended].filter((line) => line !== "").join("\n");
  return new DeployError("RESTORE_FAILED", { tool, exitCode: result.exitCode, output });
}

/** The list in the message of one of our own errors. */
function readList(complaints: readonly string[], state: string): string[] | undefined {
  for (const complaint of complaints) {
    const [, message] = complaint.split(`: ERROR:  ${state}: `);
    if (message === undefined) continue;
    const list: unknown = JSON.parse(message);
    if (Array.isArray(list)) return list.map(String);
  }
  return undefined;
}
