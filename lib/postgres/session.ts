/**
 * One session is one connection of the `postgres` driver, and ends with it. The only module that knows the driver.
 *
 * Version 3.4.9 of the driver waits for ever on a connection that has gone quiet, throws where nobody can catch it when
 * a reserved one is lost, and opens another backend by itself. So nothing is reserved, the socket is ours and is given
 * out once, and every statement ends with its deadline or with the session.
 */
import postgres from "postgres";
import { type AnyDeployError, DeployError, describeCause, isDeployError, type ServerMessage } from "../errors.ts";
import type { ByteSocket } from "./bun-socket.ts";
import { makeCommandCounter } from "./command-counter.ts";
import { openSocket, sendCancelRequest } from "./connection.ts";
import { connectionFailureOf, refusalOf } from "./connection-error.ts";
import { type DriverOptions, type DriverWishes, driverOptions } from "./driver-options.ts";
import { parseFatalMessage } from "./fatal-message.ts";
import { prepareScramPassword } from "./scram-password.ts";
import type { ConnectionTarget } from "./url.ts";

export type QueryParameter = string | number | boolean | null;

export interface Session {
  /**
   * The backend's process id as the server told it when the session began; undefined before the first statement has
   * ended. Behind a pooler it is the pooler's own number, which `pg_backend_pid()` does not return.
   */
  readonly pid: number | undefined;
  /** Undefined until the server has let us in. */
  readonly isEncrypted: boolean | undefined;
  /** False for good once the connection is lost or closed; also noticed while nothing runs. */
  readonly isOpen: boolean;
  /**
   * One statement: without parameters in one round trip, with parameters in two. Answers the rows as plain objects:
   * bool, int2, int4, float and json as values, everything else (int8, numeric, timestamps, arrays, bytea) as the
   * server's text.
   *
   * Several calls at once run one after the other. After DEADLINE_EXCEEDED or CONNECTION_LOST the session is over.
   *
   * @throws ServerError for what the server says about the statement: the session stays usable
   * @throws CONNECTION_LOST, DEADLINE_EXCEEDED and, on the first statement, everything that connecting can meet
   */
  query<Row extends object>(
    text: string,
    options: {
      readonly during: string;
      /** From the call on. */
      readonly deadlineMs: number;
      readonly parameters?: readonly QueryParameter[];
    },
  ): Promise<Row[]>;
  /**
   * Any number of statements as one simple query, byte for byte, which the server runs as one implicit transaction.
   * What they return is thrown away. Errors as `query`, and a COPY from or to the client is refused.
   *
   * @param options.deadlineMs undefined for no deadline: only the end of the session ends it
   */
  script(text: string, options: { readonly during: string; readonly deadlineMs: number | undefined }): Promise<void>;
  /**
   * Asks the server to cancel what runs, which then rejects with 57014 and leaves the session usable. Takes three
   * seconds at most and never throws: whether it worked is told by the statement. A session that still connects ends.
   */
  cancel(): Promise<void>;
  /** Ends the session. Takes a second at most, never throws; what still runs is lost. */
  close(): Promise<void>;
  /** As `close`, but does not wait until the server's side has ended: for a program that is about to end itself. */
  leave(): Promise<void>;
}

/** What the server answered to a statement. */
export class ServerError extends Error {
  readonly server: ServerMessage;
  /** As the statement was given. */
  readonly during: string;
  /** Statements of the script that had ended before the one that failed, as the server's parser counts them. */
  readonly statementsBefore: number;

  constructor(server: ServerMessage, options: { during: string; cause?: unknown; statementsBefore?: number }) {
    super(server.message, options);
    this.name = "ServerError";
    this.server = server;
    this.during = options.during;
    this.statementsBefore = options.statementsBefore ?? 0;
  }
}

export interface SessionOptions extends DriverWishes {
  /** Called once, when the server has let us in. */
  readonly onConnected: (session: { readonly isEncrypted: boolean }) => void;
}

/**
 * A session that connects with its first statement, which therefore also carries what connecting can meet:
 * DATABASE_UNREACHABLE, DATABASE_STARTING, AUTHENTICATION_FAILED, DATABASE_NOT_FOUND, DATABASE_REFUSED, TLS_FAILED.
 */
export function makeSession(target: ConnectionTarget, options: SessionOptions): Session {
  return new DriverSession(target, options);
}

