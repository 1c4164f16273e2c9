/** Writing to standard output and standard error without touching `process.stdout`, which leaves pipes non-blocking. */
import { writeSync } from "node:fs";

export const STANDARD_OUTPUT = 1;
export const STANDARD_ERROR = 2;

const RETRY_MS = 5;
const RETRIES_MAX = 400;

/** Writes all of the text. A reader that went away is ignored: a log must never change how a deploy ends. */
export function writeText(fd: number, text: string): void {
  let rest: Uint8Array = new TextEncoder().encode(text);
  for (let retries = 0; rest.length > 0 && retries < RETRIES_MAX; ) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (cause) {
      // A pipe that somebody else made non-blocking and that is full right now.
      if ((cause as { code?: string }).code !== "EAGAIN") return;
      retries += 1;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}
