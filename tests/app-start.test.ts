/** The start of the app, as the app sees it: small programs that report what they were given by the kernel. */
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeCandidatePaths, parseProgramFormat } from "../lib/app/command.ts";
import { temporaryDirectory } from "./support/cluster.ts";
import { makeRuntimeVariants, type RuntimeVariant } from "./support/start-runtimes.ts";

const TEST_MS = 60_000;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const NO_FORMAT = "it is neither a program nor a script that begins with #! (ENOEXEC)";
const REPORT = ["cat", "/proc/self/status", "/proc/self/fdinfo/0", "/proc/self/fdinfo/1", "/proc/self/fdinfo/2"];

/** An app that leaves two orphans which end, tells the zombies that it finds, and then sends SIGTERM to its argument. */
const LEAVES_ORPHANS = `trap 'echo TERM; exit 9' TERM
(sleep 0.1 & sleep 0.1 &)
sleep 1
for process in /proc/[0-9]*; do
  read -r line <"$process/stat" && case "$line" in *") Z "*) echo zombie;; esac
done
kill -TERM "$1"
i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done`;

const directory = makeDirectoryOfPrograms();
const inDirectory = (name: string) => join(directory, name);

const FAILURES: [string, string[], number, string, Record<string, string>][] = [
  ["a name that PATH does not have", ["no-such-app"], 127, "APP_NOT_FOUND", { command: "no-such-app" }],
  ["a path that does not exist", ["./no-such-app"], 127, "APP_NOT_FOUND", { command: "./no-such-app" }],
  ["a dangling link", ["./dangling"], 127, "APP_NOT_FOUND", { command: "./dangling" }],
  ["a file of the working directory without a slash", ["hello"], 127, "APP_NOT_FOUND", { command: "hello" }],
  ["a path below a file", ["./hello/x"], 127, "APP_NOT_FOUND", { command: "./hello/x" }],
  ["an empty name", [""], 127, "APP_NOT_FOUND", { command: "" }],
  ["no command at all", [], 127, "APP_NOT_FOUND", { command: "" }],
  ["a folder", ["./folder"], 126, "APP_NOT_EXECUTABLE", refusal("folder", "it is a directory (EISDIR)")],
  ["a device", ["/dev/null"], 126, "APP_NOT_EXECUTABLE", refusal("/dev/null", "it is not a regular file (EACCES)")],
  [
    "a file without x",
    ["./plain"],
    126,
    "APP_NOT_EXECUTABLE",
    refusal("plain", "no permission to execute it (EACCES)"),
  ],
  ["a script without #!", ["./no-magic"], 126, "APP_NOT_EXECUTABLE", refusal("no-magic", NO_FORMAT)],
  ["an empty file", ["./empty"], 126, "APP_NOT_EXECUTABLE", refusal("empty", NO_FORMAT)],
  [
    "a script whose interpreter is not there",
    ["./no-interpreter"],
    126,
    "APP_NOT_EXECUTABLE",
    refusal("no-interpreter", 'its interpreter "/no/such/interpreter" does not exist (ENOENT)'),
  ],
  [
    "a script with Windows line endings",
    ["./windows"],
    126,
    "APP_NOT_EXECUTABLE",
    refusal("windows", 'its interpreter "/bin/sh\\r" does not exist: the file has Windows line endings (ENOENT)'),
  ],
];

const FOUND: [string, string[], string][] = [
  ["a relative path", ["./hello", "x"], `${inDirectory("hello")} x\n`],
  ["an absolute path", [inDirectory("hello"), "x"], `${inDirectory("hello")} x\n`],
  ["PATH is searched on past a file that can't be executed", ["only-in-bin"], "in bin\n"],
  ["a link keeps the name it was called by", ["./renamed", "-e", "x"], "x\n"],
];

const variants = await makeRuntimeVariants(join(import.meta.dirname, "fixtures", "start-app.ts"));
const canUnshare = Bun.spawnSync(["unshare", "--pid", "--fork", "--mount-proc", "true"]).exitCode === 0;

