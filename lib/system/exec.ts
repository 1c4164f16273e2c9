/**
 * The only place that starts a child process: `Bun.spawn` on Bun, `node:child_process` on Deno and Node, one interface.
 *
 * A command is data (see the modules that build one); secrets travel in `env`, never in `args`.
 */

export interface Command {
  /** An absolute path, or a name that is looked up in PATH by the runtime. */
  readonly file: string;
  readonly args: readonly string[];
  /** The child's whole environment: nothing is inherited silently. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/**
 * Where a child's output goes: kept (its end only), to a file descriptor, line by line or as it comes to a function, or
 * nowhere. A function that takes its time makes the child wait.
 */
export type Output =
  | "capture"
  | "ignore"
  | { readonly fd: number }
  | { readonly line: (line: string) => void }
  | { readonly bytes: (chunk: Uint8Array) => void | Promise<void> };

/** Waits until the child has room for more. False once it reads no more. */
export type Write = (chunk: Uint8Array) => Promise<boolean>;

/** What a child reads: a file descriptor, or what a function writes, up to its return. Where it throws, the child is ended. */
export type Input = { readonly fd: number } | { readonly feed: (write: Write) => Promise<void> };

export interface RunOptions {
  readonly stdin?: Input;
  readonly stdout?: Output;
  readonly stderr?: Output;
  /** The child is ended when it has run for this long. */
  readonly deadlineMs: number;
  /** Ends the child (SIGTERM, after five seconds SIGKILL) when it fires. */
  readonly signal?: AbortSignal;
  /** For what must come to its end: Ctrl-C reaches every process of the terminal's group, and so not this one. */
  readonly isShielded?: boolean;
}

export interface RunResult {
  /** Undefined when a signal ended it, or when it could not be started. */
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  /** The last 64 KiB of what was captured. */
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** Set when it could not be started at all, for example ENOENT. */
  readonly startError: string | undefined;
  /** What the function that feeds it has thrown. */
  readonly inputError?: unknown;
}

const CAPTURE_BYTES_MAX = 64 * 1024;
const KILL_AFTER_MS = 5_000;

interface Child {
  readonly stdout: AsyncIterable<Uint8Array> | undefined;
  readonly stderr: AsyncIterable<Uint8Array> | undefined;
  readonly write: Write;
  closeInput(): void | Promise<void>;
  readonly ended: Promise<{ exitCode: number | undefined; signal: string | undefined }>;
  kill(signal: "SIGTERM" | "SIGKILL"): void;
}

/** Runs a command to its end. Never throws for what the child does: the result tells it. */
export async function run(command: Command, options: RunOptions): Promise<RunResult> {
  let child: Child;
  try {
    child = await start(command, options);
  } catch (cause) {
    const startError = cause instanceof Error ? ((cause as { code?: string }).code ?? cause.message) : String(cause);
    return { exitCode: undefined, signal: undefined, stdout: "", stderr: "", timedOut: false, startError };
  }
  let timedOut = false;
  let killTimer: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    child.kill("SIGTERM");
    killTimer ??= setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
  };
  const deadline = setTimeout(() => {
    timedOut = true;
    end();
  }, options.deadlineMs);
  options.signal?.addEventListener("abort", end, { once: true });
  if (options.signal?.aborted) end();
  try {
    const [stdout, stderr, ended, input] = await Promise.all([
      consume(child.stdout, options.stdout),
      consume(child.stderr, options.stderr),
      child.ended,
      feedChild(child, options.stdin, end),
    ]);
    return { ...ended, stdout, stderr, timedOut, startError: undefined, ...input };
  } finally {
    clearTimeout(deadline);
    clearTimeout(killTimer);
    options.signal?.removeEventListener("abort", end);
  }
}

async function feedChild(
  child: Child,
  input: Input | undefined,
  end: () => void,
): Promise<Pick<RunResult, "inputError">> {
  if (input === undefined || "fd" in input) return {};
  try {
    await input.feed(child.write);
    return {};
  } catch (inputError) {
    // Before its input ends: it must not take what it has got for all there is.
    end();
    await child.ended;
    return { inputError };
  } finally {
    void child.closeInput();
  }
}

