/**
 * Connection strings by Prisma's rules, which are neither libpq's nor the driver's.
 *
 * Every start reads one, and a plain one is read without a regular expression: their engine alone takes a megabyte.
 *
 * https://github.com/prisma/prisma-engines/blob/main/quaint/src/connector/postgres/url.rs
 */
import type { UrlProblem } from "../errors.ts";

/** Where and how to connect, all defaults filled in. */
export interface ConnectionTarget {
  readonly user: string;
  readonly password: string | undefined;
  /** A host name, an IP address without brackets, or a socket directory that starts with "/". */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** Prisma's `?schema=`. */
  readonly schema: string | undefined;
  readonly sslMode: "disable" | "prefer" | "require";
  /** Prisma's `sslaccept=strict`: only then is the server's certificate verified. */
  readonly strictTls: boolean;
  /** Prisma's `sslcert`: a root certificate, not the client's as in libpq. */
  readonly sslRootCertificatePath: string | undefined;
  /** Prisma's `sslidentity`: the client's certificate and key as PKCS#12. */
  readonly sslIdentityPath: string | undefined;
  readonly sslIdentityPassword: string | undefined;
  /** For connecting and signing in together; 0 means no limit. */
  readonly connectTimeoutMs: number;
  readonly applicationName: string | undefined;
  readonly options: string | undefined;
  readonly channelBinding: "disable" | "prefer" | "require";
  readonly pgbouncer: boolean;
}

export type ParsedUrl = { readonly target: ConnectionTarget } | { readonly problem: UrlProblem };

const CONNECT_TIMEOUT_SECONDS = 5;
/** What both a timer and libpq can count. */
const CONNECT_TIMEOUT_SECONDS_MAX = 2_000_000;
const PORT = 5432;

/** Parses a connection string. Never throws; a problem never holds any part of a password. */
export function parseConnectionUrl(text: string): ParsedUrl {
  // As the WHATWG parser does: what surrounds a pasted or mounted value, and line breaks within, do not count.
  const trimmed = ["\t", "\r", "\n"].reduce((rest, space) => rest.replaceAll(space, ""), text.trim());
  if (trimmed === "") return { problem: { kind: "empty" } };
  const schemeEnd = trimmed.indexOf("://");
  if (schemeEnd === -1) return { problem: { kind: "not-a-url" } };
  const scheme = trimmed.slice(0, schemeEnd).toLowerCase();
  const rest = trimmed.slice(schemeEnd + "://".length);
  if (scheme === "postgres" || scheme === "postgresql") return parseParts(rest);
  if (scheme === "prisma") return { problem: { kind: "accelerate" } };
  if (scheme === "prisma+postgres") return parseLocalPrismaPostgres(rest);
  // What does not look like a scheme may be a part of a password.
  if (!/^[a-z][a-z0-9+.-]{0,30}$/.test(scheme)) return { problem: { kind: "not-a-url" } };
  return { problem: { kind: "scheme", scheme } };
}

/** True when the host is the directory of a Unix socket. */
export function isSocket(target: Pick<ConnectionTarget, "host">): boolean {
  return target.host.startsWith("/");
}

/** Whether what is sent may leave this machine: by the host's name alone, whatever that resolves to. */
export function isRemote(target: Pick<ConnectionTarget, "host">): boolean {
  return !isSocket(target) && !/^(localhost|127(\.\d+){3}|::1)$/i.test(target.host);
}

/** A connection string that is safe to show. What is no connection string becomes `***`. Never throws. */
export function redactUrl(text: string): string {
  const parsed = parseConnectionUrl(text);
  if ("problem" in parsed) return "***";
  const { user, password, host, port, database, schema } = parsed.target;
  const userInfo = `${encode(user)}${password === undefined ? "" : ":***"}`;
  const shownHost = host.includes(":") ? `[${host}]` : isSocket(parsed.target) ? "localhost" : host;
  const parameters = [
    ...(schema === undefined ? [] : [`schema=${encode(schema)}`]),
    ...(isSocket(parsed.target) ? [`host=${host}`] : []),
  ];
  const query = parameters.length === 0 ? "" : `?${parameters.join("&")}`;
  return `postgresql://${userInfo === "" ? "" : `${userInfo}@`}${shownHost}:${port}/${database}${query}`;
}

