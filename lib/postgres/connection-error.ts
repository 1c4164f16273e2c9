/** Why a connection could not be made, as an error of ours. Pure. */
import {
  type AnyDeployError,
  DeployError,
  describeCause,
  hasCode,
  isDeployError,
  type ServerMessage,
} from "../errors.ts";
import type { ConnectionTarget } from "./url.ts";

/** What a server says of a database with ALLOW_CONNECTIONS false. */
const NOT_ACCEPTING = "55000";

/** What the server answered instead of letting us in. Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export function refusalOf(target: ConnectionTarget, server: ServerMessage, waitedMs: number): AnyDeployError {
  const { host, port, user, database } = target;
  switch (server.sqlState) {
    case "57P03":
      return new DeployError("DATABASE_STARTING", { host, port, waitedMs });
    case "28P01":
    case "28000":
      return new DeployError("AUTHENTICATION_FAILED", { user, host, reason: server.message });
    case "3D000":
      return new DeployError("DATABASE_NOT_FOUND", { database, host });
    default:
      return new DeployError("DATABASE_REFUSED", { server });
  }
}

/** What happened to a connection before the server let us in, other than by the server's own answer. */
export function connectionFailureOf(target: ConnectionTarget, cause: unknown, waitedMs: number): AnyDeployError {
  if (isDeployError(cause)) return cause;
  const { host, port, user } = target;
  const reason = describeCause(cause);
  // The driver's: the other side does not know our password, so it is not the server that we mean.
  if (reason.startsWith("SASL_SIGNATURE_MISMATCH")) {
    return new DeployError("AUTHENTICATION_FAILED", { user, host, reason }, { cause });
  }
  return new DeployError("DATABASE_UNREACHABLE", { host, port, reason, waitedMs }, { cause });
}

/** The database is there and lets nobody in, or is just being renamed. */
export function isShut(error: unknown): boolean {
  if (hasCode(error, "DATABASE_NOT_FOUND")) return true;
  return hasCode(error, "DATABASE_REFUSED") && error.fields.server.sqlState === NOT_ACCEPTING;
}