for (const variant of variants) {
  describe(variant.name, () => {
    test(
      "the app has a clean signal state, blocking descriptors and one thread",
      async () => {
        const alone = parseReport((await runToEnd(REPORT)).stdout);
        const started = parseReport((await runToEnd([...variant.command, ...REPORT])).stdout);
        expect(started).toEqual(alone);
        expect(started.SigIgn).toBe("0000000000000000");
        expect(started.SigBlk).toBe("0000000000000000");
      },
      TEST_MS,
    );

    test(
      "descriptors that the runtime made non-blocking are blocking again",
      async () => {
        const alone = parseReport((await runToEnd(REPORT, {}, "")).stdout);
        const started = await runToEnd([...variant.command, ...REPORT], { FIXTURE_TOUCHES_STREAMS: "1" }, "");
        expect(parseReport(started.stdout)).toEqual(alone);
      },
      TEST_MS,
    );

    test(
      "no descriptor of ours is left open in the app",
      async () => {
        const alone = await runToEnd(["ls", "/proc/self/fd"]);
        const started = await runToEnd([...variant.command, "ls", "/proc/self/fd"]);
        expect(started.stdout).toBe(alone.stdout);
      },
      TEST_MS,
    );

    test(
      "the app has our process id, or a child's where the runtime can't replace itself",
      async () => {
        const { stdout, pid } = await runToEnd([...variant.command, "sh", "-c", "echo $$"]);
        expect(Number(stdout) === pid).toBe(variant.replacesItself);
      },
      TEST_MS,
    );

    test(
      "arguments, environment and working directory arrive unchanged",
      async () => {
        const script = 'tr "\\0" "|" </proc/$$/cmdline; echo; tr "\\0" "\\n" </proc/$$/environ; readlink /proc/$$/cwd';
        const args = ["a b", "", "'\"$x", "한글", "--flag=1\n2"];
        const { stdout } = await runToEnd([...variant.command, "sh", "-c", script, ...args], {
          VALUE: "값 = 1",
          EMPTY: "",
        });
        const [commandLine, ...rest] = stdout.trimEnd().replace("1\n2", "1;2").split("\n");
        expect(commandLine).toBe(["sh", "-c", script, "a b", "", "'\"$x", "한글", "--flag=1;2", ""].join("|"));
        expect(rest.pop()).toBe(directory);
        expect(rest.toSorted()).toEqual(["EMPTY=", `PATH=${makePath()}`, "VALUE=값 = 1"]);
      },
      TEST_MS,
    );

    test.each([0, 1, 7, 255])(
      "exit code %d is the app's",
      async (code) => {
        const { exitCode } = await runToEnd([...variant.command, "sh", "-c", `exit ${code}`]);
        expect(exitCode).toBe(code);
      },
      TEST_MS,
    );

    test(
      "an app that dies by a signal says so, as the signal or as 128 and its number",
      async () => {
        const { exitCode, signal } = await runToEnd([...variant.command, "sh", "-c", "kill -KILL $$"]);
        expect({ exitCode, signal }).toEqual(
          variant.replacesItself ? { exitCode: null, signal: "SIGKILL" } : { exitCode: 137, signal: null },
        );
      },
      TEST_MS,
    );

    test(
      "a signal reaches the app and nobody in front of it",
      async () => {
        const traps = SIGNALS.map((signal) => `trap 'echo ${signal}' ${signal.slice(3)}`).join("; ");
        const loop = "i=0; while [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done";
        const child = start([...variant.command, "sh", "-c", `${traps}; trap 'exit 9' ALRM; echo $$; ${loop}`]);
        const lines = readLines(child.stdout);
        const pid = Number((await lines.next()).value);
        for (const signal of SIGNALS) {
          child.kill(signal);
          expect((await lines.next()).value).toBe(signal);
        }
        process.kill(pid, "SIGALRM");
        expect(await child.exited).toBe(9);
      },
      TEST_MS,
    );

    test(
      "a signal that came before the start is not lost",
      async () => {
        const { exitCode, stdout } = await runToEnd([...variant.command, "echo", "started"], {
          FIXTURE_SIGNALS_ITSELF: "1",
        });
        expect({ exitCode, stdout }).toEqual({ exitCode: 143, stdout: "" });
      },
      TEST_MS,
    );

    test(
      "standard input is the app's, from its first byte",
      async () => {
        const { stdout } = await runToEnd([...variant.command, "cat"], {}, "line 1\nline 2\n");
        expect(stdout).toBe("line 1\nline 2\n");
      },
      TEST_MS,
    );

    test.each(FAILURES)(
      "%s",
      async (_, command, code, error, fields) => {
        const { exitCode, stderr, stdout } = await runToEnd([...variant.command, ...command]);
        expect({ exitCode, stdout }).toEqual({ exitCode: code, stdout: "" });
        expect(JSON.parse(stderr)).toEqual({ code: error, fields });
      },
      TEST_MS,
    );

    test.each(FOUND)(
      "%s",
      async (_, command, output) => {
        const { stdout, stderr } = await runToEnd([...variant.command, ...command]);
        expect({ stdout, stderr }).toEqual({ stdout: output, stderr: "" });
      },
      TEST_MS,
    );

    test.skipIf(!canUnshare || !variant.replacesItself)(
      "process 1 stays process 1",
      async () => {
        const inside = [...variant.command, "sh", "-c", "echo $$"];
        const { stdout } = await runToEnd(["unshare", "--pid", "--fork", "--mount-proc", ...inside]);
        expect(stdout).toBe("1\n");
      },
      TEST_MS,
    );

    test.skipIf(!canUnshare)(
      "as process 1 a signal reaches the app, its exit code is ours, and its orphans are collected where it is process 1",
      async () => {
        const inside = [...variant.command, "sh", "-c", LEAVES_ORPHANS, "app", "1"];
        const { stdout, exitCode } = await runToEnd(["unshare", "--pid", "--fork", "--mount-proc", ...inside]);
        // A runtime in front of the app collects nobody but its own child: there an init has to be process 1.
        const left = variant.replacesItself ? [] : ["zombie", "zombie"];
        expect({ lines: stdout.trimEnd().split("\n"), exitCode }).toEqual({ lines: [...left, "TERM"], exitCode: 9 });
      },
      TEST_MS,
    );

    test.skipIf(!canUnshare)(
      "behind an init no orphan is left",
      async () => {
        const app = [...variant.command, "sh", "-c", LEAVES_ORPHANS, "app", "2"];
        const inside = ["sh", "-c", '"$@" & wait $!', "init", ...app];
        const { stdout, exitCode } = await runToEnd(["unshare", "--pid", "--fork", "--mount-proc", ...inside]);
        expect({ stdout, exitCode }).toEqual({ stdout: "TERM\n", exitCode: 9 });
      },
      TEST_MS,
    );

    test(
      "on a terminal the app is in the foreground, and Ctrl+C reaches it once",
      async () => {
        const { stdout } = await runInTerminal(variant);
        expect(
          stdout
            .replaceAll(/\r|\^C/g, "")
            .split("\n")
            .filter((line) => line !== ""),
        ).toEqual(["0 is a terminal", "1 is a terminal", "2 is a terminal", "foreground", "INT", "end"]);
      },
      TEST_MS,
    );
  });
}

