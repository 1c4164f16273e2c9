/**
 * Counts the statements of a script that the server has finished, from the bytes that it sends: an error without a
 * position does not say which statement it belongs to, and the driver keeps the answers of the earlier ones to itself.
 * Pure.
 */

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
const COMMAND_COMPLETE = 0x43;
const HEADER_BYTES = 5;

export interface CommandCounter {
  /** Statements that have ended well since `reset`. */
  readonly count: number;
  reset(): void;
  /** Every piece from the first byte of the protocol on, cut wherever the network has cut it. */
  read(piece: Uint8Array): void;
}

export function makeCommandCounter(): CommandCounter {
  let count = 0;
  /** Bytes of the message's header that have come, and its rest that has not. */
  let header: number[] = [];
  let restBytes = 0;
  return {
    get count() {
      return count;
    },
    reset() {
      count = 0;
    },
    read(piece) {
      for (let at = 0; at < piece.length; ) {
        if (restBytes > 0) {
          const skippedBytes = Math.min(restBytes, piece.length - at);
          restBytes -= skippedBytes;
          at += skippedBytes;
          continue;
        }
        header.push(piece[at] ?? 0);
        at += 1;
        if (header.length < HEADER_BYTES) continue;
        const [type, first = 0, second = 0, third = 0, fourth = 0] = header;
        if (type === COMMAND_COMPLETE) count += 1;
        // The size counts itself, but not the type before it.
        restBytes = Math.max(first * 2 ** 24 + second * 2 ** 16 + third * 2 ** 8 + fourth - 4, 0);
        header = [];
      }
    },
  };
}
