/**
 * Puts standard input, output and error back to blocking, as a fresh program has them.
 *
 * O_NONBLOCK belongs to the open file that we share with the app: with it `cat` ends in EAGAIN as soon as a pipe is full.
 * Node sets it when output of a child has been read; Bun and Node when `process.stdout` or `process.stdin` is touched.
 */
import { readFileSync } from "node:fs";

const STANDARD_DESCRIPTORS = [0, 1, 2] as const;

/** Values of Linux, which alone has `/proc`; the numbers of fcntl(2). */
const O_NONBLOCK = 0o4000;
const F_GETFL = 3;
const F_SETFL = 4;

type Descriptor = (typeof STANDARD_DESCRIPTORS)[number];

/** Does nothing where nothing is wrong, and never throws: an app that starts with a flag is better than none. */
export async function restoreBlocking(): Promise<void> {
  const wrong = STANDARD_DESCRIPTORS.filter((descriptor) => isNonBlocking(descriptor));
  if (wrong.length === 0) return;
  try {
    await (typeof Bun === "undefined" ? restoreOnNode(wrong) : restoreOnBun(wrong));
  } catch {
    // Neither runtime promises the way that it is done in.
  }
}

function isNonBlocking(descriptor: number): boolean {
  try {
    const flags = /^flags:\t([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8"))?.[1] ?? "0";
    return (Number.parseInt(flags, 8) & O_NONBLOCK) !== 0;
  } catch {
    return false;
  }
}

interface WithHandle {
  readonly _handle?: { setBlocking?(blocking: boolean): void };
}

async function restoreOnNode(descriptors: readonly Descriptor[]): Promise<void> {
  const streams = { 0: "stdin", 1: "stdout", 2: "stderr" } as const;
  for (const descriptor of descriptors) (process[streams[descriptor]] as WithHandle)._handle?.setBlocking?.(true);
}

async function restoreOnBun(descriptors: readonly Descriptor[]): Promise<void> {
  const { dlopen } = await import("bun:ffi");
  // musl's loader knows its own library by this name too.
  const { symbols, close } = dlopen("libc.so.6", { fcntl: { args: ["i32", "i32", "i32"], returns: "i32" } });
  for (const descriptor of descriptors) {
    symbols.fcntl(descriptor, F_SETFL, symbols.fcntl(descriptor, F_GETFL, 0) & ~O_NONBLOCK);
  }
  close();
}