describe("where a command is looked for", () => {
  test.each([
    ["a name, in the order of PATH", "node", "/a:/b", ["/a/node", "/b/node"]],
    ["an empty entry of PATH is the working directory", "node", "/a::b", ["/a/node", "/here/node", "/here/b/node"]],
    ["a path is not looked up", "./node", "/a", ["/here/node"]],
    ["a path below the working directory", "bin/node", "/a", ["/here/bin/node"]],
    ["an absolute path", "/bin/../node", "/a", ["/node"]],
    ["an empty name is nowhere", "", "/a", []],
  ])("%s", (_, name, path, expected) => {
    expect(makeCandidatePaths(name, path, "/here")).toEqual(expected);
  });

  test("without PATH the usual folders are searched", () => {
    expect(makeCandidatePaths("node", undefined, "/here")).toContain("/usr/local/bin/node");
  });
});

describe("what runs a file", () => {
  test.each([
    ["a script", "#!/bin/sh\nexit", { kind: "script", interpreter: "/bin/sh", hasCarriageReturn: false }],
    [
      "spaces and an argument",
      "#! \t/usr/bin/env -S x\n",
      { kind: "script", interpreter: "/usr/bin/env", hasCarriageReturn: false },
    ],
    ["a relative interpreter", "#!bin/x", { kind: "script", interpreter: "/here/bin/x", hasCarriageReturn: false }],
    ["Windows line endings", "#!/bin/sh\r\n", { kind: "script", interpreter: "/bin/sh\r", hasCarriageReturn: true }],
    ["no interpreter", "#!\n/bin/sh", { kind: "unknown" }],
    ["text", "echo hello", { kind: "unknown" }],
    ["nothing", "", { kind: "unknown" }],
    ["a cut ELF header", "\x7fELF\x02\x01", { kind: "elf", loader: undefined }],
  ] as const)("%s", (_, text, expected) => {
    expect(parseProgramFormat(new TextEncoder().encode(text), "/here")).toEqual(expected);
  });

  test("the loader of a real program", async () => {
    const head = await Bun.file(process.execPath).slice(0, 4096).bytes();
    const format = parseProgramFormat(head, "/");
    expect(format).toEqual({ kind: "elf", loader: expect.any(String) });
    // The kernel has loaded this very program by it.
    const { loader = "" } = format as { readonly loader?: string };
    expect(readFileSync("/proc/self/maps", "utf8")).toContain(realpathSync(loader));
    if (Bun.which("readelf") === null) return;
    const header = Bun.spawnSync(["readelf", "--program-headers", process.execPath]);
    const expected = /interpreter: (.*)\]/.exec(header.stdout.toString())?.[1];
    expect(format).toEqual({ kind: "elf", loader: expected });
  });
});

