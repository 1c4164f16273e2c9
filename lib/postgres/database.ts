/** One database: opens sessions and runs libpq's tools on it, and counts the sessions that we cause there. */
import type { Report } from "../events.ts";
import { type Input, type Output, type RunResult, run } from "../system/exec.ts";
import { libpqEnvironment } from "./libpq.ts";
import { makeSession, ServerError, type Session } from "./session.ts";
import type { ClientTool } from "./tools.ts";
import { type ConnectionTarget, isRemote } from "./url.ts";

export interface OpenOptions {
  /** Settings of the session, sent when it connects: no round trip. Names that the server does not know refuse it. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly onNotice?: (notice: { severity: string; message: string }) => void;
  /**
   * For a session that migrates: no timeout of the role or the database ends it, and the server notices when we die.
   * Connects at once and costs a round trip.
   */
  readonly isMigrating?: boolean;
}

export interface ToolOptions {
  /** How many sessions the tool opens when it succeeds: pg_dump 1, with `--jobs=N` N + 1. */
  readonly sessions: number;
  readonly settings?: Readonly<Record<string, string>>;
  readonly stdin?: Input;
  readonly stdout?: Output;
  readonly stderr?: Output;
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
  readonly isShielded?: boolean;
}

export interface Database {
  readonly target: ConnectionTarget;
  /**
   * Sessions of ours and of our tools that the server has let in so far. Never more than the server has counted: a tool
   * that fails is not counted, so that a session of somebody else can't hide behind it.
   */
  readonly sessionsOpened: number;
  /** Counts sessions that something else opened for us, for example the Prisma CLI. */
  addSessions(count: number): void;
  /** Told the number each time that it has grown; must not throw. */
  onSessionOpened: ((sessionsOpened: number) => void) | undefined;
  /** Sessions and tools that connect from now on may write although a fence is up, or any other read-only default. */
  passFence(): void;
  /**
   * A new session. It connects with its first statement, which therefore carries what connecting can meet:
   * DATABASE_UNREACHABLE, DATABASE_STARTING, AUTHENTICATION_FAILED, DATABASE_NOT_FOUND, DATABASE_REFUSED, TLS_FAILED.
   *
   * @param purpose shown in `pg_stat_activity` behind our name
   */
  open(purpose: string, options?: OpenOptions): Promise<Session>;
  /** Runs a tool of libpq on this database. The password is in its environment only, and it never asks for one. */
  runTool(tool: ClientTool, args: readonly string[], options: ToolOptions): Promise<RunResult>;
}

const APPLICATION_NAME = "prisma-safe-deploy";
const SETTINGS_DEADLINE_MS = 30_000;

/**
 * A tool notices within a minute that the network has gone, where it would wait for hours. The database itself is named in
 * the environment. pg_restore takes this as the order to connect, and so has to say it by itself.
 */
const KEEPALIVES = "--dbname=keepalives_idle=30 keepalives_interval=10 keepalives_count=3";

/**
 * Nothing connects yet.
 *
 * @param tell is told of each session that crosses a network in clear
 */
export function makeDatabase(target: ConnectionTarget, tell: Report = () => {}): Database {
  let sessionsOpened = 0;
  let isEncrypted: boolean | undefined;
  let passesFence = false;
  const addSessions = (count: number) => {
    sessionsOpened += count;
    database.onSessionOpened?.(sessionsOpened);
  };
  const warning = { about: "no-tls", host: target.host } as const;
  const database: Database = {
    target,
    onSessionOpened: undefined,
    get sessionsOpened() {
      return sessionsOpened;
    },
    addSessions,
    passFence() {
      passesFence = true;
    },
    async open(purpose, { isMigrating = false, settings, ...options } = {}) {
      const isTold = passesFence && !target.pgbouncer;
      const session = makeSession(target, {
        ...options,
        settings: { ...(isTold ? WRITABLE : {}), ...settings },
        applicationName: `${APPLICATION_NAME} ${purpose}`.trimEnd(),
        onConnected: (connected) => {
          addSessions(1);
          isEncrypted = connected.isEncrypted;
          if (!isEncrypted && isRemote(target)) tell({ kind: "warning", warning });
        },
      });
      if (passesFence && !isTold) await applyWritable(session);
      if (isMigrating) await applyMigratingSettings(session);
      return session;
    },
    async runTool(tool, args, { sessions, settings, ...options }) {
      const environment = libpqEnvironment(target, {
        applicationName: `${APPLICATION_NAME} ${tool.name}`,
        isEncrypted,
        systemRootsPath: target.strictTls ? await readSystemRootsPath() : undefined,
        settings: { ...(passesFence && !target.pgbouncer ? WRITABLE : {}), ...settings },
      });
      const env = { ...readToolEnvironment(), ...environment };
      const wishes = tool.name === "pg_restore" ? [] : [KEEPALIVES];
      const result = await run({ file: tool.path, args: ["--no-password", ...wishes, ...args], env }, options);
      if (result.exitCode === 0) addSessions(sessions);
      return result;
    },
  };
  return database;
}

const WRITABLE = { default_transaction_read_only: "off" };

/** A statement of its own, since PgBouncer refuses parameters that it does not know. */
async function applyWritable(session: Session): Promise<void> {
  await session.query("SET default_transaction_read_only = off", {
    during: "set the session up to write",
    deadlineMs: SETTINGS_DEADLINE_MS,
  });
}

const TIMEOUTS = [
  "statement_timeout",
  "lock_timeout",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
  "transaction_timeout",
];

/**
 * Which of them exist depends on the server's version, so it is asked in the same statement. Watching the connection
 * (server 14 and later) is impossible on some platforms of the server, and is then left out.
 */
async function applyMigratingSettings(session: Session): Promise<void> {
  const apply = async (names: readonly string[]) => {
    const list = names.map((name) => `'${name}'`).join(", ");
    await session.query(
      `SELECT set_config(name, CASE name WHEN 'client_connection_check_interval' THEN '2s' ELSE '0' END, false)
       FROM pg_catalog.pg_settings WHERE name IN (${list})`,
      { during: "set the session's timeouts", deadlineMs: SETTINGS_DEADLINE_MS },
    );
  };
  try {
    await apply([...TIMEOUTS, "client_connection_check_interval"]);
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    await apply(TIMEOUTS);
  }
}

/** Where Debian, Alpine, Red Hat, SUSE and macOS keep the roots that they trust, unless the operator says otherwise. */
const SYSTEM_ROOTS = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

async function readSystemRootsPath(): Promise<string | undefined> {
  const { existsSync } = await import("node:fs");
  return [process.env.SSL_CERT_FILE ?? "", ...SYSTEM_ROOTS].find((path) => path !== "" && existsSync(path));
}

/** Nothing of the user's PG* variables: those are for another client than ours. */
function readToolEnvironment(): Record<string, string> {
  const inherited = ["PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SystemRoot"];
  return {
    ...Object.fromEntries(inherited.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : []))),
    // Messages that can be searched for.
    LC_ALL: "C",
  };
}
