/** A connection string with one more option for its sessions, for a program that reads connection strings by itself. Pure. */
import type { ConnectionTarget } from "./url.ts";
import { parseConnectionUrl } from "./url.ts";

/**
 * @param option as the server's command line has it, for example `-c name=value`
 * @returns the text as it is where it is no connection string, or is one that has no place for options
 */
export function addSessionOption(url: string, option: string): string {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed || parsed.target.pgbouncer || !/^\s*postgres(ql)?:/i.test(url)) return url;
  const [text = "", ...fragment] = url.trim().split("#");
  // The last one counts, so an older one may stay where it is.
  const parameter = `options=${encodeURIComponent(joinOptions(parsed.target, option))}`;
  return [`${text}${text.includes("?") ? "&" : "?"}${parameter}`, ...fragment].join("#");
}

function joinOptions({ options }: ConnectionTarget, option: string): string {
  return options === undefined ? option : `${options} ${option}`;
}