const CLOSE_DEADLINE_MS = 1_000;
const CANCEL_DEADLINE_MS = 3_000;
/** What `setTimeout` can count. */
const TIMER_MS_MAX = 2 ** 31 - 1;
/** The frontend's last message, so that the server does not take the end for an accident. */
const TERMINATE = Uint8Array.of(0x58, 0, 0, 0, 4);

/** The server's request to prove who we are; its ninth byte says how. The password is due in SCRAM's second round. */
const AUTHENTICATION = 0x52;
const AUTHENTICATION_SASL_CONTINUE = 11;

type Driver = ReturnType<typeof postgres>;

interface Backend {
  readonly pid: number | null;
  readonly secret: number | null;
}

/** The driver's promise. `state` is its own record of the backend, set when the statement is on its way. */
type Pending = Promise<unknown> & { readonly state?: Backend | null };

interface Statement {
  readonly during: string;
  readonly send: (driver: Driver) => Pending;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
  pending: Pending | undefined;
}

class DriverSession implements Session {
  readonly #target: ConnectionTarget;
  readonly #onConnected: SessionOptions["onConnected"];
  readonly #driver: Driver;
  readonly #connecting = new AbortController();
  readonly #waiting: Statement[] = [];
  readonly #commands = makeCommandCounter();
  #running: Statement | undefined;
  #socket: ByteSocket | undefined;
  #backend: Backend | undefined;
  #opening: Promise<ByteSocket> | undefined;
  #isSocketTaken = false;
  #connectStartedMs: number | undefined;
  #connectTimer: ReturnType<typeof setTimeout> | undefined;
  #isConnected = false;
  #wantsScram = false;
  #lastPiece: Uint8Array | undefined;
  #endReason: string | undefined;

