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
 * nowhere.
 */
export type Output =
  | "capture"
  | "ignore"
  | { readonly fd: number }
  | { readonly line: (line: string) => void }
  | { readonly bytes: (chunk: Uint8Array) => void };

export interface RunOptions {
  readonly stdin?: { readonly fd: number };
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
}

const CAPTURE_BYTES_MAX = 64 * 1024;
const KILL_AFTER_MS = 5_000;

interface Child {
  readonly stdout: AsyncIterable<Uint8Array> | undefined;
  readonly stderr: AsyncIterable<Uint8Array> | undefined;
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
    const [stdout, stderr, ended] = await Promise.all([
      consume(child.stdout, options.stdout),
      consume(child.stderr, options.stderr),
      child.ended,
    ]);
    return { ...ended, stdout, stderr, timedOut, startError: undefined };
  } finally {
    clearTimeout(deadline);
    clearTimeout(killTimer);
    options.signal?.removeEventListener("abort", end);
  }
}

async function start(command: Command, options: RunOptions): Promise<Child> {
  const stdio = [
    options.stdin === undefined ? ("ignore" as const) : options.stdin.fd,
    stdioOf(options.stdout),
    stdioOf(options.stderr),
  ] as const;
  const detached = options.isShielded === true;
  return typeof Bun === "undefined"
    ? await startOnNode(command, stdio, detached)
    : startOnBun(command, stdio, detached);
}

type Stdio = readonly ["ignore" | number, "ignore" | "pipe" | number, "ignore" | "pipe" | number];

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
  return {
    stdout: streamOf(child.stdout),
    stderr: streamOf(child.stderr),
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
  return {
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    ended,
    kill: (signal) => child.kill(signal),
  };
}

async function consume(stream: AsyncIterable<Uint8Array> | undefined, output: Output | undefined): Promise<string> {
  if (stream === undefined) return "";
  if (typeof output === "object" && "bytes" in output) {
    for await (const chunk of stream) output.bytes(chunk);
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