async function start(command: Command, options: RunOptions): Promise<Child> {
  const { stdin } = options;
  const stdio = [
    stdin === undefined ? ("ignore" as const) : "fd" in stdin ? stdin.fd : ("pipe" as const),
    stdioOf(options.stdout),
    stdioOf(options.stderr),
  ] as const;
  const detached = options.isShielded === true;
  return typeof Bun === "undefined"
    ? await startOnNode(command, stdio, detached)
    : startOnBun(command, stdio, detached);
}

type Stdio = readonly ["ignore" | "pipe" | number, "ignore" | "pipe" | number, "ignore" | "pipe" | number];

function stdioOf(output: Output | undefined): "ignore" | "pipe" | number {
  if (output === undefined || output === "ignore") return "ignore";
  return typeof output === "object" && "fd" in output ? output.fd : "pipe";
}

function startOnBun(command: Command, stdio: Stdio, detached: boolean): Child {
  const child = Bun.spawn({
    cmd: [command.file, ...command.args],
    env: { ...command.env },
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
    stdin: stdio[0],
    stdout: stdio[1],
    stderr: stdio[2],
    detached,
    // Without it Bun reads ahead without bounds, whatever we consume.
    lazy: true,
  });
  const streamOf = (stream: unknown) =>
    stream instanceof ReadableStream ? (stream as AsyncIterable<Uint8Array> & ReadableStream<Uint8Array>) : undefined;
  const sink = typeof child.stdin === "object" ? child.stdin : undefined;
  return {
    stdout: streamOf(child.stdout),
    stderr: streamOf(child.stderr),
    async write(chunk) {
      try {
        await Promise.all([sink?.write(chunk), sink?.flush()]);
        return true;
      } catch {
        return false;
      }
    },
    async closeInput() {
      try {
        await sink?.end();
      } catch {
        // It has ended before.
      }
    },
    ended: child.exited.then(() => ({
      exitCode: child.exitCode ?? undefined,
      signal: child.signalCode === null ? undefined : String(child.signalCode),
    })),
    kill: (signal) => child.kill(signal),
  };
}

async function startOnNode(command: Command, stdio: Stdio, detached: boolean): Promise<Child> {
  const { spawn } = await import("node:child_process");
  const child = spawn(command.file, [...command.args], {
    env: { ...command.env },
    cwd: command.cwd,
    stdio: [...stdio],
    detached,
  });
  const ended = new Promise<{ exitCode: number | undefined; signal: string | undefined }>((resolve) => {
    child.on("close", (code, signal) => resolve({ exitCode: code ?? undefined, signal: signal ?? undefined }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", reject);
  });
  // What a write meets is told by its own answer.
  child.stdin?.on("error", () => undefined);
  return {
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    write: (chunk) => new Promise((resolve) => child.stdin?.write(chunk, (error) => resolve(error == null))),
    closeInput: () => void child.stdin?.end(),
    ended,
    kill: (signal) => child.kill(signal),
  };
}

async function consume(stream: AsyncIterable<Uint8Array> | undefined, output: Output | undefined): Promise<string> {
  if (stream === undefined) return "";
  if (typeof output === "object" && "bytes" in output) {
    for await (const chunk of stream) await output.bytes(chunk);
    return "";
  }
  const onLine = typeof output === "object" && "line" in output ? output.line : undefined;
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (onLine !== undefined) {
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) onLine(line.replace(/\r$/, ""));
    } else if (text.length > 2 * CAPTURE_BYTES_MAX) {
      text = text.slice(-CAPTURE_BYTES_MAX);
    }
  }
  text += decoder.decode();
  if (onLine === undefined) return text.slice(-CAPTURE_BYTES_MAX);
  if (text !== "") onLine(text);
  return "";
}
