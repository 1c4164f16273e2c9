/** A connection target as the environment of libpq's tools: pg_dump, pg_restore and psql. Pure. */
import type { ConnectionTarget } from "./url.ts";
import { isSocket } from "./url.ts";

export interface LibpqWishes {
  readonly applicationName: string;
  /** Settings of the tool's session, given with its startup message. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Whether the server takes TLS, as a session has found out: libpq has no mode that verifies only where it does. */
  readonly isEncrypted?: boolean | undefined;
  /** The system's root certificates; libpq knows no place for them before version 16. */
  readonly systemRootsPath?: string | undefined;
}

/** A path that can't exist, because its parent is no folder: libpq then reads no file, and does not complain. */
const NO_FILE = "/dev/null/none";

/**
 * Everything that libpq would otherwise look for in a home folder, a service file or a default. Without Prisma's
 * `?schema=`: a tool works on the whole database.
 */
export function libpqEnvironment(target: ConnectionTarget, wishes: LibpqWishes): Record<string, string> {
  const options = [target.options, ...Object.entries(wishes.settings ?? {}).map(settingOption)].filter(
    (option) => option !== undefined,
  );
  return {
    PGHOST: target.host,
    PGPORT: String(target.port),
    PGUSER: target.user,
    PGDATABASE: target.database,
    ...(target.password === undefined ? {} : { PGPASSWORD: target.password }),
    PGAPPNAME: wishes.applicationName,
    ...(options.length === 0 ? {} : { PGOPTIONS: options.join(" ") }),
    // libpq counts in whole seconds, and takes 1 as 2.
    PGCONNECT_TIMEOUT: String(Math.ceil(target.connectTimeoutMs / 1000)),
    PGCHANNELBINDING: isSocket(target) ? "prefer" : target.channelBinding,
    PGGSSENCMODE: "disable",
    ...tlsEnvironment(target, wishes),
    PGPASSFILE: NO_FILE,
    PGSERVICEFILE: NO_FILE,
    PGSYSCONFDIR: NO_FILE,
  };
}

/**
 * The database of a target as the value of `--dbname`, for pg_restore, which connects only when that is given. Quoted:
 * libpq reads a bare name with "=" in it, or that begins like a URL, as a whole connection string.
 */
export function databaseArgument(database: string): string {
  return `dbname='${database.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

/** `-c name=value` as the server splits it: at spaces that no backslash precedes. */
function settingOption([name, value]: [string, string]): string {
  return `-c ${name}=${value.replace(/[\\\s]/g, "\\$&")}`;
}

/** As Prisma: verified with `sslaccept=strict` only. With any root certificate at hand, libpq would verify always. */
function tlsEnvironment(target: ConnectionTarget, wishes: LibpqWishes): Record<string, string> {
  const isPlain = isSocket(target) || (target.sslMode === "prefer" && target.strictTls && wishes.isEncrypted === false);
  const sslMode = isPlain ? "disable" : target.sslMode;
  const isVerified = target.strictTls && sslMode !== "disable";
  return {
    PGSSLMODE: isVerified ? "verify-full" : sslMode,
    PGSSLROOTCERT: (isVerified ? (target.sslRootCertificatePath ?? wishes.systemRootsPath) : undefined) ?? NO_FILE,
    PGSSLCERT: NO_FILE,
    PGSSLKEY: NO_FILE,
    PGSSLCRL: NO_FILE,
    PGSSLCRLDIR: NO_FILE,
  };
}