/** Half a character, which no terminal can show either, would throw. */
function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/** `prisma dev` writes its databases' real URLs into the key of a URL of its own; a remote one has none. */
function parseLocalPrismaPostgres(rest: string): ParsedUrl {
  const problem: ParsedUrl = { problem: { kind: "accelerate" } };
  const { authority, query } = cut(rest);
  if (!/^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i.test(authority)) return problem;
  try {
    const key = new URLSearchParams(query).get("api_key") ?? "";
    const bytes = Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));
    const url: unknown = JSON.parse(new TextDecoder().decode(bytes)).databaseUrl;
    return typeof url === "string" && /^postgres(ql)?:/i.test(url) ? parseConnectionUrl(url) : problem;
  } catch {
    return problem;
  }
}

function parseParts(rest: string): ParsedUrl {
  const { authority, path, query } = cut(rest);
  const cutPart = partCutShort(rest, authority);
  if (cutPart !== undefined) return { problem: { kind: "percent-encoding", part: cutPart } };
  const at = authority.lastIndexOf("@");
  const userInfo = at === -1 ? "" : authority.slice(0, at);
  const colon = userInfo.indexOf(":");
  const user = decodePercent(colon === -1 ? userInfo : userInfo.slice(0, colon));
  if (user === undefined) return { problem: { kind: "percent-encoding", part: "user" } };
  const password = decodePercent(colon === -1 ? "" : userInfo.slice(colon + 1));
  if (password === undefined) return { problem: { kind: "percent-encoding", part: "password" } };
  const parameters = query === "" ? [] : [...new URLSearchParams(query)];
  const address = parseAddress(authority.slice(at + 1), at !== -1, lastOf(parameters, "host"));
  if ("problem" in address) return address;
  const settings = parseParameters(parameters);
  if ("problem" in settings) return settings;
  // Without a path Prisma means "postgres"; a bare "/" is an empty name, for which the server takes the user's.
  const database = path === "" ? "postgres" : path.slice(1).split("/", 1)[0] || user;
  return { target: { user, password: password || undefined, ...address, database, ...settings } };
}

function cut(rest: string): { authority: string; path: string; query: string } {
  const withoutFragment = rest.split("#", 1)[0] ?? "";
  const queryAt = withoutFragment.indexOf("?");
  const beforeQuery = queryAt === -1 ? withoutFragment : withoutFragment.slice(0, queryAt);
  const pathAt = beforeQuery.indexOf("/");
  return {
    authority: pathAt === -1 ? beforeQuery : beforeQuery.slice(0, pathAt),
    path: pathAt === -1 ? "" : beforeQuery.slice(pathAt),
    query: queryAt === -1 ? "" : withoutFragment.slice(queryAt + 1),
  };
}

/**
 * What a raw `/`, `?` or `#` has cut: there is no user before the host, but an "@" comes later. Otherwise the rest of a
 * password would be taken for the name of a database, and be shown.
 */
function partCutShort(rest: string, authority: string): "user" | "password" | undefined {
  if (authority.includes("@")) return undefined;
  const after = rest.slice(authority.length);
  // In a query an "@" is nothing special, unless it comes before the first parameter has got its name.
  const suspect = after.startsWith("?") ? after.split("=", 1)[0] : after.replace(/\?[^#]*/, "");
  if (!suspect?.includes("@")) return undefined;
  return authority.includes(":") ? "password" : "user";
}

/** A `%` that begins no code stands for itself, as it does for Prisma. Undefined where the codes are no UTF-8. */
function decodePercent(text: string): string | undefined {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text.replaceAll(/%(?![0-9a-fA-F]{2})/g, "%25"));
  } catch {
    return undefined;
  }
}

