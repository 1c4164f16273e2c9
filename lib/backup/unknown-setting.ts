/**
 * What pg_dump and pg_restore 17 and later write and an older server does not know: they begin with a setting that came
 * with 17, and whatever stops at an error, or is one transaction, ends there. All else is written as the server that was
 * dumped knows it, but for a rare thing that README.md names under its limits. Pure.
 */

export const UNKNOWN_NAME = "transaction_timeout";
/** As they write it, on a line of its own. */
export const UNKNOWN_SETTING = `SET ${UNKNOWN_NAME} = 0;`;
/** A guard of ours, and what every dump begins with, are shorter than that together. */
export const HEAD_BYTES = 16 * 1024;
/** The first tool that writes it, and the first server that knows it. */
const MAJOR = 17;
/** What a dump begins with, up to the setting: nothing of anybody's, neither an object nor a row. */
const BEFORE =
  /--\n-- PostgreSQL database dump\n--\n(?:--[^\n]*\n|\n|\\restrict \w+\n|SET \w+ = \w+;\n|BEGIN;\n)*?(?=SET transaction_timeout = 0;\n)/u;

/** Whether this tool, at work for this server, writes what the server refuses. */
export function writesUnknownSetting(toolMajor: number, serverMajor: number): boolean {
  return toolMajor >= MAJOR && isUnknownTo(serverMajor);
}

/** A server that does not know it. */
export function isUnknownTo(serverMajor: number): boolean {
  return serverMajor < MAJOR;
}

/** Where it stands in the first bytes of a dump; undefined where it does not. */
export function findUnknownSetting(head: Buffer): number | undefined {
  const match = BEFORE.exec(head.toString("latin1"));
  return match === null ? undefined : match.index + match[0].length;
}
