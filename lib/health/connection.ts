/** A connection that sends one text and hears what comes back: Bun's own where it can be, since `node:net` is slow to load. */
import type { Socket } from "node:net";

export interface Listener {
  onText(chunk: string): void;
  /** A code such as ECONNREFUSED. */
  onError(code: string): void;
  onClose(): void;
}

/** Connects and sends. @returns how to let go of it, at any time */
export function openConnection(url: URL, host: string, text: string, listener: Listener): () => void {
  let isOver = false;
  let end = () => {};
  const guarded: Listener = {
    onText: (chunk) => isOver || listener.onText(chunk),
    onError: (code) => isOver || listener.onError(code),
    onClose: () => isOver || listener.onClose(),
  };
  const connect = typeof Bun !== "undefined" && url.protocol === "http:" ? connectOnBun : connectOnNode;
  connect(url, host, text, guarded).then(
    (destroy) => {
      end = destroy;
      if (isOver) end();
    },
    (error) => guarded.onError(codeOf(error)),
  );
  return () => {
    isOver = true;
    end();
  };
}

async function connectOnBun(url: URL, host: string, text: string, listener: Listener): Promise<() => void> {
  const socket = await Bun.connect({
    hostname: host,
    port: Number(url.port || 80),
    socket: {
      open: (opened) => void opened.write(text),
      data: (_, chunk) => listener.onText(decode(chunk)),
      error: (_, error) => listener.onError(codeOf(error)),
      close: () => listener.onClose(),
    },
  });
  return () => socket.terminate();
}

async function connectOnNode(url: URL, host: string, text: string, listener: Listener): Promise<() => void> {
  const socket = url.protocol === "https:" ? await openSecure(url, host) : await openPlain(url, host);
  socket.on("data", (chunk: Uint8Array) => listener.onText(decode(chunk)));
  socket.on("error", (error: unknown) => listener.onError(codeOf(error)));
  socket.on("close", () => listener.onClose());
  // It waits until the connection is there.
  socket.write(text);
  return () => socket.destroy();
}

async function openPlain(url: URL, host: string): Promise<Socket> {
  const { connect } = await import("node:net");
  return connect({ host, port: Number(url.port || 80) });
}

/** A certificate can't be issued for this machine, so on it none is asked for. */
async function openSecure(url: URL, host: string): Promise<Socket> {
  const { connect } = await import("node:tls");
  return connect({
    host,
    port: Number(url.port || 443),
    ...(isAddress(host) ? {} : { servername: host }),
    rejectUnauthorized: host !== "127.0.0.1" && host !== "::1",
  });
}

function isAddress(host: string): boolean {
  return host.includes(":") || /^[\d.]+$/.test(host);
}

function decode(chunk: Uint8Array): string {
  return new TextDecoder("latin1").decode(chunk);
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? (error instanceof Error ? error.message : String(error));
}