function refusal(path: string, reason: string): Record<string, string> {
  return { path: join("/", path) === path ? path : inDirectory(path), reason };
}

/** Programs and things that only look like one, in the working directory of every start. */
function makeDirectoryOfPrograms(): string {
  const folder = temporaryDirectory();
  mkdirSync(join(folder, "bin"));
  mkdirSync(join(folder, "first"));
  mkdirSync(join(folder, "folder"));
  const write = (name: string, content: string, mode: number) => {
    writeFileSync(join(folder, name), content);
    chmodSync(join(folder, name), mode);
  };
  write("hello", '#!/bin/sh\necho "$0 $1"\n', 0o755);
  write("bin/only-in-bin", "#!/bin/sh\necho in bin\n", 0o755);
  write("first/only-in-bin", "#!/bin/sh\necho not executable\n", 0o644);
  write("plain", "#!/bin/sh\n", 0o644);
  write("no-interpreter", "#!/no/such/interpreter\n", 0o755);
  write("windows", "#!/bin/sh\r\nexit 0\r\n", 0o755);
  write("no-magic", "echo hello\n", 0o755);
  write("empty", "", 0o755);
  symlinkSync("/bin/echo", join(folder, "renamed"));
  symlinkSync(join(folder, "nowhere"), join(folder, "dangling"));
  return folder;
}

function makePath(): string {
  return `${join(directory, "first")}:${join(directory, "bin")}:${process.env.PATH}`;
}

interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | number | null;
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
}

function start(command: readonly string[], environment: Record<string, string> = {}, input?: string) {
  return Bun.spawn([...command], {
    cwd: directory,
    env: { PATH: makePath(), ...environment },
    stdin: input === undefined ? "ignore" : new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function runToEnd(
  command: readonly string[],
  environment?: Record<string, string>,
  input?: string,
): Promise<Ended> {
  const child = start(command, environment, input);
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  return { exitCode: child.exitCode, signal: child.signalCode, pid: child.pid, stdout, stderr };
}

/** The lines of /proc/self/status and fdinfo that an app can inherit from us. */
function parseReport(text: string): Record<string, string> {
  const lines = text.split("\n").map((line) => line.split(":\t") as [string, string]);
  const kept = lines.filter(([key]) => /^(Name|Umask|Threads|Sig(Blk|Ign|Cgt|Pnd)|ShdPnd|flags)$/.test(key));
  return Object.fromEntries(
    kept.map(([key, value], index) => {
      if (key === "flags") return [`flags ${index}`, value.trim()];
      return [key, key === "SigIgn" ? withoutThreadSignals(value) : value.trim()];
    }),
  );
}

/** Without 32 and 33, which belong to the C library's threads: Deno leaves them ignored, and every libc sets them itself. */
function withoutThreadSignals(mask: string): string {
  return (BigInt(`0x${mask.trim()}`) & ~0x180000000n).toString(16).padStart(16, "0");
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}

/** `script` gives the program a terminal of its own; the app waits for Ctrl+C, and then for a second one in vain. */
async function runInTerminal(variant: RuntimeVariant): Promise<{ stdout: string }> {
  const app = `
for fd in 0 1 2; do test -t $fd && echo "$fd is a terminal"; done
trap 'echo INT; got=1' INT
set -- $(cat /proc/$$/stat)
[ "$5" = "$8" ] && echo foreground
i=0; while [ $i -lt 1200 ] && [ -z "$got" ]; do sleep 0.05; i=$((i+1)); done
sleep 0.4; sleep 0.4; echo end`;
  writeFileSync(join(directory, "in-terminal.sh"), app);
  const line = [...variant.command, "sh", "in-terminal.sh"].map((part) => `'${part}'`).join(" ");
  const child = Bun.spawn(["script", "--quiet", "--return", "--command", line, "/dev/null"], {
    cwd: directory,
    env: { PATH: makePath(), SHELL: "/bin/sh" },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  let stdout = "";
  for await (const text of readLines(child.stdout)) {
    stdout += `${text}\n`;
    if (!text.startsWith("foreground")) continue;
    child.stdin.write("\x03");
    child.stdin.flush();
  }
  child.stdin.end();
  await child.exited;
  return { stdout };
}
