/** A network between a client and a server that can fall silent or break, on 127.0.0.1. */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";

export interface TcpProxy {
  readonly port: number;
  /** Connections that were made so far. */
  readonly connections: number;
  /** From now on nothing is passed on, in both directions, and nobody is told: a cable that was pulled out. */
  fallSilent(): void;
  /** Resets every connection, and goes on with new ones. */
  resetConnections(): void;
  close(): Promise<void>;
}

export async function startTcpProxy(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isSilent = false;
  let connections = 0;
  // Half-open, because a cable that was pulled out does not answer an end either.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    connections += 1;
    const upstream = connect({ port: target.port, host: target.host, allowHalfOpen: true });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {});
      from.on("data", (chunk) => {
        if (!isSilent) to.write(chunk);
      });
      from.on("end", () => {
        if (!isSilent) to.end();
      });
      from.on("close", () => {
        sockets.delete(from);
        if (!isSilent) to.destroy();
      });
    }
  });
  await listen(server);
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections;
    },
    fallSilent() {
      isSilent = true;
    },
    resetConnections() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** A server that takes connections and does what the function does with them, for example nothing at all. */
export async function startStrangeServer(behave: (socket: Socket) => void): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    behave(socket);
  });
  await listen(server);
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Passes everything on, until it passes only questions and no answers. */
export async function startForgetfulNetwork(target: { readonly host: string; readonly port: number }) {
  let hasAnswers = true;
  let forgottenQuestion: string | undefined;
  const clients: Socket[] = [];
  const server = await startStrangeServer((client) => {
    const upstream = connect(target.port, target.host);
    clients.push(client);
    client.on("data", (chunk) => {
      if (forgottenQuestion !== undefined && chunk.includes(forgottenQuestion)) hasAnswers = false;
      upstream.write(chunk);
    });
    client.on("close", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
    upstream.on("data", (chunk) => {
      if (hasAnswers) client.write(chunk);
    });
  });
  return {
    ...server,
    loseAnswers() {
      hasAnswers = false;
    },
    /** From the first question that holds this text on. */
    loseAnswersTo(question: string) {
      forgottenQuestion = question;
    },
    regainAnswers() {
      forgottenQuestion = undefined;
      hasAnswers = true;
    },
    reset() {
      for (const client of clients) client.resetAndDestroy();
    },
  };
}

async function listen(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
}
