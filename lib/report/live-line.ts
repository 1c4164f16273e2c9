/**
 * One line at the bottom of a terminal that is rewritten in place. Loaded only for a migration: asking whether there is a
 * terminal draws in much of the runtime.
 */
import { isatty } from "node:tty";
import { writeText } from "../system/output.ts";

export interface LiveLine {
  show(text: string): void;
  /** Before anything else is written. */
  erase(): void;
}

const CLEAR = "\r\u001B[2K";
/** Cut off at the edge by the terminal itself, whatever its width is just now. */
const WITHOUT_WRAP = "\u001B[?7l";
const WITH_WRAP = "\u001B[?7h";

/** @returns undefined where nobody looks at a terminal that can do it */
export function openLiveLine(fd: number, terminalType: string | undefined): LiveLine | undefined {
  if (terminalType === "dumb" || !isatty(fd)) return undefined;
  let isShown = false;
  return {
    show(text) {
      writeText(fd, `${CLEAR}${WITHOUT_WRAP}${text}${WITH_WRAP}`);
      isShown = true;
    },
    erase() {
      if (isShown) writeText(fd, CLEAR);
      isShown = false;
    },
  };
}
