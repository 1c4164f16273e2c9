/**
 * The real Prisma CLI as the engine: found, run, shown, stopped. What it did is decided by `prisma-verdict.ts` from the
 * rows of the table, never from its words.
 */
import { constants } from "node:fs";
import { access, readFile, realpath } from "node:fs/promises";
import { delimiter, dirname, join, resolve } from "node:path";
import { DeployError } from "../errors.ts";
import type { Report } from "../events.ts";
import type { Session } from "../postgres/session.ts";
import { type Command, run } from "../system/exec.ts";
import type { MigrationScript } from "./folder.ts";
import { type Datasource, makeLineCleaner, readDatasource } from "./prisma-output.ts";
import { type SessionWatch, watchSessions } from "./prisma-sessions.ts";
import type { PrismaRun } from "./prisma-verdict.ts";

export { readDatasource } from "./prisma-output.ts";
export { readEngine, readEngineSessions, waitForEngines } from "./prisma-sessions.ts";
export {
  judgePrismaRun,
  type PrismaRun,
  type PrismaVerdict,
  prismaSessions,
  type SessionEvidence,
  sessionsOfSeenEngine,
  type UnknownReason,
  worksElsewhere,
} from "./prisma-verdict.ts";

export interface PrismaCli {
  readonly path: string;
  /** From the package's own package.json; undefined where there is none to be read. */
  readonly version: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The CLI that `npx --no-install prisma` would run: the nearest `node_modules/.bin/prisma` upward, then PATH. Found by
 * ourselves because npx takes a second to say the same, and a npx without that flag would download one.
 *
 * @throws PRISMA_CLI_NOT_FOUND
 */
export async function findPrismaCli(directory: string, environment: Environment = process.env): Promise<PrismaCli> {
  const searched = [
    ...ancestorsOf(resolve(directory)).map((ancestor) => join(ancestor, "node_modules", ".bin")),
    ...(environment.PATH ?? "").split(delimiter).filter((folder) => folder.startsWith("/")),
  ];
  for (const folder of searched) {
    const path = join(folder, "prisma");
    if (await isExecutable(path)) return { path, version: await readVersion(path) };
  }
  throw new DeployError("PRISMA_CLI_NOT_FOUND", { directory });
}

function ancestorsOf(directory: string): string[] {
  const parent = dirname(directory);
  return parent === directory ? [directory] : [directory, ...ancestorsOf(parent)];
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** The link leads into the package; a package manager that writes a script instead has the package beside `.bin`. */
async function readVersion(path: string): Promise<string | undefined> {
  for (const directory of [dirname(dirname(await realpath(path))), join(dirname(path), "..", "prisma")]) {
    try {
      const manifest: unknown = JSON.parse(await readFile(join(directory, "package.json"), "utf8"));
      const { name, version } = manifest as { name?: unknown; version?: unknown };
      if (name === "prisma" && typeof version === "string") return version;
    } catch {
      // Not the package's folder.
    }
  }
  return undefined;
}

export interface PrismaOptions {
  readonly cli: PrismaCli;
  /** Where the user would run it: its config file, `.env` and default schema are looked up from there. */
  readonly directory: string;
  /** Path for `--schema`; undefined where the CLI shall find it. */
  readonly schemaPath: string | undefined;
  /** The user's own environment, DATABASE_URL and DIRECT_URL in it as the user gave them. */
  readonly environment: Environment;
  /** The scripts that it is expected to apply. */
  readonly scripts: readonly MigrationScript[];
  /** Opens a session on the same database, by which the CLI's sessions are found and ended. */
  readonly openSession: () => Promise<Session>;
  /** It is made to stop when it has run for this long. 25 days at most. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly tell: Report;
}

const OUTPUT_LENGTH_MAX = 16 * 1024;
/** Above what the sessions take to stop: only a CLI that hangs without them is killed. */
const KILL_AFTER_MS = 60_000;
/** A timer that is set for longer fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The CLI's command. We hold its advisory lock already, in a session of ours: it would wait for us and give up. */
function makePrismaCommand(options: Pick<PrismaOptions, "cli" | "directory" | "schemaPath" | "environment">): Command {
  const given = Object.entries(options.environment).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return {
    file: options.cli.path,
    args: ["migrate", "deploy", ...(options.schemaPath === undefined ? [] : ["--schema", options.schemaPath])],
    cwd: options.directory,
    env: {
      ...Object.fromEntries(given),
      PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK: "1",
      PRISMA_HIDE_UPDATE_MESSAGE: "1",
      CHECKPOINT_DISABLE: "1",
      NO_COLOR: "1",
    },
  };
}

/**
 * Runs `prisma migrate deploy` to its end, and returns when none of its sessions is at work any more, or can be ended.
 *
 * Deadline and signal do not kill the CLI, since its engine would go on without it: its statement is cancelled on the
 * server, so that it notes the failure and ends by itself. Killed is one that does not end although nothing of it is at
 * work. Only sessions that began during the run are touched, whose statement is the engine's or part of a script.
 */
export async function applyWithPrisma(options: PrismaOptions): Promise<PrismaRun> {
  const watch = await watchSessions(options.openSession, options.scripts);
  try {
    return await runWatched(options, watch);
  } finally {
    await watch.close();
  }
}

async function runWatched(options: PrismaOptions, watch: SessionWatch): Promise<PrismaRun> {
  const { deadlineMs, signal, tell } = options;
  const reader = makeOutputReader(options.environment, tell);
  const killer = new AbortController();
  const stopper = makeStopper(signal, deadlineMs);
  let hasEnded = false;
  const ending = run(makePrismaCommand(options), {
    stdout: { line: reader.read },
    stderr: { line: reader.read },
    deadlineMs: Math.min(deadlineMs + KILL_AFTER_MS, TIMER_MAX_MS),
    signal: killer.signal,
  }).finally(() => {
    hasEnded = true;
  });
  const stoppedBy = await Promise.race([ending.then(() => undefined), stopper.stopped]);
  stopper.cancel();
  if (stoppedBy !== undefined) await watch.stop(() => hasEnded);

  killer.abort();
  const { exitCode, signal: endedBy, startError } = await ending;
  // Where a signal ended it, also one that it handled, its engine may be left.
  const isOrphaned = exitCode === undefined || exitCode >= 128;
  return {
    exitCode,
    signal: endedBy,
    startError,
    timedOut: stoppedBy === "deadline",
    interrupted: stoppedBy === "signal",
    lingering: startError === undefined ? await watch.settle(isOrphaned) : [],
    datasource: reader.datasource(),
    output: reader.tail(),
  };
}

/** Resolves when the run has to stop, with the reason. */
function makeStopper(signal: AbortSignal, deadlineMs: number) {
  let cancel = () => {};
  const stopped = new Promise<"deadline" | "signal">((stop) => {
    const onAbort = () => stop("signal");
    const timer = setTimeout(() => stop("deadline"), Math.min(deadlineMs, TIMER_MAX_MS));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    cancel = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    };
  });
  return { stopped, cancel };
}

/** Tells each line that says something, and keeps the end of them. */
function makeOutputReader(environment: Environment, tell: Report) {
  const clean = makeLineCleaner([environment.DATABASE_URL ?? "", environment.DIRECT_URL ?? ""]);
  let datasource: Datasource | undefined;
  let output = "";
  return {
    read(raw: string): void {
      const line = clean(raw).trimEnd();
      if (line === "") return;
      datasource ??= readDatasource(line);
      output = `${output}${line}\n`.slice(-OUTPUT_LENGTH_MAX);
      tell({ kind: "prisma-output", line });
    },
    datasource: () => datasource,
    tail: () => output,
  };
}
