/** Which of the client tools that were found may serve a server. Pure. */

export type ToolName = "pg_dump" | "pg_restore" | "psql";

export interface ClientTool {
  readonly name: ToolName;
  /** Absolute. */
  readonly path: string;
  /** As the tool says it, without the packager's words: `15.18`, `18beta1`. */
  readonly version: string;
  readonly major: number;
}

export type ToolChoice =
  | { readonly kind: "chosen"; readonly tool: ClientTool }
  | { readonly kind: "too-old"; readonly newest: ClientTool }
  | { readonly kind: "none" };

/** `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` gives `15.18` and 15. Undefined for anything else. */
export function parseToolVersion(output: string): { readonly version: string; readonly major: number } | undefined {
  const match = /^\S+ \([^)]*\) (?<version>(?<major>\d+)[\w.]*)/u.exec(output);
  const { version, major } = match?.groups ?? {};
  return version === undefined ? undefined : { version, major: Number(major) };
}

/** `server_version_num` in the server's own writing: 150018 is `15.18`. Releases from 10 on. */
export function formatServerVersion(serverVersionNumber: number): string {
  return `${makeServerMajor(serverVersionNumber)}.${serverVersionNumber % 10_000}`;
}

export function makeServerMajor(serverVersionNumber: number): number {
  return Math.floor(serverVersionNumber / 10_000);
}

/**
 * The tool of the server's own major, otherwise of the nearest newer one; of equal majors the newest minor.
 *
 * Not simply the newest: what pg_dump 17 and later write begins with `transaction_timeout`, a setting that no server before
 * 17 knows, and we restore into the server that was dumped. A tool older than the server refuses to dump it.
 */
export function chooseTool(candidates: readonly ClientTool[], serverMajor: number): ToolChoice {
  const byVersion = [...candidates].sort((a, b) => b.major - a.major || compareMinors(b, a));
  const [newest] = byVersion;
  if (newest === undefined) return { kind: "none" };
  const able = byVersion.filter((tool) => tool.major >= serverMajor);
  const nearestMajor = Math.min(...able.map((tool) => tool.major));
  const tool = able.find(({ major }) => major === nearestMajor);
  return tool === undefined ? { kind: "too-old", newest } : { kind: "chosen", tool };
}

function compareMinors(a: ClientTool, b: ClientTool): number {
  return makeMinor(a) - makeMinor(b);
}

/** 18 of `15.18`; -1 of `18beta1`, which is older than `18.0`. */
function makeMinor({ version }: Pick<ClientTool, "version">): number {
  const minor = /^\d+\.(?<minor>\d+)/u.exec(version)?.groups?.minor;
  return minor === undefined ? -1 : Number(minor);
}
