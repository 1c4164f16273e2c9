/** Asking a person on the terminal. */
import { createInterface } from "node:readline/promises";

/** True where somebody can read a question and answer it. */
export function hasTerminal(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/**
 * One line that is typed, without its end; empty where the input ends. The question goes to standard error.
 *
 * @throws the signal's reason
 */
export async function askLine(question: string, signal: AbortSignal): Promise<string> {
  const reader = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  try {
    return await new Promise<string>((resolve, reject) => {
      reader.once("close", () => resolve(""));
      reader.question(question, { signal }).then(resolve, () => reject(signal.reason));
    });
  } finally {
    reader.close();
    process.stdin.pause();
  }
}