  constructor(target: ConnectionTarget, options: SessionOptions) {
    this.#target = target;
    this.#onConnected = options.onConnected;
    this.#driver = makeDriver({
      ...driverOptions(target, options),
      password: () => this.#password(),
      // The first thing that the server says after it has let us in.
      onparameter: () => this.#setConnected(),
      socket: () => this.#takeSocket(),
    });
  }

  get pid(): number | undefined {
    return this.#backend?.pid ?? undefined;
  }

  get isEncrypted(): boolean | undefined {
    return this.#isConnected ? isEncrypted(this.#socket) : undefined;
  }

  get isOpen(): boolean {
    return this.#endReason === undefined;
  }

  async query<Row extends object>(
    text: string,
    options: { during: string; deadlineMs: number; parameters?: readonly QueryParameter[] },
  ): Promise<Row[]> {
    const { during, deadlineMs, parameters = [] } = options;
    const result = await this.#run(during, deadlineMs, (driver) => driver.unsafe(text, [...parameters]));
    return rowsOf<Row>(result);
  }

  async script(text: string, options: { during: string; deadlineMs: number | undefined }): Promise<void> {
    const { during, deadlineMs } = options;
    const result = await this.#run(during, deadlineMs, (driver) => driver.unsafe(text));
    if (!Array.isArray(result)) await this.#refuseCopy(result, during);
  }

  async cancel(): Promise<void> {
    if (this.#running === undefined) return;
    if (this.#isConnected) await this.#sendCancelRequest(this.#running);
    else this.#end("cancelled while connecting");
  }

  async close(): Promise<void> {
    const terminated = await this.#terminate((socket, onDone) => {
      socket.once("close", onDone);
      socket.end(TERMINATE);
    });
    terminated?.destroy();
  }

  async leave(): Promise<void> {
    await this.#terminate((socket, onDone) => socket.write(TERMINATE, onDone));
  }

  /** Undefined where there was nobody to say farewell to. */
  async #terminate(send: (socket: ByteSocket, onDone: () => void) => void): Promise<ByteSocket | undefined> {
    const socket = this.#socket;
    const isQuiet = this.isOpen && this.#running === undefined && this.#isConnected;
    if (socket === undefined || !isQuiet) {
      this.#end("the session was closed");
      return undefined;
    }
    this.#endReason = "the session was closed";
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, CLOSE_DEADLINE_MS);
      send(socket, () => {
        clearTimeout(timer);
        resolve();
      });
    });
    return socket;
  }

  #run(during: string, deadlineMs: number | undefined, send: Statement["send"]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#endReason !== undefined) {
        reject(new DeployError("CONNECTION_LOST", { during, reason: this.#endReason }));
        return;
      }
      const statement: Statement = { during, send, resolve, reject, timer: undefined, pending: undefined };
      if (deadlineMs !== undefined) {
        const expire = () => this.#expire(statement, deadlineMs);
        statement.timer = setTimeout(expire, Math.min(deadlineMs, TIMER_MS_MAX));
      }
      this.#waiting.push(statement);
      this.#startNext();
    });
  }

  #startNext(): void {
    if (this.#running !== undefined || this.#endReason !== undefined) return;
    const statement = this.#waiting.shift();
    if (statement === undefined) return;
    this.#running = statement;
    this.#commands.reset();
    this.#opening ??= this.#connect();
    // It is the driver that hears of a failure, unless the session has ended by then.
    this.#opening.catch(() => {});
    statement.pending = statement.send(this.#driver);
    statement.pending.then(
      (result) => this.#finish(statement, () => statement.resolve(result)),
      (cause) => this.#fail(statement, cause),
    );
  }

  #finish(statement: Statement, settle: () => void): void {
    // The session's end has settled it already.
    if (this.#running !== statement) return;
    clearTimeout(statement.timer);
    this.#running = undefined;
    this.#backend = statement.pending?.state ?? this.#backend;
    this.#setConnected();
    settle();
    this.#startNext();
  }

  #fail(statement: Statement, cause: unknown): void {
    if (this.#running !== statement) return;
    const server = cause instanceof postgres.PostgresError ? serverMessageOf(cause) : undefined;
    if (server === undefined) {
      const isOwnFault = this.#isConnected && !isConnectionError(cause);
      this.#end(describeCause(cause), isOwnFault ? cause : this.#startFailure(cause));
    } else if (!this.#isConnected) {
      this.#end(server.message, refusalOf(this.#target, server, this.#waitedMs()));
    } else {
      const statementsBefore = this.#commands.count;
      const { during } = statement;
      this.#finish(statement, () => statement.reject(new ServerError(server, { during, cause, statementsBefore })));
    }
  }

  /** A statement that still waits has not been sent, and leaves the session as it is. */
  #expire(statement: Statement, deadlineMs: number): void {
    const error = new DeployError("DEADLINE_EXCEEDED", { during: statement.during, deadlineMs });
    if (this.#running === statement) {
      if (this.#isConnected) void this.#sendCancelRequest(statement);
      this.#end(`no answer within ${deadlineMs} ms`, error);
    } else {
      this.#waiting.splice(this.#waiting.indexOf(statement), 1);
      statement.reject(error);
    }
  }

  /** The socket for the driver, once: for a second one it would be a session that nobody has asked for. */
  async #takeSocket(): Promise<ByteSocket> {
    if (this.#opening === undefined || this.#isSocketTaken || !this.isOpen) throw new Error("the session is over");
    this.#isSocketTaken = true;
    return await this.#opening;
  }

  /** Not left to the driver, which asks for its socket a millisecond after it was given the statement. */
  async #connect(): Promise<ByteSocket> {
    this.#connectStartedMs = performance.now();
    const { connectTimeoutMs } = this.#target;
    if (connectTimeoutMs > 0) {
      const expire = () => this.#loseConnection(`no answer within ${connectTimeoutMs} ms`);
      this.#connectTimer = setTimeout(expire, Math.min(connectTimeoutMs, TIMER_MS_MAX));
    }
    const socket = await openSocket(this.#target, this.#connecting.signal);
    this.#socket = socket;
    if (!this.isOpen) socket.destroy();
    socket.on("data", (piece: Uint8Array) => this.#look(piece));
    socket.on("error", (error) => this.#loseConnection(describeCause(error)));
    socket.on("end", () => this.#loseConnection("the server closed the connection"));
    socket.on("close", () => this.#loseConnection("the connection was closed"));
    return socket;
  }

  /** What the driver keeps to itself: how to prove who we are, how far a script has come, the server's last words. */
  #look(piece: Uint8Array): void {
    this.#lastPiece = piece;
    this.#commands.read(piece);
    if (piece[0] === AUTHENTICATION) this.#wantsScram = piece[8] === AUTHENTICATION_SASL_CONTINUE;
  }

  #password(): string {
    const { password = "" } = this.#target;
    return this.#wantsScram ? prepareScramPassword(password) : password;
  }

  #setConnected(): void {
    if (this.#isConnected) return;
    this.#isConnected = true;
    clearTimeout(this.#connectTimer);
    this.#onConnected({ isEncrypted: isEncrypted(this.#socket) });
  }

  #loseConnection(reason: string): void {
    const server = this.#lastPiece && parseFatalMessage(this.#lastPiece);
    if (server === undefined) this.#end(reason, this.#startFailure(new Error(reason)));
    else if (this.#isConnected) this.#end(`${server.message} (${server.sqlState})`);
    else this.#end(server.message, refusalOf(this.#target, server, this.#waitedMs()));
  }

  /** What a failure means for the statement that runs: until the server has let us in, that we could not connect. */
  #startFailure(cause: unknown): AnyDeployError | undefined {
    return this.#isConnected ? undefined : connectionFailureOf(this.#target, cause, this.#waitedMs());
  }

  /** Ends the session for good. What runs gets the error, or else CONNECTION_LOST as what waits. */
  #end(reason: string, error?: unknown): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = reason;
    clearTimeout(this.#connectTimer);
    this.#connecting.abort();
    this.#socket?.destroy();
    const running = this.#running;
    this.#running = undefined;
    for (const statement of [running, ...this.#waiting.splice(0)]) {
      if (statement === undefined) continue;
      clearTimeout(statement.timer);
      const lost = new DeployError("CONNECTION_LOST", { during: statement.during, reason });
      statement.reject(statement === running ? (error ?? lost) : lost);
    }
  }

  #waitedMs(): number {
    return this.#connectStartedMs === undefined ? 0 : Math.round(performance.now() - this.#connectStartedMs);
  }

  async #sendCancelRequest(statement: Statement): Promise<void> {
    const { pid, secret } = statement.pending?.state ?? this.#backend ?? { pid: null, secret: null };
    if (pid === null || secret === null) return;
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), CANCEL_DEADLINE_MS);
    try {
      await sendCancelRequest(this.#target, { pid, secret }, deadline.signal);
    } catch {
      // Nobody can be told more than the statement itself will tell.
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The driver answers a COPY with a stream, and forgets the statements after it. A COPY that waits for our data is
   * failed, and with it the whole script; one that sends us data can't be stopped, so its session must end.
   */
  async #refuseCopy(stream: unknown, during: string): Promise<void> {
    const message = "COPY from or to the client is not possible in a script: its data is not part of the script";
    if (!isWritable(stream)) {
      this.#end(message);
      throw new DeployError("CONNECTION_LOST", { during, reason: message });
    }
    stream.on("error", () => {});
    stream.destroy(new Error(message));
    // An empty statement succeeds in every state; its answer comes after the server's to the failed COPY.
    await this.#run(during, CANCEL_DEADLINE_MS, (driver) => driver.unsafe(""));
    const unknown = { detail: undefined, hint: undefined, position: undefined, where: undefined };
    throw new ServerError({ sqlState: "0A000", message, ...unknown }, { during });
  }
}

/** The driver would obey this variable even against an explicit option, and ask for the server's state first. */
function makeDriver(options: DriverOptions & { onparameter: () => void; socket: () => Promise<ByteSocket> }): Driver {
  const { PGTARGETSESSIONATTRS: attributes } = process.env;
  delete process.env.PGTARGETSESSIONATTRS;
  try {
    // Its types know neither lists of one host nor the socket.
    return postgres(options as unknown as postgres.Options<Record<string, postgres.PostgresType>>);
  } finally {
    if (attributes !== undefined) process.env.PGTARGETSESSIONATTRS = attributes;
  }
}

function isEncrypted(socket: ByteSocket | undefined): boolean {
  return (socket as { encrypted?: unknown } | undefined)?.encrypted === true;
}

/** Of several statements in one text, the driver answers a list of results: the last one that returned rows counts. */
function rowsOf<Row extends object>(result: unknown): Row[] {
  if (!Array.isArray(result)) return [];
  const rows: unknown = Array.isArray(result[0]) ? result.at(-1) : result;
  return Array.isArray(rows) ? [...(rows as Row[])] : [];
}

function serverMessageOf(error: postgres.PostgresError): ServerMessage {
  const { code, message, detail, hint, position, where, routine } = error;
  return {
    sqlState: code,
    message,
    detail,
    hint,
    position: position === undefined ? undefined : Number(position),
    where,
    routine,
  };
}

function isConnectionError(cause: unknown): boolean {
  const code = cause instanceof Error ? (cause as { code?: unknown }).code : undefined;
  return isDeployError(cause) || (typeof code === "string" && /^(CONNECTION_|E[A-Z]+$|ERR_)/.test(code));
}

function isWritable(
  stream: unknown,
): stream is { on(event: "error", listener: () => void): void; destroy(error: Error): void } {
  return typeof stream === "object" && stream !== null && "write" in stream && "destroy" in stream;
}
