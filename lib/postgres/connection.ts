/**
 * Opens the socket of a session: TCP or Unix, and TLS by PostgreSQL's negotiation. The driver could do it, but does not
 * say why a handshake failed, and would open another one by itself when the first is lost.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { DeployError, describeCause } from "../errors.ts";
import { BunSocket, type ByteSocket, type SocketAddress } from "./bun-socket.ts";
import { tlsOptions } from "./driver-options.ts";
import { type ConnectionTarget, isSocket } from "./url.ts";

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
const SSL_REQUEST = Uint8Array.of(0, 0, 0, 8, 4, 210, 22, 47);
const CANCEL_REQUEST_CODE = 80_877_102;
const BYTE_S = 0x53;
const BYTE_N = 0x4e;

/** A connected and, where wanted, secured socket. Rejects with DATABASE_UNREACHABLE or TLS_FAILED, and at an abort. */
export async function openSocket(target: ConnectionTarget, signal: AbortSignal): Promise<ByteSocket> {
  const startedAtMs = performance.now();
  const socket = await connectPlain(
    isSocket(target) ? { path: `${target.host}/.s.PGSQL.${target.port}` } : { host: target.host, port: target.port },
  );
  // A failure after the first one has nobody left to tell, and would otherwise end the process.
  socket.on("error", () => {});
  const abort = () => socket.destroy();
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) abort();
    await settled(socket, "connect");
    return target.sslMode === "disable" || isSocket(target) ? socket : await secure(target, socket);
  } catch (cause) {
    socket.destroy();
    if (cause instanceof DeployError) throw cause;
    const waitedMs = Math.round(performance.now() - startedAtMs);
    const reason = describeCause(cause);
    throw new DeployError(
      "DATABASE_UNREACHABLE",
      { host: target.host, port: target.port, reason, waitedMs },
      { cause },
    );
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Asks the server to cancel what a backend runs. Resolves when the server has taken the request, or at the abort. */
export async function sendCancelRequest(
  target: ConnectionTarget,
  backend: { readonly pid: number; readonly secret: number },
  signal: AbortSignal,
): Promise<void> {
  const socket = await openSocket(target, signal);
  const request = new DataView(new ArrayBuffer(16));
  request.setInt32(0, 16);
  request.setInt32(4, CANCEL_REQUEST_CODE);
  request.setInt32(8, backend.pid);
  request.setInt32(12, backend.secret);
  await new Promise<void>((resolve) => {
    const end = () => {
      socket.destroy();
      resolve();
    };
    socket.once("error", end);
    // The server closes the connection, and answers nothing, when it has passed the request on.
    socket.once("close", end);
    socket.resume();
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    else socket.write(new Uint8Array(request.buffer));
  });
}

/** Nagle's algorithm would hold back the second of two small messages; a socket of Bun's own does without it anyway. */
async function connectPlain(address: SocketAddress): Promise<ByteSocket> {
  if (typeof Bun !== "undefined") return new BunSocket(address) as unknown as ByteSocket;
  const { connect } = await import("node:net");
  return connect({ ...address, noDelay: true });
}

async function secure(target: ConnectionTarget, socket: ByteSocket): Promise<ByteSocket> {
  const failed = (reason: string, cause?: unknown) =>
    new DeployError("TLS_FAILED", { host: target.host, reason }, { cause });
  socket.write(SSL_REQUEST);
  const answer = await settled<Uint8Array>(socket, "data");
  if (answer[0] === BYTE_N) {
    if (target.sslMode === "prefer") return socket;
    throw failed("the server does not support TLS, and sslmode=require demands it");
  }
  // More than the one byte would be text that somebody has put in before the encryption (CVE-2021-23222).
  if (answer[0] !== BYTE_S || answer.length !== 1) throw failed("the server gave an unexpected answer");
  try {
    // Slow to load, and of no use to most.
    const { checkServerIdentity, connect } = await import("node:tls");
    const options = tlsOptions(target, await readCertificates(target), checkServerIdentity);
    const secured = connect({ ...options, socket: await streamOf(socket) });
    secured.on("error", () => {});
    await settled(secured, "secureConnect");
    return secured;
  } catch (cause) {
    throw failed(describeCause(cause), cause);
  }
}

async function streamOf(socket: ByteSocket): Promise<Duplex> {
  return socket instanceof BunSocket ? await socket.toStream() : (socket as Socket);
}

/** The roots matter to a strict connection only. */
async function readCertificates(target: ConnectionTarget): Promise<{ root?: string; identity?: Uint8Array }> {
  const { sslRootCertificatePath: root, sslIdentityPath: identity } = target;
  if (identity === undefined && (root === undefined || !target.strictTls)) return {};
  const { readFile } = await import("node:fs/promises");
  return {
    ...(root === undefined || !target.strictTls ? {} : { root: await readFile(root, "utf8") }),
    ...(identity === undefined ? {} : { identity: await readFile(identity) }),
  };
}

/** The first event of that name; an error, an end before it rejects. */
function settled<Value = void>(socket: ByteSocket, event: "connect" | "secureConnect" | "data"): Promise<Value> {
  return new Promise<Value>((resolve, reject) => {
    const onEvent = (value: Value) => settle(() => resolve(value));
    const onError = (error: Error) => settle(() => reject(error));
    const onClose = () => settle(() => reject(new Error("the connection was closed by the other side")));
    const settle = (act: () => void) => {
      socket.off(event, onEvent);
      socket.off("error", onError);
      socket.off("close", onClose);
      act();
    };
    socket.on(event, onEvent);
    socket.on("error", onError);
    socket.on("close", onClose);
  });
}
