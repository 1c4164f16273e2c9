/** A connection target as the options of the `postgres` driver (3.4.9) and of Node's TLS. Pure. */
import type { ConnectionOptions, PeerCertificate } from "node:tls";
import { quoteIdentifier } from "./identifier.ts";
import type { ConnectionTarget } from "./url.ts";
import { isSocket } from "./url.ts";

export interface DriverWishes {
  readonly applicationName: string;
  /** Settings of the session, sent with the startup message: no round trip. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly onNotice?: (notice: { severity: string; message: string }) => void;
}

export type DriverOptions = ReturnType<typeof driverOptions>;

/**
 * Options for one session. Each one is given, since the driver fills in what is missing from PG* variables, and would
 * replace the connection by itself after half an hour.
 */
export function driverOptions(target: ConnectionTarget, wishes: DriverWishes) {
  return {
    // Lists, because the driver cuts a text at its commas and colons.
    host: [target.host],
    port: [target.port],
    ...(isSocket(target) ? { path: `${target.host}/.s.PGSQL.${target.port}` } : {}),
    user: target.user,
    // A function, because the driver takes PGPASSWORD in place of an empty text.
    password: () => target.password ?? "",
    database: target.database,
    connection: startupParameters(target, wishes),
    max: 1,
    max_lifetime: null,
    max_pipeline: 1,
    idle_timeout: 0,
    keep_alive: 60,
    backoff: false,
    fetch_types: false,
    prepare: false,
    debug: false,
    publications: "",
    types: PLAIN_TEXT_TYPES,
    onnotice: (notice: Readonly<Record<string, string>>) => {
      const { severity = "NOTICE", message = "" } = notice;
      try {
        wishes.onNotice?.({ severity, message });
      } catch {
        // The driver would let the statement that runs fail with it.
      }
    },
    // The session connects, secures and times its socket itself.
    ssl: false,
    connect_timeout: 0,
    sslnegotiation: null,
    no_subscribe: true,
  };
}

const asIs = (text: string) => text;

/** The driver would round timestamps to milliseconds and encode a text twice as JSON. */
const PLAIN_TEXT_TYPES = {
  date: { to: 1184, from: [1082, 1114, 1184], serialize: asIs, parse: asIs },
  json: { to: 114, from: [114, 3802], serialize: asIs, parse: JSON.parse },
  bytea: { to: 17, from: [17], serialize: asIs, parse: asIs },
};

/**
 * What the startup message holds. The user and the database are named here once more: the driver would take an empty
 * one from the environment, and leaves an empty parameter out.
 */
export function startupParameters(target: ConnectionTarget, wishes: DriverWishes): Record<string, string> {
  const parameters: Record<string, string> = {
    user: target.user,
    database: target.database,
    application_name: wishes.applicationName,
  };
  // PgBouncer refuses parameters that it does not know.
  if (!target.pgbouncer) {
    if (target.options !== undefined) parameters.options = target.options;
    if (target.schema !== undefined) parameters.search_path = quoteIdentifier(target.schema);
  }
  return { ...parameters, ...wishes.settings };
}

/**
 * TLS by Prisma's rules: the certificate is verified with `sslaccept=strict` only. Undefined where no TLS is wanted; on
 * a Unix socket there is none.
 *
 * @param certificates PEM text of the roots to trust, and the client's PKCS#12, as read from the target's paths.
 */
export function tlsOptions(
  target: ConnectionTarget,
  certificates: { readonly root?: string; readonly identity?: Uint8Array },
  verifyHost: (host: string, certificate: PeerCertificate) => Error | undefined,
): ConnectionOptions | undefined {
  if (target.sslMode === "disable" || isSocket(target)) return undefined;
  return {
    // An IP address may not be sent as a server name (RFC 6066).
    ...(isIpAddress(target.host) ? {} : { servername: target.host }),
    rejectUnauthorized: target.strictTls,
    // Without a server name Node and Deno would compare with "localhost".
    checkServerIdentity: (_, certificate) => (target.strictTls ? verifyHost(target.host, certificate) : undefined),
    ...(certificates.root === undefined ? {} : { ca: certificates.root }),
    ...(certificates.identity === undefined
      ? {}
      : { pfx: certificates.identity as Buffer, passphrase: target.sslIdentityPassword ?? "" }),
  };
}

function isIpAddress(host: string): boolean {
  return host.includes(":") || /^\d+\.\d+\.\d+\.\d+$/.test(host);
}
