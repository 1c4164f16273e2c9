/**
 * A socket of Bun's own, with what sessions and the driver use of a `net.Socket`: to load `node:net` would cost a start
 * that has nothing to do a third of its time and a tenth of its memory.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

export type SocketAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** The part of `net.Socket` that we use: both kinds of sockets have it. */
export type ByteSocket = Pick<Socket, "on" | "once" | "off" | "write" | "end" | "destroy" | "resume">;

type Listener = (...values: never[]) => void;

interface Unsent {
  readonly bytes: Uint8Array;
  readonly onTaken: (() => void) | undefined;
}

/**
 * Connects at once. Events as those of `net.Socket`: "connect", "data", "drain", "end", "error" and at last "close".
 * Bytes that come while nobody listens are lost; a server of PostgreSQL only speaks when it is spoken to.
 */
export class BunSocket {
  readonly #address: SocketAddress;
  readonly #listeners = new Map<string, readonly Listener[]>();
  readonly #unsent: Unsent[] = [];
  #socket: Bun.Socket | undefined;
  #isEnding = false;
  #isClosed = false;

  constructor(address: SocketAddress) {
    this.#address = address;
    this.#connect().then(
      (socket) => this.#start(socket),
      (cause) => this.#finish(describe(cause, address)),
    );
  }

  on(event: string, listener: Listener): this {
    this.#listeners.set(event, [...this.#listenersOf(event), listener]);
    return this;
  }

  once(event: string, listener: Listener): this {
    const first: Listener = (...values) => {
      this.off(event, first);
      listener(...values);
    };
    return this.on(event, first);
  }

  off(event: string, listener: Listener): this {
    const others = this.#listenersOf(event).filter((other) => other !== listener);
    this.#listeners.set(event, others);
    return this;
  }

  /** The driver's name for `off`. */
  removeListener(event: string, listener: Listener): this {
    return this.off(event, listener);
  }

  removeAllListeners(): void {
    this.#listeners.clear();
  }

  /** False where the system takes no more for now; "drain" tells when all has been taken. */
  write(bytes: Uint8Array, onTaken?: () => void): boolean {
    this.#unsent.push({ bytes, onTaken });
    return this.#flush();
  }

  /** Says that nothing more will come once the system has taken everything. Closed by it is when the other side is. */
  end(bytes?: Uint8Array): void {
    if (bytes !== undefined) this.#unsent.push({ bytes, onTaken: undefined });
    this.#isEnding = true;
    if (this.#flush()) this.#socket?.shutdown();
  }

  destroy(): void {
    this.#socket?.close();
    this.#finish();
  }

  setKeepAlive(isEnabled: boolean, initialDelayMs: number): void {
    this.#socket?.setKeepAlive(isEnabled, initialDelayMs);
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** The same socket for `node:tls`, which takes no other. From then on it belongs to the stream. */
  async toStream(): Promise<Duplex> {
    const { Duplex } = await import("node:stream");
    const stream = new Duplex({
      read: () => this.resume(),
      write: (bytes, _, onTaken) => void this.write(bytes, onTaken),
      final: (onEnded) => {
        this.end();
        onEnded();
      },
      destroy: (error, onDestroyed) => {
        this.destroy();
        onDestroyed(error);
      },
    });
    this.on("data", (bytes: Uint8Array) => stream.push(bytes) || this.pause());
    this.on("end", () => stream.push(null));
    this.on("error", (error: Error) => stream.destroy(error));
    this.on("close", () => stream.destroy());
    return stream;
  }

  async #connect(): Promise<Bun.Socket> {
    const socket: Bun.SocketHandler<undefined> = {
      data: (_, bytes) => this.#emit("data", bytes),
      drain: () => this.#drain(),
      end: () => this.#emit("end"),
      // Also what a listener throws.
      error: (_, error) => this.#emit("error", error),
      close: (_, error) => this.#finish(error),
    };
    return "path" in this.#address
      ? await Bun.connect({ unix: this.#address.path, socket })
      : await Bun.connect({ hostname: this.#address.host, port: this.#address.port, socket });
  }

  #start(socket: Bun.Socket): void {
    this.#socket = socket;
    if (this.#isClosed) {
      socket.close();
      return;
    }
    this.#emit("connect");
    if (this.#unsent.length > 0) this.#drain();
  }

  /** True when the system has taken everything. */
  #flush(): boolean {
    for (let next = this.#unsent[0]; next !== undefined; next = this.#unsent[0]) {
      const taken = Math.max(0, this.#socket?.write(next.bytes) ?? 0);
      if (taken < next.bytes.length) {
        this.#unsent[0] = { ...next, bytes: next.bytes.subarray(taken) };
        return false;
      }
      this.#unsent.shift();
      next.onTaken?.();
    }
    return true;
  }

  #drain(): void {
    if (!this.#flush()) return;
    if (this.#isEnding) this.#socket?.shutdown();
    else this.#emit("drain");
  }

  #finish(error?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Later, as listeners expect it: never while they are still at work with what made it close.
    queueMicrotask(() => {
      if (error !== undefined) this.#emit("error", error);
      this.#emit("close");
    });
  }

  #listenersOf(event: string): readonly Listener[] {
    return this.#listeners.get(event) ?? [];
  }

  #emit(event: string, ...values: unknown[]): void {
    for (const listener of this.#listenersOf(event)) listener(...(values as never[]));
  }
}

/** Bun says "Failed to connect" for everything but a name that is not found. */
function describe(cause: unknown, address: SocketAddress): Error {
  const { code, message } = cause as { code?: string; message: string };
  if (code === undefined || message.includes(code)) return new Error(message, { cause });
  const place = "path" in address ? address.path : `${address.host}:${address.port}`;
  return new Error(`connect ${code} ${place}`);
}