function parseAddress(
  hostAndPort: string,
  hasUser: boolean,
  hostParameter: string | undefined,
): { host: string; port: number } | { problem: UrlProblem } {
  if (`${hostAndPort}${hostParameter ?? ""}`.includes(",")) return { problem: { kind: "several-hosts" } };
  const parts = cutAddress(hostAndPort);
  if (parts === undefined) return { problem: { kind: "not-a-url" } };
  const { authorityHost, portText } = parts;
  const port = Number(portText || PORT);
  const isNumber = [...portText].every((digit) => digit >= "0" && digit <= "9");
  if (!isNumber || port > 65_535 || port === 0) {
    // Where no user is named, "user:password" without a host looks the same.
    return { problem: { kind: "port", value: hasUser ? portText : "***" } };
  }
  if (!hostParameter && authorityHost.includes("%")) return { problem: { kind: "percent-encoding", part: "host" } };
  const host = hostParameter || authorityHost || "localhost";
  return { host: isBracketed(host) ? host.slice(1, -1) : host, port };
}

/** The colons between brackets are those of an IPv6 address. Undefined where brackets stand elsewhere. */
function cutAddress(text: string): { authorityHost: string; portText: string } | undefined {
  const hostEnd = text.indexOf(":", text.startsWith("[") ? text.indexOf("]") : 0);
  const authorityHost = hostEnd === -1 ? text : text.slice(0, hostEnd);
  const name = isBracketed(authorityHost) ? authorityHost.slice(1, -1) : authorityHost;
  const hasStrayBracket = name.includes("]") || (name === authorityHost && name.includes("["));
  return hasStrayBracket ? undefined : { authorityHost, portText: hostEnd === -1 ? "" : text.slice(hostEnd + 1) };
}

function isBracketed(host: string): boolean {
  return host.startsWith("[") && host.endsWith("]");
}

type Parameters = readonly (readonly [name: string, value: string])[];
type Settings = Omit<ConnectionTarget, "user" | "password" | "host" | "port" | "database">;

/** Several of them matter to a pool only, but Prisma refuses a wrong value in each. */
const PATTERNS: ReadonlyMap<string, RegExp> = new Map([
  ...[
    "connect_timeout",
    "socket_timeout",
    "pool_timeout",
    "connection_limit",
    "max_connection_lifetime",
    "max_idle_connection_lifetime",
    "statement_cache_size",
  ].map((name) => [name, /^\+?\d{1,19}$/] as const),
  ...["pgbouncer", "single_use_connections"].map((name) => [name, /^(true|false)$/] as const),
]);

/** Unknown parameters are dropped, as Prisma does. */
function parseParameters(parameters: Parameters): Settings | { problem: UrlProblem } {
  for (const [name, value] of parameters) {
    if (PATTERNS.get(name)?.test(value) === false) return { problem: { kind: "parameter", name, value } };
  }
  const timeoutSeconds = Number(lastOf(parameters, "connect_timeout") ?? CONNECT_TIMEOUT_SECONDS);
  return {
    schema: lastOf(parameters, "schema"),
    // Prisma takes every other value, `verify-full` too, as if it were not there.
    sslMode: lastKnownOf(parameters, "sslmode", ["disable", "prefer", "require"]) ?? "prefer",
    strictTls: (lastOf(parameters, "sslaccept") ?? "accept_invalid_certs") !== "accept_invalid_certs",
    sslRootCertificatePath: lastOf(parameters, "sslcert"),
    sslIdentityPath: lastOf(parameters, "sslidentity"),
    sslIdentityPassword: lastOf(parameters, "sslpassword"),
    connectTimeoutMs: Math.min(timeoutSeconds, CONNECT_TIMEOUT_SECONDS_MAX) * 1000,
    applicationName: lastOf(parameters, "application_name"),
    options: lastOf(parameters, "options"),
    channelBinding: lastKnownOf(parameters, "channel_binding", ["disable", "prefer", "require"]) ?? "prefer",
    pgbouncer: lastOf(parameters, "pgbouncer") === "true",
  };
}

/** Undefined also for an empty value. */
function lastOf(parameters: Parameters, name: string): string | undefined {
  return parameters.findLast(([other]) => other === name)?.[1] || undefined;
}

function lastKnownOf<T extends string>(parameters: Parameters, name: string, values: readonly T[]): T | undefined {
  const known = parameters.flatMap(([other, value]) => (other === name ? values.filter((one) => one === value) : []));
  return known.at(-1);
}
