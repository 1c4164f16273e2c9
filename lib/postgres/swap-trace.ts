/**
 * The traces that a swap leaves in the comments of databases, so that any later start finds what was interrupted and can
 * finish or undo it, without a journal. Pure.
 *
 * A trace is one line behind the comment that is there, and taking it away gives back exactly that comment.
 */

export type Trace =
  /**
   * Of the live database: one is restored beside it, into `scratch`, to take its place. Shut, and with its row still `row`,
   * it is proven that nobody else has written; undefined where nothing was proven.
   */
  | {
      readonly swap: "started";
      readonly scratch: string;
      readonly failed: string;
      readonly backup: string;
      readonly row?: string;
    }
  /** Of the database beside it, while it is being restored. */
  | { readonly swap: "restoring" }
  /** It holds what it should, all of it: `live` may be replaced as long as its row is still `row`. */
  | { readonly swap: "ready"; readonly live: string; readonly row: string }
  /** Of the database that was replaced, `by` the one with that oid; undefined where an earlier version has done it. */
  | { readonly swap: "replaced"; readonly backup: string; readonly by?: string };

export interface TracedComment {
  /** Null where there is none. */
  readonly comment: string | null;
  readonly trace: Trace | undefined;
}

const BEGIN = "[prisma-safe-deploy ";
const LINE = /(?:^|\n)\[prisma-safe-deploy (\{[^\n]*\})\]$/;

/** SQL: a comment that ends in a trace of a swap that has not come to its end. */
export function hasOpenTrace(comment: string): string {
  return `(coalesce(${comment}, '') LIKE '%${BEGIN}{"swap":"started",%}]')`;
}

export function addTrace(comment: string | null, trace: Trace): string {
  const { comment: bare } = readTrace(comment);
  const line = `${BEGIN}${JSON.stringify(trace)}]`;
  return bare === null ? line : `${bare}\n${line}`;
}

export function readTrace(comment: string | null): TracedComment {
  if (comment === null) return { comment: null, trace: undefined };
  const match = LINE.exec(comment);
  const trace = match === null ? undefined : parseTrace(match[1] ?? "");
  if (match === null || trace === undefined) return { comment, trace: undefined };
  // The server keeps no comment that is empty.
  return { comment: match.index === 0 ? null : comment.slice(0, match.index), trace };
}

function parseTrace(text: string): Trace | undefined {
  try {
    const value = JSON.parse(text) as Partial<
      Record<"swap" | "scratch" | "failed" | "live" | "row" | "backup" | "by", unknown>
    >;
    const isText = (...names: ("scratch" | "failed" | "live" | "row" | "backup" | "by")[]) =>
      names.every((name) => typeof value[name] === "string");
    const isWhole =
      value.swap === "restoring" ||
      (value.swap === "started" && isText("scratch", "failed", "backup")) ||
      (value.swap === "ready" && isText("live", "row")) ||
      (value.swap === "replaced" && isText("backup") && (value.by === undefined || isText("by")));
    return isWhole ? (value as Trace) : undefined;
  } catch {
    return undefined;
  }
}
