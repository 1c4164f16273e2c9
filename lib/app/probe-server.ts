/**
 * Answers an orchestrator's HTTP probes while the app is not there yet: alive, but not ready, and why.
 *
 * Sockets and not an HTTP library: at the end the port must be free at once. Whoever closes a connection first keeps its
 * port busy for a minute (TIME_WAIT), so clients close theirs, and what is left at the end is reset.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { DeployProgress } from "./progress.ts";

const REQUEST_BYTES_MAX = 8_192;
/** A client that neither asks nor leaves. */
const IDLE_MS = 10_000;

export interface ProbeServer {
  readonly port: number;
  /** Resolves when the port is free. Never rejects. */
  close(): Promise<void>;
}

/**
 * Listens on every address. `/livez` is 200, `/readyz` is 503, both with the progress as JSON; anything else is 404.
 *
 * @param port 0 for any free one
 * @throws what the system says, for example EADDRINUSE
 */
export async function startProbeServer(port: number, readProgress: () => DeployProgress): Promise<ProbeServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    answerRequests(socket, readProgress);
  });
  await listen(server, port);
  // A deploy that has nothing more to do ends, whoever listens.
  server.unref();
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.resetAndDestroy();
      }),
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port }, () => {
      server.off("error", reject);
      // An accept that fails for want of descriptors is the prober's trouble, not the deploy's.
      server.on("error", () => {});
      resolve();
    });
  });
}

function answerRequests(socket: Socket, readProgress: () => DeployProgress): void {
  let request = "";
  socket.on("error", () => socket.destroy());
  socket.setTimeout(IDLE_MS, () => socket.resetAndDestroy());
  socket.on("data", (chunk) => {
    request += chunk.toString("latin1");
    if (request.length > REQUEST_BYTES_MAX) return void socket.resetAndDestroy();
    for (let end = request.indexOf("\r\n\r\n"); end !== -1; end = request.indexOf("\r\n\r\n")) {
      socket.write(makeResponse(request.slice(0, end), readProgress()));
      request = request.slice(end + 4);
    }
  });
}

const STATUS_TEXT = { 200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable" } as const;

/** The answer to one request, its head given without the empty line. */
export function makeResponse(head: string, progress: DeployProgress): string {
  const [method = "", target = ""] = head.split("\r\n", 1)[0]?.split(" ") ?? [];
  const status = statusOf(method, target.split("?", 1)[0] ?? "");
  const body = `${JSON.stringify({ status: "deploying", ...progress })}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_TEXT[status]}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Cache-Control: no-store",
    // Also to a client that wants us to close: it will do it itself once it has the whole body.
    "Connection: keep-alive",
    ...(status === 503 ? ["Retry-After: 5"] : []),
  ];
  return `${lines.join("\r\n")}\r\n\r\n${method === "HEAD" ? "" : body}`;
}

function statusOf(method: string, path: string): keyof typeof STATUS_TEXT {
  if (method !== "GET" && method !== "HEAD") return 405;
  if (path === "/livez") return 200;
  return path === "/readyz" ? 503 : 404;
}
